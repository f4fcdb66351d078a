"""A small registry's HTTP, for the examples that have no server of their own: on loopback, behind nginx (front/), one request
at a time, so that nothing comes between trustmint's answer and the store."""
import http.server
import ipaddress
import json
import os
import pathlib
import re
import sys

from verdict import Refused, Trustmint, need

MAX_BODY = 512 << 20  # nginx's MAX_UPLOAD is lower


class Request(http.server.BaseHTTPRequestHandler):
    timeout, is_read, path = 60, False, ""

    @property
    def token(self):
        """The upload token: the whole value, as cargo, gem and NuGet send it, or after `Bearer`."""
        text = re.fullmatch("(?:Bearer )?([!-~]+)", self.headers[self.server.header] or "")
        return need(text, f"send an upload token in the header `{self.server.header}`", 401)[1]

    @property
    def length(self):
        length = need(re.fullmatch("[0-9]{1,12}", self.headers["Content-Length"] or ""), "the length is missing", 411)
        return int(length[0])

    @property
    def client_ip(self):
        return str(ipaddress.ip_address(self.headers["X-Forwarded-For"] or ""))  # nginx's

    @property
    def body(self):
        """All of it; it can be read once. nginx says its length, also of a body that came in chunks."""
        need(self.length <= MAX_BODY, "the upload is too large", 413)
        self.is_read, body = True, self.rfile.read(self.length)
        return need(len(body) == self.length and body, "the request is cut short")

    def file_of_form(self, field):
        """Name and bytes of the one file of a form. A second part would be a second file under some name."""
        kind = 'multipart/form-data; boundary=("?)([A-Za-z0-9-]{1,70})\\1'
        kind = need(re.fullmatch(kind, self.headers["Content-Type"] or ""), "send a form with one file")
        start, head, *parts = self.body.split(b"--" + kind[2].encode())
        need(start == b"" and parts == [b"--\r\n"] and head.startswith(b"\r\n"), "the form has one part, the file")
        head, separator, content = head[2:].partition(b"\r\n\r\n")
        need(separator and content.endswith(b"\r\n"), "the form is broken")
        lines = [line for line in head.decode().split("\r\n") if line.lower().startswith("content-disposition")]
        shape = f'content-disposition: form-data; name=("?){field}\\1; filename=("?)([^";\r\n]*)\\2(; filename\\*=[^;\r\n]*)?'
        names = [re.fullmatch(shape, line, re.IGNORECASE) for line in lines]
        return need(len(names) == 1 and names[0], f"the form's part is a file called `{field}`")[3], content[:-2]

    @property
    def place(self):
        """The path without the query, in which some clients send a token: what may be logged."""
        return self.path.partition("?")[0]

    def log_request(self, code="-", _size="-"):
        print(f"{self.client_address[0]} {self.command} {self.place!a} {code}", file=sys.stderr)

    def log_message(self, *_):
        """SECURITY: nothing else, since it has the request line."""

    def handle_one(self):
        for method, path, act in self.server.routes:
            parts = re.fullmatch(path, self.path)  # as it was sent: nothing is decoded
            if parts and method == self.command:
                # SECURITY: before anything is read or unpacked.
                need(method == "GET" or self.token, "no token")
                return act(self, **parts.groupdict())
        raise Refused("nothing is served here", 404)

    def answer(self):
        status, phrase, headers = 200, None, {}
        try:
            try:
                kind, body = self.handle_one()
            except ValueError as fault:
                raise Refused(f"the request cannot be read: {fault}") from None
        except Refused as fault:
            status, phrase, headers = fault.status, fault.phrase, fault.headers
            kind, body = self.server.refusal(fault)
        except Exception as fault:
            status = 500  # SECURITY: whatever happened, it is no yes
            kind, body = self.server.refusal(Refused("the registry failed"))
            print(f"{self.command} {self.place}: {fault!r}", file=sys.stderr)
        self.send_response(status, phrase)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.skip()

    def skip(self):
        """The body of a request that was refused unread: closed before it, the connection would lose the answer."""
        left = 0 if self.is_read or "Content-Length" not in self.headers else self.length
        while left > 0 and (part := self.rfile.read(min(left, 1 << 16))):
            left -= len(part)

    do_GET = do_POST = do_PUT = do_DELETE = answer


def as_json(value):
    return "application/json", json.dumps(value).encode()


def as_text(text):
    return "text/plain; charset=utf-8", text.encode()


def as_file(path):
    return "application/octet-stream", need(path.is_file(), "there is no such file", 404) and path.read_bytes()


def put(path, content):
    """The whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(".new").write_bytes(content)
    path.with_name(".new").replace(path)


def unique_members(pairs):
    """For `json.loads`. SECURITY: of a member that occurs twice, Python takes the last and other readers the first."""
    members = dict(pairs)
    return need(len(members) == len(pairs), "a member of the JSON occurs twice") and members


def registry(make, port, directory, trustmint, key_file, header="Authorization"):
    """The server, which `make(directory, trustmint, public_url)` gives its routes and its way to spell a refusal."""
    server = http.server.HTTPServer(("127.0.0.1", int(port)), Request)
    server.header = header
    public = os.environ.get("PUBLIC", "")
    server.routes, server.refusal = make(pathlib.Path(directory), Trustmint(trustmint, key_file), public)
    return server
