"""An extension registry that takes what `ovsx publish` sends and serves the files. trustmint decides every change. Reasons:
docs/plugging-in.md. usage: launch.py PORT DIRECTORY TRUSTMINT_URL API_KEY_FILE   (nginx faces the network: `start`)"""
import io
import json
import pathlib
import re
import sys
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from archive import place
from small import MAX_BODY, as_file, as_json, put, registry, unique_members
from verdict import file_facts, need

NAME = "[A-Za-z0-9_][A-Za-z0-9_-]*"
NUMBER = "(?:0|[1-9][0-9]*)"
VERSION = rf"{NUMBER}\.{NUMBER}\.{NUMBER}(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
MAX_MANIFEST = 1 << 20


def read(vsix):
    """Namespace, name and version of an extension, from its one `package.json`."""
    try:
        with zipfile.ZipFile(io.BytesIO(vsix)) as package:
            # ovsx and editors find it in capitals too, and some by other slashes.
            manifests = [member for member in package.infolist() if place(member.orig_filename) == "/extension/package.json"]
            need(len(manifests) == 1 and manifests[0].orig_filename.lower() == "extension/package.json" and manifests[0].file_size <= MAX_MANIFEST, "an extension has one `extension/package.json`")
            with package.open(manifests[0]) as file:
                manifest = json.loads(file.read(MAX_MANIFEST + 1), object_pairs_hook=unique_members)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as fault:
        raise ValueError(f"the extension is broken: {fault}") from None
    need(isinstance(manifest, dict), "`package.json` is an object")
    names = [manifest.get(member) for member in ["publisher", "name", "version"]]
    return need(all(isinstance(name, str) for name in names), "`publisher`, `name` and `version` are texts") and names


def make(directory, trustmint, public):
    def publish(request):
        vsix = request.body
        namespace, name, version = read(vsix)
        need(re.fullmatch(NAME, namespace) and re.fullmatch(NAME, name) and re.fullmatch(VERSION, version) and len(version) <= 100,
             f"{namespace!a} {name!a} {version!a} cannot be stored here")
        # Names are compared without regard to case.
        folder = directory / f"{namespace}.{name}".lower()
        path = folder / f"{version}.vsix"
        need(not path.exists(), f"{namespace}.{name} {version} is already published.", 409)  # as ovsx knows these words
        trustmint.allow(request.token, request.client_ip, str(path.relative_to(directory)), package=f"{namespace}.{name}",
                        version=version, exists=folder.exists(), **file_facts(io.BytesIO(vsix)))
        put(path, vsix)
        files = {"download": f"{public}/api/{namespace}/{name}/{version}/file"}
        return as_json({"namespace": namespace, "name": name, "version": version, "targetPlatform": "universal", "files": files})

    def download(_request, namespace, name, version):
        return as_file(directory / f"{namespace}.{name}".lower() / f"{version}.vsix")

    routes = [
        # From 1.3.0 on, ovsx sends the token in a header and no more in the query.
        ("GET", "/api/version", lambda _request: as_json({"version": "1.3.0"})),
        ("GET", r"/api/-/size-limit\?.*", lambda _request: as_json({"maxSize": MAX_BODY})),
        ("POST", "/api/-/publish", publish),
        ("GET", f"/api/(?P<namespace>{NAME})/(?P<name>{NAME})/(?P<version>{VERSION})/file", download),
    ]
    return routes, lambda fault: as_json({"error": fault.reason})  # ovsx shows `error`


if __name__ == "__main__":
    registry(make, *sys.argv[1:]).serve_forever()
