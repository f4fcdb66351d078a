#!/usr/bin/env python3
"""Restarts two replicas behind nginx in turn, under load: no request may be lost, and none may be half done.

First the restart that every upgrade is: jobs exchange an ID token each, through docs/examples/nginx-replicas.conf, while one replica
after the other gets SIGTERM and is started again. Then what no proxy hides: jobs ask one replica directly, the store is slow, and
SIGTERM comes in the middle of their exchanges. Each ends in an upload token that verifies, or in a refusal, a closed connection or
one that is not accepted, and then the same ID token is still good.
"""

import argparse
import http.client
import json
import re
import signal
import socket
import threading
import time
from pathlib import Path

from world import GITHUB
from world import HOST
from world import REPOSITORY
from world import World
from world import free_port
from world import is_good
from world import program
from world import say
from world import wait

JOBS = 12


def start_nginx(world):
    """The documented configuration, with ports of ours."""
    port, config = free_port(), (REPOSITORY / "docs/examples/nginx-replicas.conf").read_text()
    for written, ours in zip(["8081", "8082", "8080"], [world.replicas[0].port, world.replicas[1].port, port]):
        config, replaced = re.subn(rf"127\.0\.0\.1:{written}\b", f"127.0.0.1:{ours}", config)
        assert replaced == 1, f"one {written} in docs/examples/nginx-replicas.conf"
    folder = world.folder / "nginx"
    folder.mkdir()
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log warn;\n"
        f"events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n{temporary}{config}}}\n"
    )
    world.start([program("nginx"), "-p", folder, "-c", folder / "nginx.conf"], "nginx.log")

    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait(listens, "nginx")
    return port


class Job(threading.Thread):
    """A CI job that exchanges one ID token after the other."""

    def __init__(self, world, port, run):
        super().__init__(daemon=True)
        self.world, self.port, self.run_, self.connection = world, port, run, None

    def run(self):
        while self.run_.takes_one():
            token = self.world.signer.token(GITHUB, "acme")
            self.run_.ended(token, *mint(self, token))


def mint(job, token):
    """The status and the upload token, or what happened instead."""
    try:
        if job.connection is None:
            job.connection = http.client.HTTPConnection("127.0.0.1", job.port, timeout=20)
        job.connection.request("POST", "/_/oidc/mint-token", json.dumps({"token": token}), {"host": HOST})
        answer = job.connection.getresponse()
        body = answer.read()
        if answer.will_close:
            job.connection = None
        return answer.status, json.loads(body).get("token") if answer.status == 200 else body
    except (OSError, http.client.HTTPException) as error:
        job.connection = None
        time.sleep(0.01)
        return 0, repr(error)


class Run:
    """How many exchanges there are to be, and how they ended."""

    def __init__(self, requests):
        self.left, self.lock, self.minted, self.failed = requests, threading.Lock(), [], []

    def takes_one(self):
        with self.lock:
            self.left -= 1
            return self.left >= 0

    def ended(self, token, status, answer):
        (self.minted if status == 200 else self.failed).append((token, status, answer))


def end(replica, sent):
    """As Kubernetes does; the seconds from the signal to the end."""
    started = time.monotonic()
    replica.process.send_signal(sent)
    code = replica.ended(within=30)
    assert code == (0 if sent == signal.SIGTERM else -sent), f"it ended with {code}: {replica.log.read_text()[-2000:]}"
    return time.monotonic() - started


def rolling(requests, sent):
    with World("ES256") as world:
        world.start_redis()
        limits = "{workers: 1, drain: 1s, shutdown_timeout: 5s}"
        replicas = [world.replica(limits) for _ in range(2)]
        world.remember()
        port = start_nginx(world)
        run, started = Run(requests), time.monotonic()
        jobs = [Job(world, port, run) for _ in range(JOBS)]
        for job in jobs:
            job.start()
        restarts = []
        while any(job.is_alive() for job in jobs):
            replica = replicas[len(restarts) % 2]
            restarts.append(end(replica, sent))
            replica.start()
            # nginx tries it again a second after it has failed.
            time.sleep(1.2)
        took = time.monotonic() - started
        say(f"{requests} exchanges in {took:.0f} s through nginx, {len(restarts)} restarts of at most {max(restarts):.1f} s: {len(run.failed)} failed")
        for _, status, answer in run.failed[:5]:
            say(f"    {status} {answer}")
        assert len(restarts) >= 2, "both were restarted"
        assert not run.failed and len(run.minted) == requests
        assert len({token for _, _, token in run.minted}) == requests, "each got a token of its own"
        for _, _, token in run.minted[:: requests // 200]:
            assert is_good(replicas[0].port, token), "an upload token that was minted during a restart"


class SlowStore(threading.Thread):
    """Between a replica and Redis: every answer is late, so that SIGTERM finds exchanges whose claim is under way."""

    def __init__(self, redis_port, delay):
        super().__init__(daemon=True)
        self.redis_port, self.delay, self.listener = redis_port, delay, socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.redis_port))
            for source, target, delay in [(client, server, 0), (server, client, self.delay)]:
                threading.Thread(target=self.pass_on, args=(source, target, delay), daemon=True).start()

    @staticmethod
    def pass_on(source, target, delay):
        try:
            while data := source.recv(65536):
                time.sleep(delay)
                target.sendall(data)
        except OSError:
            pass
        target.close()


def interrupted(rounds, sent):
    with World("ES256") as world:
        world.start_redis()
        slow = SlowStore(world.redis_port, 0.05)
        slow.start()
        other = world.replica("{workers: 1}")
        world.remember()
        fast, world.redis_port = world.redis_port, slow.port
        victim = world.replica("{workers: 1, drain: 1s, shutdown_timeout: 5s}")
        world.redis_port = fast
        minted = refused = unheard = 0
        for number in range(rounds):
            run = Run(1 << 30)
            jobs = [Job(world, victim.port, run) for _ in range(JOBS)]
            for job in jobs:
                job.start()
            # Somewhere in an exchange, each time elsewhere.
            time.sleep(0.2 + number * 0.013 % 0.1)
            end(victim, sent)
            run.left = 0
            for job in jobs:
                job.join()
            for _, _, token in run.minted[-JOBS * 2 :]:
                assert is_good(other.port, token), "an upload token from its last moments"
            # Whoever comes too late is not accepted, again and again: some of those stand for all.
            for token, status, answer in run.failed[:40]:
                assert status in (0, 503), (status, answer)
                again = mint(Job(world, other.port, run), token)
                assert again[0] == 200, f"after {status} {answer}: the ID token was used up: {again}"
                refused, unheard = refused + (status == 503), unheard + (status == 0)
            minted += len(run.minted)
            victim.start()
        say(f"{rounds} times SIGTERM while the store is slow: {minted} exchanges ended in a token; of those that did not, {refused} were refused "
            f"and {unheard} had no connection, and each ID token was still good")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--requests", type=int, default=100_000, help="how many exchanges through nginx")
    arguments.add_argument("--rounds", type=int, default=20, help="how often SIGTERM comes in mid-exchange")
    arguments.add_argument("--plant", choices=["kill"], help="end replicas by SIGKILL instead: then a check must fail")
    arguments = arguments.parse_args()
    sent = signal.SIGKILL if arguments.plant else signal.SIGTERM
    interrupted(arguments.rounds, sent)
    rolling(arguments.requests, sent)


if __name__ == "__main__":
    main()
