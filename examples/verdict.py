"""May this change be made? The one question that a registry asks trustmint, for the Python examples that have more than one
file. Reasons: docs/plugging-in.md."""
import concurrent.futures
import hashlib
import http.client
import json
import pathlib
import re
import sys
import urllib.parse

TIMEOUT = 4  # seconds for the whole question, however slow the answer
POOL = concurrent.futures.ThreadPoolExecutor(8)


class Refused(Exception):
    """Nothing is stored; `reason` is for the client's user."""

    def __init__(self, reason, status=400, **headers):
        super().__init__(reason)
        self.reason, self.status, self.headers = reason, status, headers

    @property
    def phrase(self):
        """The reason as a status line can have it."""
        return re.sub("[^ -~]+", "-", self.reason)[:500]


def need(holds, reason, status=400, **headers):
    """What holds; else the request ends here."""
    if not holds:
        raise Refused(reason, status, **headers)
    return holds


def file_facts(content):
    """Digest and size of a file that can be sought in, which is left at its start."""
    content.seek(0)
    sha256, size = hashlib.file_digest(content, "sha256").hexdigest(), content.seek(0, 2)
    content.seek(0)
    return {"sha256": sha256, "size": size}


class Trustmint:
    def __init__(self, url, key_file):
        """The service's address, and the file with the registry's API key."""
        scheme, self.host, *_ = urllib.parse.urlsplit(url)
        self.connect = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}[scheme]
        self.key_file = pathlib.Path(key_file)

    def allow(self, token, client_ip, stored, **facts):
        """Returns if the change may be made. `stored` names it: the same change asked about again spends no further use."""
        facts["consume"] = hashlib.sha256(json.dumps([stored, sorted(facts.items())]).encode()).hexdigest()
        try:
            answer = POOL.submit(self._ask, {"token": token, "client_ip": client_ip, **facts}).result(TIMEOUT)
        except Exception as fault:  # SECURITY: without an answer, nothing is stored
            print(f"trustmint gave no answer that counts: {fault!r}", file=sys.stderr)
            retry = {"Retry-After": "5"}
            raise Refused("trustmint cannot be asked just now; nothing was stored, try again", 503, **retry) from None
        need(*answer[:-1], **answer[-1])

    def _ask(self, question):
        """Whether, why not, and how to say it. One POST: no redirect, no retry, no proxy."""
        headers = {
            "Authorization": f"Bearer {self.key_file.read_text().strip()}",  # read anew each time, so it can be rotated
            "Content-Type": "application/json",
        }
        connection = self.connect(self.host, timeout=TIMEOUT)
        connection.request("POST", "/v1/verify", json.dumps(question), headers)
        answer = connection.getresponse()
        says = json.loads(answer.read())
        if answer.status in (429, 503):  # it cannot say: why, and from when on it may be asked again
            retry = {"Retry-After": str(int(answer.headers["Retry-After"]))}
            return False, f"{says['code']}: {says['message']}", 503, retry
        if answer.status != 200:
            raise OSError(f"status {answer.status}")
        if says["allowed"] is True:
            return True, "", 200, {}
        return False, f"{says['code']}: {' '.join(says['reasons'])}", 403, {}
