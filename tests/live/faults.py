"""Faults inside of the workers, without a line in the daemon for them: a library that stands before libc's functions.

    faults = Faults(place)              skips the test where there is no C compiler
    daemon.start(environ=faults.environ)
    with faults.on("hang at boot"): ...

- "crash at boot": a worker that starts ends by SIGABRT before it is ready.
- "hang at boot": it waits instead, as long as the fault is on.
- "spin": whoever sends a file by sendfile computes for ever, as a defect in an extension module would.  `begun` tells
  that somebody does.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from live.daemon import Place

# What a worker that ends by a fault says of where it stood, as patterns for `Daemon.expect`.
DUMP = ("where worker", r"^\t")

# A process that was forked and makes a poller is a worker at boot.
_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static const char *path(const char *name) {
    static char text[4096];
    const char *folder = getenv("HTTPD_FAULTS");
    snprintf(text, sizeof text, "%s/%s", folder ? folder : "/nonexistent", name);
    return text;
}

static int on(const char *name) {
    return access(path(name), F_OK) == 0;
}

static pid_t master;

__attribute__((constructor)) static void begin(void) {
    master = getpid();
}

int epoll_create1(int flags) {
    int (*real)(int) = dlsym(RTLD_NEXT, "epoll_create1");
    if (getpid() != master) {
        if (on("crash at boot"))
            abort();
        while (on("hang at boot"))
            usleep(10000);
    }
    return real(flags);
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) {
    ssize_t (*real)(int, int, off64_t *, size_t) = dlsym(RTLD_NEXT, "sendfile64");
    while (on("spin"))
        close(creat(path("spinning"), 0644));
    return real(out, in, offset, count);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
    return sendfile64(out, in, (off64_t *)offset, count);
}
"""


class Faults:
    """The library, made for one daemon; `environ` loads it."""

    def __init__(self, place: Place) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler here")
        self._folder = place.path / "faults"
        self._folder.mkdir()
        self._folder.chmod(0o777)  # the workers leave a note in it
        source, library = place.path / "faults.c", place.path / "faults.so"
        source.write_text(_SOURCE)
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        library.chmod(0o755)
        self.environ = {"LD_PRELOAD": str(library), "HTTPD_FAULTS": str(self._folder)}

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """A fault, until the end of the block."""
        (self._folder / name).touch()
        try:
            yield
        finally:
            (self._folder / name).unlink()

    def begun(self) -> bool:
        """Whether somebody spins, or did."""
        return (self._folder / "spinning").exists()
