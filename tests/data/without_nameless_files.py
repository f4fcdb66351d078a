"""Runs a command as a security profile would that refuses files without a name (O_TMPFILE), and nothing else."""

import ctypes
import os
import platform
import struct
import sys

OPENAT = {"x86_64": 257, "aarch64": 56}[platform.machine()]
O_TMPFILE = 0o20000000
STEPS = [
    (0x20, 0, 0, 0),  # the number of the system call
    (0x15, 0, 3, OPENAT),
    (0x20, 0, 0, 32),  # its flags
    (0x45, 0, 1, O_TMPFILE),
    (0x06, 0, 0, 0x00050000 | 13),  # EACCES
    (0x06, 0, 0, 0x7FFF0000),  # all else is allowed
]

steps = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in STEPS))
filter = ctypes.create_string_buffer(struct.pack("HP", len(STEPS), ctypes.addressof(steps)))
prctl = ctypes.CDLL(None, use_errno=True).prctl
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
assert prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, ctypes.get_errno()
assert prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter, 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
