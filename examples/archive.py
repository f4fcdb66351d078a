"""What is in an archive, so that every other reader finds the same in it: for the examples whose packages are archives."""
import posixpath
import re
import tarfile

from verdict import need

BLOCK = 512
LONG = {tarfile.GNUTYPE_LONGNAME: "name", tarfile.GNUTYPE_LONGLINK: "linkname"}
FILES = {tarfile.REGTYPE, tarfile.AREGTYPE}
KNOWN = {*LONG, *FILES, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE}


def place(name):
    """Where some reader may find a member of that name: slashes either way, `.`, `..`, and file systems that know no case."""
    return posixpath.normpath("/" + name.replace("\\", "/").lstrip("/")).casefold()


def members(plain, what):
    """The members of an unpacked tar archive, each with its bytes. Only headers that no two readers take differently.

    SECURITY: read here, block by block, since `tarfile` runs for ever on a size below zero (CVE-2025-8194), unpacks a
    sparse file of any size, and takes names from extended headers and prefixes where others look elsewhere.
    """
    at, long = 0, {}
    while (block := plain[at:at + BLOCK]).strip(b"\0"):
        head = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        need(head.type in KNOWN, f"{head.name!a} is no file, folder or link with a plain header (GNU format, without extended headers)")
        need(re.fullmatch(b" *[0-7]+[ \0]*", block[124:136]), f"the size of {head.name!a} is no plain number")
        need(not head.size or head.type in FILES | {*LONG}, f"{head.name!a} is no file and has a size")
        # Only the format `ustar` has a prefix there.
        need(block[257:265] == b"ustar\x0000" or not block[345:500].strip(b"\0"), f"{head.name!a} has a prefix")
        start = at + BLOCK
        data, at = plain[start:start + head.size], start - -head.size // BLOCK * BLOCK
        need(at <= len(plain), f"the {what}'s archive is cut short")
        if head.type in LONG:
            text = data.decode()
            need(len(text) > 1 and text.find("\0") == len(text) - 1 and LONG[head.type] not in long, f"the {what}'s archive has a broken long name")
            long[LONG[head.type]] = text[:-1]
            continue
        head.name, head.linkname = long.pop("name", head.name), long.pop("linkname", head.linkname)
        head.name = head.name.removesuffix("/") if head.isdir() else head.name
        yield head, data
    need(not long and not plain[at:].strip(b"\0"), f"there is something behind the {what}'s archive")
