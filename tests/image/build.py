#!/usr/bin/env python3
"""Builds the image of the Dockerfile without an engine, and runs it as one would.

The build stage's lines run in target/image/build with the target/ of everybody; the last stage becomes the folder target/image/root.
The service then runs there, in a network, a mount and a process namespace of its own: by the Dockerfile's user, without
capabilities, all files read-only. It takes root, and the packages of tests/requirements.txt.

With `--only-build` it ends when the build stage's lines have run, which are then not run again.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")).absolute()
IMAGE = REPOSITORY / "target/image"
BINARY = "release/trustmint"
MOST_BYTES = 20 << 20


def note(text):
    print(f"   {text}", flush=True)


class Stage:
    """What the lines of one `FROM` say."""

    def __init__(self, base, name):
        self.base, self.name, self.steps, self.labels, self.exposed = base, name, [], {}, []
        self.user = self.workdir = self.health = self.entrypoint = self.command = None


def read_dockerfile(arguments):
    """The stages of the Dockerfile, with values for its `ARG`s."""
    text = re.sub(r"^\s*#.*\n", "", (REPOSITORY / "Dockerfile").read_text(), flags=re.M)
    stages = []
    for line in re.sub(r"\\\n", "", text).splitlines():
        if not line.strip():
            continue
        word, rest = line.split(None, 1)
        if word == "FROM":
            base, *name = re.fullmatch(r"(\S+)(?: AS (\S+))?", rest).groups()
            stages.append(Stage(base, name[0]))
            continue
        stage = stages[-1]
        match word:
            case "RUN" | "COPY":
                stage.steps.append((word, rest))
            case "WORKDIR":
                stage.workdir = rest
                stage.steps.append((word, rest))
            case "ARG":
                assert rest in arguments, f"a value for {rest}"
            case "LABEL":
                for pair in shlex.split(rest):
                    name, value = pair.split("=", 1)
                    stage.labels[name] = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], value)
            case "USER":
                stage.user = rest
            case "EXPOSE":
                stage.exposed = [int(port) for port in rest.split()]
            case "HEALTHCHECK":
                stage.health = json.loads(rest.split("CMD", 1)[1])
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(rest)
            case "CMD":
                stage.command = json.loads(rest)
            case _:
                raise SystemExit(f"tests/image does not know {word}")
    return stages


def ignored(path):
    """Whether the context lacks a path: .dockerignore is `*`, and lines with `!`."""
    lines = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*" and all(line.startswith("!") for line in lines[1:]), "the form of .dockerignore"
    return f"!{Path(path).parts[0]}" not in lines


def copy(sources, target, into_folder):
    """`COPY`: a folder's contents, or files. Ages are kept, as engines do."""
    for source in sources:
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True) if into_folder else target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def build(stage, arguments):
    """Runs the lines of the build stage, in a folder that stands for its working directory.

    As with an engine's cache, what has not changed since the last time is not run again: of the lines before the first one that has,
    only what they copy is copied anew. Cargo works in the target/ of everybody, so that the tests' release builds and this one share
    what they can."""
    folder, known = IMAGE / "build", IMAGE / "layers"
    tools = {"CARGO_INSTALL_ROOT": str(TARGET / "tools"), "PATH": f"{TARGET}/tools/bin:{os.environ['PATH']}"}
    environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"} | tools | arguments
    layers = digests(stage)
    before = known.read_text().split() if known.exists() else []
    same = next((at for at, (old, new) in enumerate(zip(before, layers)) if old != new), min(len(before), len(layers)))
    if same == len(layers):
        return folder
    for path in folder.glob("*"):
        if path.name != "target":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for at, (word, rest) in enumerate(stage.steps):
        if word == "COPY":
            *sources, target = rest.split()
            copy([REPOSITORY / source for source in sources], folder / target, target.endswith("/"))
        elif word == "RUN" and at >= same:
            start = time.monotonic()
            # A tool is compiled in a folder that is removed afterwards.
            own = {} if rest.startswith("cargo install ") else {"CARGO_TARGET_DIR": str(TARGET)}
            subprocess.run(["sh", "-c", rest], cwd=folder, env=environment | own, check=True)
            note(f"{time.monotonic() - start:.0f} s: {' '.join(rest.split())}")
            # Others build a program of that name, too.
            if (TARGET / BINARY).exists():
                copy([TARGET / BINARY], folder / "target" / BINARY, False)
            known.write_text("\n".join(layers[: at + 1]))
    known.write_text("\n".join(layers))
    return folder


def digests(stage):
    """For each line the digest of what its layer depends on: the lines so far, and what they copy."""
    digest, digests = hashlib.sha256(stage.base.encode()), []
    for word, rest in stage.steps:
        digest.update(f"{word} {rest}\n".encode())
        for source in rest.split()[:-1] if word == "COPY" else []:
            assert not ignored(source), f".dockerignore keeps `{source}` out"
            path = REPOSITORY / source
            for file in sorted(file for file in [path, *path.rglob("*")] if file.is_file()):
                digest.update(f"{file.relative_to(REPOSITORY)} {file.stat().st_mode:o}\n".encode() + file.read_bytes())
        digests.append(digest.hexdigest())
    return digests


def assemble(stage, build_stage, built):
    """The last stage as a folder. Of the build stage, what is in its working directory was built; the rest is this machine's."""
    root = IMAGE / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for word, rest in stage.steps:
        assert word != "RUN", "nothing can run in an empty image"
        if word == "WORKDIR":
            (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            continue
        *sources, target = rest.split()
        if sources[0] == f"--from={build_stage.name}":
            paths = [Path(source) for source in sources[1:]]
            own = build_stage.workdir
            paths = [built / path.relative_to(own) if path.is_relative_to(own) else path.resolve() for path in paths]
        else:
            assert not any(ignored(source) for source in sources), f".dockerignore keeps some of `{sources}` out"
            paths = [REPOSITORY / source for source in sources]
        copy(paths, root / target.lstrip("/"), target.endswith("/"))
    return root


def check_binary(path):
    headers = subprocess.run(["readelf", "--wide", "--program-headers", "--dynamic", path], capture_output=True, text=True, check=True).stdout
    assert "LOAD" in headers and "INTERP" not in headers and "NEEDED" not in headers, headers


def check_inventory(path, build_folder):
    """Every package of the binary is in the list: those that `cargo metadata` finds over normal dependencies."""
    listed = json.loads(path.read_text())
    assert listed["bomFormat"] == "CycloneDX", listed["bomFormat"]
    listed = {(it["name"], it["version"]) for it in listed["components"]}
    host = re.search(r"^host: (.*)$", subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout, re.M)[1]
    command = ["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={host}"]
    facts = json.loads(subprocess.run(command, cwd=build_folder, capture_output=True, check=True).stdout)
    packages = {it["id"]: (it["name"], it["version"]) for it in facts["packages"]}
    nodes = {it["id"]: it["deps"] for it in facts["resolve"]["nodes"]}
    start = facts["resolve"]["root"]
    seen, waiting = {start}, [start]
    while waiting:
        for dependency in nodes[waiting.pop()]:
            if dependency["pkg"] not in seen and any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                seen.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    expected = {packages[it] for it in seen - {start}}
    assert len(expected) > 100 and not expected - listed, f"not listed: {sorted(expected - listed)}"
    note(f"the list of packages has all {len(expected)}, and {len(listed - expected)} more")


def check_description(stage):
    """What the image says of itself is what Cargo.toml and the chart say."""
    package = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["package"]
    label = "org.opencontainers.image."
    said = {name.removeprefix(label): value for name, value in stage.labels.items() if name.startswith(label)}
    assert said == {
        "title": package["name"], "description": package["description"], "licenses": package["license"], "created": "C", "revision": "R",
        "source": "S", "version": "V",
    }, said
    chart = REPOSITORY / "charts/trustmint"
    security = yaml.safe_load((chart / "values.yaml").read_text())["security"]
    assert stage.user == f"{security['runAsUser']}:{security['runAsGroup']}", "the user of the chart"
    deployment = (chart / "templates/deployment.yaml").read_text()
    assert stage.exposed == [int(port) for port in re.findall(r"containerPort: (\d+)", deployment)], "the ports of the chart"
    arguments = re.findall(r"^ {12}- (\S+)$", deployment, re.M)[:3]
    assert stage.command == arguments, f"the chart starts {arguments}"
    assert stage.health[1:2] == ["health"] and stage.health[2:] == stage.command[1:], "health is asked by the settings that serve"


def main():
    subprocess.run([Path(sys.executable).parent / "hadolint", "Dockerfile"], cwd=REPOSITORY, check=True)
    values = {"CREATED": "C", "REVISION": "R", "SOURCE": "S", "VERSION": "V", "SOURCE_DATE_EPOCH": "1700000000"}
    stages = read_dockerfile(values)
    assert [stage.name for stage in stages] == ["build", None] and stages[1].base == "scratch", "a build, and what is made of it"
    check_description(stages[1])
    toolchain = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["package"]["rust-version"]
    version = re.match(r"rust:(\d+)\.(\d+)\.\d+-", stages[0].base).groups()
    assert [int(part) for part in version] >= [int(part) for part in toolchain.split(".")], "a Rust that can build it"
    built = build(stages[0], {"SOURCE_DATE_EPOCH": values["SOURCE_DATE_EPOCH"]})
    if sys.argv[1:] == ["--only-build"]:
        return
    root = assemble(stages[1], stages[0], built)

    files = {f"/{path.relative_to(root)}": path.stat().st_size for path in root.rglob("*") if not path.is_dir()}
    for path, size in sorted(files.items()):
        note(f"{size / (1 << 20):6.2f} MiB  {path}")
    note(f"{sum(files.values()) / (1 << 20):6.2f} MiB  the image, of at most {MOST_BYTES >> 20}")
    assert sum(files.values()) <= MOST_BYTES, "the image is too large"
    programs = [path for path in files if os.access(root / path[1:], os.X_OK) and (root / path[1:]).stat().st_mode & 0o111]
    assert programs == stages[1].entrypoint, f"one program, and no shell: {programs}"
    assert (root / "etc/ssl/certs/ca-certificates.crt").read_text().count("BEGIN CERTIFICATE") > 50, "the public authorities"
    check_binary(root / programs[0][1:])
    check_inventory(root / "usr/share/sbom/trustmint.cdx.json", built)

    facts = {name: getattr(stages[1], name) for name in ["user", "workdir", "health", "entrypoint", "command"]}
    # What is left running ends with the namespace of processes.
    own = ["unshare", "--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child"]
    command = [*own, sys.executable, Path(__file__).with_name("run.py"), root, json.dumps(facts)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
