"""A gem server that takes what `gem push` sends and serves the files. trustmint decides every change. Reasons:
docs/plugging-in.md. usage: launch.py PORT DIRECTORY TRUSTMINT_URL API_KEY_FILE   (nginx faces the network: `start`)"""
import io
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from small import as_file, as_text, put, registry, unique_members
from verdict import file_facts, need

NAME = "[A-Za-z0-9](?:[A-Za-z0-9._-]{0,198}[A-Za-z0-9])?"
VERSION = r"[0-9]+(?:\.[0-9A-Za-z]+)*"
FILE = r"[A-Za-z0-9][A-Za-z0-9._-]*\.gem"
# SECURITY: read by RubyGems itself, as `gem install` reads it: a second parser of its YAML would read something else one day.
# `verify` compares the file with the digests that it contains.
READ = """
Process.setrlimit(:AS, 512 << 20)  # a small gem can unpack to any size
package = Gem::Package.new(ARGV[0])
raise "an old format" unless package.instance_of?(Gem::Package)
package.verify
spec = package.spec
print JSON.dump([spec.name, spec.version.to_s, spec.file_name])
"""


def read(gem):
    """Name, version and file name of a gem, from its own specification."""
    with tempfile.NamedTemporaryFile(suffix=".gem") as file:
        file.write(gem)
        file.flush()
        command = ["ruby", "-rrubygems/package", "-rjson", "-e", READ, file.name]
        try:
            done = subprocess.run(command, capture_output=True, timeout=20, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            done = None
    need(done and done.returncode == 0, "RubyGems cannot read this gem")
    return [str(text) for text in json.loads(done.stdout)]


def make(directory, trustmint, _public):
    def known(name):
        """The gem's files, each with its version."""
        path = directory / "names" / name
        return path, dict(json.loads(path.read_text())) if path.exists() else {}

    def push(request):
        gem = request.body
        name, version, file = read(gem)
        need(re.fullmatch(NAME, name) and re.fullmatch(VERSION, version) and re.fullmatch(FILE, file)
             and file.startswith(f"{name}-{version}"), f"{name!a} {version!a} cannot be stored here")
        names, files = known(name)
        # `a-1` 2 and `a` 1, platform `2`, would be one file: whoever was first has it.
        need(not (directory / "gems" / file).exists(), f"{file} is there already", 409)
        trustmint.allow(request.token, request.client_ip, file, package=name, version=version, exists=names.exists(),
                        **file_facts(io.BytesIO(gem)))
        put(directory / "gems" / file, gem)
        put(names, json.dumps({**files, file: version}).encode())
        return as_text(f"Successfully registered gem: {name} ({version})\n")

    def yank(request):
        form = unique_members(urllib.parse.parse_qsl(request.body.decode(), strict_parsing=True))
        name, version, platform = form.get("gem_name", ""), form.get("version", ""), form.get("platform", "ruby")
        file = f"{name}-{version}.gem" if platform == "ruby" else f"{name}-{version}-{platform}.gem"
        # A gem's own files only: `a` 1, platform `2`, is not `a-1` 2.
        need(re.fullmatch(NAME, name) and known(name)[1].get(file) == version, f"there is no {name!a} {version!a}", 404)
        trustmint.allow(request.token, request.client_ip, file, package=name, version=version, exists=True, action="yank")
        put(directory / "yanked" / file, b"")
        return as_text(f"Successfully deleted gem: {name} ({version})\n")

    def download(_request, file):
        need(not (directory / "yanked" / file).exists(), "the gem was yanked", 404)
        return as_file(directory / "gems" / file)

    routes = [
        ("POST", "/api/v1/gems", push),
        ("DELETE", "/api/v1/gems/yank", yank),
        ("GET", f"/gems/(?P<file>{FILE})", download),
    ]
    return routes, lambda fault: as_text(fault.reason + "\n")  # gem shows the body as it is


if __name__ == "__main__":
    registry(make, *sys.argv[1:]).serve_forever()
