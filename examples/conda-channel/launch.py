"""A conda channel that takes what rattler-build and pixi send to prefix.dev, and serves the files. trustmint decides every
change. Reasons: docs/plugging-in.md. usage: launch.py PORT DIRECTORY TRUSTMINT_URL API_KEY_FILE   (nginx faces the network)"""
import bz2
import io
import json
import pathlib
import re
import sys
import tarfile
import zipfile

import zstandard

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from archive import members, place
from small import as_file, as_text, put, registry, unique_members
from verdict import file_facts, need

CHANNEL = "acme"
NAME = "[a-z0-9_](?:[a-z0-9._-]{0,62}[a-z0-9_])?"
WORD = "[A-Za-z0-9._+!]{1,64}"  # a version or a build: without `-`, which parts them in a file's name
SUBDIR = "noarch|[a-z]+-[a-z0-9_]+"
FILE = rf"{NAME}-{WORD}-{WORD}(?:\.tar\.bz2|\.conda)"
MAX_UNPACKED = 64 << 20


def is_in_a_row(archive, content):
    """Whether the entries follow one another up to the directory that lists them.

    SECURITY: rattler and pixi unpack what they meet on the way, listed or not.
    """
    at = 0
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        if entry.header_offset != at or entry.flag_bits & 0x08:  # its size would stand behind it
            return False
        name, extra = (int.from_bytes(content[at + place:at + place + 2], "little") for place in (26, 28))
        at += 30 + name + extra + entry.compress_size
    return at == archive.start_dir


def unpack(content, file):
    """The tar archives in a package, which are unpacked to one place."""
    if not file.endswith(".conda"):
        packed = bz2.BZ2Decompressor()
        plain = packed.decompress(content, MAX_UNPACKED + 1)
        need(len(plain) > MAX_UNPACKED or packed.eof and not packed.unused_data, "the package is cut short, or goes on after its end")
        yield plain
        return
    with zipfile.ZipFile(io.BytesIO(content)) as outer:
        need(is_in_a_row(outer, content), "the package's archives do not follow one another")
        inner = {kind: [member for member in outer.infolist() if member.orig_filename.startswith(kind)] for kind in ["info-", "pkg-"]}
        for kind, archives in inner.items():
            need([archive.orig_filename for archive in archives] in [[f"{kind}{file.removesuffix('.conda')}.tar.zst"], []]
                 and (archives or kind == "pkg-"), "the package has one `info-` archive and one `pkg-` archive, named as itself")
        for archive in inner["info-"] + inner["pkg-"]:
            yield zstandard.ZstdDecompressor().stream_reader(outer.open(archive), read_across_frames=True).read(MAX_UNPACKED + 1)


def index_of(content, file):
    """What the package says of itself: `info/index.json`, from which a channel makes its index."""
    found, links = [], set()
    try:
        for plain in unpack(content, file):
            need(len(plain) <= MAX_UNPACKED, "the package is too large when it is unpacked")
            for member, data in members(plain, "package"):
                # Others may take `./info/index.json`, and of two the first or the last.
                if place(member.name) == "/info/index.json":
                    need(member.name == "info/index.json" and member.isfile(), "`info/index.json` is a plain file")
                    found.append(data)
                need(place(member.name) == "/" + member.name.replace("\\", "/").casefold(), f"{member.name!a} is no plain name")
                # SECURITY: through a link, anything would be written to `info` by another name.
                way = pathlib.PurePosixPath(place(member.name))
                need(not links & {way, *way.parents}, f"{member.name!a} is written through a link")
                if not (member.isfile() or member.isdir()):
                    links.add(way)
    except (tarfile.TarError, zipfile.BadZipFile, zstandard.ZstdError, EOFError, OSError, NotImplementedError) as fault:
        raise ValueError(f"the package is broken: {fault}") from None
    need(len(found) == 1, "the package has one `info/index.json`")
    index = json.loads(found[0], object_pairs_hook=unique_members)
    return need(isinstance(index, dict), "`info/index.json` is no object") and index


def make(directory, trustmint, _public):
    def upload(request):
        file, content = request.file_of_form("file")
        need(re.fullmatch(FILE, file), f"{file!a} is not NAME-VERSION-BUILD.conda or .tar.bz2")
        index = index_of(content, file)
        name, version, build, subdir = (str(index.get(key)) for key in ["name", "version", "build", "subdir"])
        need(re.fullmatch(NAME, name) and all(re.fullmatch(WORD, word) for word in [version, build])
             and re.fullmatch(SUBDIR, subdir), "the package's `info/index.json` has no name, version, build or subdir that can be stored")
        need(re.fullmatch(re.escape(f"{name}-{version}-{build}") + r"\.(conda|tar\.bz2)", file),
             f"the package says that it is {name} {version} {build}, but the file would be stored as {file!a}")
        path, names = directory / subdir / file, directory / "names" / name
        need(not path.exists(), f"{subdir}/{file} is there already", 409)
        trustmint.allow(request.token, request.client_ip, f"{subdir}/{file}", package=name, version=version,
                        exists=names.exists(), **file_facts(io.BytesIO(content)))
        put(path, content)
        put(names, b"")
        return as_text("stored\n")

    def download(_request, subdir, file):
        return as_file(directory / subdir / file)

    routes = [
        ("POST", f"/api/v1/upload/{CHANNEL}", upload),
        ("GET", f"/{CHANNEL}/(?P<subdir>{SUBDIR})/(?P<file>{FILE})", download),
    ]
    return routes, lambda fault: as_text(fault.reason + "\n")  # rattler shows the body as it is


if __name__ == "__main__":
    registry(make, *sys.argv[1:]).serve_forever()
