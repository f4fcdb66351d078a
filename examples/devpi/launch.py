"""devpi-server, unmodified, on loopback, with an index to which nothing but trustmint's upload tokens can upload. Reasons:
docs/plugging-in.md. usage: launch.py PORT DIRECTORY TRUSTMINT_URL API_KEY_FILE   (nginx faces the network: `start`)"""
import ipaddress
import pathlib
import re
import secrets
import sys

from devpi_server.config import get_pluginmanager, hookimpl, parseoptions
from devpi_server.init import init
from devpi_server.main import xom_from_config
from devpi_server.normalized import normalize_name
from packaging.version import Version
from pyramid.httpexceptions import HTTPException

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from verdict import Refused, Trustmint, file_facts, need

USER, INDEX, GROUP = "acme", "prod", "trustmint"
# SECURITY: no `-` in name or version (PEP 427, 625), so that pip, devpi and this file cut a file name alike.
STORED = re.compile(r"(?=.{1,200}\Z)(?=[a-z0-9]+(_[a-z0-9]+)*-|.*\.whl\Z)"  # one spelling, so a version has one source archive
                    r"(?P<name>[A-Za-z0-9]+([._]+[A-Za-z0-9]+)*)-(?P<version>[0-9][A-Za-z0-9.!+_]*)"
                    r"(\.tar\.gz|(-[0-9][A-Za-z0-9._]*)?(-[A-Za-z0-9._]+){3}\.whl)")


class Identity:
    """Who may upload this one file: devpi's access list knows the group, and no user can be in it."""

    username, groups = "__token__", [GROUP]


class Plugin:
    def __init__(self, trustmint):
        self.trustmint = trustmint

    @hookimpl(tryfirst=True)
    def devpiserver_get_identity(self, request, credentials):
        """Whose request it is. devpi calls this once for each request, in the transaction in which it then stores, and
        writing transactions follow one another: nothing comes between trustmint's answer and the store."""
        if credentials is None or credentials[0] != "__token__":
            return None
        try:
            return self.upload(request, credentials[1])
        except (ValueError, KeyError) as fault:
            refused = Refused(f"the request cannot be read: {fault}")
        except Refused as fault:
            refused = fault
        error = HTTPException(headers=list(refused.headers.items()), content_type="text/plain", charset="utf-8")
        # The status line says why too: twine shows nothing else.
        error.status, error.text = f"{refused.status} {refused.phrase}", refused.reason + "\n"
        raise error

    def upload(self, request, token):
        route, place = request.matched_route, request.matchdict
        # SECURITY: the one view that stores a file and nothing else; `push`, removal and log-in get no identity.
        need(route and (request.method, route.name) == ("POST", "/{user}/{index}/") and (place["user"], place["index"]) == (USER, INDEX),
             "upload tokens are for uploads to this index", 403)
        form, stage = request.POST, request.context.stage
        for field in [":action", "name", "version", "content"]:  # SECURITY: of several, devpi takes the last
            need(len(form.getall(field)) == 1, f"the form has the field `{field}` once")
        need(form[":action"] == "file_upload", "`:action` is not supported")
        content = form["content"]
        need([part for part in form.values() if hasattr(part, "file")] == [content], "send one file, as `content`")
        name, version, stored = form["name"], form["version"], content.filename
        parts = STORED.fullmatch(stored)
        need(parts, f"{stored!a} is neither name-VERSION.tar.gz nor a wheel's name (ASCII, with `_` for `-`: foo_bar-1.0.tar.gz)")
        need(name.isascii() and (normalize_name(name), version) == (normalize_name(parts["name"]), parts["version"]),
             f"the form says {name!a} {version!a}, but the file would be stored as {stored!a}")
        need(str(Version(version)) == version, f"write {version!a} as `{Version(version)}`")  # rules compare text
        package = str(normalize_name(name))
        known = stage.get_versiondata_perstage(package, version)
        there = known and stage.get_linkstore_perstage(package, version).get_links(basename=stored)
        need(not there, f"{stored!a} already exists", 409)  # before a single-use token is spent
        client = str(ipaddress.ip_address(request.remote_addr))  # as nginx says
        self.trustmint.allow(token, client, stored, package=package, version=version,
                             exists=bool(stage.has_project_perstage(package)), **file_facts(content.file))
        return Identity()


def serve(port, directory, trustmint, key_file):
    plugins, directory = get_pluginmanager(), pathlib.Path(directory)
    plugins.register(Plugin(Trustmint(trustmint, key_file)))
    place = ["--serverdir", directory]
    if not (directory / ".nodeinfo").exists():
        # Nobody knows root's password: the index is all that there is. One word, since one in 64 begins with `-`.
        init(plugins, ["devpi-init", *place, "--no-root-pypi", f"--root-passwd={secrets.token_urlsafe(32)}"])
    # devpi stretches a secret of 32 random bytes for 15 s, as if it were a password: not here.
    cost = ["--argon2-memory-cost", 8, "--argon2-parallelism", 1, "--argon2-time-cost", 1]
    options = ["--host", "127.0.0.1", "--port", port, "--restrict-modify", "root",
               "--trusted-proxy", "127.0.0.1", "--trusted-proxy-headers", "x-forwarded-for"]
    devpi = xom_from_config(parseoptions(plugins, [str(word) for word in ["devpi-server", *place, *options, *cost]]))
    with devpi.keyfs.write_transaction():
        if devpi.model.getstage(USER, INDEX) is None:
            user = devpi.model.get_user(USER) or devpi.model.create_user(USER, password=secrets.token_urlsafe(32))
            # A file that is there stays as it is.
            user.create_stage(INDEX, volatile=False, bases=(), acl_upload=[f":{GROUP}"], acl_toxresult_upload=[])
    return devpi.main()


if __name__ == "__main__":
    sys.exit(serve(*sys.argv[1:]))
