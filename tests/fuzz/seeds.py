"""What the mutator starts from: the wires of the corpora, as bytes."""

from __future__ import annotations

import tomli

from corpus.requests import cases

LONGEST = 1500  # bytes; longer cases are about limits, which are tried with limits that are small
_GOOD = 4
_CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def load() -> list[bytes]:
    """Heads, bodies behind a head that announces them, and whole exchanges, in the order of the files.

    What is accepted is there several times: a change to what is refused mostly changes nothing.
    """
    found: list[bytes] = []
    corpus = cases.HERE.parent
    for folder, before in (("heads", b""), ("bodies", _CHUNKED)):
        for file in sorted((corpus / folder).glob("*.toml")):
            for table in tomli.loads(file.read_text("utf-8"))["case"]:
                found += [before + table["wire"].encode("latin-1")] * (1 if "status" in table else _GOOD)
    for case in cases.load():
        found += [case.wire] * (1 if case.closes else _GOOD)
    return [wire for wire in found if 0 < len(wire) <= LONGEST]
