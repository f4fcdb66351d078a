"""A cargo registry: the sparse index, uploads, downloads and yanks. trustmint decides every change. Reasons:
docs/plugging-in.md. usage: launch.py PORT DIRECTORY TRUSTMINT_URL API_KEY_FILE   (nginx faces the network: `start`)"""
import io
import json
import pathlib
import re
import sys
import tarfile
import tomllib
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from archive import members, place
from small import as_file, as_json, as_text, put, registry, unique_members
from verdict import file_facts, need

NAME = "[A-Za-z][A-Za-z0-9_-]{0,63}"
VERSION = r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*)){2}(?:-[0-9A-Za-z.-]+)?"  # without `+…`, which cargo does not compare
MAX_UNPACKED = 64 << 20
CRATES_IO = "https://github.com/rust-lang/crates.io-index"  # as cargo names it; a crate's manifest does not
UNLIKE_CARGO = "the crate's `Cargo.toml` is not as `cargo publish` writes it"
KINDS = [("normal", "dependencies"), ("dev", "dev-dependencies"), ("build", "build-dependencies")]
# What `cargo publish` leaves of a dependency.
DEPENDENCY = {"version": str, "package": str, "registry-index": str, "optional": bool, "default-features": bool, "features": list}


def cut(data):
    """A length of four bytes and as many bytes; and the rest."""
    length = int.from_bytes(data[:4], "little")
    need(len(data) >= 4 + length, "the upload is cut short")
    return data[4:4 + length], data[4 + length:]


def check_crate(crate, name, version):
    """The manifest, if the file is that crate: cargo unpacks it to `NAME-VERSION/` and builds what `Cargo.toml` says it is."""
    try:
        gzip = zlib.decompressobj(31)
        plain = gzip.decompress(crate, MAX_UNPACKED + 1)
        need(len(plain) <= MAX_UNPACKED, "the crate is too large when it is unpacked")
        need(gzip.eof and not gzip.unused_data, "the crate is cut short, or goes on after its end")
        manifest, folder = None, f"{name}-{version}"
        for member, data in members(plain, "crate"):
            parts = member.name.split("/")
            need(parts[0] == folder and len(parts) > 1 and not {"", ".", ".."} & set(parts) and "\\" not in member.name,
                 f"the crate has {member.name!a}, which is not below `{folder}/`")
            need(member.isfile(), f"{member.name!a} is not a plain file")
            if place(member.name).rstrip(". ") == place(f"{folder}/Cargo.toml"):
                need(manifest is None and parts[-1] == "Cargo.toml", "the crate has one `Cargo.toml`")
                manifest = tomllib.loads(data.decode())
        package = (manifest or {}).get("package", {})
        names = package.get("name"), package.get("version")
    except (tarfile.TarError, zlib.error, EOFError, OSError, tomllib.TOMLDecodeError, AttributeError) as fault:
        raise ValueError(f"the crate is broken: {fault}") from None
    need(names == (name, version),
         f"the upload says {name} {version}, but the crate's own manifest says {names[0]!a} {names[1]!a}")
    return manifest


def table(value, kind):
    """The table, if all its values are of that kind."""
    need(isinstance(value, dict) and all(isinstance(inner, kind) for inner in value.values()), UNLIKE_CARGO)
    return value


def texts(values):
    need(all(isinstance(value, str) for value in values), UNLIKE_CARGO)
    return values


def dependencies(manifest, own_index):
    """Those of the crate's manifest as the index spells them.

    SECURITY: cargo resolves by the index. Made of the upload's metadata, which no digest covers, it could name other
    crates than the file that was verified.
    """
    entries = []
    for target, section in [(None, manifest), *table(manifest.get("target", {}), dict).items()]:
        need(not section.keys() & {"dev_dependencies", "build_dependencies"}, UNLIKE_CARGO)  # cargo's old spellings
        for kind, key in KINDS:
            for name, wanted in table(section.get(key, {}), dict | str).items():
                wanted = {"version": wanted} if isinstance(wanted, str) else wanted
                need("version" in wanted and all(isinstance(value, DEPENDENCY.get(word, ())) for word, value in wanted.items()),
                     f"{UNLIKE_CARGO}: the dependency {name!a}")
                index = wanted.get("registry-index", CRATES_IO)
                entries.append({
                    "name": name, "req": wanted["version"], "features": texts(wanted.get("features", [])),
                    "optional": wanted.get("optional", False), "default_features": wanted.get("default-features", True),
                    "target": target, "kind": kind, "registry": None if index == own_index else index,
                    **({"package": wanted["package"]} if "package" in wanted else {}),
                })
    return entries


def entry_of(manifest, cksum, own_index):
    """The version's line of the index, from nothing but the verified file."""
    package = manifest["package"]
    features = {name: texts(needs) for name, needs in table(manifest.get("features", {}), list).items()}
    texts([package.get(key, "") for key in ["links", "rust-version"]])
    return {
        "name": package["name"], "vers": package["version"], "deps": dependencies(manifest, own_index), "cksum": cksum,
        "features": {}, "features2": features, "yanked": False, "links": package.get("links"), "v": 2,
        "rust_version": package.get("rust-version"),
    }


def make(directory, trustmint, public):
    def index(name):
        """The crate's entries. `a_b`, `a-b` and `A-b` are one crate."""
        path = directory / "index" / name.lower().replace("_", "-")
        return path, [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def write(path, entries):
        put(path, "".join(json.dumps(entry) + "\n" for entry in entries).encode())

    def publish(request):
        metadata, rest = cut(request.body)
        crate, rest = cut(rest)
        need(not rest, "there is more in the upload than metadata and crate")
        says = json.loads(metadata, object_pairs_hook=unique_members)
        need(isinstance(says, dict), "the metadata is no object")
        name, version = str(says.get("name")), str(says.get("vers"))
        need(re.fullmatch(NAME, name) and re.fullmatch(VERSION, version), f"{name!a} {version!a} cannot be stored here")
        manifest = check_crate(crate, name, version)
        path, entries = index(name)
        need(not entries or entries[0]["name"] == name, f"the crate is spelled `{entries and entries[0]['name']}`")
        need(version not in [entry["vers"] for entry in entries], f"{name} {version} is there already", 409)
        facts = file_facts(io.BytesIO(crate))
        entry = entry_of(manifest, facts["sha256"], f"sparse+{public}/index/")
        trustmint.allow(request.token, request.client_ip, path.name, package=name, version=version, exists=bool(entries), **facts)
        put(directory / "crates" / path.name / f"{version}.crate", crate)
        write(path, [*entries, entry])
        return as_json({"warnings": {"invalid_categories": [], "invalid_badges": [], "other": []}})

    def yank(request, name, version, yanked=True):
        path, entries = index(name)
        (entry,) = need([entry for entry in entries if (entry["name"], entry["vers"]) == (name, version)],
                        f"there is no {name} {version}", 404)
        facts = {"package": name, "version": version, "exists": True, "action": "yank"}
        trustmint.allow(request.token, request.client_ip, f"{path.name} {yanked}", **facts)
        entry["yanked"] = yanked
        write(path, entries)
        return as_json({"ok": True})

    def look_up(_request, name, prefix):
        path, entries = index(name)
        wanted = {1: "1", 2: "2", 3: f"3/{name[0]}"}.get(len(name), f"{name[:2]}/{name[2:4]}")
        need(prefix == wanted and entries and entries[0]["name"].lower() == name, "there is no such crate", 404)
        return as_text(path.read_text())

    def download(_request, name, version):
        return as_file(directory / "crates" / index(name)[0].name / f"{version}.crate")

    one = f"/api/v1/crates/(?P<name>{NAME})/(?P<version>{VERSION})"
    routes = [
        ("PUT", "/api/v1/crates/new", publish),
        ("DELETE", f"{one}/yank", yank),
        ("PUT", f"{one}/unyank", lambda request, **which: yank(request, **which, yanked=False)),
        ("GET", f"{one}/download", download),
        ("GET", "/index/config.json", lambda _: as_json({"dl": f"{public}/api/v1/crates", "api": public})),
        ("GET", f"/index/(?P<prefix>[a-z0-9_/-]+)/(?P<name>{NAME})", look_up),
    ]
    # cargo shows `detail`, and anything else as a dump of headers and body.
    return routes, lambda fault: as_json({"errors": [{"detail": fault.reason}]})


if __name__ == "__main__":
    registry(make, *sys.argv[1:]).serve_forever()
