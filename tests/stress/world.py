"""What the stress tests share: replicas of the release binary on one Redis, ID tokens of GitHub's shape, and clients.

Everything is on loopback and below one temporary folder. The binary is the image's, or what TRUSTMINT_STRESS_BINARY names.
"""

import base64
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric import utils

REPOSITORY = Path(__file__).resolve().parent.parent.parent
HOST = "pypi.acme.example"
# One ID token, one upload token; and a registry where one is good for many packages, for more load than tokens can be made for.
MANY = "store.acme.example"
GITHUB = "https://token.actions.githubusercontent.com"
API_KEY = "the-upload-frontends-key"
OPERATORS_KEY = "an-operators-key"


def say(text):
    print(f"   {text}", flush=True)


def binary():
    default = REPOSITORY / "target/image/root/usr/local/bin/trustmint"
    path = Path(os.environ.get("TRUSTMINT_STRESS_BINARY", default))
    if not path.exists():
        raise SystemExit("there is no release binary: run `tests/run image`, or name one in TRUSTMINT_STRESS_BINARY")
    return path.absolute()


def program(name):
    """Daemons live in sbin, which is not on every user's path."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin")
    assert path, f"{name} is missing"
    return path


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Signer:
    """A key of an identity provider. RS256 is what CI systems use; ES256 is signed in a tenth of the time."""

    def __init__(self, kid, algorithm):
        self.kid, self.algorithm = kid, algorithm
        if algorithm == "RS256":
            self.key = rsa.generate_private_key(65537, 2048)
            numbers = self.key.public_key().public_numbers()
            shape = {"kty": "RSA", "n": base64url(numbers.n.to_bytes(256, "big")), "e": "AQAB"}
        else:
            self.key = ec.generate_private_key(ec.SECP256R1())
            point = self.key.public_key().public_numbers()
            shape = {"kty": "EC", "crv": "P-256", **{name: base64url(getattr(point, name).to_bytes(32, "big")) for name in "xy"}}
        self.jwk = {**shape, "alg": algorithm, "use": "sig", "kid": kid}

    def token(self, issuer, audience, more=None):
        """About 1.7 KB, as GitHub's are."""
        now = int(time.time())
        workflow = "acme/widgets/.github/workflows/release.yml@refs/tags/v1.4.0"
        sha = "8c138c138c138c138c138c138c138c138c138c13"
        claims = {
            "iss": issuer, "aud": audience, "jti": os.urandom(16).hex(), "iat": now, "nbf": now - 300, "exp": now + 300,
            "sub": "repo:acme/widgets:environment:release", "repository": "acme/widgets", "repository_id": "701234567",
            "repository_owner": "acme", "repository_owner_id": "9123456", "repository_visibility": "public",
            "ref": "refs/tags/v1.4.0", "ref_type": "tag", "ref_protected": "true", "sha": sha, "workflow": "Release",
            "workflow_ref": workflow, "workflow_sha": sha, "job_workflow_ref": workflow, "job_workflow_sha": sha,
            "event_name": "push", "environment": "release", "environment_node_id": "EN_kwDOAbCdEf4AAAABcDeF",
            "runner_environment": "github-hosted", "actor": "mona", "actor_id": "583231", "head_ref": "", "base_ref": "",
            "run_id": "21561244697", "run_number": "12", "run_attempt": "1", "check_run_id": "62125561706", **(more or {}),
        }
        head = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid}
        signed = ".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in [head, claims])
        if self.algorithm == "RS256":
            signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        else:
            r, s = utils.decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{signed}.{base64url(signature)}"


def policy(issuer="{provider: github, jwks_file: jwks.json}", more=""):
    """Two registries, a rule for each, and as many as a small organisation has beside them."""
    when = """when: {repository_owner_id: "9123456", repository_id: "%s", repository: acme/%s, workflow_file: release.yml, environment: release, tag: {glob: "v*"}}"""
    widgets = when % ("701234567", "widgets")
    others = "".join(
        f"  other-{number}: {{registry: acme-pypi, issuer: github, {when % (701234000 + number, f'other-{number}')}, allow: {{upload: [other-{number}]}}}}\n"
        for number in range(8)
    )
    digest = hashlib.sha256(API_KEY.encode()).hexdigest()
    limits = "limits: {exchanges_per_minute: 1000000, calls_per_minute: 1000000}"
    return f"""
issuers:
  github: {issuer}
registries:
  acme-pypi: {{dialect: pypi, urls: ["https://{HOST}/legacy/"], audiences: [acme], {limits}, callers: {{frontend: {{key_sha256: "{digest}"}}}}}}
  acme-store: {{dialect: generic, urls: ["https://{MANY}"], audiences: [acme-store], replay: once-per-package, {limits}}}
rules:
  widgets: {{registry: acme-pypi, issuer: github, {widgets}, allow: {{upload: [widgets]}}}}
  store: {{registry: acme-store, issuer: github, {widgets}, allow: {{upload: ["widgets-*"]}}}}
{others}{more}"""


class World:
    """A folder with policy and keys, a Redis, and replicas. What it started ends with it."""

    def __init__(self, algorithm="RS256", jwks=True):
        self.folder = Path(tempfile.mkdtemp(prefix="trustmint-stress-"))
        self.signer = Signer("k1", algorithm)
        self.replicas, self.children = [], []
        (self.folder / "policy").mkdir()
        if jwks:
            self.write_policy(policy())
            (self.folder / "policy/jwks.json").write_text(json.dumps({"keys": [self.signer.jwk]}))
        subprocess.run([binary(), "keys", "new", "--directory", self.folder / "keys"], check=True, stdout=subprocess.DEVNULL)
        self.redis_port = free_port()
        self.redis = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for replica in self.replicas:
            if replica.process and replica.process.poll() is None:
                replica.process.kill()
                replica.process.wait()
        for child in self.children:
            if child.poll() is None:
                child.terminate()
                child.wait()
        shutil.rmtree(self.folder)

    def start(self, command, log, cpu=None):
        """A child, pinned to a core if one is given."""
        if cpu is not None:
            command = ["taskset", "-c", str(cpu), *command]
        with (self.folder / log).open("a") as output:
            child = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.children.append(child)
        return child

    def write_policy(self, text):
        """At once, as a ConfigMap's volume does it."""
        new = self.folder / "new.yaml"
        new.write_text(text)
        new.rename(self.folder / "policy/acme.yaml")

    def start_redis(self, cpu=None):
        arguments = ["--port", self.redis_port, "--bind", "127.0.0.1", "--dir", self.folder, "--save", "", "--maxmemory-policy", "noeviction"]
        self.redis = self.start([program("redis-server"), *arguments], "redis.log", cpu)
        wait(lambda: self.redis_cli("PING") == "PONG", "Redis")

    def redis_cli(self, *words):
        command = [program("redis-cli"), "-p", str(self.redis_port), *words]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    def replica(self, limits, cpu=None, ports=None):
        replica = Replica(self, len(self.replicas), limits, cpu, ports)
        self.replicas.append(replica)
        replica.start()
        return replica

    def remember(self):
        """A store believes that it may have forgotten what was before it began, to the second."""
        ask(self.replicas[0].port, "POST", "/_/oidc/mint-token", json.dumps({"token": self.signer.token(GITHUB, "acme")}))
        time.sleep(2 - time.time() % 1)


class Replica:
    """One `trustmint serve`, which can be stopped and started again."""

    def __init__(self, world, number, limits, cpu, ports):
        self.world, self.cpu, self.process = world, cpu, None
        self.port, self.operations = ports or (free_port(), free_port())
        self.settings = world.folder / f"settings-{number}.yaml"
        self.log = world.folder / f"replica-{number}.log"
        digest = hashlib.sha256(OPERATORS_KEY.encode()).hexdigest()
        self.settings.write_text(f"""
listen: {{address: "127.0.0.1:{self.port}"}}
operations: {{address: "127.0.0.1:{self.operations}", callers: {{oncall: {{key_sha256: "{digest}"}}}}}}
policy: {{directory: policy, poll: 1s}}
keys: {{directory: keys, poll: 1s}}
state: {{store: redis, redis: {{url: "redis://127.0.0.1:{world.redis_port}"}}}}
audit: {{sink: file, file: /dev/null}}
limits: {limits}
""")

    def start(self):
        self.process = self.world.start([binary(), "serve", "--config", self.settings], self.log.name, self.cpu)
        wait(lambda: self.process.poll() is not None or self.ready(), f"a replica: {self.log.read_text()[-2000:]}")
        assert self.process.poll() is None, self.log.read_text()[-4000:]

    def ready(self):
        try:
            return ask(self.operations, "GET", "/readyz")[0] == 200
        except OSError:
            return False

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def ended(self, within):
        """The exit code."""
        return self.process.wait(timeout=within)

    def resident(self):
        """Resident memory in MiB, and the most that it ever was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return [int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024 for name in ["VmRSS", "VmHWM"]]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self):
        """Every sample, by its name and labels as they are written."""
        text = ask(self.operations, "GET", "/metrics")[1].decode()
        samples = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in samples}


def wait(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"it takes more than {seconds} s: {what}")
        time.sleep(0.02)


def ask(port, method, path, body=None, headers=None, host=HOST, timeout=10):
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, {"host": host, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def exchange_form(token, package=None):
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "subject_token": token,
    }
    return urlencode(form | ({"scope": f"upload:{package}"} if package else {}))


def is_good(port, upload_token, package="widgets"):
    """What the registry hears when it asks about an upload token."""
    question = json.dumps({"token": upload_token, "package": package, "exists": True})
    status, answer = ask(port, "POST", "/v1/verify", question, {"authorization": f"Bearer {API_KEY}"})
    assert status == 200, answer
    return json.loads(answer)["allowed"]
