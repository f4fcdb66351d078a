"""A NuGet feed that takes what `dotnet nuget push` sends and serves the files. trustmint decides every change. Reasons:
docs/plugging-in.md. usage: launch.py PORT DIRECTORY TRUSTMINT_URL API_KEY_FILE   (nginx faces the network: `start`)"""
import io
import pathlib
import re
import sys
import urllib.parse
import zipfile
from xml.parsers import expat

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from archive import place
from small import as_file, as_text, put, registry
from verdict import file_facts, need

ID = r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*"
# As NuGet writes it: three numbers or four, none with zeros before it; without `+…`, which NuGet does not compare.
NUMBER = "(?:0|[1-9][0-9]*)"
VERSION = rf"{NUMBER}\.{NUMBER}\.{NUMBER}(?:\.[1-9][0-9]*)?(?:-[0-9A-Za-z.-]+)?"
MAX_NUSPEC = 1 << 20


def read(content):
    """Id and version of a package, from its one `.nuspec`."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as package:
            # SECURITY: some readers unquote names, and strip what stands before them.
            nuspecs = [member for member in package.infolist() for name in {member.orig_filename, urllib.parse.unquote(member.orig_filename)}
                       if re.fullmatch(r"/[^/]*\.nuspec", place(name), re.DOTALL)]
            need(len(nuspecs) == 1 and nuspecs[0].file_size <= MAX_NUSPEC, "the package has one `.nuspec`")
            need(re.fullmatch(r"[^%/\\]+", nuspecs[0].orig_filename), "the name of the `.nuspec` is written plainly")
            with package.open(nuspecs[0]) as file:
                text = file.read(MAX_NUSPEC + 1)
        return metadata(text)
    except (zipfile.BadZipFile, expat.ExpatError, EOFError, OSError, NotImplementedError, RuntimeError) as fault:
        raise ValueError(f"the package is broken: {fault}") from None


def metadata(nuspec):
    """`package/metadata/id` and `…/version`, each once, whatever the namespace."""
    path, found = [], {"id": [], "version": []}

    def start(name, _attributes):
        path.append(name.rpartition(" ")[2])
        if path[:-1] == ["package", "metadata"] and path[-1] in found:
            found[path[-1]].append("")

    def text(data):
        if path[:2] == ["package", "metadata"] and path[2:3] and path[2] in found:
            need(len(path) == 3, f"`{path[2]}` is plain text")
            found[path[2]][-1] += data

    def no_types(*_):
        need(False, "the `.nuspec` has a document type")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = start, text, no_types
    parser.EndElementHandler = lambda _: path.pop()
    parser.Parse(nuspec, True)
    need(all(len(values) == 1 for values in found.values()), "the `.nuspec` has one `id` and one `version`")
    return found["id"][0], found["version"][0]


def make(directory, trustmint, _public):
    def push(request):
        _, content = request.file_of_form("package")
        name, version = read(content)
        need(re.fullmatch(ID, name) and len(name) <= 100 and re.fullmatch(VERSION, version), f"{name!a} {version!a} cannot be stored here")
        # NuGet compares both without regard to case.
        folder = directory / name.lower()
        path = folder / f"{version.lower()}.nupkg"
        need(not path.exists(), f"{name} {version} is there already", 409)
        trustmint.allow(request.token, request.client_ip, str(path.relative_to(directory)), package=name, version=version,
                        exists=folder.exists(), **file_facts(io.BytesIO(content)))
        put(path, content)
        return as_text("")

    def download(_request, name, version, file):
        need(name == name.lower() and version == version.lower() and file == f"{name}.{version}", "there is no such file", 404)
        return as_file(directory / name / f"{version}.nupkg")

    routes = [
        ("PUT", "/api/v2/package/?", push),
        ("GET", rf"/v3/flat/(?P<name>{ID})/(?P<version>{VERSION})/(?P<file>[a-z0-9._-]+)\.nupkg", download),
    ]
    return routes, lambda fault: as_text(fault.reason + "\n")  # NuGet shows the status line


if __name__ == "__main__":
    registry(make, *sys.argv[1:], header="X-NuGet-ApiKey").serve_forever()
