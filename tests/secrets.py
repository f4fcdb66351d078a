#!/usr/bin/env python3
"""Searches all that services under test said for what may be said nowhere: tokens, keys, passwords.

The stage `test` of tests/run has the tests keep both below one folder (tests/it/support/said.rs): `said/CHANNEL/TEST` is what
was said, `secrets/KIND` are the secrets that the tests gave to services or got from them. Each secret is looked for as it
is and in the spellings that it may be given on the way; and whatever looks like a secret is one, known or not.

What is found is shown without the secret. The search proves itself on each run: what it is to find is planted, and must
be found.
"""

import base64
import re
import sys
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

# Bytes of each channel and secrets of each kind that a whole run has with room to spare. Below, something is no longer kept.
LEAST_SAID = {
    "answer": 800_000, "audit": 3_000_000, "log": 150_000, "metrics": 2_500_000, "otlp": 3_000_000, "verb": 200_000,
}
LEAST_SECRETS = {
    "api-key": 4, "id-token": 3000, "master-key": 150, "password": 2, "private-key": 20, "upload-token": 4000,
}

# A secret of at least GRAM + STEP - 1 bytes has, wherever it stands, a gram at a multiple of STEP. Grams are taken of its
# first WINDOW bytes and of its last.
GRAM, STEP, WINDOW = 16, 8, 40

MACAROON = re.compile(rb"AgE[A-Za-z0-9_-]{60,}")
PATTERNS = {
    "an ID token": re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}"),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY"),
    # `trustmint demo` prints a command to be pasted, with the key of its own registry on loopback; no service says one.
    "a credential": re.compile(rb"(?i)(?<!-H 'Authorization: )\b(?:bearer|basic)(?: |%20|\+|\\u0020)+[A-Za-z0-9._~+/=-]{16,}"),
    "a password in a URL": re.compile(rb"(?i)\brediss?://[^\s/:@\"'`]*:[^\s/@\"'`]+@"),
}
# Longer runs of such letters are masked when a finding is shown.
RUN = re.compile(rb"[A-Za-z0-9+/=_-]{9,}")


def spellings(line):
    """What to look for of one line of a file of secrets."""
    form, _, value = line.partition(b" ")
    if form == b"text":
        yield value
        if len(value) >= 12:
            yield base64.b64encode(value).rstrip(b"=")
            yield base64.urlsafe_b64encode(value).rstrip(b"=")
            yield value.hex().encode()
    elif form == b"bytes":
        raw = bytes.fromhex(value.decode())
        yield raw
        yield raw.hex().encode()
        yield raw.hex().upper().encode()
        yield base64.b64encode(raw).rstrip(b"=")
        yield base64.urlsafe_b64encode(raw).rstrip(b"=")
        # As a list of numbers, which is how a derived `Debug` shows bytes.
        yield ", ".join(str(byte) for byte in raw).encode()
        yield ",".join(str(byte) for byte in raw).encode()
    else:
        sys.exit(f"a line of secrets begins with `{form.decode(errors='replace')}`")


class Search:
    """All secrets, ready to be looked for."""

    def __init__(self, secrets):
        self.short, self.grams = {}, {}
        for kind, lines in secrets.items():
            for line in lines:
                for word in spellings(line):
                    self.add(kind, word)

    def add(self, kind, word):
        if len(word) < GRAM + STEP - 1:
            self.short[word] = kind
            return
        for window in {word[:WINDOW], word[-WINDOW:]}:
            for at in range(STEP):
                self.grams.setdefault(window[at : at + GRAM], (kind, window, at))

    def found(self, data):
        """(what, offset) of each finding, in the data and in what it says once it is decoded."""
        for text in variants(data):
            yield from self.found_in(text)

    def found_in(self, text):
        for word, kind in self.short.items():
            at = text.find(word)
            if at >= 0:
                yield f"a known {kind}", at, text
        present = {text[at : at + GRAM] for at in range(0, len(text), STEP)} & self.grams.keys()
        for gram in present:
            kind, window, before = self.grams[gram]
            at = text.find(window)
            # Another secret may have the gram at another place: the gram alone is enough of one.
            yield f"a known {kind}", at if at >= 0 else max(text.find(gram) - before, 0), text
        for what, pattern in PATTERNS.items():
            for match in pattern.finditer(text):
                yield what, match.start(), text
        for match in MACAROON.finditer(text):
            if is_macaroon(match[0]):
                yield "an upload token", match.start(), text


def is_macaroon(text):
    """Whether it is the V2 format: its version, the field 1 of a printable location, the field 2."""
    data = base64.urlsafe_b64decode(text[: len(text) // 4 * 4])
    length = data[2]
    location = data[3 : 3 + length]
    return length < 128 and location.isascii() and location.decode().isprintable() and data[3 + length : 4 + length] in (b"\x02", b"")


def variants(data):
    yield data
    if re.search(rb"%[0-9A-Fa-f]{2}", data):
        yield unquote_to_bytes(data)
    if b"\\" in data:
        text = re.sub(rb"\\u00([0-7][0-9A-Fa-f])", lambda match: bytes.fromhex(match[1].decode()), data)
        yield re.sub(rb"\\([/\"\\])", rb"\1", text)


def shown(text, at):
    """The surroundings of a finding, with every word that could be a part of a secret masked."""
    piece = RUN.sub(lambda match: match[0][:4] + b"<" + str(len(match[0]) - 4).encode() + b" more>", text[max(at - 80, 0) : at + 60])
    return re.sub(r"[^ -~]", ".", piece.decode("latin-1"))


def read(folder, kind):
    """The files of each folder, or the lines of each file."""
    if kind == "said":
        return {entry.name: sorted(entry.iterdir()) for entry in sorted(folder.iterdir())}
    return {entry.name: {line for line in entry.read_bytes().split(b"\n") if line} for entry in sorted(folder.iterdir())}


def shortfalls(said, secrets):
    """What is no longer kept."""
    for channel, least in LEAST_SAID.items():
        size = sum(path.stat().st_size for path in said.get(channel, []))
        if size < least:
            yield f"said/{channel} has {size} bytes, and a whole run has at least {least}: it is no longer kept everywhere"
    for kind, least in LEAST_SECRETS.items():
        if len(secrets.get(kind, [])) < least:
            yield f"secrets/{kind} has {len(secrets.get(kind, []))}, and a whole run has at least {least}: they are no longer noted everywhere"
    for name in set(said) - set(LEAST_SAID) | set(secrets) - set(LEAST_SECRETS):
        yield f"{name} has no least size in tests/secrets.py"


def plants(secrets):
    """What must be found: (what, text) of a known secret of each kind in each spelling, and of one that nobody knows."""
    for kind, lines in secrets.items():
        for line in sorted(lines)[:: max(len(lines) // 20, 1)]:
            for word in spellings(line):
                yield f"a known {kind}", word
                yield f"a known {kind}", word + b"Az09"
                yield f"a known {kind}", quote_from_bytes(word, safe="").encode()
                yield f"a known {kind}", b"".join(b"\\u%04x" % byte if byte in b"-_+/=. ," else bytes([byte]) for byte in word)
    part = lambda text: base64.urlsafe_b64encode(text).rstrip(b"=")
    yield "an ID token", part(b'{"alg":"RS256"}') + b"." + part(b'{"iss":"https://a.example"}') + b"." + b"x" * 86
    yield "an ID token", part(b'{"alg":"RS256"}') + b"." + part(b'{"iss":"https://a.example"}')
    macaroon = b"\x02\x01\x10pypi.acme.example"[:19] + b"\x02\x20" + b"tm1.k1.0." + b"i" * 23 + b"\0\0\x06\x20" + bytes(range(32))
    yield "an upload token", part(macaroon)
    yield "an upload token", b"pypi-" + part(macaroon)[:90]
    yield "a private key", b"-----BEGIN EC PRIVATE KEY-----"
    yield "a credential", b"Authorization: Bearer abcdefghijklmnop.0"
    yield "a credential", b"authorization=basic%20YWJjZGVmZ2hpamtsbW5vcA=="
    yield "a password in a URL", b"redis://trustmint:swordfish@redis.example:6379"


def blind_spots(search, secrets, sample):
    """What is planted and not found, at each place that it can have between grams."""
    count = 0
    for number, (what, text) in enumerate(plants(secrets)):
        # A letter before it could belong to a word, as the length before a text in OTLP does; before a pattern it may not.
        mark = b"A" if what.startswith("a known") else b'"'
        planted = sample + b" " * (number % STEP) + mark + text + b'"\n' + sample
        count += 1
        if not any(found == what for found, _, _ in search.found(planted)):
            yield f"{what} was planted and not found (plant {number})"
    if count < 500:
        yield f"only {count} secrets could be planted"


def main(folder):
    said, secrets = read(folder / "said", "said"), read(folder / "secrets", "secrets")
    faults = list(shortfalls(said, secrets))
    search = Search(secrets)
    size = count = 0
    for channel, paths in said.items():
        for path in paths:
            data = path.read_bytes()
            size, count = size + len(data), count + 1
            told = {}
            for what, at, text in search.found(data):
                told.setdefault(what, []).append((at, text))
            for what, places in told.items():
                at, text = min(places, key=lambda place: place[0])
                faults.append(f"{channel}, in {path.name}: {what}, {len(places)} times, first: {shown(text, at)}")
    samples = sorted((path for paths in said.values() for path in paths), key=lambda path: path.stat().st_size)
    sample = next((data for data in (path.read_bytes()[:4000] for path in samples) if len(data) == 4000), b"")
    faults += blind_spots(search, secrets, sample)
    for fault in faults:
        print(fault, file=sys.stderr)
    numbers = ", ".join(f"{len(lines)} {kind}" for kind, lines in secrets.items())
    print(f"{count} files, {size / 1e6:.1f} MB; secrets: {numbers}; findings: {len(faults)}")
    for channel, paths in said.items():
        print(f"  {channel}: {len(paths)} files, {sum(path.stat().st_size for path in paths) / 1e6:.2f} MB")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
