#!/usr/bin/env python3
"""Ten times as many clients as one core of the service can serve, each asking again as soon as it is answered.

The service has one core, the clients and Redis have another. `peak` is what the service serves to 64 connections. `flood` has ten
times as many, `crowd` so many that most of them must wait at the door. What is asserted: goodput, that all else is a refusal with
`Retry-After`, memory, and that whoever comes a second after the flood is served as before it.
"""

import argparse
import http.client
import json
import re
import subprocess
import threading
import time
from pathlib import Path

from world import GITHUB
from world import MANY
from world import World
from world import exchange_form
from world import program
from world import say

SERVICE, CLIENTS = 0, 1
SATURATED = 64
TOKENS_A_SECOND = 80
MOST_RESIDENT = 60
# The connections that a replica has by default.
DOOR = 640


class Watch(threading.Thread):
    """Looks at the replica while it is flooded: its memory, and what one more client meets."""

    def __init__(self, world, replica):
        super().__init__(daemon=True)
        self.world, self.replica = world, replica
        self.resident, self.refused, self.served, self.over = 0, [], [], threading.Event()

    def run(self):
        while not self.over.wait(0.25):
            self.resident = max(self.resident, self.replica.resident()[0])
            started = time.monotonic()
            status, answer, headers = exchange(self.replica.port, self.world.signer)
            took = time.monotonic() - started
            if status == 200:
                self.served.append(took)
            else:
                assert status == 503 and json.loads(answer)["code"] == "overloaded", (status, answer)
                assert 1 <= int(headers["retry-after"]) <= 60, headers
                self.refused.append(took)

    def ended(self):
        self.over.set()
        self.join()
        return self


def exchange(port, signer):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"host": MANY, "content-type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/v1/token", exchange_form(signer.token(GITHUB, "acme-store"), "widgets-watch"), headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}


class Load:
    """Hands out ID tokens, and runs wrk with them."""

    def __init__(self, world, replica, seconds):
        self.replica, self.file, self.first = replica, world.folder / "tokens", 0
        count = TOKENS_A_SECOND * seconds
        self.file.write_text("".join(world.signer.token(GITHUB, "acme-store") + "\n" for _ in range(count)))

    def run(self, connections, seconds):
        """Answers a second by status, and CPU a second."""
        share = TOKENS_A_SECOND * seconds
        command = ["nice", "-n", 10, "taskset", "-c", CLIENTS, program("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s",
                   Path(__file__).with_name("flood.lua"), f"http://127.0.0.1:{self.replica.port}", "--", self.file, self.first, share]
        self.first += share
        before, cpu, started = self.replica.metrics(), self.replica.cpu_seconds(), time.monotonic()
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
        took = time.monotonic() - started
        after = self.replica.metrics()
        answers = {}
        for name, value in after.items():
            if name.startswith("trustmint_http_responses_total") and (more := value - before.get(name, 0)):
                status = name.split('status="')[1][:3]
                answers[status] = answers.get(status, 0) + more / took
        # Of those at the door a few are cut off as their turn comes; nobody else is.
        broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done.stdout)
        connect, read, write, late = map(int, broken.groups()) if broken else (0, 0, 0, 0)
        if broken:
            say(f"    {broken[0]}")
        few = sum(answers.values()) * took / 1000 if connections > DOOR else 0
        assert connect + write + late == 0 and read <= few, done.stdout
        assert set(answers) <= {"200", "503"}, answers
        return answers, (self.replica.cpu_seconds() - cpu) / took


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=int, default=60, help="how long the flood lasts")
    arguments.add_argument("--least", type=float, default=0.8, help="the least goodput of the flood, as a share of the peak")
    arguments.add_argument("--limits", default="{workers: 1}", help="the replica's `limits`")
    arguments.add_argument("--json", action="store_true", help="the figures as the last line")
    arguments = arguments.parse_args()
    figures = {}
    short = max(arguments.seconds // 4, 5)
    with World() as world:
        world.start_redis(CLIENTS)
        replica = world.replica(arguments.limits, SERVICE)
        world.remember()
        load = Load(world, replica, 3 * short + arguments.seconds + 5)
        load.run(SATURATED, 5)
        peak, peak_cpu = load.run(SATURATED, short)
        say(f"peak: {SATURATED} connections are served {peak['200']:.0f} a second, {peak_cpu:.2f} of a core, {replica.resident()[0]:.0f} MiB")
        faults = []
        for name, times, seconds in [("flood", 10, arguments.seconds), ("crowd", 24, short)]:
            watch = Watch(world, replica)
            watch.start()
            answers, cpu = load.run(SATURATED * times, seconds)
            ended = time.monotonic()
            watch.ended()
            # By the time that it had: what else runs on the machine takes some of the core, now more and now less.
            goodput = answers["200"] / cpu / (peak["200"] / peak_cpu)
            figures[name] = {"served": answers["200"], "refused": answers.get("503", 0), "goodput": goodput, "resident_mib": watch.resident}
            say(f"{name}: {SATURATED * times} connections for {seconds} s: {answers['200']:.0f} served and {answers.get('503', 0):.0f} refused a second, "
                f"goodput {goodput:.0%} of peak by CPU, {answers['200'] / peak['200']:.0%} by the clock, {cpu:.2f} of a core, {watch.resident:.1f} MiB")
            say(f"    one more client, each time on a new connection: served {len(watch.served)} times after {slowest(watch.served)}, "
                f"refused {len(watch.refused)} times after {slowest(watch.refused)}")
            if name == "flood" and goodput < arguments.least:
                faults.append(f"{name}: goodput is {goodput:.0%}")
            if watch.resident > MOST_RESIDENT:
                faults.append(f"{name}: {watch.resident:.1f} MiB resident")
            if not answers.get("503"):
                faults.append(f"{name}: nobody was refused")
            time.sleep(max(0, ended + 1 - time.monotonic()))
            took = []
            for _ in range(20):
                started = time.monotonic()
                status, answer, _ = exchange(replica.port, world.signer)
                took.append(time.monotonic() - started)
                assert status == 200, answer
            say(f"    a second later: 20 of 20 served, after {slowest(took)}")
            if max(took) > 0.1:
                faults.append(f"{name}: slow a second after it")
        for fault in faults:
            say(f"FAULT {fault}")
        if arguments.json:
            print(json.dumps(figures | {"peak": {"served": peak["200"]}}))
        raise SystemExit(1 if faults else 0)


def slowest(times):
    return f"at most {max(times) * 1000:.0f} ms" if times else "-"


if __name__ == "__main__":
    main()
