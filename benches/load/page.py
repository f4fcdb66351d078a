#!/usr/bin/env python3
"""Fills docs/capacity.md: measures, and puts the tables and the plot where the page has them. One command, ten minutes:

    python3 benches/load/page.py

`--from DIRECTORY` measures nothing, and takes load.json and uv.json that an earlier run with `--keep DIRECTORY` has left there. Needs
what `cargo bench --bench load` and tests/stress/uv.py need: wrk, taskset, redis-server, nginx, and target/venv or what
TRUSTMINT_TEST_PYTHON and TRUSTMINT_TEST_UV name. The standard library is enough for this file.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import fleet

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/stress"))

from panels import panel  # noqa: E402
from panels import svg  # noqa: E402

PAGE, PLOT = ROOT / "docs/capacity.md", ROOT / "docs/capacity.svg"
# Publications a year, and how many times the mean the busiest second has: the page says where they are from.
REGISTRIES = [("PyPI", "3.9 million files", 3_900_000), ("npm", "12 million versions", 12_000_000), ("crates.io", "1 million versions", 1_000_000)]
PEAK, YEAR = 20, 365 * 24 * 3600


def last_json(command, **more):
    # A missed budget is a row of the table, not a failure of this.
    done = subprocess.run([str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, text=True, **more)
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise SystemExit(f"{command[0]} ended with {done.returncode} and no figures") from None


def measure():
    load = last_json(["cargo", "bench", "--locked", "--bench", "load", "--", "--json", "--sweep"])
    python = os.environ.get("TRUSTMINT_TEST_PYTHON", ROOT / "target/venv/bin/python")
    binary = {"TRUSTMINT_STRESS_BINARY": str(ROOT / "target/release/trustmint")}
    return {"load": load, "uv": last_json([python, "tests/stress/uv.py", "--json"], env=os.environ | binary)}


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)])


def number(value, digits=0):
    return "" if value is None else f"{value:,.{digits}f}"


def loads(load):
    rows = [[row["what"], number(row["cpu_us"], 1), *(number(row[name]) for name in ["p50_us", "p99_us", "p999_us", "per_second"]), number(row["resident_mib"], 1)]
            for row in load["loads"]]
    return table(["load", "CPU µs", "p50 µs", "p99 µs", "p99.9 µs", "a second", "MiB"], rows)


def budgets(load):
    rows = [[row["what"], f"{row['measured']:,.3f} {row['unit']}".strip(), f"{row['budget']:,g} {row['unit']}".strip(), "met" if row["met"] else "**missed**"]
            for row in load["rows"]]
    return table(["what", "measured", "budget", ""], rows)


def figures(load):
    return table(["figure", ""], [[name, number(value, 1 if value < 100 else 0)] for name, value in load["figures"].items()])


def by_name(load, what):
    return next(row for row in load["loads"] if row["what"] == what)


def registries(load):
    cpu_us = by_name(load, "exchange, first use in Redis")["cpu_us"] + by_name(load, "POST /v1/verify")["cpu_us"]
    bytes_held = load["figures"]["bytes that Redis holds a first use, by MEMORY USAGE"]
    line = load["figures"]["bytes of the audit log an exchange"]
    rows = []
    for name, said, a_year in REGISTRIES:
        mean = a_year / YEAR
        # A first use is kept until the ID token has ended and a minute and a half more; ID tokens live for up to an hour.
        held = mean * PEAK * 3690 * bytes_held
        rows.append([name, said, f"{mean:.2f}", f"{mean * PEAK:.1f}", f"{mean * PEAK * cpu_us / 1e6:.3%}", f"{a_year * cpu_us / 1e6:,.0f} s", f"{held / 2**20:,.1f} MiB", f"{a_year * line / 2**30:,.1f} GiB"])
    return table(["registry", "a year", "a second", f"{PEAK} times that", "of one core then", "CPU a year", "Redis, an hour at the peak", "audit log a year"], rows)


def uv(figures):
    rows = [[f"`{path}`", f"{milliseconds:.2f} ms"] for path, milliseconds in figures["requests"].items()]
    rows += [["trustmint in all", f"{figures['trustmint_ms']:.1f} ms, {figures['share']:.1%}"], [f"`uv publish`, the middle one of {figures['rounds']}", f"{figures['whole_ms']:.0f} ms"],
             ["the first one, keys of the identity provider to fetch", f"{figures['first']['trustmint_ms']:.1f} ms of {figures['first']['whole_ms']:.0f} ms"]]
    return table(["what", "takes"], rows)


def plot(load):
    """Four panels: microseconds of CPU an exchange against one thing each."""
    sweeps, out = load["sweeps"], []
    floor = by_name(load, "raw RS256 verification")["cpu_us"] + by_name(load, "empty actix JSON POST")["cpu_us"]
    width, height, gap = 370, 130, 60
    for index, (name, points) in enumerate(sorted(sweeps.items())):
        left, top = 60 + index % 2 * (width + 60), 24 + index // 2 * (height + gap)
        scale = math.log10 if points[-1][0] < 1e7 and points[0][0] > 0 and "bytes" not in name else float
        first, last = scale(points[0][0]), scale(points[-1][0])
        across = lambda value: left + (scale(value) - first) / (last - first) * (width - 20)
        lines = [("exchange", "#2166ac", points), ("raw RS256 + empty POST", "#999999", [[points[0][0], floor], [points[-1][0], floor]])]
        out += panel(left, left + width, top, height, across, name, lines)
        for value, _ in points:
            out.append(f'<text x="{across(value):.0f}" y="{top + height + 16}" text-anchor="middle">{short(value)}</text>')
    out.append(f'<text x="60" y="{24 + 2 * (height + gap) - 8}">µs of CPU an exchange, user and system; the better of two rounds each</text>')
    return svg(60 * 2 + 2 * width + 40, 2 * (height + gap) + 30, out)


def short(value):
    for size, sign in [(1_000_000, "M"), (1_000, "k")]:
        if value >= size:
            return f"{value / size:.1f}".removesuffix(".0") + sign
    return f"{value:.0f}"


def fill(text, name, table):
    pattern = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    assert len(pattern.findall(text)) == 1, f"{PAGE.name} has no place for {name}"
    return pattern.sub(lambda found: f"{found[1]}\n{table}\n\n{found[2]}", text)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--from", dest="source", type=Path, help="a directory with load.json and uv.json")
    arguments.add_argument("--keep", type=Path, help="a directory to leave them in")
    arguments = arguments.parse_args()
    if arguments.source:
        seen = {name: json.loads((arguments.source / f"{name}.json").read_text()) for name in ["load", "uv"]}
    else:
        seen = measure()
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        for name, value in seen.items():
            (arguments.keep / f"{name}.json").write_text(json.dumps(value))
    load = seen["load"]
    rows = fleet.table(by_name(load, "exchange, first use in Redis")["cpu_us"], load["figures"]["CPU of Redis an exchange, µs"])
    text = PAGE.read_text()
    for name, content in [("loads", loads(load)), ("budgets", budgets(load)), ("figures", figures(load)), ("registries", registries(load)), ("uv", uv(seen["uv"])), ("fleet", fleet.markdown(rows))]:
        text = fill(text, name, content)
    PAGE.write_text(text)
    PLOT.write_text(plot(load))


if __name__ == "__main__":
    main()
