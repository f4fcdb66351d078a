#!/usr/bin/env python3
"""`uv publish` in a GitHub job, end to end, and the share of its time that is trustmint's.

Real uv, a wheel of one module, nginx with TLS and pypiserver as `examples/pypiserver/start` runs them, an identity provider on
loopback, and the release binary on Redis. A proxy between nginx and trustmint takes the time of each of trustmint's answers; what
it takes itself is in the whole, not in trustmint's share. The first publication, with everything cold, is told apart.
"""

import argparse
import hashlib
import http.client
import http.server
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

from soak import Provider
from soak import issuer_of
from world import API_KEY
from world import REPOSITORY
from world import Replica
from world import World
from world import free_port
from world import program
from world import say
from world import wait


class Clocked(http.server.BaseHTTPRequestHandler):
    """Passes requests on to trustmint and notes how long each was away."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    port, taken = None, []

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "content-length")}
        started = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request(self.command, self.path, body or None, headers)
        answer = connection.getresponse()
        text = answer.read()
        Clocked.taken.append((self.path.split("?")[0], time.perf_counter() - started))
        connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "server", "date"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = pass_on

    def log_message(self, *_):
        pass


def job_endpoint(provider):
    """Where GitHub's jobs ask for an ID token."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"value": provider.token()}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return serve(Handler)


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def wheel(folder, version):
    path = folder / f"widgets-{version}-py3-none-any.whl"
    info = f"widgets-{version}.dist-info"
    files = {
        "widgets.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: widgets\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: stress\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return path


def policy(provider, url):
    digest = hashlib.sha256(API_KEY.encode()).hexdigest()
    return f"""
issuers:
  github: {issuer_of(provider)}
registries:
  acme: {{dialect: pypi, urls: ["{url}"], audiences: [acme], callers: {{registry: {{key_sha256: "{digest}"}}}}}}
rules:
  widgets:
    registry: acme
    issuer: github
    when: {{repository_owner_id: "9123456", repository_id: "701234567", repository: acme/widgets, workflow_file: release.yml, environment: release}}
    allow: {{upload: [widgets], create: [widgets]}}
"""


def private(path, text):
    path.touch(0o600)
    path.write_text(text)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--json", action="store_true", help="the figures as the last line")
    arguments = arguments.parse_args()
    uv = Path(os.environ.get("TRUSTMINT_TEST_UV", REPOSITORY / "target/venv/bin/uv"))
    with World("RS256", jwks=False) as world:
        provider = Provider(world.folder, "RS256")
        front = free_port()
        url = f"https://127.0.0.1:{front}/legacy/"
        world.write_policy(policy(provider, url))
        world.start_redis()
        replica = Replica(world, 0, "{workers: 1}", None, None)
        settings = replica.settings.read_text().replace("listen: {", "listen: {trusted_proxies: [127.0.0.1], ")
        replica.settings.write_text(settings)
        world.replicas.append(replica)
        replica.start()
        Clocked.port = replica.port
        private(world.folder / "api-key", API_KEY)
        (world.folder / "provider.pem").chmod(0o600)
        settings = {
            "DIRECTORY": world.folder / "run", "CERTIFICATE": world.folder / "provider.pem", "KEY": world.folder / "provider.pem",
            "API_KEY_FILE": world.folder / "api-key", "TRUSTMINT": f"127.0.0.1:{serve(Clocked)}", "LISTEN": f"127.0.0.1:{front}",
            "REGISTRY_PORT": free_port(), "NGINX": program("nginx"), "PYTHON": sys.executable,
        }
        os.environ.update({name: str(value) for name, value in settings.items()})
        world.start([REPOSITORY / "examples/pypiserver/start"], "registry.log")
        log = world.folder / "registry.log"
        wait(lambda: "ready: " in log.read_text(), "the registry")
        job = {
            "PATH": os.environ["PATH"], "HOME": str(world.folder), "SSL_CERT_FILE": str(world.folder / "policy/ca.pem"), "CI": "true",
            "GITHUB_ACTIONS": "true", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "a-jobs-token",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{job_endpoint(provider)}/token?api-version=2",
        }
        # ID tokens are dated in whole seconds, and one of the second in which Redis began could be an old one.
        time.sleep(2)
        took = []
        for number in range(arguments.rounds + 1):
            file, Clocked.taken = wheel(world.folder, f"1.0.{number}"), []
            command = [uv, "publish", "--no-config", "--trusted-publishing", "always", "--publish-url", url, file]
            started = time.perf_counter()
            done = subprocess.run([str(part) for part in command], env=job, capture_output=True, text=True)
            whole = time.perf_counter() - started
            assert done.returncode == 0, done.stdout + done.stderr
            took.append((whole, sum(seconds for _, seconds in Clocked.taken), list(Clocked.taken)))
        whole, own = (statistics.median(each[at] for each in took[1:]) * 1000 for at in range(2))
        requests = {path: statistics.median(dict(each[2])[path] for each in took[1:]) * 1000 for path, _ in took[-1][2]}
        say(f"uv publish, {arguments.rounds} times: {whole:.0f} ms in the middle, of which trustmint {own:.1f} ms ({own / whole:.1%})")
        for path, milliseconds in requests.items():
            say(f"    {path}: {milliseconds:.2f} ms")
        say(f"    the first, with the identity provider's keys to fetch: {took[0][0] * 1000:.0f} ms, trustmint {took[0][1] * 1000:.1f} ms")
        if arguments.json:
            first = {"whole_ms": took[0][0] * 1000, "trustmint_ms": took[0][1] * 1000}
            print(json.dumps({"rounds": arguments.rounds, "whole_ms": whole, "trustmint_ms": own, "share": own / whole, "requests": requests, "first": first}))


if __name__ == "__main__":
    main()
