"""Runs the folder of an image as an engine would, and asks what it serves. For build.py, which starts it in a network and a mount
namespace of its own.

Around the image are what engines mount (/etc/hosts, /etc/resolv.conf, /proc), the settings, policy and keys, a DNS server, and an
identity provider at a name that only that server knows. Its certificate authority stands where the image has the public ones.
"""

import base64
import ctypes
import datetime
import http.client
import http.server
import ipaddress
import json
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric import utils
from cryptography.x509.oid import NameOID

REGISTRY = "pypi.acme.example"
# In /etc/hosts, and unknown to the DNS server.
BY_FILE = "trustmint.image.test"
# In DNS alone.
BY_DNS, PROVIDER = "ci.image.test", "127.0.0.11"
SETTINGS = """
listen: {address: "0.0.0.0:8080", trusted_proxies: [127.0.0.0/8]}
operations: {address: "0.0.0.0:8081"}
policy: {directory: ../policy}
keys: {directory: ../keys}
"""
POLICY = f"""
issuers:
  ci: {{provider: generic, url: "https://{BY_DNS}", allow_networks: [{PROVIDER}/32]}}
registries:
  acme-pypi: {{dialect: pypi, urls: ["https://{REGISTRY}/legacy/"], audiences: [acme]}}
rules:
  widgets: {{registry: acme-pypi, issuer: ci, when: {{sub: widgets-release}}, allow: {{upload: [widgets]}}}}
"""
# As in a pod: the absolute name comes last.
RESOLVER = "nameserver 127.0.0.1\nsearch acme.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Provider:
    """An identity provider: a key, and two documents over https."""

    def __init__(self, folder):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.authority = folder / "authority.pem"
        point = self.key.public_key().public_numbers()
        coordinates = {name: base64url(value.to_bytes(32, "big")) for name, value in [("x", point.x), ("y", point.y)]}
        documents = {
            "/.well-known/openid-configuration": {"issuer": f"https://{BY_DNS}", "jwks_uri": f"https://{BY_DNS}/jwks"},
            "/jwks": {"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1", **coordinates}]},
        }

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(documents[self.path]).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer((PROVIDER, 443), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certify(folder))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def certify(self, folder):
        """A certificate of the provider's name by an authority of its own; that one's is left in `authority`."""
        now = datetime.datetime.now(datetime.UTC)
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ["authority", BY_DNS]]
        made = []
        for key, name, authority in [(keys[0], names[0], True), (keys[1], names[1], False)]:
            certificate = (
                x509.CertificateBuilder().subject_name(name).issuer_name(names[0]).public_key(key.public_key())
                .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(hours=1))
                .add_extension(x509.BasicConstraints(authority, None), True)
                .add_extension(x509.SubjectAlternativeName([x509.DNSName(BY_DNS)]), False)
            )
            made.append(certificate.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        self.authority.write_bytes(made[0])
        chain = folder / "provider.pem"
        form = serialization.PrivateFormat.PKCS8
        chain.write_bytes(keys[1].private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()) + made[1])
        return chain

    def token(self):
        now = int(time.time())
        claims = {"iss": f"https://{BY_DNS}", "aud": "acme", "sub": "widgets-release", "iat": now, "exp": now + 300, "jti": os.urandom(8).hex()}
        signed = ".".join(base64url(json.dumps(part).encode()) for part in [{"alg": "ES256", "typ": "JWT", "kid": "k1"}, claims])
        r, s = utils.decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class Names:
    """A DNS server that knows one name, and notes what it was asked (RFC 1035)."""

    def __init__(self):
        self.asked = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            question, asking = self.socket.recvfrom(2048)
            labels, at = [], 12
            while length := question[at]:
                labels.append(question[at + 1 : at + 1 + length].decode())
                at += 1 + length
            (kind,) = struct.unpack_from(">H", question, at + 1)
            name = ".".join(labels)
            self.asked.append(name)
            known = name == BY_DNS
            answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + ipaddress.ip_address(PROVIDER).packed if known and kind == 1 else b""
            header = question[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, 1 if answer else 0, 0, 0)
            self.socket.sendto(header + question[12 : at + 5] + answer, asking)


def mount(source, target):
    """Binds a file or a folder, read-only."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    subprocess.run(["mount", "--bind", source, target], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", target], check=True)


def lay_out(image_root, run, image, authority):
    """The files of a container: a copy of the image's, with everything mounted that a user of the image mounts."""
    mounts = run / "mounts"
    for folder in ["settings", "policy"]:
        (mounts / folder).mkdir(parents=True)
    (mounts / "settings/trustmint.yaml").write_text(SETTINGS)
    (mounts / "policy/acme.yaml").write_text(POLICY)
    (mounts / "hosts").write_text(f"127.0.0.1 localhost\n127.0.0.1 {BY_FILE}\n")
    (mounts / "resolv.conf").write_text(RESOLVER)
    # The binary of the image is run here for once: a static one runs anywhere.
    program = image_root / image["entrypoint"][0].lstrip("/")
    subprocess.run([program, "keys", "new", "--directory", mounts / "keys"], check=True, stdout=subprocess.DEVNULL)
    user, group = (int(number) for number in image["user"].split(":"))
    for path in [mounts / "keys", *(mounts / "keys").iterdir()]:
        os.chown(path, user, group)
    root = run / "root"
    shutil.copytree(image_root, root)
    (root / "proc").mkdir()
    subprocess.run(["mount", "--bind", root, root], check=True)
    for name in ["settings", "policy", "keys"]:
        mount(mounts / name, root / "etc/trustmint" / name)
    for name in ["hosts", "resolv.conf"]:
        mount(mounts / name, root / "etc" / name)
    mount(authority, root / "etc/ssl/certs/ca-certificates.crt")
    subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
    return root


def contained(root, image):
    """Becomes the image's command: the first process of its own, in its root, as its user, able to do nothing else."""
    subprocess.run(["mount", "-t", "proc", "-o", "ro", "proc", root / "proc"], check=True)
    libc = ctypes.CDLL(None)
    user, group = (int(number) for number in image["user"].split(":"))
    os.chroot(root)
    os.chdir(image["workdir"])
    capability = 0
    while libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    command = image["entrypoint"] + image["command"]
    os.execve(command[0], command, {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})


def children(parent):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def ask(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def wait_until_ready(service, log):
    deadline = time.monotonic() + 30
    while service.poll() is None and time.monotonic() < deadline:
        try:
            if ask(8081, "GET", "/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise SystemExit(f"it does not get ready:\n{log.read_text()}")


def check_process(pid, image):
    """Nobody, able to do nothing, with nothing to write to."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    user, group = image["user"].split(":")
    assert status["Uid"].split() == [user] * 4 and status["Gid"].split() == [group] * 4 and user != "0", status
    assert status["Groups"].split() == [] and status["NoNewPrivs"] == "1", status
    assert all(int(status[name], 16) == 0 for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]), status
    assert status["NSpid"].split()[-1] == "1", "the first process of its namespace, as in a container"
    mounted = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    mounted = {fields[4]: fields[5].split(",") for fields in mounted}
    assert len(mounted) == 8 and all("ro" in options for options in mounted.values()), mounted
    return int(status["VmRSS"].split()[0]) / 1024


def main(image_root, image):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    run = image_root.parent / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    names, provider = Names(), Provider(run)
    root = lay_out(image_root, run, image, provider.authority)
    log = run / "log"
    start = time.monotonic()
    with log.open("w") as output:
        command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, __file__, "--contained", root, json.dumps(image)]
        service = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    wait_until_ready(service, log)
    took = time.monotonic() - start
    (pid,) = children(service.pid)
    resident = check_process(pid, image)
    print(f"   ready after {took * 1000:.0f} ms, {resident:.1f} MiB resident", flush=True)

    def execute(*command):
        """As `docker exec`."""
        user, group = image["user"].split(":")
        enter = ["nsenter", "--target", str(pid), "--mount", "--net", "--pid", "--root", "--setgid", group, "--setuid", user]
        done = subprocess.run([*enter, *command], env={}, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    assert execute(*image["health"]) == "ready\n", "the HEALTHCHECK"
    # A store in memory remembers from its start on, and `iat` is a whole second.
    time.sleep(1 - time.time() % 1)
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "subject_token": provider.token(),
    }
    headers = {"host": REGISTRY, "content-type": "application/x-www-form-urlencoded"}
    status, answer = ask(8080, "POST", "/v1/token", urlencode(form), headers)
    assert status == 200 and json.loads(answer)["access_token"].startswith("pypi-"), f"{answer}\n{log.read_text()}"
    assert BY_DNS in names.asked and BY_FILE not in names.asked, names.asked
    probed = execute(image["entrypoint"][0], "probe", "--url", f"http://{BY_FILE}:8080", "--policy", "/etc/trustmint/policy")
    assert probed.count("ok  ") == 3, probed
    assert BY_FILE not in " ".join(names.asked), names.asked
    print("   /readyz, the HEALTHCHECK, an exchange with a provider found by DNS, a probe of a name of /etc/hosts: as they must be", flush=True)

    os.kill(pid, signal.SIGTERM)
    ended = service.wait(timeout=30)
    assert ended == 0 and "stopped" in log.read_text(), f"it ended with {ended}:\n{log.read_text()}"
    try:
        (root / "etc/written").touch()
        raise SystemExit("the root was not read-only")
    except OSError as error:
        assert error.strerror == "Read-only file system", error


if __name__ == "__main__":
    if sys.argv[1] == "--contained":
        contained(Path(sys.argv[2]), json.loads(sys.argv[3]))
    else:
        main(Path(sys.argv[1]), json.loads(sys.argv[2]))
