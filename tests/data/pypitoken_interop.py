"""pypitoken, driven by tests/it/pypitoken.rs: one JSON request on standard input, one JSON answer on standard output.

{"load":     [token],                                   what it reads in a token
 "check":    [{"token", "secret_hex", "project", "now"}],  null if that is right, else why not
 "restrict": [{"token", "by": [parameters], "raw": [caveat]}],
 "create":   [{"secret_hex", "domain", "identifier", "by": [parameters]}],
 "page":     the example of docs/plugging-in.md,
 "verify":   [{"text", "project", "exported", "now"}]}  what its function answers
"""

import json
import sys

from pypitoken import Token


def load(text):
    token = Token.load(text)
    return {
        "prefix": token.prefix,
        "domain": token.domain,
        "identifier": token.identifier,
        "restrictions": [restriction.dump() for restriction in token.restrictions],
        "again": token.dump(),
    }


def check(token, secret_hex, project, now):
    try:
        Token.load(token).check(bytes.fromhex(secret_hex), project_name=project, now=now)
    except Exception as error:
        return str(error) or repr(error)
    return None


def restrict(token, by=(), raw=()):
    token = Token.load(token)
    for parameters in by:
        token.restrict(**parameters)
    for caveat in raw:
        token._macaroon.add_first_party_caveat(caveat)
    return token.dump()


def create(secret_hex, domain, identifier, by):
    return restrict(Token.create(domain, identifier, bytes.fromhex(secret_hex)).dump(), by)


def verify(text, project, exported, now):
    try:
        return {"allowed": True, "said": page["verify"](text, project, exported, now)}
    except Exception as error:
        return {"allowed": False, "said": repr(error)}


request = json.load(sys.stdin)
page = {}
exec(request.pop("page", ""), page)
answer = {name: [load(text) for text in request.pop(name)] for name in ["load"] if name in request}
actions = {"check": check, "restrict": restrict, "create": create, "verify": verify}
answer |= {name: [actions[name](**item) for item in items] for name, items in request.items()}
json.dump(answer, sys.stdout)
