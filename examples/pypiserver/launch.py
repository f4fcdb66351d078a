"""pypiserver, unmodified, on loopback, with trustmint deciding every change. Reasons: docs/plugging-in.md.
usage: launch.py PORT PACKAGES_DIRECTORY TRUSTMINT_URL API_KEY_FILE   (nginx.conf.template faces the network)"""
import concurrent.futures, functools, hashlib, http.client, ipaddress, json, pathlib, re, sys, urllib.parse
import pypiserver
from packaging.version import Version
from pypiserver.bottle_wrapper import FileUpload, HTTPResponse, request, run
from pypiserver.pkg_helpers import guess_pkgname_and_version, normalize_pkgname

TIMEOUT, POOL = 4, concurrent.futures.ThreadPoolExecutor(8)  # seconds for the whole question, however slow the answer
# SECURITY: no `-` in name or version (PEP 427, 625), so that pip, pypiserver and this file cut a file name alike.
STORED = re.compile(r"(?=.{1,200}\Z)(?=[a-z0-9]+(_[a-z0-9]+)*-|.*\.whl\Z)"  # one spelling, so a version has one source archive
                    r"(?P<name>[A-Za-z0-9]+([._]+[A-Za-z0-9]+)*)-(?P<version>[0-9][A-Za-z0-9.!+_]*)"
                    r"(\.tar\.gz|(?P<build>-[0-9][A-Za-z0-9._]*)?(-[A-Za-z0-9._]+){3}\.whl)")

def need(holds, reason, status=400, **headers):
    """Else the request ends here, nothing stored. The status line says why too: twine shows nothing else."""
    if not holds:
        headers["Content-Type"] = "text/plain; charset=utf-8"
        raise HTTPResponse(reason + "\n", f"{status} {re.sub('[^ -~]+', '-', reason)[:500]}", headers)
    return holds

def only(field):
    """The field's one value, or None. SECURITY: of several, pypiserver takes the last and other readers the first."""
    values = request.POST.getall(field)
    return need(len(values) < 2, f"the form field `{field}` occurs {len(values)} times") and (values or [None])[0]

def upload(backend):
    """What pypiserver is about to store, and as what: from its own parsed parts, not a second parser's."""
    content, files = only("content"), [part for _, part in request.POST.allitems() if isinstance(part, FileUpload)]
    need(files == [content] and content.file, "send one file, as `content`; a signature would be stored unchecked")
    stored, parts = content.raw_filename, STORED.fullmatch(content.raw_filename)
    need(parts and guess_pkgname_and_version(stored) == (parts["name"], parts["version"] + (parts["build"] or "")),
         f"{stored!a} is neither name-VERSION.tar.gz nor a wheel's name (ASCII, with `_` for `-`: foo_bar-1.0.tar.gz)")
    name, version = str(only("name") or parts["name"]), only("version") or parts["version"]
    need((normalize_pkgname(name), version) == (normalize_pkgname(parts["name"]), parts["version"]) and name.isascii(),
         f"the form says {name!a} {version!a}, but the file would be stored as {stored!a}")
    need(not backend.exists(stored), f"{stored!a} already exists", 409)  # before a single-use token is spent
    sha256, size = hashlib.file_digest(content.file, "sha256").hexdigest(), content.file.seek(0, 2)
    content.file.seek(0)  # pypiserver stores from here: the bytes just hashed, in a file only this process can reach
    return parts["name"], version, stored, {"sha256": sha256, "size": size}  # no action: the service has `exists`

def removal(_backend): return str(only("name")), str(only("version")), None, {"action": "delete"}

def ask(url, key_file, question):
    """Why not, or "", and how to say it. One POST: no redirect, retry, proxy. The key is read anew: it can be rotated."""
    (scheme, host, *_), key = urllib.parse.urlsplit(url), pathlib.Path(key_file).read_text().strip()
    connect = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}[scheme]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    (connection := connect(host, timeout=TIMEOUT)).request("POST", "/v1/verify", json.dumps(question), headers)
    says, status = json.loads((answer := connection.getresponse()).read()), {200: 403, 429: 503, 503: 503}[answer.status]
    if status == 503:  # it cannot say: why, and from when on it may be asked again
        return f"{says['code']}: {says['message']}", 503, {"Retry-After": str(int(answer.headers["Retry-After"]))}
    return "" if says["allowed"] is True else f"{says['code']}: {' '.join(says['reasons'])}", 403, {}

def decide(url, key_file, user, token):
    """pypiserver's `auther`, called when the body has arrived and before anything is stored: True, or refused."""
    need(user == "__token__", "give `__token__` as user name and the upload token as password", 403)
    try:  # of pypiserver's actions, `verify`, `submit` and `doc_upload` store nothing: refused with the unknown ones
        act = need({"file_upload": upload, "remove_pkg": removal}.get(str(only(":action"))), "`:action` is not supported")
        name, version, stored, facts = act(backend := request.app._pypiserver_config.backend)
        need(str(Version(version)) == version, f"write {version!a} as `{Version(version)}`")  # rules compare text
        package, client = normalize_pkgname(name), str(ipaddress.ip_address(request.get("HTTP_X_FORWARDED_FOR")))
        facts |= {"package": package, "version": version, "exists": any(backend.find_project_packages(package))}
        facts["consume"] = hashlib.sha256(json.dumps([stored, facts]).encode()).hexdigest()  # same again: same use
    except ValueError as fault:
        need(False, f"the request cannot be read: {fault}")
    try:
        why = POOL.submit(ask, url, key_file, facts | {"token": token, "client_ip": client}).result(TIMEOUT)
    except Exception as fault:  # SECURITY: without an answer, nothing is stored
        print(f"trustmint gave no answer that counts: {fault!r}", file=sys.stderr)
        need(False, "trustmint cannot be asked just now; nothing was stored, try again", 503, **{"Retry-After": "5"})
    return need(not why[0], why[0], why[1], **why[2])

def registry(packages, *trustmint):
    return pypiserver.app(roots=[pathlib.Path(packages)], authenticate=["update"], disable_fallback=True,
                          auther=functools.partial(decide, *trustmint))

if __name__ == "__main__":  # wsgiref serves one request at a time: nothing comes between the answer and the store
    run(app=registry(*sys.argv[2:]), host="127.0.0.1", port=int(sys.argv[1]), server="wsgiref")
