#!/usr/bin/env python3
"""A fleet on paper: replicas of one core behind a load balancer, one Redis, and half a minute with everything that goes wrong.

Jobs arrive at random (a Poisson process) at a base rate; for five seconds in the middle they come two and a half times as often, as when
nightly builds begin. Then one replica dies: what it was at is lost, the load balancer sends it requests for two seconds more, and eight
seconds later it is back, with the keys of no identity provider. Whoever is refused or gets no answer asks again after a second, four
times at most. The same seed gives the same table.

`--exchange-us` and `--script-us` are measured; what is assumed stands at the head of this file.
"""

import argparse
import heapq
import json
import random

SECONDS, BURST, BURST_FACTOR = 30, (8, 13), 2.5
DIES, NOTICED, RETURNS = 18, 2, 8
# Redis on another machine of the same zone: a round trip, with a tail.
ROUND_TRIP, ROUND_TRIP_SIGMA = 0.0005, 0.4
# Identity providers, how often each is asked for by a job, and how long a fetch of keys takes when Redis has no copy.
PROVIDERS, COPY_IS_THERE, FETCH = 20, 0.9, 0.15
# As a replica has them by default: requests of jobs under way, and those that wait for a place.
PLACES = 64 + 32
AGAIN, ATTEMPTS = 1.0, 5


def simulate(replicas, share, exchange, script, seed):
    """What comes of jobs that keep each replica busy for that share of its time, before the burst."""
    dice = random.Random(seed)
    rate = replicas * share / exchange
    free, alive_since = [0.0] * replicas, [-10.0] * replicas
    cold = [{} for _ in range(replicas)]
    # What Redis has still to do, as of when a job came last.
    backlog, looked = 0.0, 0.0
    waiting, took, retried, lost, number = [], [], 0, 0, 0

    def arrivals():
        now = 0.0
        while True:
            now += dice.expovariate(rate * (BURST_FACTOR if BURST[0] <= now < BURST[1] else 1))
            yield now if now < SECONDS else float("inf")

    coming = arrivals()
    arrival = next(coming)
    while waiting or arrival < SECONDS:
        if waiting and waiting[0][0] <= arrival:
            at, _, began, attempts = heapq.heappop(waiting)
        else:
            at, began, attempts = arrival, arrival, 0
            arrival = next(coming)
        number += 1

        def again():
            nonlocal retried, lost
            if attempts + 1 == ATTEMPTS:
                lost += 1
            else:
                retried += 1
                heapq.heappush(waiting, (at + AGAIN, number, began, attempts + 1))

        # The load balancer leaves out what it knows to be dead; a single replica has nobody to stand in for it.
        dead = DIES <= at < DIES + RETURNS
        known = dead and at >= DIES + NOTICED and replicas > 1
        chosen = dice.randrange(1 if known else 0, replicas)
        if chosen == 0 and dead:
            again()
            continue
        if chosen == 0 and at >= DIES + RETURNS and alive_since[0] < DIES:
            alive_since[0], free[0] = DIES + RETURNS, DIES + RETURNS
            cold[0] = dict.fromkeys(range(PROVIDERS))
        if (free[chosen] - at) / exchange > PLACES:
            again()
            continue
        ready = max(at, free[chosen]) + exchange * 0.8
        free[chosen] = max(at, free[chosen]) + exchange
        # Others do not wait while a job waits for its provider's keys.
        provider = min(int(dice.paretovariate(1)) - 1, PROVIDERS - 1)
        if provider in cold[chosen]:
            if cold[chosen][provider] is None:
                cold[chosen][provider] = ready + (ROUND_TRIP if dice.random() < COPY_IS_THERE else FETCH)
            ready = max(ready, cold[chosen][provider])
        way = ROUND_TRIP * dice.lognormvariate(0, ROUND_TRIP_SIGMA)
        backlog, looked = max(0.0, backlog - (at - looked)) + script, at
        answered = ready + way + backlog + exchange * 0.2
        if chosen == 0 and at < DIES < answered:
            again()
            continue
        took.append(answered - began)
    took.sort()
    served = len(took)
    of = lambda share: took[min(int(len(took) * share), len(took) - 1)] * 1000
    return {
        "replicas": replicas, "busy": share, "rate": rate, "burst": rate * BURST_FACTOR, "p50_ms": of(0.5), "p99_ms": of(0.99),
        "p999_ms": of(0.999), "longest_ms": of(1), "retried": retried / (served + lost), "lost": lost, "jobs": served + lost,
        "redis_busy": rate * BURST_FACTOR * script,
    }


def table(exchange_us, script_us, seed=1):
    """The rows of docs/capacity.md."""
    plans = [(1, 0.2), (2, 0.2), (3, 0.2), (3, 0.38), (5, 0.2), (5, 0.38), (10, 0.2)]
    return [simulate(replicas, share, exchange_us / 1e6, script_us / 1e6, seed) for replicas, share in plans]


def markdown(rows):
    lines = ["| replicas | busy before the burst | jobs a second, in the burst | p50 | p99 | p99.9 | longest | asked again | lost | Redis in the burst |", "|---|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row['replicas']} | {row['busy']:.0%} | {row['rate']:,.0f}, {row['burst']:,.0f} | {row['p50_ms']:.1f} ms | {row['p99_ms']:,.1f} ms | "
                     f"{row['p999_ms']:,.0f} ms | {row['longest_ms']:,.0f} ms | {row['retried']:.2%} | {row['lost']:,} of {row['jobs']:,} | {row['redis_busy']:.0%} |")
    return "\n".join(lines)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--exchange-us", type=float, default=60, help="CPU time of an exchange with its first use in Redis")
    arguments.add_argument("--script-us", type=float, default=15, help="CPU time of Redis for it")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--json", action="store_true")
    arguments = arguments.parse_args()
    rows = table(arguments.exchange_us, arguments.script_us, arguments.seed)
    print(json.dumps(rows) if arguments.json else markdown(rows))


if __name__ == "__main__":
    main()
