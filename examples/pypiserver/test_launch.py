"""What the launcher asks trustmint, what it stores, and that every hostile upload is refused with nothing stored.

Run: python test_launch.py. A stub stands in for trustmint; pypiserver is the real one, called as a WSGI application.
"""
import base64
import contextlib
import hashlib
import http.server
import io
import json
import os
import pathlib
import random
import tempfile
import threading
import time
import unittest
import wsgiref.util

from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

import launch

ALLOWED = {"allowed": True, "token": {"id": "t", "issued_at": 1, "expires_at": 2}, "publisher": {"rules": ["widgets"]}}
WHEEL = "widgets-1.0-py3-none-any.whl"
BOUNDARY = "=-=-boundary"


class Stub(http.server.ThreadingHTTPServer):
    """Answers `/v1/verify` as it is told to, and remembers what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), StubHandler)
        self.status, self.body, self.headers, self.hold, self.trickle = 200, json.dumps(ALLOWED).encode(), {}, 0, False
        self.questions, self.authorization = [], []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, body, status=200, **headers):
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.headers = status, headers


class StubHandler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        stub = self.server
        stub.questions.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        stub.authorization.append(self.headers["Authorization"])
        time.sleep(stub.hold)
        if stub.status is None:
            return  # hangs up
        with contextlib.suppress(OSError):
            self.send_response(stub.status)
            for name, value in {"Content-Length": str(len(stub.body)), **stub.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            for byte in stub.body:
                self.wfile.write(bytes([byte]))
                time.sleep(0.02 if stub.trickle else 0)

    def log_message(self, *_):
        pass


def part(name, data, filename=None, headers=b""):
    """One part of a form; `filename` makes it a file. Texts go out as they are, so that a test can spell nonsense."""
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    data = data if isinstance(data, bytes) else data.encode()
    return b"--" + BOUNDARY.encode() + b"\r\n" + disposition.encode() + b"\r\n" + headers + b"\r\n" + data + b"\r\n"


def form(*parts, end=True):
    return b"".join(parts) + (b"--" + BOUNDARY.encode() + b"--\r\n" if end else b"")


def upload(filename=WHEEL, data=b"wheel", action="file_upload", **fields):
    """An upload as uv and twine send it."""
    texts = {":action": action, "protocol_version": "1", **fields}
    return form(*(part(name, value) for name, value in texts.items()), part("content", data, filename))


class Case(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.packages = pathlib.Path(directory.name, "packages")
        self.packages.mkdir()
        self.key = pathlib.Path(directory.name, "api-key")
        self.key.write_text("the-api-key\n")
        self.stub = Stub()
        self.addCleanup(self.stub.server_close)
        self.addCleanup(self.stub.shutdown)
        self.app = launch.registry(str(self.packages), f"http://127.0.0.1:{self.stub.server_port}", str(self.key))
        self.errors = io.StringIO()
        redirected = contextlib.redirect_stderr(self.errors)
        redirected.__enter__()
        self.addCleanup(redirected.__exit__, None, None, None)

    def send(self, body, login=("__token__", "tok"), path="/", method="POST", content_type=None, **environ):
        """The answer as (status line, headers, text). The address is what nginx puts there."""
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": content_type or f"multipart/form-data; boundary={BOUNDARY}",
            "HTTP_X_FORWARDED_FOR": "203.0.113.7",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": self.errors,
            **({"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(":".join(login).encode()).decode()} if login else {}),
            **environ,
        }
        wsgiref.util.setup_testing_defaults(environ)
        started = []
        text = b"".join(self.app(environ, lambda status, headers, *_: started.append((status, dict(headers)))))
        return (*started[0], text.decode())

    def stored(self):
        return {path.name: path.read_bytes() for path in self.packages.iterdir()}

    def asked(self):
        """The one question since the last time."""
        (question,) = self.stub.questions
        self.stub.questions.clear()
        self.assertEqual(question[0], "/v1/verify")
        return question[1]

    def assert_refused(self, answer, status, *words, stored=()):
        self.assertEqual(answer[0].split()[0], str(status), answer)
        self.assertEqual(set(self.stored()), set(stored))
        for word in words:
            self.assertIn(word, answer[2])


class Uploads(Case):
    def test_a_first_upload_is_asked_about_and_stored(self):
        status, _, _ = self.send(upload(name="widgets", version="1.0"))
        self.assertEqual(status, "200 OK")
        self.assertEqual(self.stored(), {WHEEL: b"wheel"})
        question = self.asked()
        self.assertRegex(question.pop("consume"), r"\A[0-9a-f]{64}\Z")
        self.assertEqual(question, {
            "token": "tok", "package": "widgets", "version": "1.0", "exists": False, "client_ip": "203.0.113.7",
            "sha256": hashlib.sha256(b"wheel").hexdigest(), "size": 5,
        })
        self.assertEqual(self.stub.authorization, ["Bearer the-api-key"])

    def test_a_second_version_says_that_the_package_exists(self):
        for spelling, exists in [("Acme.Widgets-1.0-py3-none-any.whl", False), ("acme_widgets-1.1.tar.gz", True)]:
            self.assertEqual(self.send(upload(spelling))[0], "200 OK")
            question = self.asked()
            self.assertEqual((question["package"], question["exists"]), ("acme-widgets", exists))

    def test_the_form_may_be_silent_or_spell_the_same_name_differently(self):
        for number, name in enumerate(["Acme_Widgets", "acme-widgets", "ACME.widgets", ""]):
            answer = self.send(upload(f"acme_widgets-{number}.tar.gz", name=name))
            self.assertEqual(answer[0], "200 OK", answer)

    def test_every_size_is_hashed_to_its_last_byte(self):
        # bottle and cgi keep small parts in memory and large ones in files.
        for size in [0, 1, 999, 1000, 1001, 102_399, 102_401, 3_000_001]:
            data = random.Random(size).randbytes(size)
            name = f"widgets-1.{size}.tar.gz"
            self.assertEqual(self.send(upload(name, data))[0], "200 OK")
            question = self.asked()
            self.assertEqual((question["size"], question["sha256"]), (size, hashlib.sha256(data).hexdigest()))
            self.assertEqual(self.stored()[name], data)

    def test_bytes_that_look_like_a_form_stay_bytes(self):
        data = b"\r\n--" + BOUNDARY.encode() + b"x\r\n--" + b'\r\nContent-Disposition: form-data; name="content"\r\n\r\n'
        self.assertEqual(self.send(upload(data=data))[0], "200 OK")
        self.assertEqual(self.asked()["sha256"], hashlib.sha256(self.stored()[WHEEL]).hexdigest())
        self.assertEqual(self.stored()[WHEEL], data)

    def test_legal_names_are_read_as_pip_reads_them(self):
        for name, version, filename in [
            ("widgets", "1.0", "widgets-1.0.tar.gz"),
            ("widgets", "1", "widgets-1.tar.gz"),
            ("widgets", "1!2.0.post1.dev3", "widgets-1!2.0.post1.dev3.tar.gz"),
            ("foo-2", "1.0rc1", "foo_2-1.0rc1.tar.gz"),
            ("zope-interface", "7.2", "zope.interface-7.2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"),
            ("widgets", "1.0", "widgets-1.0-1-py3-none-any.whl"),
            ("widgets", "1.0+local.1", "widgets-1.0+local.1-py2.py3-none-any.whl"),
        ]:
            answer = self.send(upload(filename))
            self.assertEqual(answer[0], "200 OK", (filename, answer))
            question = self.asked()
            self.assertEqual((question["package"], question["version"]), (name, version))

    def test_the_same_upload_again_is_the_same_use_and_any_other_is_not(self):
        uses = []
        for body in [upload(), upload(), upload(data=b"other"), upload("widgets-1.0-py2-none-any.whl"),
                     upload("widgets-1.0.tar.gz"), upload("gadgets-1.0-py3-none-any.whl")]:
            self.send(body)
            uses.append(self.asked()["consume"])
            for path in self.packages.iterdir():
                path.unlink()
        self.assertEqual(uses[0], uses[1])
        self.assertEqual(len(set(uses)), 5)

    def test_the_api_key_is_read_anew(self):
        self.send(upload())
        self.key.write_text("rotated\n")
        self.send(upload("widgets-2.0.tar.gz"))
        self.assertEqual(self.stub.authorization, ["Bearer the-api-key", "Bearer rotated"])

    def test_a_file_is_never_replaced_and_no_use_is_spent_on_it(self):
        self.send(upload(data=b"first"))
        self.stub.questions.clear()
        for agent in ["uv/0.13.9", "twine/7.0.0"]:
            answer = self.send(upload(data=b"second"), HTTP_USER_AGENT=agent)
            self.assert_refused(answer, 409, "already exists", stored=[WHEEL])
        self.assertEqual(self.stored(), {WHEEL: b"first"})
        self.assertEqual(self.stub.questions, [])


class Refusals(Case):
    def test_the_reason_is_in_the_body_and_in_the_status_line(self):
        reason = "the token is for `widgets`; `gadgets` was uploaded"
        self.stub.answer({"allowed": False, "code": "package-not-granted", "reasons": [reason, "it expired"]})
        answer = self.send(upload("gadgets-1.0.tar.gz"))
        self.assert_refused(answer, 403, f"package-not-granted: {reason} it expired\n")
        self.assertEqual(answer[0], f"403 package-not-granted: {reason} it expired")
        self.assertEqual(answer[1]["Content-Type"], "text/plain; charset=utf-8")

    def test_a_reason_cannot_add_headers(self):
        self.stub.answer({"allowed": False, "code": "c", "reasons": ["a\r\nSet-Cookie: x\r\n\r\nbody \u202e\u00e9" + "y" * 999]})
        answer = self.send(upload())
        self.assert_refused(answer, 403)
        self.assertRegex(answer[0], r"\A[ -~]{1,510}\Z")
        self.assertNotIn("Set-Cookie", answer[1])

    def test_without_an_answer_that_allows_nothing_is_stored(self):
        allowed = json.dumps(ALLOWED).encode()
        with Stub.__new__(Stub) as other:
            Stub.__init__(other)
            redirect = {"Location": f"http://127.0.0.1:{other.server_port}/v1/verify"}
            for name, body, status, headers in [
                ("bad API key", b'{"code":"unauthorized"}', 401, {}),
                ("unavailable", b"{}", 503, {"Retry-After": "9"}),
                ("allowed, but 201", allowed, 201, {}), ("allowed, but 204", b"", 204, {}),
                ("allowed, but 403", allowed, 403, {}), ("allowed, but 500", allowed, 500, {}),
                *((f"redirect {code}", allowed, code, redirect) for code in (301, 302, 303, 307, 308)),
                ("no JSON", b"<html>allowed</html>", 200, {}), ("empty", b"", 200, {}), ("no object", b"true", 200, {}),
                ("array", b"[true]", 200, {}), ("no verdict", b"{}", 200, {}), ("null", b'{"allowed":null}', 200, {}),
                ("text", b'{"allowed":"true"}', 200, {}), ("one", b'{"allowed":1}', 200, {}),
                ("half an answer", allowed[:20], 200, {}), ("cut off", allowed, 200, {"Content-Length": "4000"}),
                ("hangs up", b"", None, {}), ("denied without reasons", b'{"allowed":false}', 200, {}),
            ]:
                with self.subTest(name):
                    self.stub.answer(body, status, **headers)
                    answer = self.send(upload())
                    self.assert_refused(answer, 503, "nothing was stored")
                    self.assertEqual(answer[1]["Retry-After"], "5")
            self.assertEqual(other.questions, [], "a redirect was followed")
            other.shutdown()

    def test_what_trustmint_cannot_say_now_the_client_reads_in_its_words_and_when_to_ask_again(self):
        for status, code in [(503, "state-lost"), (429, "rate-limited")]:
            with self.subTest(code):
                self.stub.answer({"code": code, "message": "its\u2028words\r\nX-Own: 1"}, status, **{"Retry-After": "9"})
                answer = self.send(upload())
                self.assert_refused(answer, 503, f"{code}: its\u2028words")
                self.assertEqual(answer[0], f"503 {code}: its-words-X-Own: 1")
                self.assertEqual((answer[1]["Retry-After"], "X-Own" in answer[1]), ("9", False))
        for retry_after in ["", "soon", "9\t, 9", None]:
            with self.subTest(retry_after):
                self.stub.answer({"code": "c", "message": "m"}, 503, **({"Retry-After": retry_after} if retry_after is not None else {}))
                answer = self.send(upload())
                self.assert_refused(answer, 503, "cannot be asked just now; nothing was stored")
                self.assertEqual(answer[1]["Retry-After"], "5")

    def test_an_answer_that_takes_too_long_is_no_answer(self):
        self.addCleanup(setattr, launch, "TIMEOUT", launch.TIMEOUT)
        self.assertEqual(launch.TIMEOUT, 4)
        launch.TIMEOUT = 0.3
        for name, value in [("hold", 0.8), ("trickle", True)]:
            with self.subTest(name):
                setattr(self.stub, name, value)
                start = time.monotonic()
                self.assert_refused(self.send(upload()), 503)
                self.assertLess(time.monotonic() - start, 0.7)
                self.stub.hold, self.stub.trickle = 0, False

    def test_without_trustmint_or_without_the_key_nothing_is_stored(self):
        self.key.unlink()
        self.assert_refused(self.send(upload()), 503)
        self.key.write_text("a\nb: c")
        self.assert_refused(self.send(upload()), 503)
        self.key.write_text("the-api-key")
        self.app = launch.registry(str(self.packages), "http://127.0.0.1:1", str(self.key))
        self.assert_refused(self.send(upload()), 503)
        self.assertEqual(self.stub.questions, [])
        self.assertNotIn("the-api-key", self.errors.getvalue())

    def test_a_proxy_in_the_environment_is_not_used(self):
        for name in ["http_proxy", "HTTP_PROXY", "ALL_PROXY"]:
            self.addCleanup(os.environ.pop, name, None)
            os.environ[name] = "http://127.0.0.1:1"
        self.assertEqual(self.send(upload())[0], "200 OK")

    def test_only_a_token_gets_as_far_as_a_question(self):
        basic = "Basic " + base64.b64encode(b"\xff:\xff").decode()
        for status, words, request in [
            (401, [], {"login": None}),
            (403, ["__token__"], {"login": ("joe", "tok")}), (403, ["__token__"], {"login": ("", "tok")}),
            (401, [], {"login": None, "HTTP_AUTHORIZATION": "Bearer tok"}),
            (401, [], {"login": None, "HTTP_AUTHORIZATION": basic}),
            (401, [], {"login": None, "HTTP_AUTHORIZATION": "Basic !"}),
            (401, [], {"login": None, "REMOTE_USER": "__token__"}),
        ]:
            with self.subTest(request):
                self.assert_refused(self.send(upload(), **request), status, *words)
        self.assertEqual(self.stub.questions, [])

    def test_the_client_address_is_one_address_or_the_upload_is_refused(self):
        for address in ["", "unknown", "203.0.113.7, 10.0.0.1", "203.0.113.7:80", "127.0.0.1\n"]:
            with self.subTest(address):
                self.assert_refused(self.send(upload(), HTTP_X_FORWARDED_FOR=address), 400)
        self.assertEqual(self.stub.questions, [])
        self.send(upload(), HTTP_X_FORWARDED_FOR="2001:db8::7")
        self.assertEqual(self.asked()["client_ip"], "2001:db8::7")


NOT_A_NAME = [
    # Places that are not in the package directory, and names that end early.
    "../requests-1.0.tar.gz", "..\\requests-1.0.tar.gz", "/etc/requests-1.0.tar.gz", "a/../widgets-1.0.tar.gz",
    "widgets-1.0.tar.gz/", "./widgets-1.0.tar.gz", ".widgets-1.0.tar.gz", "..-1.0.tar.gz", "", ".", "..", "/", "\\",
    "C:widgets-1.0.tar.gz", "%2e%2e%2fwidgets-1.0.tar.gz", "widgets-1.0.tar.gz\0.txt", "widgets\0-1.0.tar.gz",
    "widgets-1.0.tar.gz ", " widgets-1.0.tar.gz", "widgets-1.0.tar.gz\t", "widgets -1.0.tar.gz",
    # Letters that fold or normalise to others: the Kelvin sign, a dotless i, a long s, full width, a zero-width joiner.
    "\u212aids-1.0.tar.gz", "w\u0131dgets-1.0.tar.gz", "widget\u017f-1.0.tar.gz", "\uff57idgets-1.0.tar.gz",
    "wid\u200dgets-1.0.tar.gz", "widgets\u202e-1.0.tar.gz", "w\u00efdgets-1.0.tar.gz", "widgets-\u0661.0.tar.gz",
    # Two readings: where does the name end?
    "foo-bar-1.0.tar.gz", "foo-1-2.0.tar.gz", "foo-1.0-2.tar.gz", "foo-1.0-bar-2.0.tar.gz", "foo--1.0.tar.gz",
    "foo-bar-1.0-py3-none-any.whl", "foo-1.0-bar-1.0-py3-none-any.whl", "foo-1.0-1-2-py3-none-any.whl",
    "foo_-1.0.tar.gz", "_foo-1.0.tar.gz", "foo.-1.0.tar.gz", "-1.0.tar.gz", "foo-.tar.gz", "foo.tar.gz", "foo-v1.0.tar.gz",
    "foo-1.0.tar.gz.tar.gz", "foo-1.0.zip.tar.gz", "foo-1.0-py3-none.whl", "foo-1.0.whl", "foo-py3-none-any.whl",
    # Another file type: pypiserver would store these, under readings of their own.
    "widgets-1.0.zip", "widgets-1.0-py3.8.egg", "widgets-1.0.win32.exe", "widgets-1.0.win-amd64-py3.8.exe",
    "widgets-1.0.tgz", "widgets-1.0.tar.bz2", "widgets-1.0.tar.xz", "widgets-1.0.tar.gz.asc", f"{WHEEL}.asc",
    "widgets-1.0.TAR.GZ", "widgets-1.0-py3-none-any.WHL", "widgets-1.0.dist-info", "widgets-1.0-py3.8-x.tar.gz",
    # One version, one spelling.
    "widgets-1.0RC1.tar.gz", "widgets-01.0.tar.gz", "widgets-1.0_1.tar.gz", "widgets-1.0.0.rc1.tar.gz",
    "widgets-1.0+Local.tar.gz", "widgets-1.0.tar.gz.whl", "widgets-one-py3-none-any.whl", "widgets-1..0.tar.gz",
    "w" * 300 + "-1.0.tar.gz",
    # One version, one source archive.
    "Widgets-1.0.tar.gz", "acme.widgets-1.0.tar.gz", "acme__widgets-1.0.tar.gz", "acme._widgets-1.0.tar.gz",
]


class HostileUploads(Case):
    def tearDown(self):
        # Whatever was tried, trustmint was never asked to vouch for something else than what was tried.
        self.assertEqual(self.stub.questions, [])
        self.assertEqual(self.stored(), {})

    def test_a_form_that_names_another_package_than_the_file(self):
        for filename, name in [
            ("requests-9-py3-none-any.whl", "widgets"), ("requests-9.tar.gz", "widgets"), (WHEEL, "requests"),
            (WHEEL, "widgets\0"), (WHEEL, "widgets "), (WHEEL, "widgets\n"), (WHEEL, "widget"), (WHEEL, "widgets-2"),
            ("kids-1.0.tar.gz", "\u212aids"), ("widgets_extra-1.0.tar.gz", "widgets"),
        ]:
            with self.subTest(filename=filename, name=name):
                answer = self.send(upload(filename, name=name))
                self.assert_refused(answer, 400, "the form says", f"would be stored as '{filename}'")
        # As the issue has it: no wheel's name at all.
        self.assert_refused(self.send(upload("requests-9.whl", name="widgets")), 400, "neither")

    def test_a_form_that_names_another_version_than_the_file(self):
        for version in ["2.0", "1.0.0", "1.0-1", "v1.0", "1.0\0"]:
            with self.subTest(version):
                self.assert_refused(self.send(upload(name="widgets", version=version)), 400, "the form says")

    def test_file_names_with_no_or_several_readings(self):
        for filename in NOT_A_NAME:
            with self.subTest(filename):
                self.assert_refused(self.send(upload(filename)), 400)

    def test_a_name_that_pypiserver_reads_differently(self):
        # No such name is known to pass the pattern: this holds if pypiserver's reading ever changes.
        self.addCleanup(setattr, launch, "guess_pkgname_and_version", launch.guess_pkgname_and_version)
        for reading in [None, ("requests", "1.0"), ("widgets", "2.0"), ("Widgets", "1.0")]:
            launch.guess_pkgname_and_version = lambda _name, reading=reading: reading
            self.assert_refused(self.send(upload()), 400, "neither")

    def test_line_breaks_in_a_file_name(self):
        for raw in [b"widgets-1.0.tar.gz\n", b"widgets-1.0.tar.gz\r\n", b"widgets-1.0.tar.gz\r\n ", b"wid\n gets-1.0.tar.gz"]:
            with self.subTest(raw):
                body = form(part(":action", "file_upload"), b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: "
                            b'form-data; name="content"; filename="' + raw + b'"\r\n\r\nwheel\r\n')
                self.assertNotEqual(self.send(body)[0], "200 OK")

    def test_fields_that_occur_twice(self):
        wheel, other = part("content", b"w", WHEEL), part("content", b"r", "requests-9-py3-none-any.whl")
        action = part(":action", "file_upload")
        for name, parts in {
            "two contents": [action, wheel, other], "two equal contents": [action, wheel, wheel],
            "content as file and text": [action, part("content", "text"), wheel],
            "content as text and file": [action, wheel, part("content", "text")],
            "two names": [action, part("name", "widgets"), part("name", "requests"), wheel],
            "two equal names": [action, part("name", "widgets"), part("name", "widgets"), wheel],
            "two versions": [action, part("version", "1.0"), part("version", "2.0"), wheel],
            "two actions": [action, part(":action", "remove_pkg"), wheel], "two equal actions": [action, action, wheel],
            "action as a file": [part(":action", "file_upload", "x"), wheel],
            "name as a file": [action, part("name", "widgets", "x"), wheel],
        }.items():
            with self.subTest(name):
                self.assert_refused(self.send(form(*parts)), 400)

    def test_a_second_file_beside_the_package(self):
        for name, filename in [
            ("gpg_signature", f"{WHEEL}.asc"), ("gpg_signature", "requests-9-py3-none-any.whl"),
            ("gpg_signature", "requests-9.tar.gz.asc"), ("gpg_signature", ""), ("Content", "requests-9.tar.gz"),
            ("content ", "requests-9.tar.gz"), ("content[]", "requests-9.tar.gz"), ("attestations", "a.json"),
        ]:
            with self.subTest(name=name, filename=filename):
                extra = part(name, b"data", filename)
                for parts in [[part("content", b"w", WHEEL), extra], [extra, part("content", b"w", WHEEL)]]:
                    answer = self.send(form(part(":action", "file_upload"), *parts))
                    self.assert_refused(answer, 400, "send one file")

    def test_an_upload_without_a_file(self):
        action = part(":action", "file_upload")
        for body in [form(action), form(action, part("content", "text")), form(action, part("gpg_signature", b"", "a.asc"))]:
            self.assert_refused(self.send(body), 400)
        answer = self.send(b":action=file_upload&content=wheel", content_type="application/x-www-form-urlencoded")
        self.assert_refused(answer, 400)

    def test_forms_inside_forms(self):
        inner = (b"--in\r\nContent-Disposition: form-data; name=\"content\"; filename=\"requests-9.tar.gz\"\r\n\r\nx\r\n"
                 b"--in--\r\n")
        for kind in [b"multipart/mixed; boundary=in", b"multipart/form-data; boundary=in", b"application/x-www-form-urlencoded"]:
            for name in ["content", ":action", "name"]:
                with self.subTest(kind=kind, name=name):
                    nested = part(name, inner, WHEEL if name == "content" else None, b"Content-Type: " + kind + b"\r\n")
                    rest = {":action": part(":action", "file_upload"), "content": part("content", b"w", WHEEL)}
                    rest.pop(name, None)
                    self.assert_refused(self.send(form(*rest.values(), nested)), 400)

    def test_forms_that_are_no_forms(self):
        multipart = f"multipart/form-data; boundary={BOUNDARY}"
        for name, body, content_type in [
            ("nothing", b"", multipart), ("garbage", b"\0\xff" * 99, multipart), ("no boundary", upload(), "multipart/form-data"),
            ("another boundary", upload(), "multipart/form-data; boundary=other"),
            ("empty boundary", upload(), "multipart/form-data; boundary="), ("JSON", upload(), "application/json"),
            ("no type", upload(), " "), ("a boundary of control characters", upload(), "multipart/form-data; boundary=\1"),
            ("a large body without a form", b"x" * 200_000, "text/plain"),
        ]:
            with self.subTest(name):
                answer = self.send(body, content_type=content_type)
                self.assertIn(answer[0].split()[0], ["400", "413"], answer)

    def test_actions_other_than_upload_and_removal(self):
        for action in ["doc_upload", "submit", "verify", "password_reset", "", "FILE_UPLOAD", "file_upload ", "user"]:
            with self.subTest(action):
                self.assert_refused(self.send(upload(action=action)), 400, ":action")
        self.assert_refused(self.send(form(part("content", b"w", WHEEL))), 400, ":action")
        # The query is no form.
        answer = self.send(form(part("content", b"w", WHEEL)), QUERY_STRING=":action=file_upload")
        self.assert_refused(answer, 400, ":action")

    def test_other_paths_store_nothing(self):
        for path in ["/simple/", "/simple/widgets/", "/packages/", f"/packages/{WHEEL}", "/RPC2", "/widgets", "//", "/legacy/"]:
            for method in ["POST", "PUT", "DELETE"]:
                with self.subTest(path=path, method=method):
                    self.send(upload(), path=path, method=method)
                    self.stub.questions.clear()  # `//` is the upload's path too, and then it is asked about …
                    for file in self.packages.iterdir():
                        self.assertEqual((path, method), ("//", "POST"))  # … and only then is it stored.
                        file.unlink()


class WhatIsStored(Case):
    def test_a_disposition_with_several_names_is_asked_about_as_it_is_stored(self):
        for extra in ['; filename="gadgets-1.0.tar.gz"', "; filename*=UTF-8''gadgets-1.0.tar.gz",
                      '; name="content"; filename=gadgets-1.0.tar.gz', "; FILENAME=gadgets-1.0.tar.gz"]:
            with self.subTest(extra):
                head = f'Content-Disposition: form-data; name="content"; filename="widgets-1.0.tar.gz"{extra}\r\n\r\nx\r\n'
                body = form(part(":action", "file_upload"), b"--" + BOUNDARY.encode() + b"\r\n" + head.encode())
                if self.send(body)[0] == "200 OK":
                    (name,) = self.stored()
                    self.assertEqual(self.asked()["package"], name.split("-")[0])
                    (self.packages / name).unlink()

    def test_a_body_that_stops_early_is_stored_as_hashed(self):
        whole = upload(data=b"wheel" * 100)
        for length in range(len(whole) - 700, len(whole), 7):
            self.stub.questions.clear()
            if self.send(whole[:length])[0] == "200 OK":
                for name, data in self.stored().items():
                    self.assertEqual(self.asked()["sha256"], hashlib.sha256(data).hexdigest())
                    (self.packages / name).unlink()

    def test_names_that_pass_are_read_alike_by_pip_and_pypiserver(self):
        chance = random.Random(20_26)
        pieces = ["foo", "Bar", "1", "2.0", "-", "-", "_", ".", "+", "!", "rc1", "py3", "none", "any", "cp311", "linux",
                  ".tar.gz", ".whl", ".zip", ".egg", ".asc", "-1.0", "-1.0-py3-none-any.whl", "win32", "\u212a", "/", ".."]
        passed = 0
        for _ in range(60_000):
            name = "".join(chance.choices(pieces, k=chance.randint(2, 9)))
            parts = launch.STORED.fullmatch(name)
            guess = launch.guess_pkgname_and_version(name)
            if not parts or guess != (parts["name"], parts["version"] + (parts["build"] or "")):
                continue
            with contextlib.suppress(ValueError):
                version = launch.Version(parts["version"])
                read = (parse_wheel_filename if name.endswith(".whl") else parse_sdist_filename)(name)
                self.assertEqual(read[:2], (canonicalize_name(guess[0]), version), name)
                passed += 1
        self.assertGreater(passed, 50)


class Removals(Case):
    def setUp(self):
        super().setUp()
        for name in [WHEEL, "widgets-1.1.tar.gz", "gadgets-1.0.tar.gz"]:
            (self.packages / name).write_bytes(b"x")
        self.before = set(self.stored())

    def remove(self, *fields):
        return self.send(form(part(":action", "remove_pkg"), *(part(name, value) for name, value in fields)))

    def test_a_removal_is_asked_about_as_delete(self):
        self.assertEqual(self.remove(("name", "widgets"), ("version", "1.0"))[0], "200 OK")
        self.assertEqual(set(self.stored()), self.before - {WHEEL})
        question = self.asked()
        question.pop("consume")
        self.assertEqual(question, {"token": "tok", "action": "delete", "package": "widgets", "version": "1.0",
                                    "exists": True, "client_ip": "203.0.113.7"})

    def test_a_refused_removal_removes_nothing(self):
        self.stub.answer({"allowed": False, "code": "action-not-granted", "reasons": ["the token may `upload` only"]})
        self.assert_refused(self.remove(("name", "widgets"), ("version", "1.0")), 403, "only", stored=self.before)
        self.stub.answer(b"", 503)
        self.assert_refused(self.remove(("name", "widgets"), ("version", "1.0")), 503, stored=self.before)

    def test_what_is_removed_is_named_once_and_plainly(self):
        for fields in [
            [], [("name", "widgets")], [("version", "1.0")], [("name", ""), ("version", "1.0")], [("name", "widgets"), ("version", "")],
            [("name", "widgets"), ("name", "gadgets"), ("version", "1.0")],
            [("name", "gadgets"), ("version", "1.0"), ("version", "1.0")], [("name", "widgets"), ("version", "v1.0")],
            [("name", "widgets"), ("version", "1.0-1")], [("name", "widgets"), ("version", "1.0 ")],
        ]:
            with self.subTest(fields):
                answer = self.remove(*fields)
                self.assertIn(answer[0].split()[0], ["400", "404"])
                self.assertEqual(set(self.stored()), self.before)

    def test_another_spelling_removes_only_what_was_asked_about(self):
        for name in ["Widgets", "wid.gets", "../widgets", "widgets*", "\u212aids"]:
            self.assertEqual(self.remove(("name", name), ("version", "1.0"))[0].split()[0], "404")
            self.assertEqual(set(self.stored()), self.before)


class Reading(Case):
    def test_readers_need_no_token_and_find_what_was_stored(self):
        self.send(upload())
        self.stub.questions.clear()
        answer = self.send(b"", login=None, path="/simple/widgets/", method="GET")
        self.assertIn(hashlib.sha256(b"wheel").hexdigest(), answer[2])
        self.assertEqual(self.send(b"", login=None, path=f"/packages/{WHEEL}", method="GET")[2], "wheel")
        # An unknown package is not sent for to another index: that would invite dependency confusion.
        self.assertEqual(self.send(b"", login=None, path="/simple/requests/", method="GET")[0].split()[0], "404")
        self.assertEqual(self.stub.questions, [])


class Size(unittest.TestCase):
    def test_the_launcher_can_be_read_at_one_sitting(self):
        self.assertLess(len(pathlib.Path(launch.__file__).read_text().splitlines()), 80)


if __name__ == "__main__":
    unittest.main()
