"""Runs a command as a security profile, or a limit, would that refuses one thing and nothing else: `nameless-files`
(O_TMPFILE), or `threads`."""

import ctypes
import os
import platform
import struct
import sys

OPENAT, CLONE = {"x86_64": (257, 56), "aarch64": (56, 220)}[platform.machine()]
CLONE3 = 435
O_TMPFILE = 0o20000000
CLONE_THREAD = 0x10000
EAGAIN, EACCES, ENOSYS = 11, 13, 38

LOAD, EQUALS, HAS, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, ERROR = 0x7FFF0000, 0x00050000
# What is loaded: the number of the system call, its first and its third argument.
NUMBER, FIRST, THIRD = 0, 16, 32
# Each step's two middle numbers say how many steps to leave out, if it is so and if it is not.
STEPS = {
    "nameless-files": [
        (LOAD, 0, 0, NUMBER),
        (EQUALS, 0, 3, OPENAT),
        (LOAD, 0, 0, THIRD),
        (HAS, 0, 1, O_TMPFILE),
        (RETURN, 0, 0, ERROR | EACCES),
        (RETURN, 0, 0, ALLOW),
    ],
    # What clone3 is asked for stands in memory, which a filter does not see: without it, the library takes clone.
    "threads": [
        (LOAD, 0, 0, NUMBER),
        (EQUALS, 5, 0, CLONE3),
        (EQUALS, 0, 2, CLONE),
        (LOAD, 0, 0, FIRST),
        (HAS, 1, 0, CLONE_THREAD),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, ERROR | EAGAIN),
        (RETURN, 0, 0, ERROR | ENOSYS),
    ],
}[sys.argv[1]]

steps = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in STEPS))
filter = ctypes.create_string_buffer(struct.pack("HP", len(STEPS), ctypes.addressof(steps)))
prctl = ctypes.CDLL(None, use_errno=True).prctl
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
assert prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, ctypes.get_errno()
assert prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter, 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[2], sys.argv[2:])
