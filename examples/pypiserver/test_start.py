"""`start` brings up the real nginx and pypiserver; what passes between them, a client and trustmint is what it should be.

Run: python test_start.py. Needs nginx and openssl on the PATH. A stub stands in for trustmint.
"""
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest

from test_launch import ALLOWED, BOUNDARY, WHEEL, form, part, upload

HERE = pathlib.Path(__file__).parent


class Trustmint(http.server.BaseHTTPRequestHandler):
    """Remembers requests; says what it is told to say to `/v1/verify`, and 422 with its own reason to everything else."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((f"{self.command} {self.path}", self.headers.items(), body))
        status, answer = (200, self.server.verdict) if self.path == "/v1/verify" else (422, {"message": "its own words"})
        answer = json.dumps(answer).encode()
        self.send_response(status, "Its Own Phrase")
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("X-Of-Trustmint", "kept")
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Start(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = pathlib.Path(directory.name)
        cls.stub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trustmint)
        cls.stub.daemon_threads, cls.stub.requests, cls.stub.verdict = True, [], ALLOWED
        threading.Thread(target=cls.stub.serve_forever, args=(0.01,), daemon=True).start()
        cls.addClassCleanup(cls.stub.shutdown)
        certificate, key, api_key = (cls.directory / name for name in ["certificate.pem", "key.pem", "api-key"])
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
            check=True, capture_output=True)
        api_key.write_text("the-api-key\n")
        api_key.chmod(0o600)
        key.chmod(0o600)
        cls.port, cls.inner = free_port(), free_port()
        cls.environment = {
            **os.environ, "DIRECTORY": str(cls.directory / "run"), "CERTIFICATE": str(certificate), "KEY": str(key),
            "API_KEY_FILE": str(api_key), "TRUSTMINT": f"127.0.0.1:{cls.stub.server_port}", "PYTHON": sys.executable,
            "LISTEN": f"127.0.0.1:{cls.port}", "REGISTRY_PORT": str(cls.inner), "MAX_UPLOAD": "200k",
        }
        cls.process = subprocess.Popen([HERE / "start"], env=cls.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        cls.addClassCleanup(cls.end)
        ready = cls.process.stdout.readline()
        if not ready.startswith("ready: "):
            raise RuntimeError(cls.process.communicate()[1])
        cls.tls = ssl.create_default_context(cafile=str(certificate))

    @classmethod
    def end(cls):
        cls.process.send_signal(signal.SIGTERM)
        cls.process.communicate(timeout=60)

    def setUp(self):
        self.stub.requests.clear()
        self.stub.verdict = ALLOWED
        self.addCleanup(self.clear)

    def clear(self):
        for path in (self.directory / "run" / "packages").iterdir():
            path.unlink()

    def send(self, method, path, body=None, headers=()):
        """One request, its head as given; the answer as (status, phrase, headers, body)."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.tls, timeout=20)
        with contextlib.closing(connection):
            headers = [("Host", f"127.0.0.1:{self.port}"), *headers]
            if body is not None:
                headers.append(("Content-Length", str(len(body))))
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.reason, answer.headers, answer.read()

    def upload(self, body, headers=()):
        form_type = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
        return self.send("POST", "/legacy/", body, [("Authorization", "Basic X190b2tlbl9fOnRvaw=="), form_type, *headers])

    def test_an_upload_arrives_and_can_be_downloaded(self):
        data = os.urandom(150_000)
        self.assertEqual(self.upload(upload(data=data))[0], 200)
        ((line, headers, question),) = self.stub.requests
        self.assertEqual((line, dict(headers)["Authorization"]), ("POST /v1/verify", "Bearer the-api-key"))
        question = json.loads(question)
        self.assertEqual((question["token"], question["client_ip"], question["size"]), ("tok", "127.0.0.1", 150_000))
        self.assertEqual(self.send("GET", f"/packages/{WHEEL}")[3], data)
        self.assertIn(WHEEL.encode(), self.send("GET", "/simple/widgets/")[3])

    def test_a_refusal_reaches_the_client_word_for_word(self):
        self.stub.verdict = {"allowed": False, "code": "token-expired", "reasons": ["the token expired 4 min ago"]}
        status, phrase, headers, body = self.upload(upload())
        self.assertEqual((status, phrase), (403, "token-expired: the token expired 4 min ago"))
        self.assertEqual(body, b"token-expired: the token expired 4 min ago\n")
        self.assertTrue(headers["Content-Type"].startswith("text/plain"))

    def test_the_exchange_reaches_trustmint_unchanged_and_so_does_its_answer(self):
        for method, path in [
            ("GET", "/_/oidc/audience"), ("POST", "/_/oidc/mint-token"), ("POST", "/_/oidc/github/mint-token"),
            ("POST", "/_/oidc/burn-token"), ("GET", "/.well-known/pytp?discover=%2Flegacy%2F"),
            ("GET", "/.well-known/oauth-authorization-server"), ("POST", "/v1/token"), ("POST", "/v1/revoke"),
        ]:
            with self.subTest(path):
                self.stub.requests.clear()
                given = [("Accept", "application/vnd.pypi.pytp.v1+json"), ("Content-Type", "application/json")]
                status, phrase, headers, body = self.send(method, path, b'{"a":1}' if method == "POST" else None, given)
                self.assertEqual((status, phrase, headers["X-Of-Trustmint"]), (422, "Its Own Phrase", "kept"))
                self.assertEqual(json.loads(body), {"message": "its own words"})
                ((line, headers, body),) = self.stub.requests
                self.assertEqual((line, body), (f"{method} {path}", b'{"a":1}' if method == "POST" else b""))
                self.assertEqual({name: value for name, value in headers if name != "Content-Length"}, {
                    "Host": f"127.0.0.1:{self.port}", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https",
                    **dict(given),
                })
                self.assertEqual(len(headers), len({name.lower() for name, _ in headers}), "a header twice")

    def test_what_clients_claim_about_themselves_reaches_nobody(self):
        forged = [(name, value) for name, value in {
            "X-Forwarded-For": "198.51.100.1", "Forwarded": "for=198.51.100.1", "X-Real-IP": "198.51.100.1",
            "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "X-Trustmint-Key": "k", "X-Trustmint-Code": "c",
            "X-Trustmint-Anything": "a", "X_Forwarded_For": "198.51.100.1", "Connection": "X-Forwarded-For",
            "X-Original-URI": "/x", "Cookie": "c", "Transfer-Encoding-X": "t",
        }.items()]
        self.send("POST", "/_/oidc/mint-token", b"{}", forged)
        ((_, headers, _),) = self.stub.requests
        self.assertEqual({name for name, _ in headers}, {"Host", "X-Forwarded-For", "X-Forwarded-Proto", "Content-Length"})
        self.assertEqual(dict(headers)["X-Forwarded-For"], "127.0.0.1")
        self.stub.requests.clear()
        self.assertEqual(self.upload(upload(), forged)[0], 200)
        self.assertEqual(json.loads(self.stub.requests[0][2])["client_ip"], "127.0.0.1")

    def test_only_the_paths_of_ci_jobs_lead_to_trustmint(self):
        for path in ["/v1/verify", "/v1/introspect", "/v1/explain", "/v1/revocations", "/v1/refusals", "/v1/authorize", "/",
                     "/v1/token/", "/metrics", "/policy", "/livez", "/_/oidc/../../v1/verify", "/_/oidc/%2e%2e/%2e%2e/v1/verify",
                     "/_/oidc/..%2f..%2fv1/verify", "//v1//verify", "/V1/TOKEN", "/.well-known/pytp/x", "/legacy", "/_/oidc", "/simple", "/health"]:
            for method in ["GET", "POST"]:
                with self.subTest(path=path, method=method):
                    self.assertEqual(self.send(method, path, b"{}" if method == "POST" else None)[0], 404)
        self.assertEqual(self.stub.requests, [])

    def test_only_posts_to_the_upload_path_change_anything(self):
        login = [("Authorization", "Basic X190b2tlbl9fOnRvaw=="), ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")]
        for method, path in [("GET", "/legacy/"), ("PUT", "/legacy/"), ("DELETE", "/legacy/"), ("POST", "/simple/"),
                             ("POST", "/packages/"), ("PUT", f"/packages/{WHEEL}"), ("POST", "/simple/..%2f"),
                             ("POST", "/simple/../"), ("POST", "/packages/%2e%2e/"), ("POST", "/legacy/x"), ("POST", "/RPC2")]:
            with self.subTest(method=method, path=path):
                self.assertIn(self.send(method, path, upload(), login)[0], [403, 404, 405])
        self.assertEqual(self.stub.requests, [])
        self.assertEqual(list((self.directory / "run" / "packages").iterdir()), [])

    def test_requests_that_are_too_large_are_refused_in_plain_text(self):
        status, _, _, body = self.upload(upload(data=b"x" * 210_000))
        self.assertEqual((status, body), (413, b"the request is larger than this registry takes\n"))
        self.assertEqual(self.send("POST", "/_/oidc/mint-token", b"x" * 33_000)[0], 413)
        self.assertEqual(self.stub.requests, [])

    def test_two_hosts_are_none(self):
        self.assertEqual(self.send("GET", "/_/oidc/audience", None, [("Host", "evil.example")])[0], 400)
        self.assertEqual(self.stub.requests, [])

    def test_an_upload_in_chunks_or_cut_short_is_whole_or_nothing(self):
        body = upload(data=b"wheel" * 50)
        chunked = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in [body[:77], body[77:]]) + b"0\r\n\r\n"
        head = (f"POST /legacy/ HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Basic X190b2tlbl9fOnRvaw==\r\n"
                f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n").encode()
        for rest, stored in [(b"Transfer-Encoding: chunked\r\n\r\n" + chunked[:-20], False),
                             (b"Content-Length: %d\r\n\r\n" % len(body) + body[:-20], False),
                             (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + chunked, False),
                             (b"Transfer-Encoding: chunked\r\n\r\n" + chunked, True)]:
            with self.tls.wrap_socket(socket.create_connection(("127.0.0.1", self.port)), server_hostname="127.0.0.1") as s:
                s.settimeout(2)
                s.sendall(head + rest)
                with contextlib.suppress(OSError):
                    s.recv(9999)
            files = {path.read_bytes() for path in (self.directory / "run" / "packages").iterdir()}
            self.assertEqual(files, {b"wheel" * 50} if stored else set())

    def test_the_logs_hold_no_token(self):
        self.upload(upload())
        self.send("POST", "/_/oidc/mint-token?token=sekrit-1", b'{"token":"sekrit-2"}', [("Authorization", "sekrit-3")])
        logs = "".join(path.read_text() for path in (self.directory / "run").glob("*.log"))
        self.assertIn("/_/oidc/mint-token", logs)
        for secret in ["sekrit", "X190b2tlbl9fOnRvaw", "the-api-key"]:
            self.assertNotIn(secret, logs)

    def test_pypiserver_listens_on_loopback_only(self):
        listening = pathlib.Path("/proc/net/tcp").read_text() + pathlib.Path("/proc/net/tcp6").read_text()
        lines = [line.split()[1] for line in listening.splitlines() if line.split()[3] == "0A"]
        self.assertEqual([line for line in lines if line.endswith(f":{self.inner:04X}")], [f"0100007F:{self.inner:04X}"])

    def test_everything_written_is_in_the_one_directory(self):
        self.upload(upload(data=b"x" * 150_000))
        config = subprocess.run(["nginx", "-T", "-c", self.directory / "run" / "nginx.conf", "-e", "stderr"],
                                capture_output=True, text=True, check=True).stdout
        for line in config.splitlines():
            if "_temp_path " in line or "_log " in line or line.startswith("pid "):
                self.assertIn(str(self.directory / "run"), line)


class Ends(Start):
    """Without the tests above: what happens when `start` ends or cannot begin."""

    def test_what_is_missing_or_unsafe_is_said(self):
        world_readable = self.directory / "open-key"
        world_readable.write_text("k")
        world_readable.chmod(0o644)
        for change, words in [
            ({"DIRECTORY": ""}, "set DIRECTORY"), ({"KEY": ""}, "set KEY"), ({"NGINX": "no-such-nginx"}, "install it"),
            ({"PYTHON": "false"}, "pip install"), ({"API_KEY_FILE": str(world_readable)}, "chmod 600"),
            ({"LISTEN": "1; include /etc/passwd"}, "LISTEN has a character"), ({"TRUSTMINT": "a b"}, "TRUSTMINT has a character"),
            ({"LISTEN": f"127.0.0.1:{self.stub.server_port}", "REGISTRY_PORT": str(free_port())}, "did not start"),
            ({"REGISTRY_PORT": str(self.stub.server_port)}, "something else listens"),
        ]:
            with self.subTest(change):
                environment = {**self.environment, "DIRECTORY": str(self.directory / "other"), **change}
                done = subprocess.run([HERE / "start"], env=environment, capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 2, done)
                self.assertIn(words, done.stderr)

    def test_without_trustmint_clients_are_told_to_come_back(self):
        self.port = free_port()  # this test's own front
        environment = {**self.environment, "DIRECTORY": str(self.directory / "alone"), "LISTEN": f"127.0.0.1:{self.port}",
                       "REGISTRY_PORT": str(free_port()), "TRUSTMINT": f"127.0.0.1:{free_port()}"}
        process = subprocess.Popen([HERE / "start"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertIn("ready", process.stdout.readline())
        try:
            status, _, headers, body = self.send("POST", "/_/oidc/mint-token", b"{}")
            self.assertEqual((status, headers["Retry-After"], headers["Content-Type"]), (503, "5", "application/json"))
            self.assertEqual(json.loads(body)["errors"][0]["code"], "unavailable")
            status, _, headers, body = self.upload(upload())
            self.assertEqual((status, headers["Retry-After"]), (503, "5"))
            self.assertIn(b"nothing was stored", body)
        finally:
            process.terminate()
            process.communicate(timeout=60)

    def test_it_ends_although_nginx_missed_the_first_signal(self):
        ports = free_port(), free_port()
        deaf = self.directory / "deaf-nginx"
        deaf.write_text("""#!/usr/bin/env bash
            missed=
            "$REAL_NGINX" "$@" & child=$!
            trap '[ -z "$missed" ] || kill "$child"; missed=yes' TERM
            while kill -0 "$child" 2>/dev/null; do wait "$child"; done""")
        deaf.chmod(0o700)
        environment = {**self.environment, "DIRECTORY": str(self.directory / "deaf"), "LISTEN": f"127.0.0.1:{ports[0]}",
                       "REGISTRY_PORT": str(ports[1]), "NGINX": str(deaf), "REAL_NGINX": self.environment.get("NGINX", "nginx")}
        process = subprocess.Popen([HERE / "start"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertIn("ready", process.stdout.readline())
        process.terminate()
        process.communicate(timeout=60)
        for port in ports:
            with self.assertRaises(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()

    def test_ending_it_ends_pypiserver_and_nginx(self):
        for how in [signal.SIGTERM, signal.SIGINT]:
            ports = free_port(), free_port()
            environment = {**self.environment, "DIRECTORY": str(self.directory / f"end-{how}"),
                           "LISTEN": f"127.0.0.1:{ports[0]}", "REGISTRY_PORT": str(ports[1])}
            process = subprocess.Popen([HERE / "start"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertIn("ready", process.stdout.readline())
            process.send_signal(how)
            process.communicate(timeout=60)
            for port in ports:
                with self.assertRaises(OSError):
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()


def load_tests(loader, _tests, _pattern):
    """`Ends` uses the set-up of `Start`, not its tests."""
    suite = loader.loadTestsFromTestCase(Start)
    suite.addTests(Ends(name) for name in vars(Ends) if name.startswith("test_"))
    return suite


if __name__ == "__main__":
    unittest.main()
