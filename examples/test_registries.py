"""What the examples without a server of their own, and devpi, ask trustmint, what they store, and what they refuse.

Run: python test_registries.py. A stub stands in for trustmint; each launcher runs as `start` runs it, without nginx. Needs ruby.
"""
import argparse
import base64
import bz2
import contextlib
import gzip
import hashlib
import http.client
import http.server
import importlib.util
import io
import json
import os
import pathlib
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import unittest
import unittest.mock
import urllib.parse
import zipfile
import zlib

import zstandard

HERE = pathlib.Path(__file__).resolve().parent
ALLOWED = {"allowed": True, "token": {"id": "t"}, "publisher": {"rules": ["widgets"]}}


class Stub(http.server.ThreadingHTTPServer):
    """Answers `/v1/verify` as it is told to, and remembers what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.questions, self.answer = [], (200, ALLOWED, {})
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.questions.append((self.path, self.headers["Authorization"], question))
        status, body, headers = self.server.answer
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Notified(http.server.ThreadingHTTPServer):
    """Remembers what it was told."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Noted)
        self.told, self.answer = [], (204, {})
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Noted(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.told.append((self.command, self.path, self.headers["Authorization"]))
        status, headers = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_):
        pass


class Registry(unittest.TestCase):
    """One launcher for the tests of a class."""

    folder = authorization = None

    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = pathlib.Path(directory.name)
        cls.packages = cls.directory / "packages"
        cls.packages.mkdir()
        (cls.directory / "key").write_text("the-api-key\n")
        cls.stub = Stub()
        cls.addClassCleanup(cls.stub.server_close)
        cls.addClassCleanup(cls.stub.shutdown)
        # The system's choice, which another program could take meanwhile: then nothing starts, and the test says so.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            cls.port = free.getsockname()[1]
        command = [sys.executable, "-B", "-W", "ignore", HERE / cls.folder / "launch.py", cls.port, cls.packages,
                   f"http://127.0.0.1:{cls.stub.server_port}", cls.directory / "key"]
        cls.log = (cls.directory / "log").open("w+b")
        environment = {**os.environ, "PUBLIC": "https://registry.example"}
        cls.process = subprocess.Popen([str(word) for word in command], stdout=cls.log, stderr=cls.log, env=environment)
        cls.addClassCleanup(cls.end)
        while True:
            with contextlib.suppress(OSError):
                http.client.HTTPConnection("127.0.0.1", cls.port, timeout=30).connect()
                break
            if cls.process.poll() is not None:
                raise RuntimeError((cls.directory / "log").read_text())

    @classmethod
    def end(cls):
        cls.process.terminate()
        cls.process.wait(20)
        cls.log.close()

    def setUp(self):
        self.stub.answer = (200, ALLOWED, {})
        self.stub.questions.clear()

    def send(self, method, path, body=None, headers=(), token="tok"):
        """Status, phrase, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            given = {"X-Forwarded-For": "203.0.113.7", **(self.login(token) if token else {}), **dict(headers)}
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, answer.reason, answer.headers, answer.read()

    def login(self, token):
        return {"Authorization": token}

    def asked(self):
        ((path, key, question),) = self.stub.questions
        self.stub.questions.clear()
        self.assertEqual((path, key), ("/v1/verify", "Bearer the-api-key"))
        self.assertRegex(question.pop("consume"), "^[0-9a-f]{64}$")
        self.assertEqual((question.pop("token"), question.pop("client_ip")), ("tok", "203.0.113.7"))
        return question

    def stored(self):
        return {path.name for path in self.packages.rglob("*") if path.is_file()}

    def assert_refused(self, answer, status, *words, asked=False):
        """With nothing stored, and in the ecosystem's own spelling."""
        self.assertEqual(answer[0], status, answer)
        for word in words:
            self.assertIn(word, self.reason(answer))
        self.assertEqual(bool(self.stub.questions), asked)
        self.assertEqual(self.stored(), self.before)

    def reason(self, answer):
        return answer[3].decode()

    def hostile(self, cases):
        """Each is refused without a question."""
        self.before = self.stored()
        for name, send, *words in cases:
            self.stub.questions.clear()
            with self.subTest(name):
                self.assert_refused(send(), 400, *words)

    def refusals(self, upload, at_length=False):
        """What holds for every registry: no yes, no change. `upload` sends an upload that is in order. They share what
        reads the answer, so one of them tries every answer."""
        self.before = self.stored()
        self.stub.answer = (200, {"allowed": False, "code": "package-not-covered", "reasons": ["the token is for `x`", "only"]}, {})
        self.assert_refused(upload(), 403, "package-not-covered: the token is for `x` only", asked=True)
        allowed = json.dumps(ALLOWED).encode()
        answers = [(401, ALLOWED, {}), (200, {"allowed": "true"}, {}), (201, ALLOWED, {}), (500, ALLOWED, {}),
                   (302, ALLOWED, {"Location": "/v1/verify"}), (200, b"", {}), (200, b"true", {}), (200, {"allowed": 1}, {}),
                   (200, allowed[:20], {}), (503, {}, {"Retry-After": "9"}), (503, {"code": "c", "message": "m"}, {"Retry-After": "soon"})]
        for answer in answers if at_length else answers[:2]:
            with self.subTest(answer):
                self.stub.questions.clear()
                self.stub.answer = answer
                self.assert_refused(said := upload(), 503, "nothing was stored", asked=True)
                self.assertEqual(said[2]["Retry-After"], "5")
        for status, code in [(503, "state-lost"), (429, "rate-limited")]:
            self.stub.questions.clear()
            self.stub.answer = (status, {"code": code, "message": "its words"}, {"Retry-After": "9"})
            self.assert_refused(said := upload(), 503, f"{code}: its words", asked=True)
            self.assertEqual(said[2]["Retry-After"], "9")
        self.setUp()


def targz(members, mode="w:gz"):
    """An archive of (name, bytes), or (name, bytes, type)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, data, *kind in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data), kind[0] if kind else tarfile.REGTYPE
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def header(name, size=0, kind=b"0", changes=()):
    """One block, with the bytes of `changes` at their offsets."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    for offset, data in changes:
        block[offset:offset + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name, data, kind=b"0", changes=()):
    return header(name, len(data), kind, changes) + data + bytes(-len(data) % 512)


def extended(kind, **fields):
    """An extended header, `__` for the `.` of a field's name."""
    records = b""
    for key, value in fields.items():
        record = f" {key.replace('__', '.')}={value}\n".encode()
        records += next(b"%d" % size + record for size in range(999) if len(b"%d" % size + record) == size)
    return member("x", records, kind)


def two_ways(good_name, good, evil_name, evil):
    """Archives that readers take differently, or that would keep one busy: each has the good member, and most another of
    the same place that only some find."""
    base, end, below_zero = member(good_name, good), bytes(1024), bytes([0o377] * 10 + [0o376, 0])
    folder = evil_name.rpartition("/")[0]
    long = lambda name: member("L", name.encode() + b"\0", b"L")  # noqa: E731
    sparse = {"GNU__sparse__major": 0, "GNU__sparse__minor": 1, "GNU__sparse__numblocks": 0, "GNU__sparse__map": "0,0"}
    archives = {
        "a size below zero, in base 256": base + header(f"{folder}/x", changes=[(124, below_zero)]),
        "a size below zero, in octal": base + header(f"{folder}/x", changes=[(124, b"-0000001000\0")]),
        "a size with more behind it": base + header(f"{folder}/x", changes=[(124, b"00000000\0001\0")]),
        "a sparse file": base + member(f"{folder}/x", b"", b"S"),
        "a sparse file of 3 GiB": extended(b"x", GNU__sparse__name=good_name, GNU__sparse__size=3 << 30, **sparse) + member(good_name, b""),
        "a sparse file's name": base + extended(b"x", GNU__sparse__name=f"{folder}/readme", GNU__sparse__size=len(evil), **sparse)
        + member(evil_name, evil),
        "a name of the whole archive": base + extended(b"g", path=f"{folder}/readme") + member(evil_name, evil),
        "a name in an extended header": base + extended(b"x", path=f"{folder}/readme") + member(evil_name, evil),
        "Solaris's extended header": base + extended(b"X", path=f"{folder}/readme") + member(evil_name, evil),
        "a prefix of another format": base + member(evil_name, evil, changes=[(345, f"{folder}/deep".encode())]),
        "a folder with a size": base + member(f"{folder}/x/", member(evil_name, evil), b"5"),
        "a link with a size": base + member(f"{folder}/x", member(evil_name, evil), b"1"),
        "two long names": base + long(f"{folder}/readme") + long(evil_name) + member("x", evil),
        "a long name with a zero": base + long(f"{evil_name}\0x") + member("x", evil),
        "an empty long name": base + member("L", b"", b"L") + member(evil_name, evil),
        "a long name of nothing": base + long(f"{folder}/readme"),
        "a member cut short": base + header(f"{folder}/x", 5000),
        "an unknown kind": base + member(evil_name, evil, b"7"),
    }
    return {name: archive + end for name, archive in archives.items()}


def crate(name="widgets", version="1.0.0", manifest=None, more=()):
    manifest = manifest or f'[package]\nname = "{name}"\nversion = "{version}"\n'
    return targz([(f"{name}-{version}/Cargo.toml", manifest.encode()), (f"{name}-{version}/src/lib.rs", b""), *more])


class Cargo(Registry):
    folder = "cargo-registry"

    def reason(self, answer):
        ((error,),) = (json.loads(answer[3])["errors"],)
        return error["detail"]

    def publish(self, name="widgets", version="1.0.0", data=None, metadata=None, tail=b"", **more):
        says = metadata or json.dumps({"name": name, "vers": version, "deps": [], "features": {"a": []}, "links": None, **more}).encode()
        data = crate(name, version) if data is None else data
        body = len(says).to_bytes(4, "little") + says + len(data).to_bytes(4, "little") + data + tail
        return self.send("PUT", "/api/v1/crates/new", body)

    def test_a_crate_is_asked_about_stored_indexed_and_yanked(self):
        manifest = """
            [package]
            name = "first_one"
            version = "1.0.0"
            links = "z"
            rust-version = "1.70"
            [features]
            a = ["dep:s"]
            [dependencies.s]
            version = "^1"
            package = "serde"
            optional = true
            default-features = false
            features = ["x"]
            [dev-dependencies.own]
            version = "2"
            registry-index = "sparse+https://registry.example/index/"
            [target."cfg(unix)".build-dependencies.other]
            version = "3"
            registry-index = "sparse+https://elsewhere.example/"
        """
        data = crate("first_one", manifest=manifest)
        facts = {"package": "first_one", "version": "1.0.0", "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        # What the metadata says, which no digest covers, is not looked at.
        foreign = {"name": "evil", "version_req": "^1", "features": [], "optional": False, "default_features": True,
                   "target": None, "kind": "normal", "registry": None}
        lies = {"features": {"default": ["evil"]}, "links": "evil", "rust_version": "1.0"}
        self.assertEqual(self.publish("first_one", data=data, deps=[foreign], **lies)[0], 200)
        self.assertEqual(self.asked(), {**facts, "exists": False})
        entry = json.loads(self.send("GET", "/index/fi/rs/first_one")[3])
        self.assertEqual((entry["name"], entry["vers"], entry["cksum"], entry["yanked"]), ("first_one", "1.0.0", facts["sha256"], False))
        plain = {"features": [], "optional": False, "default_features": True, "target": None, "kind": "normal"}
        self.assertEqual(entry["deps"], [
            {**plain, "name": "s", "package": "serde", "req": "^1", "optional": True, "default_features": False, "features": ["x"],
             "registry": "https://github.com/rust-lang/crates.io-index"},
            {**plain, "name": "own", "req": "2", "kind": "dev", "registry": None},
            {**plain, "name": "other", "req": "3", "kind": "build", "target": "cfg(unix)", "registry": "sparse+https://elsewhere.example/"},
        ])
        self.assertEqual([entry[key] for key in ["features", "features2", "links", "rust_version"]], [{}, {"a": ["dep:s"]}, "z", "1.70"])
        self.assertEqual(self.send("GET", "/api/v1/crates/first_one/1.0.0/download")[3], data)
        config = json.loads(self.send("GET", "/index/config.json", token=None)[3])
        self.assertEqual(config, {"dl": "https://registry.example/api/v1/crates", "api": "https://registry.example"})
        self.assertEqual(self.publish("first_one", "1.1.0")[0], 200)
        self.assertEqual(self.asked()["exists"], True)
        for method, word, yanked in [("DELETE", "yank", True), ("PUT", "unyank", False)]:
            self.assertEqual(self.send(method, f"/api/v1/crates/first_one/1.0.0/{word}")[0], 200)
            self.assertEqual(self.asked(), {"package": "first_one", "version": "1.0.0", "exists": True, "action": "yank"})
            entries = [json.loads(line) for line in self.send("GET", "/index/fi/rs/first_one")[3].splitlines()]
            self.assertEqual([entry["yanked"] for entry in entries], [yanked, False])
        self.stub.answer = (200, {"allowed": False, "code": "action-not-granted", "reasons": ["no yank"]}, {})
        self.before = self.stored()
        self.assert_refused(self.send("DELETE", "/api/v1/crates/first_one/1.0.0/yank"), 403, "action-not-granted", asked=True)
        self.assertNotIn(b'"yanked": true', self.send("GET", "/index/fi/rs/first_one")[3])

    def test_without_a_clear_yes_nothing_is_stored(self):
        self.refusals(self.publish, at_length=True)

    def test_one_crate_has_one_spelling_and_a_version_is_there_once(self):
        self.assertEqual(self.publish("Acme-Core")[0], 200)
        self.stub.questions.clear()
        self.before = self.stored()
        for name in ["acme_core", "acme-core", "Acme_Core"]:
            self.assert_refused(self.publish(name, "2.0.0"), 400, "spelled `Acme-Core`")
        self.assert_refused(self.publish("Acme-Core"), 409, "already")

    def test_an_upload_that_says_two_things_or_cannot_be_stored_is_refused_unasked(self):
        other = '[package]\nname = "gadgets"\nversion = "1.0.0"\n'
        own = other.replace("gadgets", "widgets")
        body = crate()
        twice = b'{"name": "gadgets", "vers": "1.0.0", "name": "widgets"}'
        bomb = crate(more=[("widgets-1.0.0/x", bytes(70 << 20))])
        self.hostile([
            ("another crate inside", lambda: self.publish(data=crate("gadgets")), "not below `widgets-1.0.0/`"),
            ("another manifest", lambda: self.publish(data=crate(manifest=other)), "manifest says 'gadgets'"),
            ("another version", lambda: self.publish(data=crate(manifest=other.replace("gadgets", "widgets").replace("1.0.0", "1.0.1")))),
            ("a second manifest", lambda: self.publish(data=crate(more=[("widgets-1.0.0/Cargo.toml", other.encode())])), "one `Cargo.toml`"),
            ("a manifest in another case", lambda: self.publish(data=crate(more=[("widgets-1.0.0/cargo.TOML", b"")])), "one `Cargo.toml`"),
            ("no manifest", lambda: self.publish(data=targz([("widgets-1.0.0/src/lib.rs", b"")]))),
            ("a path out of it", lambda: self.publish(data=crate(more=[("widgets-1.0.0/../../etc/x", b"")])), "not below"),
            ("an absolute path", lambda: self.publish(data=crate(more=[("/etc/x", b"")])), "not below"),
            ("a link", lambda: self.publish(data=crate(more=[("widgets-1.0.0/x", b"", tarfile.SYMTYPE)])), "not a plain file"),
            ("a device", lambda: self.publish(data=crate(more=[("widgets-1.0.0/x", b"", tarfile.CHRTYPE)])), "no file, folder or link"),
            ("a backslash", lambda: self.publish(data=crate(more=[("widgets-1.0.0/.\\Cargo.toml", b"")])), "not below"),
            ("a name that Windows cuts", lambda: self.publish(data=crate(more=[("widgets-1.0.0/Cargo.toml.", b"")])), "one `Cargo.toml`"),
            *((name, lambda archive=archive: self.publish(data=gzip.compress(archive))) for name, archive in two_ways(
                "widgets-1.0.0/Cargo.toml", own.encode(), "widgets-1.0.0/Cargo.toml", other.encode()).items()),
            ("a bomb", lambda: self.publish(data=bomb), "too large"),
            ("no archive", lambda: self.publish(data=b"xxxx"), "broken"), ("half a crate", lambda: self.publish(data=body[:-9]), "cut short"),
            ("two crates", lambda: self.publish(data=body + body), "goes on after its end"),
            ("an archive behind the archive", lambda: self.publish(data=gzip.compress(gzip.decompress(body) * 2)), "behind the crate"),
            ("more than it says", lambda: self.publish(tail=b"x"), "more in the upload"),
            ("names twice", lambda: self.publish(metadata=twice), "occurs twice"),
            ("no JSON", lambda: self.publish(metadata=b"{"), "cannot be read"), ("no object", lambda: self.publish(metadata=b"[]")),
            *((repr(more), lambda more=more: self.publish(data=crate(manifest=own + more)), "as `cargo publish` writes it") for more in [
                "[dependencies.a]\npath = 'a'", "[dependencies.a]\nversion = '1'\npath = 'a'", "[dependencies.a]\nversion = '1'\ngit = 'a'",
                "[dependencies]\na = 1", "[dependencies.a]\nversion = 1", "[dependencies.a]\nversion = '1'\nfeatures = [1]",
                "[dependencies.a]\nversion = '1'\nworkspace = true", "[[dependencies]]", "[[target]]", "[target]\na = 1", "[features]\na = 'b'",
                "[target.x.dependencies.a]\nversion = '1'\ndefault_features = false", "[features]\na = [1]", "links = 1", "rust-version = 1979-01-01",
                "[dev_dependencies.a]\nversion = '1'", "[target.x.build_dependencies.a]\nversion = '1'"]),
            *((repr(name), lambda name=name: self.publish(name)) for name in
              ["", "../x", "a/b", "1a", "\u212aids", "a b", "a" * 65, "widgets\n"]),
            *((repr(version), lambda version=version: self.publish(version=version, data=body)) for version in
              ["1", "1.0", "1.0.0+a", "01.0.0", "../1.0.0", "1.0.0 ", "1.0.0\n", ""]),
            ("cut short", lambda: self.send("PUT", "/api/v1/crates/new", b"\xff\xff\xff\xff{}"), "cut short"),
        ])

    def test_plain_long_names_and_both_formats_are_taken(self):
        for version, form in [("7.0.0", tarfile.GNU_FORMAT), ("7.0.1", tarfile.USTAR_FORMAT)]:
            file = io.BytesIO()
            with tarfile.open(fileobj=file, mode="w:gz", format=form) as archive:
                for name in ["Cargo.toml", "deep/" * 25 + "x.rs"]:
                    data = f'[package]\nname = "long"\nversion = "{version}"\n'.encode()
                    info = tarfile.TarInfo(f"long-{version}/{name}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
            self.assertEqual(self.publish("long", version, file.getvalue())[0], 200)

    def test_without_a_token_nothing_is_read(self):
        self.before = self.stored()
        big = b"x" * (5 << 20)
        self.assert_refused(self.send("PUT", "/api/v1/crates/new", big, token=None), 401, "upload token")
        self.assert_refused(self.send("DELETE", "/api/v1/crates/nothing/1.0.0/yank", token=None), 401, "upload token")

    def test_no_query_is_logged(self):
        for path in ["/index/config.json?token=se-cret", "/index/config.json?token=se-cret x"]:
            with socket.create_connection(("127.0.0.1", self.port)) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
                self.assertIn(b" 40", connection.recv(100))
        log = (self.directory / "log").read_text()
        self.assertIn("'/index/config.json' 404", log)
        self.assertNotIn("se-cret", log)

    def test_other_paths_change_nothing(self):
        self.before = self.stored()
        for method, path in [("PUT", "/api/v1/crates/widgets/owners"), ("PUT", "/api/v1/crates/new/"), ("POST", "/api/v1/crates/new"),
                             ("DELETE", "/api/v1/crates/nothing/1.0.0/yank"), ("GET", "/index/../key"), ("GET", "/index/no/th/nothing"),
                             ("GET", "/api/v1/crates/nothing/1.0.0/download"), ("GET", "/api/v1/crates/..%2fx/1.0.0/download")]:
            self.assert_refused(self.send(method, path, b"{}"), 404)

    def test_who_presents_no_token_is_refused_and_not_asked_about(self):
        self.before = self.stored()
        for headers in [{}, {"Authorization": ""}, {"Authorization": "a b"}, {"Authorization": "Basic dG9r"}]:
            data = crate("tokenless")
            says = b'{"name": "tokenless", "vers": "1.0.0"}'
            body = len(says).to_bytes(4, "little") + says + len(data).to_bytes(4, "little") + data
            self.assert_refused(self.send("PUT", "/api/v1/crates/new", body, headers, token=None), 401)


class Gems(Registry):
    folder = "gem-server"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.gem = {}
        cls.build([("widgets", "1.0.0", "ruby", "a.gem"), ("widgets", "1.1.0.pre", "x86_64-linux", "b.gem"), ("gadgets", "1.0.0", "ruby", "c.gem")])

    @classmethod
    def build(cls, gems):
        script = """require "rubygems/package"
        JSON.parse(ARGV[0]).each do |name, version, platform, file|
          spec = Gem::Specification.new { |s| s.name = name; s.version = version; s.platform = platform; s.summary = "s"; s.authors = ["a"] }
          Dir.chdir(ARGV[1]) { Gem::Package.build(spec, true, false, file) }
        end"""
        subprocess.run(["ruby", "-rjson", "-e", script, json.dumps(gems), cls.directory], check=True, capture_output=True)
        cls.gem |= {file.removesuffix(".gem"): (cls.directory / file).read_bytes() for *_, file in gems}

    def push(self, gem, **more):
        return self.send("POST", "/api/v1/gems", gem, {"Content-Type": "application/octet-stream"}, **more)

    def test_a_gem_is_asked_about_as_it_names_itself_and_stored(self):
        for key, version, file, exists in [("a", "1.0.0", "widgets-1.0.0.gem", False), ("b", "1.1.0.pre", "widgets-1.1.0.pre-x86_64-linux.gem", True)]:
            gem = self.gem[key]
            self.assertEqual(self.push(gem)[:1], (200,))
            self.assertEqual(self.asked(), {"package": "widgets", "version": version, "exists": exists,
                                            "sha256": hashlib.sha256(gem).hexdigest(), "size": len(gem)})
            self.assertEqual(self.send("GET", f"/gems/{file}", token=None)[3], gem)
        self.before = self.stored()
        self.assert_refused(self.push(self.gem["a"]), 409, "already")
        self.assert_refused(self.push(self.gem["c"], token=None), 401)

    def test_without_a_clear_yes_nothing_is_stored(self):
        self.refusals(lambda: self.push(self.gem["c"]))

    def test_a_gem_is_yanked_by_its_own_name_only(self):
        self.build([("yanked-1.0", "2", "ruby", "e.gem"), ("yanked", "1.1", "ruby", "f.gem")])
        yank = lambda **form: self.send("DELETE", "/api/v1/gems/yank", urllib.parse.urlencode(form))  # noqa: E731
        self.assertEqual([self.push(self.gem[key])[0] for key in "ef"], [200, 200])
        self.before = self.stored()
        self.stub.questions.clear()
        for form in [{"gem_name": "yanked", "version": "1.0", "platform": "2"}, {"gem_name": "yanked", "version": "9"},
                     {"gem_name": "../names/yanked", "version": "1.1"}, {"gem_name": "", "version": ""}]:
            self.assert_refused(yank(**form), 404, "there is no")
        self.assert_refused(self.send("DELETE", "/api/v1/gems/yank", "gem_name=x&gem_name=yanked&version=1.1"), 400, "occurs twice")
        self.stub.answer = (200, {"allowed": False, "code": "action-not-covered", "reasons": ["no yank"]}, {})
        self.assert_refused(yank(gem_name="yanked", version="1.1"), 403, "action-not-covered", asked=True)
        self.assertEqual(self.send("GET", "/gems/yanked-1.1.gem")[0], 200)
        self.setUp()
        self.assertEqual(yank(gem_name="yanked", version="1.1")[0], 200)
        self.assertEqual(self.asked(), {"package": "yanked", "version": "1.1", "exists": True, "action": "yank"})
        self.assertEqual(self.send("GET", "/gems/yanked-1.1.gem")[0], 404)
        self.assertEqual(self.push(self.gem["f"])[0], 409)

    def test_a_gem_that_unpacks_to_more_than_the_reader_may_have_is_refused(self):
        with tarfile.open(fileobj=io.BytesIO(self.gem["c"])) as archive:
            members = {member.name: archive.extractfile(member).read() for member in archive}
        del members["checksums.yaml.gz"]
        specification = gzip.decompress(members["metadata.gz"])
        for more, status in [(0, 200), (600 << 20, 400)]:
            packer = zlib.compressobj(1, wbits=31)
            packed = packer.compress(specification.replace(b"gadgets", b"bombs") + b"# ") + packer.compress(b" " * more) + packer.flush()
            self.before = self.stored()
            answer = self.push(targz({**members, "metadata.gz": packed}.items(), "w:"))
            self.assertEqual(answer[0], status, answer)
        self.assertEqual(self.stored(), self.before)

    def test_what_rubygems_cannot_read_or_says_two_things_is_refused_unasked(self):
        with tarfile.open(fileobj=io.BytesIO(self.gem["c"])) as archive:
            members = [(member.name, archive.extractfile(member).read()) for member in archive]
        with tarfile.open(fileobj=io.BytesIO(self.gem["a"])) as archive:
            other = archive.extractfile("metadata.gz").read()
        swapped = targz([(name, other if name == "metadata.gz" else data) for name, data in members], "w:")
        self.hostile([
            ("another's specification", lambda: self.push(swapped), "RubyGems cannot read"),
            ("no gem", lambda: self.push(b"x"), "RubyGems cannot read"), ("nothing", lambda: self.push(b"")),
            ("half a gem", lambda: self.push(self.gem["c"][:-2000]), "RubyGems cannot read"),
            ("the old format", lambda: self.push(b"MD5SUM = 'x'\n" + self.gem["c"]), "RubyGems cannot read"),
            ("no specification", lambda: self.push(targz(members[1:], "w:")), "RubyGems cannot read"),
        ])


def index(name="widgets", version="1.0", build="0", subdir="noarch", **more):
    return json.dumps({"name": name, "version": version, "build": build, "build_number": 0, "subdir": subdir, **more}).encode()


class Conda(Registry):
    folder = "conda-channel"

    def login(self, token):
        return {"Authorization": f"Bearer {token}"}

    def upload(self, members, file="widgets-1.0-0.tar.bz2"):
        return self.post(file, bz2.compress(targz(members, "w:")))

    def post(self, file, content, tail=b"--\r\n", head=b"", boundary="b-b", **more):
        disposition = f'--b-b\r\nContent-Disposition: form-data; name="file"; filename="{file}"\r\n'.encode()
        body = disposition + head + b"\r\n" + content + b"\r\n--b-b" + tail
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self.send("POST", "/api/v1/upload/acme", body, kind, **more)

    def conda(self, members, file="widgets-2.0-0.conda", inner=None):
        packed, outer = zstandard.compress(targz(members, "w:")), io.BytesIO()
        with zipfile.ZipFile(outer, "w", zipfile.ZIP_STORED) as archive:
            for name in inner or [f"info-{file.removesuffix('.conda')}.tar.zst"]:
                archive.writestr(name, packed)
        return self.post(file, outer.getvalue())

    def unlisted(self):
        """A package before which stands an archive that no directory lists."""
        packed, outer = zstandard.compress(targz([("info/index.json", index(version="2.0"))], "w:")), io.BytesIO()
        with zipfile.ZipFile(outer, "w", zipfile.ZIP_STORED) as archive:
            for name in ["pkg-evil.tar.zst", "info-widgets-2.0-0.tar.zst"]:
                archive.writestr(name, packed)
            archive.filelist.pop(0)
        return outer.getvalue()

    def test_both_formats_are_asked_about_as_they_name_themselves_and_stored(self):
        members = [("info/index.json", index("first")), ("info/files", b"")]
        content = bz2.compress(targz(members, "w:"))
        self.assertEqual(self.post("first-1.0-0.tar.bz2", content)[0], 200)
        self.assertEqual(self.asked(), {"package": "first", "version": "1.0", "exists": False, "size": len(content),
                                        "sha256": hashlib.sha256(content).hexdigest()})
        self.assertEqual(self.send("GET", "/acme/noarch/first-1.0-0.tar.bz2", token=None)[3], content)
        self.assertEqual(self.conda([("info/index.json", index("first", "2.0", subdir="linux-64"))], "first-2.0-0.conda")[0], 200)
        question = self.asked()
        self.assertEqual((question["package"], question["version"], question["exists"]), ("first", "2.0", True))
        self.before = self.stored()
        self.assert_refused(self.post("first-1.0-0.tar.bz2", content), 409, "already")
        self.assert_refused(self.post("first-1.0-0.tar.bz2", content, token=None), 401, "upload token")

    def test_without_a_clear_yes_nothing_is_stored(self):
        self.refusals(lambda: self.upload([("info/index.json", index())]))

    def test_an_upload_that_says_two_things_or_cannot_be_stored_is_refused_unasked(self):
        good = [("info/index.json", index())]
        bomb = bz2.compress(bytes(70 << 20))
        self.hostile([
            ("another package inside", lambda: self.upload([("info/index.json", index("gadgets"))]), "it is gadgets 1.0 0"),
            ("another version", lambda: self.upload([("info/index.json", index(version="2.0"))]), "it is widgets 2.0"),
            ("two indexes", lambda: self.upload(good * 2), "one `info/index.json`"),
            ("another spelling", lambda: self.upload([*good, ("./info/index.json", index())]), "plain file"),
            ("another case", lambda: self.upload([*good, ("info/Index.json", index())]), "plain file"),
            ("two slashes", lambda: self.upload([*good, ("info//index.json", index())]), "plain file"),
            ("a link", lambda: self.upload([("info/index.json", b"", tarfile.SYMTYPE)]), "plain file"),
            ("a dot or two", lambda: self.upload([*good, ("info/././index.json", index())]), "plain file"),
            ("a way up", lambda: self.upload([*good, ("info/x/../index.json", index())]), "plain file"),
            ("a backslash", lambda: self.upload([*good, ("info\\index.json", index())]), "plain file"),
            ("a letter that folds", lambda: self.upload([*good, ("info/index.j\u017fon", index())])),
            *((repr(name), lambda name=name: self.upload([*good, (name, b"")]), "no plain name") for name in
              ["/etc/x", "../x", "x/../y", "./x", "x//y", "x/./y"]),
            ("through a link", lambda: self.upload([*good, ("x", b"", tarfile.SYMTYPE), ("x/index.json", index())]), "through a link"),
            ("through a link to the file", lambda: self.upload([*good, ("x", b"", tarfile.LNKTYPE), ("x", index())]), "through a link"),
            ("an index beside `info-`", lambda: self.conda([("info/index.json", index(version="2.0"))], inner=["info-widgets-2.0-0.tar.zst", "pkg-widgets-2.0-0.tar.zst"]), "one `info/index.json`"),
            ("another's `pkg-`", lambda: self.conda([("info/index.json", index(version="2.0"))], inner=["info-widgets-2.0-0.tar.zst", "pkg-b.tar.zst"]), "one `pkg-`"),
            *((name, lambda archive=archive: self.post("widgets-1.0-0.tar.bz2", bz2.compress(archive))) for name, archive in two_ways(
                "info/index.json", index(), "info/index.json", index("gadgets")).items()),
            ("no index", lambda: self.upload([("info/files", b"")]), "one `info/index.json`"),
            ("a member twice", lambda: self.upload([("info/index.json", index()[:-1] + b', "name": "widgets"}')]), "occurs twice"),
            ("no JSON", lambda: self.upload([("info/index.json", b"{")])), ("no object", lambda: self.upload([("info/index.json", b'"x"')])),
            ("another platform", lambda: self.upload([("info/index.json", index(subdir="../x"))])),
            ("no build", lambda: self.upload([("info/index.json", b'{"name": "widgets", "version": "1.0", "subdir": "noarch"}')])),
            ("a bomb", lambda: self.post("widgets-1.0-0.tar.bz2", bomb), "too large"), ("no archive", lambda: self.post("widgets-1.0-0.tar.bz2", b"x")),
            ("two archives", lambda: self.post("widgets-1.0-0.tar.bz2", bz2.compress(targz(good, "w:")) * 2), "goes on after its end"),
            ("an archive behind the archive", lambda: self.post("widgets-1.0-0.tar.bz2", bz2.compress(targz(good, "w:") * 2)), "behind the package"),
            ("a zip with two", lambda: self.conda([("info/index.json", index(version="2.0"))], inner=["info-widgets-2.0-0.tar.zst", "info-b.tar.zst"])),
            ("a zip of another", lambda: self.conda([("info/index.json", index(version="2.0"))], inner=["info-b.tar.zst"])),
            ("an archive that the zip does not list", lambda: self.post("widgets-2.0-0.conda", self.unlisted()), "do not follow one another"),
            ("no zip", lambda: self.post("widgets-2.0-0.conda", b"x"), "broken"),
            *((repr(file), lambda file=file: self.upload(good, file)) for file in
              ["../widgets-1.0-0.tar.bz2", "widgets-1.0-0.zip", "widgets-1.0.tar.bz2", "", "Widgets-1.0-0.tar.bz2", "widgets-1.0-0.tar.bz2\\"]),
            ("a second part", lambda: self.post("widgets-1.0-0.tar.bz2", b"x", b"\r\n\r\nx\r\n--b-b--\r\n"), "one part"),
            ("after the end", lambda: self.post("widgets-1.0-0.tar.bz2", b"x", b"--\r\nmore"), "one part"),
            ("two names", lambda: self.post("widgets-1.0-0.tar.bz2", b"x", head=b'Content-Disposition: form-data; name="file"; filename="x"\r\n')),
            ("another boundary", lambda: self.post("widgets-1.0-0.tar.bz2", b"x", boundary="c")),
            ("no form", lambda: self.post("widgets-1.0-0.tar.bz2", b"x", boundary="b-b; charset=utf-7")),
        ])


class NuGet(Registry):
    folder = "nuget-feed"

    def login(self, token):
        return {"X-NuGet-ApiKey": token}

    def nupkg(self, *nuspecs):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, text in nuspecs:
                archive.writestr(name, text)
        return file.getvalue()

    def nuspec(self, name="Acme.Widgets", version="1.0.0", more="", head=""):
        names = 'xmlns="http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd"'
        return f"{head}<package {names}><metadata><id>{name}</id><version>{version}</version>{more}</metadata></package>"

    def push(self, content, path="/api/v2/package", **more):
        # As NuGet's client spells it.
        head = b"--b-b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: form-data; name=package; " \
               b"filename=package.nupkg; filename*=utf-8''package.nupkg\r\n\r\n"
        return self.send("PUT", path, head + content + b"\r\n--b-b--\r\n", {"Content-Type": 'multipart/form-data; boundary="b-b"'}, **more)

    def package(self, *arguments, **more):
        return self.push(self.nupkg(("Acme.Widgets.nuspec", self.nuspec(*arguments, **more))))

    def test_a_package_is_asked_about_as_it_names_itself_and_stored(self):
        content = self.nupkg(("x.nuspec", self.nuspec("Acme.First", more="<dependencies><dependency id='x' version='1'/></dependencies>")))
        self.assertEqual(self.push(content)[0], 200)
        self.assertEqual(self.asked(), {"package": "Acme.First", "version": "1.0.0", "exists": False, "size": len(content),
                                        "sha256": hashlib.sha256(content).hexdigest()})
        self.assertEqual(self.send("GET", "/v3/flat/acme.first/1.0.0/acme.first.1.0.0.nupkg", token=None)[3], content)
        self.assertEqual(self.package("Acme.FIRST", "1.1.0-Rc.1")[0], 200)
        self.assertEqual(self.asked()["exists"], True)
        self.before = self.stored()
        for name, version in [("acme.first", "1.0.0"), ("Acme.First", "1.1.0-rc.1")]:
            self.assert_refused(self.package(name, version), 409, "already")
        self.assert_refused(self.push(self.nupkg(("x.nuspec", self.nuspec())), token=None), 401, "X-NuGet-ApiKey")

    def test_without_a_clear_yes_nothing_is_stored(self):
        self.refusals(self.package)

    def test_an_upload_that_says_two_things_or_cannot_be_stored_is_refused_unasked(self):
        good = self.nuspec()
        entity = '<!DOCTYPE package [<!ENTITY a "Acme">]>'
        self.hostile([
            ("two nuspecs", lambda: self.push(self.nupkg(("a.nuspec", good), ("B.NUSPEC", good))), "one `.nuspec`"),
            ("no nuspec", lambda: self.push(self.nupkg(("lib/a.nuspec", good))), "one `.nuspec`"),
            *((repr(name), lambda name=name: self.push(self.nupkg(("a.nuspec", good), (name, self.nuspec("Gadgets")))), "one `.nuspec`") for name in
              ["/b.nuspec", "//b.nuspec", "\\b.nuspec", "./b.nuspec", "lib/../b.nuspec", "b%2Enuspec", "%2Fb.nuspec", "b.n\u0075spec", "b%00.nuspec", "%0A.nuspec"]),
            *((repr(name), lambda name=name: self.push(self.nupkg((name, good))), "`.nuspec`") for name in
              ["/b.nuspec", "a%2Fb.nuspec", "b%2Enuspec", "%61.nuspec", "./b.nuspec"]),
            ("quoted as if deeper", lambda: self.push(self.nupkg(("a%2Fwidgets.nuspec", good), ("gadgets%2Enuspec", good)))),
            ("a zero in a name", lambda: self.push(self.nupkg(("a.nuspec", good), ("b_.nuspec", good)).replace(b"b_.nuspec", b"b\0.nuspec")), "one `.nuspec`"),
            ("two ids", lambda: self.package(more="<id>gadgets</id>"), "one `id`"),
            ("no version", lambda: self.package(version="</version><!-- --><version>"), "one `id`"),
            ("an element in the id", lambda: self.package(name="Acme<b>.Evil</b>"), "plain text"),
            ("a document type", lambda: self.package(name="&a;", head=entity), "document type"),
            ("no XML", lambda: self.push(self.nupkg(("a.nuspec", "<package>"))), "broken"), ("no zip", lambda: self.push(b"x"), "broken"),
            *((repr(name), lambda name=name: self.package(name)) for name in ["", "../x", "a..b", "a b", " Acme", "a" * 101, "\u212aids"]),
            *((repr(version), lambda version=version: self.package(version=version)) for version in
              ["", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0+a", "1.0.0 ", "../1.0.0"]),
        ])


class OpenVsx(Registry):
    folder = "open-vsx-server"

    def login(self, token):
        return {"Authorization": f"Bearer {token}"}

    def reason(self, answer):
        return json.loads(answer[3])["error"]

    def vsix(self, *manifests):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, text in manifests:
                archive.writestr(name, text)
        return file.getvalue()

    def manifest(self, publisher="acme", name="widgets", version="1.0.0"):
        return json.dumps({"publisher": publisher, "name": name, "version": version, "engines": {"vscode": "*"}})

    def publish(self, *arguments, name="extension/package.json", text=None, **more):
        text = text if text is not None else self.manifest(*arguments)
        return self.send("POST", "/api/-/publish", self.vsix((name, text)), **more)

    def test_an_extension_is_asked_about_as_it_names_itself_and_stored(self):
        content = self.vsix(("extension/package.json", self.manifest("Acme", "First")), ("extension/readme.md", "x"))
        status, _, _, said = self.send("POST", "/api/-/publish", content)
        self.assertEqual((status, json.loads(said)["name"]), (200, "First"))
        self.assertEqual(self.asked(), {"package": "Acme.First", "version": "1.0.0", "exists": False, "size": len(content),
                                        "sha256": hashlib.sha256(content).hexdigest()})
        self.assertEqual(self.send("GET", "/api/Acme/First/1.0.0/file", token=None)[3], content)
        self.assertEqual(self.publish("acme", "FIRST", "1.1.0-rc.1")[0], 200)
        self.assertEqual(self.asked()["exists"], True)
        self.before = self.stored()
        self.assert_refused(self.publish("acme", "first"), 409, "is already published.")
        self.assert_refused(self.publish(token=None), 401, "Authorization")
        self.assert_refused(self.send("POST", "/api/-/publish?token=tok", content), 404)

    def test_without_a_clear_yes_nothing_is_stored(self):
        self.refusals(self.publish)

    def test_an_upload_that_says_two_things_or_cannot_be_stored_is_refused_unasked(self):
        good = self.manifest()
        twice = lambda *names: self.send("POST", "/api/-/publish", self.vsix(*((name, good) for name in names)))
        self.hostile([
            ("two manifests", lambda: twice("extension/package.json", "Extension/PACKAGE.json"), "one `extension/package.json`"),
            *((repr(name), lambda name=name: twice("extension/package.json", name), "one `extension/package.json`") for name in
              ["extension\\package.json", "./extension/package.json", "/extension/package.json", "//extension/package.json",
               "extension//package.json", "extension/x/../package.json", "extension/pac\u212aage.json"]),
            ("by a way round", lambda: self.publish(name="./extension/package.json"), "one `extension/package.json`"),
            ("no manifest", lambda: self.publish(name="package.json"), "one `extension/package.json`"),
            ("a member twice", lambda: self.publish(text=good[:-1] + ', "name": "gadgets"}'), "twice"),
            ("no object", lambda: self.publish(text="[]"), "is an object"), ("no JSON", lambda: self.publish(text="{")),
            ("no zip", lambda: self.send("POST", "/api/-/publish", b"x"), "broken"),
            *((repr(name), lambda name=name: self.publish("acme", name)) for name in ["", "..", "a.b", "a/b", "-a", "a b", None, ["a"], "\u212aids"]),
            *((repr(name), lambda name=name: self.publish(name)) for name in ["", "..", "a.b", "../x", None]),
            *((repr(version), lambda version=version: self.publish("acme", "widgets", version)) for version in
              ["", "1", "1.0", "01.0.0", "1.0.0+a", "1.0.0 ", "../1.0.0", None, 1, "1.0.0-" + "a" * 100]),
        ])


def form(*fields):
    """A form's body; a field of three is a file."""
    body = b""
    for name, value, *file in fields:
        value = value if isinstance(value, bytes) else value.encode()
        filename = f'; filename="{file[0]}"' if file else ""
        body += f'--b-b\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode() + value + b"\r\n"
    return body + b"--b-b--\r\n"


class Devpi(Registry):
    folder = "devpi"

    def login(self, token):
        return {"Authorization": "Basic " + base64.b64encode(f"__token__:{token}".encode()).decode()}

    def upload(self, *changes, name="widgets", version="1.0", file=None, action="file_upload", data=b"wheel", path="/acme/prod/", headers=(), **more):
        file = file if file is not None else f"{name}-{version}-py3-none-any.whl"
        fields = [(":action", action), ("name", name), ("version", version), ("content", data, file), *changes]
        return self.send("POST", path, form(*fields), {"Content-Type": "multipart/form-data; boundary=b-b", **dict(headers)}, **more)

    def stored(self):
        return set(self.send("GET", "/acme/prod/+simple/", token=None)[3].split()) | {
            path.name for path in (self.packages / "+files").rglob("*") if path.is_file()}

    def test_a_file_is_asked_about_as_devpi_stores_it(self):
        self.assertEqual(self.upload(name="First.One", file="first_one-1.0-py3-none-any.whl")[0], 200)
        self.assertEqual(self.asked(), {"package": "first-one", "version": "1.0", "exists": False, "size": 5,
                                        "sha256": hashlib.sha256(b"wheel").hexdigest()})
        page = self.send("GET", "/acme/prod/+simple/first-one/", token=None)[3].decode()
        self.assertIn(">first_one-1.0-py3-none-any.whl<", page)
        self.assertIn(hashlib.sha256(b"wheel").hexdigest(), page)
        self.assertEqual(self.upload(name="first-one", version="1.1", file="first_one-1.1.tar.gz")[0], 200)
        self.assertEqual(self.asked()["exists"], True)
        self.before = self.stored()
        self.assert_refused(self.upload(name="first-one", file="first_one-1.0-py3-none-any.whl", data=b"other"), 409, "already exists")

    def test_without_a_clear_yes_nothing_is_stored(self):
        self.refusals(self.upload)

    def test_an_upload_that_says_two_things_or_cannot_be_stored_is_refused_unasked(self):
        self.hostile([
            ("another file", lambda: self.upload(file="gadgets-1.0-py3-none-any.whl"), "the form says 'widgets'"),
            ("a longer name", lambda: self.upload(file="widgets_extra-1.0-py3-none-any.whl"), "the form says"),
            ("another version", lambda: self.upload(file="widgets-1.0.1-py3-none-any.whl"), "the form says"),
            ("name twice", lambda: self.upload(("name", "gadgets")), "field `name` once"),
            ("version twice", lambda: self.upload(("version", "2.0")), "field `version` once"),
            ("file twice", lambda: self.upload(("content", b"x", "gadgets-1.0.tar.gz")), "field `content` once"),
            ("action twice", lambda: self.upload((":action", "submit")), "field `:action` once"),
            ("a signature", lambda: self.upload(("gpg_signature", b"x", "widgets-1.0-py3-none-any.whl.asc")), "one file"),
            ("documentation", lambda: self.upload(action="doc_upload")), ("metadata only", lambda: self.upload(action="submit")),
            ("a version in another spelling", lambda: self.upload(version="1.0.0a01", file="widgets-1.0.0a01.tar.gz"), "write '1.0.0a01'"),
            ("a letter that folds", lambda: self.upload(name="\u212aids", file="kids-1.0.tar.gz")),
            *((repr(file), lambda file=file: self.upload(file=file)) for file in
              ["", "Widgets-1.0.tar.gz", "widgets-1.0.zip", "wid-gets-1.0.tar.gz", "../widgets-1.0.tar.gz", "widgets-1.0.tar.gz ", "widgets.tar.gz"]),
        ])

    def test_a_token_is_good_for_nothing_but_an_upload_to_the_index(self):
        self.assertEqual(self.upload(name="kept")[0], 200)
        self.stub.questions.clear()
        self.before = self.stored()
        as_json = {"Content-Type": "application/json", "Accept": "application/json"}
        push = json.dumps({"name": "kept", "version": "1.0", "targetindex": "acme/prod"}).encode()
        for name, send in {
            "removal": lambda: self.send("DELETE", "/acme/prod/kept"), "removal of a version": lambda: self.send("DELETE", "/acme/prod/kept/1.0"),
            "removal of the index": lambda: self.send("DELETE", "/acme/prod"), "a new index": lambda: self.send("PUT", "/acme/other", b"{}", as_json),
            "other access": lambda: self.send("PATCH", "/acme/prod", b'["acl_upload=joe"]', as_json),
            "a push": lambda: self.send("POST", "/acme/prod", push, as_json), "a push to the slash": lambda: self.send("POST", "/acme/prod/", push, as_json),
            "another index": lambda: self.upload(path="/acme/other/"), "another user": lambda: self.upload(path="/root/prod/"),
            "a log-in": lambda: self.send("POST", "/+login", b'{"user": "__token__", "password": "tok"}', as_json, token=None),
            "a user of that name": lambda: self.send("PUT", "/__token__", b'{"password": "p"}', as_json, token=None),
            "no login": lambda: self.upload(token=None),
            "another user's name": lambda: self.upload(token=None, headers={"Authorization": "Basic " + base64.b64encode(b"acme:tok").decode()}),
            "devpi's own header": lambda: self.upload(token=None, headers={"X-Devpi-Auth": base64.b64encode(b"acme:tok").decode()}),
        }.items():
            with self.subTest(name):
                answer = send()
                self.assertIn(answer[0], [400, 401, 403, 404, 405], answer)
                self.assertEqual((self.stub.questions, self.stored()), ([], self.before))


class BundleServer(unittest.TestCase):
    """What tells trustmint of another bundle."""

    def load(self):
        spec = importlib.util.spec_from_file_location("serve", HERE / "bundle-server" / "serve.py")
        serve = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(serve)
        return serve

    def setUp(self):
        self.serve = self.load()
        self.trustmint, self.other = Notified(), Notified()
        self.url, self.elsewhere = (f"http://127.0.0.1:{stub.server_port}" for stub in [self.trustmint, self.other])
        for stub in [self.trustmint, self.other]:
            self.addCleanup(stub.server_close)
            self.addCleanup(stub.shutdown)

    def test_the_key_goes_to_trustmint_and_to_nobody_else(self):
        proxies = {name: self.elsewhere for name in ["http_proxy", "all_proxy"]}
        with unittest.mock.patch.dict(os.environ, {**proxies, "no_proxy": ""}):
            self.serve = self.load()  # Python reads them as it loads it
            self.serve.tell(self.url, "key")
        self.assertEqual(self.trustmint.told, [("POST", "/v1/policy/notify", "Bearer key")])
        for status in [301, 302, 303, 307, 308]:
            self.trustmint.answer = status, {"Location": f"{self.elsewhere}/v1/policy/notify"}
            with self.assertRaises(OSError):
                self.serve.tell(self.url, "key")
        self.assertEqual(self.other.told, [])

    def test_rules_that_cannot_be_read_for_a_moment_end_nothing(self):
        faults = [FileNotFoundError("rules"), subprocess.CalledProcessError(1, "openssl"), None, None]

        class Bundle:
            serial = 0

            def current(self):
                if not faults:
                    raise SystemExit
                if fault := faults.pop(0):
                    raise fault
                Bundle.serial = 1

        with tempfile.NamedTemporaryFile("w") as key, unittest.mock.patch.object(self.serve.time, "sleep"), \
                contextlib.redirect_stdout(io.StringIO()) as said:
            key.write("key\n")
            key.flush()
            arguments = argparse.Namespace(trustmint=self.url, api_key_file=pathlib.Path(key.name))
            with self.assertRaises(SystemExit):
                self.serve.notify(arguments, Bundle())
        self.assertEqual(self.trustmint.told, [("POST", "/v1/policy/notify", "Bearer key")])
        self.assertEqual(said.getvalue().count("was not told"), 2)


del Registry  # only its children are tests

if __name__ == "__main__":
    unittest.main()
