"""Verifies trustmint's upload tokens offline, with pymacaroons. The numbers are those of docs/offline.md."""
import base64, ipaddress, json, re, urllib.parse
from datetime import datetime
from pymacaroons import Macaroon, Verifier

ID = r"tm1\.([a-z0-9-]{1,32})\.([0-9]+)\.([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.([\w-]+)"
TEXT = r"([!-$&-+\--~]|%([01][0-9A-F]|2[05C]|7F|[89A-F][0-9A-F]))+"  # each byte in its one spelling
FORMS = {  # 7: what is not here refuses. `uses` is not: nobody can count offline. The names in `allow` are Python's
    "registry": TEXT, "version": TEXT, "sha256": "[0-9a-f]{64}", "max-size": "0|[1-9][0-9]{0,19}",
    "time-before": "(?!9999-12-3)[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", "ip": "[0-9a-f.:]+/[0-9]+",
    "allow": r"[a-z]([a-z-]{0,30}[a-z])?:(?=.{1,214}\Z)[a-z0-9]+(-[a-z0-9]+)*(-\*)?"}

# The one spelling of a package's name: the registry's own business. This is Python's (PEP 503).
def canonical(name):
    need(re.fullmatch(r"(?=.{1,214}\Z)[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name), "this is no package name")
    return re.sub(r"[-_.]+", "-", name).lower()

def need(holds, reason):
    if not holds:
        raise ValueError(reason)

# An argument's place in the order of its caveat's list, and whether the facts meet it.
def read(name, arg, facts):
    if name in ("registry", "version"):
        return (text := urllib.parse.unquote(arg, errors="strict")), facts[name] == text
    if name == "time-before":
        return 0, facts["now"] < datetime.strptime(arg, "%Y-%m-%dT%H:%M:%S%z").timestamp() * 1000
    if name == "max-size":
        return 0, facts["size"] is not None and facts["size"] <= int(arg) < 2**64
    if name == "allow":
        action, pattern = arg.split(":")
        prefix, package = pattern.removesuffix("*"), facts["package"]
        reached = package == pattern or prefix != pattern and package.startswith(prefix) and package != prefix
        return (action, prefix != pattern, prefix), reached and facts["action"] in (action, "read")
    if name == "ip":
        net, client = ipaddress.ip_network(arg), ipaddress.ip_address(facts["client_ip"])
        need(str(net) == arg and not getattr(net.network_address, "ipv4_mapped", None), "a network is misspelt")
        return (net.version, net), (getattr(client, "ipv4_mapped", None) or client) in net
    return arg, facts[name] == arg

# 7, 8: a caveat is known, in its one spelling, and met by what the registry knows of the request.
def check(caveat, facts):
    name, _, args = caveat.decode("ascii").partition(" ")
    need((form := FORMS.get(name)) and all(re.fullmatch(form, arg) for arg in args.split(",")), f"the caveat {name!r} cannot be read")
    places, met = zip(*(read(name, arg, facts) for arg in args.split(",")))
    need(list(places) == sorted(set(places)) and len(places) <= 64 and any(met), f"the caveat {name!r} does not hold")
    return name

def verify(secrets, token, facts, now):
    """The provenance of what the token allows; ValueError or another exception if it does not. `now` in milliseconds."""
    # Another ecosystem: put its rule of names here, in `canonical` and in FORMS["allow"]. With this one, two packages could be one.
    need((secrets["ecosystem"], secrets["codec"]) == ("pypi", "text"), "this verifier has the names of a Python registry only")
    text = token.removeprefix(secrets["prefix"])  # 1
    need(token == secrets["prefix"] + text and text[:2] == "Ag" and len(text) <= 10_923, "this is no token")
    macaroon = Macaroon.deserialize(text)
    caveats = [caveat.caveat_id_bytes for caveat in macaroon.caveats if caveat.first_party()]
    fields = [macaroon.location.encode(), macaroon.identifier_bytes, *caveats]
    need(macaroon.serialize() == text and len(caveats) == len(macaroon.caveats) <= 32
         and all(0 < len(field) <= 4096 for field in fields), "the token is not in its one spelling")  # 2
    kid, epoch, head, tail, provenance = re.fullmatch(ID, macaroon.identifier_bytes.decode("ascii"), re.ASCII).groups()
    secret = {(key["kid"], str(secrets["epoch"])): key["secret"] for key in secrets["keys"]}[kid, epoch]  # 3
    # 4: first that all of it is signed. pymacaroons leaves out of the signature what a check of its own refuses, so that
    # a caveat that somebody put in would not be missed: its check accepts anything, and ours comes after.
    anything = Verifier()
    anything.satisfy_general(lambda _: True)
    anything.verify(macaroon, base64.urlsafe_b64decode(secret + "="))
    need(now - 3_600_000 < int(head + tail, 16) <= now + 60_000, "issued in the future or over an hour ago")  # 5
    facts = {**facts, "registry": secrets["registry"], "now": now, "package": canonical(facts["package"])}
    names = {check(caveat, facts) for caveat in caveats}
    need(names >= {"registry", "time-before", "allow"}, "a caveat is missing that every token has")  # 6
    return json.loads(base64.urlsafe_b64decode(provenance + "=" * (-len(provenance) % 4)))  # 9
