"""pymacaroons, driven by pymacaroons.rs and offline.rs of tests/it: one JSON request on standard input, one JSON answer on standard output.

{"verify": [{"token", "secret_hex", "caveats"}],   ours: is it right under the secret, given that these caveats hold?
 "narrow": [{"token", "caveats"}],                 ours, with caveats appended
 "mint":   [{"secret_hex", "location", "identifier", "caveats"}]}
"""

import json
import sys

from pymacaroons import MACAROON_V2, Macaroon, Verifier


def verify(token, secret_hex, caveats):
    verifier = Verifier()
    for caveat in caveats:
        verifier.satisfy_exact(caveat)
    macaroon = Macaroon.deserialize(token)
    try:
        verified = verifier.verify(macaroon, bytes.fromhex(secret_hex))
    except Exception as error:
        return {"verified": False, "error": str(error)}
    return {
        "verified": verified,
        "location": macaroon.location,
        "identifier": macaroon.identifier_bytes.decode(),
        "caveats": [caveat.caveat_id_bytes.decode() for caveat in macaroon.caveats],
        "again": macaroon.serialize(),
    }


def narrow(token, caveats):
    macaroon = Macaroon.deserialize(token)
    for caveat in caveats:
        macaroon.add_first_party_caveat(caveat)
    return macaroon.serialize()


def mint(secret_hex, location, identifier, caveats):
    key = bytes.fromhex(secret_hex)
    macaroon = Macaroon(location=location, identifier=identifier, key=key, version=MACAROON_V2)
    for caveat in caveats:
        macaroon.add_first_party_caveat(caveat)
    return macaroon.serialize()


request = json.load(sys.stdin)
actions = {"verify": verify, "narrow": narrow, "mint": mint}
json.dump({name: [actions[name](**item) for item in items] for name, items in request.items()}, sys.stdout)
