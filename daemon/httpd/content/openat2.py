"""openat2(2): Linux resolves a path and holds it below a folder.  The only place that calls it.

Rules:

- Nothing here raises: an answer is a file descriptor, or an errno as a negative number.  Some of them mean
  "look again in another way", which an exception would only make slower.
- No argtypes: their conversion costs 0.3 to 0.7 us per call on CPython 3.11.  Every argument has its C type
  without them: the number and the size are prebuilt, `bytes` is a pointer, a file descriptor is an int.
- The call releases the interpreter lock, because a disk or a network file system may let it wait.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

NO_MAGICLINKS = 0x02  # RESOLVE_*, linux/openat2.h
NO_SYMLINKS = 0x04
BENEATH = 0x08

# Kernels before 5.6 say ENOSYS; seccomp profiles that do not know the call make it ENOSYS or EPERM.
UNSUPPORTED = frozenset({errno.ENOSYS, errno.EPERM})


class OpenHow(ctypes.Structure):
    """struct open_how, built once for each way of opening.  Threads may share it: it is only read."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))

    def __init__(self, flags: int, resolve: int) -> None:
        super().__init__(flags, 0, resolve)
        self.pointer = ctypes.byref(self)


_NUMBER = ctypes.c_long(437)  # one number on every architecture that Linux 5.6 added it to, but alpha
_SIZE = ctypes.c_size_t(ctypes.sizeof(OpenHow))
_AT_FDCWD = -100
_PROBE = OpenHow(getattr(os, "O_PATH", 0) | os.O_CLOEXEC, 0)
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def call(folder: int, path: bytes, how: OpenHow) -> int:
    """Open `path` (not empty, without NUL) below `folder`; return the descriptor or the negated errno."""
    while True:
        fd: int = _syscall(_NUMBER, folder, path, how.pointer, _SIZE)
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code != errno.EINTR:
            return -code


def supported() -> bool:
    """Whether this process may use the call.  Asked of the kernel each time: a sandbox may have come up."""
    if sys.platform != "linux":
        return False
    fd = call(_AT_FDCWD, b"/", _PROBE)
    if fd >= 0:
        os.close(fd)
    return -fd not in UNSUPPORTED
