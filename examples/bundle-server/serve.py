#!/usr/bin/env python3
"""Serves a registry's own rules to trustmint as a bundle. Nothing but Python's standard library (and openssl, to sign).

    ./serve.py --registry acme-npm --rules rules.yaml --certificate cert.pem --key key.pem

`rules.yaml` has the sections `rules` and `tests`, as in a policy file. The bundle is made of it anew when it changes, and
often enough to stay good. Its serial is the moment at which it was made, so that it grows also after a restart.
"""

import argparse
import hashlib
import http.client
import http.server
import pathlib
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.request

# How long a bundle is good; trustmint takes at most 24 hours. It is made anew after a quarter of that.
GOOD_FOR = 12 * 60 * 60


class Bundle:
    """What is served at this moment."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.rules = None
        self.serial = 0
        self.renew_at = 0.0
        self.lock = threading.Lock()

    def current(self):
        """The document, its signature and its entity tag."""
        with self.lock:
            rules = self.arguments.rules.read_bytes()
            now = time.time()
            if rules != self.rules or now >= self.renew_at:
                self.make(rules, now)
            return self.document, self.signature, self.etag

    def make(self, rules, now):
        self.serial = max(self.serial + 1, int(now * 1000))
        not_after = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + GOOD_FOR))
        head = f"registry: {self.arguments.registry}\nserial: {self.serial}\nnot_after: {not_after}\n"
        self.document = head.encode() + rules
        self.etag = f'"{hashlib.sha256(self.document).hexdigest()}"'
        self.signature = sign(self.arguments.sign, self.document) if self.arguments.sign else None
        self.rules, self.renew_at = rules, now + GOOD_FOR / 4
        print(f"bundle {self.serial} is good until {not_after}", flush=True)


def sign(key, document):
    """The raw Ed25519 signature of exactly these bytes. Openssl must know their number, so it reads them from a file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(document)
        file.flush()
        command = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", file.name]
        return subprocess.run(command, capture_output=True, check=True).stdout


def handler(bundle):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            document, signature, etag = bundle.current()
            if self.path == "/bundle.yaml.sig" and signature is not None:
                self.answer(200, signature)
            elif self.path != "/bundle.yaml":
                self.answer(404)
            elif self.headers.get("If-None-Match") == etag:
                self.answer(304, etag=etag)
            else:
                self.answer(200, document, etag)

        def answer(self, status, body=b"", etag=None):
            self.send_response(status)
            if etag:
                self.send_header("ETag", etag)
            if status != 304:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """SECURITY: the API key goes to trustmint, and to nobody whom an answer or the environment names."""

    def redirect_request(self, *_):
        return None


DIRECT = urllib.request.build_opener(NoRedirect, urllib.request.ProxyHandler({}))


def tell(trustmint, api_key):
    request = urllib.request.Request(f"{trustmint}/v1/policy/notify", b"", {"Authorization": f"Bearer {api_key}"})
    DIRECT.open(request, timeout=10).close()


def notify(arguments, bundle):
    """Tells trustmint of another bundle as soon as the rules change."""
    api_key = arguments.api_key_file.read_text().strip()
    told = bundle.serial
    while True:
        time.sleep(1)
        try:
            bundle.current()
            if bundle.serial != told:
                tell(arguments.trustmint, api_key)
                told = bundle.serial
        # Whatever it was (rules that cannot be read just now, openssl, the network), it is tried again.
        except (OSError, subprocess.SubprocessError, http.client.HTTPException) as error:
            print(f"trustmint was not told: {error}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--registry", required=True, help="its name in trustmint's policy")
    parser.add_argument("--rules", required=True, type=pathlib.Path, help="the sections `rules` and `tests`")
    parser.add_argument("--certificate", required=True, help="the server's certificate, PEM")
    parser.add_argument("--key", required=True, help="its private key, PEM")
    parser.add_argument("--sign", metavar="KEY", help="an Ed25519 private key, PEM: serves a signature too")
    parser.add_argument("--listen", default="127.0.0.1:8443", metavar="HOST:PORT")
    parser.add_argument("--trustmint", metavar="URL", help="where to say that the rules have changed")
    parser.add_argument("--api-key-file", type=pathlib.Path, help="the registry's API key there")
    arguments = parser.parse_args()

    bundle = Bundle(arguments)
    bundle.current()
    if arguments.trustmint:
        threading.Thread(target=notify, args=(arguments, bundle), daemon=True).start()
    host, port = arguments.listen.rsplit(":", 1)
    server = http.server.ThreadingHTTPServer((host, int(port)), handler(bundle))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(arguments.certificate, arguments.key)
    # Each connection shakes hands on its own thread.
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(f"serving https://{host}:{server.server_port}/bundle.yaml", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
