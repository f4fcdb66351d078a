#!/usr/bin/env python3
"""Two replicas at steady load for a while, with everything going on that goes on in a year.

The identity provider's keys are rotated, the master key is exchanged, the policy is changed (and now and then broken), Redis is
restarted, and among the jobs are attackers. Every answer is judged: an error must be one that a fault explains, in the seconds after
that fault. At the end memory and descriptors must be flat: the trend of what is left after the first third.

`--plant` makes a leak, to see that a check notices: the policy then grows with every change, or connections are opened and kept.
"""

import argparse
import datetime
import http.client
import http.server
import ipaddress
import json
import os
import random
import signal
import socket
import ssl
import statistics
import subprocess
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from panels import panel
from panels import svg
from world import API_KEY
from world import HOST
from world import Signer
from world import World
from world import binary
from world import free_port
from world import policy
from world import say

# Exchanges a second, each with a verification of the upload token; and attempts of attackers.
JOBS_A_SECOND, ATTACKS_A_SECOND = 60, 20
# What may be refused, and for how many seconds after which fault.
EXPLAINED = {
    # Connections are made anew; and an ID token from before a new Redis began, to the second, may be a used one.
    "redis": (6, {"store-unavailable", "state-lost"}),
}
# What a flat line may rise in all of the run after its first third: a steady one wanders by less.
MOST_MEBIBYTES, MOST_DESCRIPTORS = 3, 8


class Provider:
    """An identity provider over https, whose keys change."""

    def __init__(self, folder, algorithm="ES256"):
        self.port, self.signers = free_port(), [Signer("ci-1", algorithm)]
        self.url, self.made, self.signing = f"https://127.0.0.1:{self.port}", 1, self.signers[0]
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                keys = {"keys": [signer.jwk for signer in provider.signers]}
                found = {"issuer": provider.url, "jwks_uri": f"{provider.url}/jwks"}
                body = json.dumps(keys if self.path == "/jwks" else found).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certify(folder))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def publish(self):
        """One more key, by which nothing is signed yet."""
        self.made += 1
        self.signers = [self.signers[0], Signer(f"ci-{self.made}", "ES256")]

    def withdraw(self):
        """The older one."""
        self.signers = self.signers[-1:]

    def token(self):
        return self.signing.token(self.url, "acme")


def certify(folder):
    """A certificate for 127.0.0.1 by an authority of its own, which is left in the policy directory."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ["authority", "provider"]]
    made = []
    for key, name, authority in [(keys[0], names[0], True), (keys[1], names[1], False)]:
        certificate = (
            x509.CertificateBuilder().subject_name(name).issuer_name(names[0]).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(hours=2))
            .add_extension(x509.BasicConstraints(authority, None), True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        )
        made.append(certificate.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "policy/ca.pem").write_bytes(made[0])
    chain = folder / "provider.pem"
    form = serialization.PrivateFormat.PKCS8
    chain.write_bytes(keys[1].private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()) + made[1])
    return chain


class Soak:
    """What goes on, what came of it, and what was measured."""

    def __init__(self, world, provider, replicas, planted):
        self.world, self.provider, self.replicas, self.planted = world, provider, replicas, planted
        self.began, self.over = time.monotonic(), threading.Event()
        self.lock, self.faults, self.marks = threading.Lock(), {}, []
        self.served = self.refused = self.attacks = 0
        self.explained, self.unexplained = {}, []
        self.samples, self.kept, self.master, self.changes = [], [], 1, 0

    def now(self):
        return time.monotonic() - self.began

    # What is judged.

    def judge(self, what, status, code, expected):
        """An answer is as expected, or explained by a fault, or noted."""
        with self.lock:
            if (status, code) in expected:
                self.served += 1
                return
            for fault, (seconds, codes) in EXPLAINED.items():
                if code in codes and self.now() - self.faults.get(fault, -1e9) < seconds:
                    self.explained[code] = self.explained.get(code, 0) + 1
                    self.refused += 1
                    return
            self.unexplained.append(f"{self.now():.1f} s: {what}: {status} {code}")

    def job(self, connections):
        """Exchanges an ID token and has the registry ask about the upload token, at the other replica."""
        one, two = random.sample(range(2), 2)
        token = self.provider.token()
        status, answer = self.ask(connections, one, "/_/oidc/mint-token", json.dumps({"token": token}))
        self.judge("an exchange", status, answer.get("code"), {(200, None)})
        if status != 200:
            return
        upload = json.dumps({"token": answer["token"], "package": "widgets", "exists": True})
        status, verdict = self.ask(connections, two, "/v1/verify", upload, {"authorization": f"Bearer {API_KEY}"})
        self.judge("a verification", status, None if verdict.get("allowed") else verdict.get("code"), {(200, None)})
        if random.random() < 0.1:
            again, answer = self.ask(connections, two, "/_/oidc/mint-token", json.dumps({"token": token}))
            self.judge("a used ID token", again, answer.get("code"), {(422, "token-replayed")})
        if random.random() < 0.1:
            status, answer = self.ask(connections, one, "/_/oidc/burn-token", json.dumps({"token": json.loads(upload)["token"]}))
            self.judge("a revocation", status, answer.get("code"), {(202, None)})

    def attack(self, connections):
        """Something that no job sends."""
        self.attacks += 1
        stranger = Signer("ci-1", "ES256")
        token = self.provider.token()
        number = random.randrange(2)
        kind = random.choice(["garbage", "forged", "stranger's", "too large", "not HTTP", "unknown key", "half", "no host"])
        if kind in ("not HTTP", "half"):
            self.hang_up(number, b"\x16\x03\x01 nonsense\r\n\r\n" if kind == "not HTTP" else b"POST /v1/token HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx")
            return
        body, host = {
            "garbage": ("eyJ.eyJ.x", HOST), "forged": (token[:-12] + "AAAAAAAAAAAA", HOST), "too large": ("x" * 40_000, HOST),
            "stranger's": (stranger.token("https://evil.example", "acme"), HOST),
            "unknown key": (Signer(f"none-{random.randrange(9)}", "ES256").token(self.provider.url, "acme"), HOST), "no host": (token, "evil.example"),
        }[kind]
        status, answer = self.ask(connections, number, "/_/oidc/mint-token", json.dumps({"token": body}), host=host)
        with self.lock:
            # 503: a key that nobody knows cannot be told from one that is not fetched yet.
            fine = 400 <= status < 500 or (status == 503 and kind == "unknown key") or (kind == "too large" and status == 0)
            if not fine:
                self.unexplained.append(f"{self.now():.1f} s: an attacker ({kind}): {status} {answer}")

    def hang_up(self, number, data):
        with socket.create_connection(("127.0.0.1", self.replicas[number].port), timeout=10) as connection:
            connection.sendall(data)

    def ask(self, connections, number, path, body, headers=None, host=HOST):
        for attempt in range(2):
            try:
                connection = connections.get(number)
                if connection is None:
                    connection = connections[number] = http.client.HTTPConnection("127.0.0.1", self.replicas[number].port, timeout=15)
                connection.request("POST", path, body, {"host": host, **(headers or {})})
                answer = connection.getresponse()
                text = answer.read()
                if answer.will_close:
                    connections.pop(number).close()
                return answer.status, json.loads(text) if text else {}
            except (OSError, http.client.HTTPException) as error:
                connections.pop(number).close()
                failed = {"code": repr(error)}
                if len(body) > 32_768:
                    return 0, failed
        return 0, failed

    # What goes on.

    def paced(self, work, a_second):
        connections, due = {}, time.monotonic()
        while not self.over.is_set():
            work(connections)
            due = max(due + 1 / a_second, time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))
        for connection in connections.values():
            connection.close()

    def every(self, seconds, first, what):
        self.over.wait(first)
        while not self.over.is_set():
            what()
            self.over.wait(seconds)

    def mark(self, what):
        self.marks.append((self.now(), what))

    def rotate_provider(self):
        """As providers do: first published, then used, then the old one withdrawn.

        In between is the time of a fetch that tokens cause, one in 15 s: attackers use that allowance up, and it is shared."""
        self.provider.publish()
        if not self.over.wait(17):
            self.provider.signing = self.provider.signers[-1]
            self.mark("provider's key")
            self.over.wait(2)
            self.provider.withdraw()

    def exchange_master(self):
        """As docs/keys.md says it: the new key mints when all have read it, the old one goes when its tokens have ended."""
        self.master += 1
        active = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=8)
        directory = self.world.folder / "keys"
        command = [binary(), "keys", "new", "--directory", directory, "--kid", f"k-{self.master}", "--activate-at", active.strftime("%Y-%m-%dT%H:%M:%SZ")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.mark("master key")

    def change_policy(self):
        self.changes += 1
        broken = self.changes % 4 == 0
        more = f"  # change {self.changes}\n" + ("  broken: {registry: nowhere\n" if broken else "")
        if self.planted == "leak-memory":
            rule = "  leak-%d: {registry: acme-pypi, issuer: github, when: {repository_owner_id: \"9123456\", repository_id: \"%d\"}, allow: {upload: [leak-%d]}}\n"
            more += "".join(rule % (number, 100_000_000 + number, number) for number in range(self.changes * 1500))
        self.world.write_policy(policy(issuer_of(self.provider), more))
        self.mark("broken policy" if broken else "policy")

    def restart_redis(self):
        with self.lock:
            self.faults["redis"] = self.now()
        self.mark("Redis")
        self.world.redis.send_signal(signal.SIGTERM)
        self.world.redis.wait()
        self.world.start_redis()
        with self.lock:
            self.faults["redis"] = self.now()

    def keep_connections(self):
        """The planted leak: connections of which each has asked one thing."""
        for replica in self.replicas:
            connection = socket.create_connection(("127.0.0.1", replica.port))
            connection.sendall(f"GET /_/oidc/audience HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
            self.kept.append(connection)

    def sample(self):
        for _ in iter(lambda: self.over.wait(1), True):
            with self.lock:
                counts = (self.served, self.refused, self.attacks)
            self.samples.append((self.now(), counts, [replica.resident()[0] for replica in self.replicas], [replica.descriptors() for replica in self.replicas]))

    def run(self, seconds):
        rhythm = max(seconds / 6, 20)
        work = [(self.paced, self.job, JOBS_A_SECOND / 4)] * 4 + [(self.paced, self.attack, ATTACKS_A_SECOND)]
        work += [(self.every, rhythm, rhythm * 0.2, self.rotate_provider), (self.every, rhythm * 2, rhythm * 0.5, self.exchange_master)]
        work += [(self.every, 5, 4, self.change_policy), (self.every, rhythm * 1.5, rhythm * 0.8, self.restart_redis), (self.sample,)]
        if self.planted == "leak-descriptors":
            work.append((self.every, 1, 1, self.keep_connections))
        threads = [threading.Thread(target=part[0], args=part[1:], daemon=True) for part in work]
        for thread in threads:
            thread.start()
        while self.now() < seconds:
            time.sleep(0.5)
            for replica in self.replicas:
                assert replica.process.poll() is None, f"a replica ended: {replica.log.read_text()[-3000:]}"
        self.over.set()
        for thread in threads:
            thread.join(timeout=20)


def issuer_of(provider):
    return f'{{provider: github, url: "{provider.url}", ca_file: ca.pem, allow_networks: [127.0.0.0/8]}}'


def trend(times, values):
    """How much the values rise from the first to the last: the slope of Theil and Sen, which outliers do not bend."""
    points = list(zip(times, values))[:: max(1, len(values) // 200)]
    slopes = [(v - u) / (t - s) for index, (s, u) in enumerate(points) for t, v in points[index + 1 :]]
    return statistics.median(slopes) * (times[-1] - times[0])


def draw(soak, path):
    """Three panels over one time: requests, memory, descriptors; and what happened when."""
    width, height, left, gap = 960, 130, 60, 46
    end = soak.samples[-1][0]
    across = lambda t: left + t / end * (width - left - 20)
    served = [(b[0], (b[1][0] - a[1][0]) / (b[0] - a[0])) for a, b in zip(soak.samples, soak.samples[1:])]
    refused = [(b[0], (b[1][1] - a[1][1]) / (b[0] - a[0])) for a, b in zip(soak.samples, soak.samples[1:])]
    attacks = [(b[0], (b[1][2] - a[1][2]) / (b[0] - a[0])) for a, b in zip(soak.samples, soak.samples[1:])]
    each = lambda at, which: [(sample[0], sample[at][which]) for sample in soak.samples]
    panels = [
        ("answers a second", [("as they must be", "#1b7837", served), ("refused, explained by Redis", "#b2182b", refused), ("attackers'", "#999999", attacks)]),
        ("MiB resident", [("replica 1", "#2166ac", each(2, 0)), ("replica 2", "#762a83", each(2, 1))]),
        ("descriptors", [("replica 1", "#2166ac", each(3, 0)), ("replica 2", "#762a83", each(3, 1))]),
    ]
    colours = {"Redis": "#b2182b", "provider's key": "#e08214", "master key": "#542788", "broken policy": "#666666"}
    out = []
    for number, (title, lines) in enumerate(panels):
        top = 24 + number * (height + gap)
        for at, what in soak.marks:
            if what in colours:
                out.append(f'<line x1="{across(at):.1f}" x2="{across(at):.1f}" y1="{top}" y2="{top + height}" stroke="{colours[what]}" stroke-opacity="0.5" stroke-dasharray="3 3"/>')
        out += panel(left, width - 20, top, height, across, title, lines)
    below = 24 + 3 * (height + gap)
    for minute in range(int(end // 60) + 1):
        out.append(f'<text x="{across(minute * 60):.0f}" y="{below - gap + 16}" text-anchor="middle">{minute}</text>')
    out.append(f'<text x="{left}" y="{below - 8}">minutes. Lines:</text>')
    at = left + 100
    for what, colour in colours.items():
        out.append(f'<text x="{at}" y="{below - 8}" fill="{colour}">{what}{" restarted" if what == "Redis" else ""}</text>')
        at += 120
    Path(path).write_text(svg(width, 3 * (height + gap) + 40, out))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--minutes", type=float, default=20)
    arguments.add_argument("--plot", help="an SVG file to draw")
    arguments.add_argument("--plant", choices=["leak-memory", "leak-descriptors"], help="make a leak: then a check must fail")
    arguments = arguments.parse_args()
    with World("ES256", jwks=False) as world:
        provider = Provider(world.folder)
        world.write_policy(policy(issuer_of(provider)))
        world.start_redis()
        # Attackers and jobs have one address here.
        replicas = [world.replica("{workers: 1, refusals_per_client: null}") for _ in range(2)]
        # Redis may have forgotten what was before it began; the first second is not judged.
        soak = Soak(world, provider, replicas, arguments.plant)
        soak.ask({}, 0, "/_/oidc/mint-token", json.dumps({"token": provider.token()}))
        time.sleep(2)
        soak.began = time.monotonic()
        soak.run(arguments.minutes * 60)
        if arguments.plot:
            draw(soak, arguments.plot)
        happened = {what: sum(mark == what for _, mark in soak.marks) for _, what in soak.marks}
        say(f"{soak.served} answers as they must be, {soak.attacks} attacks; {', '.join(f'{what}: {times}' for what, times in happened.items())}")
        say(f"explained by a fault: {soak.explained or 'none'}; not explained: {len(soak.unexplained)}")
        faults = soak.unexplained[:20]
        steady = [sample for sample in soak.samples if sample[0] > soak.samples[-1][0] / 3]
        times = [sample[0] for sample in steady]
        for number in range(2):
            memory = trend(times, [sample[2][number] for sample in steady])
            descriptors = trend(times, [sample[3][number] for sample in steady])
            say(f"replica {number + 1}: {steady[-1][2][number]:.1f} MiB and {steady[-1][3][number]} descriptors; trend {memory:+.2f} MiB and {descriptors:+.1f}")
            if memory > MOST_MEBIBYTES:
                faults.append(f"the memory of replica {number + 1} rises by {memory:.1f} MiB")
            if descriptors > MOST_DESCRIPTORS:
                faults.append(f"the descriptors of replica {number + 1} rise by {descriptors:.0f}")
        if soak.served < JOBS_A_SECOND * arguments.minutes * 60:
            faults.append(f"only {soak.served} answers: the load was not what it should be")
        for fault in faults:
            say(f"FAULT {fault}")
        raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
