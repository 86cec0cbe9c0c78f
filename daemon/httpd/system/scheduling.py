"""How soon a thread that was waiting gets a processor that another thread is using.

Linux lets a task ask for a short time slice (EEVDF, since 6.12).  One that does runs as soon as it is woken, and not
only when the task that is running has had its own slice of some milliseconds.  It gets no more time than others for
that, so nobody needs a privilege.  Elsewhere, and on older kernels, nothing is changed.

For the loop of a worker beside handlers that compute: for every system call it has to be given back the interpreter,
and can ask for it only when it runs.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from collections.abc import Callable

_SHORT = 100_000  # nanoseconds; the shortest that the kernel gives
_CALLS = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "ppc64le": 355, "s390x": 345}  # sched_setattr


class _Attributes(ctypes.Structure):
    """struct sched_attr, as far as it has been since it began."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def be_prompt(*, prompt: bool = True) -> None:
    """Have this thread run as soon as it is woken; or, again, when it is its turn."""
    call = _setter()
    if call is None or os.sched_getscheduler(0) != os.SCHED_OTHER:  # somebody has chosen another policy for us
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _Attributes(ctypes.sizeof(_Attributes), os.SCHED_OTHER, 0, nice, 0, _SHORT if prompt else 0, 0, 0)
    call(0, ctypes.byref(attributes), 0)  # what it says makes no difference: it is a wish


@functools.cache
def _setter() -> Callable[..., int] | None:
    number = _CALLS.get(platform.machine()) if sys.platform == "linux" else None
    if number is None:
        return None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
    except OSError:
        return None
    return functools.partial(libc.syscall, ctypes.c_long(number))
