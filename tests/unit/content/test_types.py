"""httpd.content.types: the table, overrides, charset."""

import mimetypes
import re

import pytest

from httpd.content import types


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"index.html", "text/html; charset=utf-8"),
        (b"INDEX.HTM", "text/html; charset=utf-8"),
        (b"app.js", "text/javascript; charset=utf-8"),
        (b"app.mjs", "text/javascript; charset=utf-8"),
        (b"app.js.map", "application/json"),
        (b"style.css", "text/css; charset=utf-8"),
        (b"x.wasm", "application/wasm"),
        (b"x.svg", "image/svg+xml"),
        (b"x.woff2", "font/woff2"),
        (b"x.xml", "application/xml"),
        (b"x.mp4", "video/mp4"),
        (b"x.tar.gz", "application/gzip"),
        (b"x.tgz", "application/gzip"),
        (b"x.txt.gz", "application/gzip"),
        (b"x.unknown", "application/octet-stream"),
        (b"x.\xff", "application/octet-stream"),
        (b"x.", "application/octet-stream"),
        (b"", "application/octet-stream"),
        (b"html", "application/octet-stream"),
        (b".html", "application/octet-stream"),
        (b"..html", "text/html; charset=utf-8"),
        (b"README", "text/plain; charset=utf-8"),
        (b"copyright", "text/plain; charset=utf-8"),
        (b"changelog", "text/plain; charset=utf-8"),
        (b"README.Debian", "text/plain; charset=utf-8"),
        (b"Makefile", "text/plain; charset=utf-8"),
        (b"main.py", "text/plain; charset=utf-8"),
        (b"hello", "application/octet-stream"),
    ],
)
def test_media_type(name: bytes, expected: str) -> None:
    assert types.media_type(name, {}, "utf-8") == expected.encode()


def test_charset_goes_on_text_without_parameters_only() -> None:
    assert types.media_type(b"a.txt", {}, "") == b"text/plain"
    assert types.media_type(b"a.txt", {}, "latin-1") == b"text/plain; charset=latin-1"
    assert types.media_type(b"a.json", {}, "utf-8") == b"application/json"
    own = {".txt": "text/plain; charset=koi8-r", ".md": "text/markdown;variant=GFM", ".x": "text/x"}
    assert types.media_type(b"a.txt", own, "utf-8") == b"text/plain; charset=koi8-r"
    assert types.media_type(b"a.md", own, "utf-8") == b"text/markdown;variant=GFM"
    assert types.media_type(b"a.x", own, "utf-8") == b"text/x; charset=utf-8"


def test_overrides_come_first_and_the_longest_of_them_wins() -> None:
    own = {
        ".gz": "application/x-own",
        ".tar.gz": "application/x-own-tar",
        ".html": "application/x-html",
        ".é": "text/e",
    }
    assert types.media_type(b"a.GZ", own, "") == b"application/x-own"
    assert types.media_type(b"a.b.Tar.gz", own, "") == b"application/x-own-tar"
    assert types.media_type(b"a.HTML", own, "") == b"application/x-html"
    assert types.media_type(b".html", own, "") == b"application/octet-stream"
    assert types.media_type("a.é".encode(), own, "") == b"text/e"
    assert types.media_type(b"README", own, "") == b"text/plain"
    assert types.media_type(b"a.css", own, "") == b"text/css"


def table() -> dict[str, str]:
    found = {}
    for type_, extensions in types._TABLE.items():
        for extension in extensions.split():
            assert extension not in found, extension
            found[extension] = type_
    return found


def test_the_table_is_sound() -> None:
    found = table()
    assert len(found) >= 180
    for extension, type_ in found.items():
        assert re.fullmatch(r"[a-z0-9]+", extension)
        assert re.fullmatch(r"(application|audio|font|image|message|model|text|video)/[a-z0-9.+-]+", type_)


def test_the_machine_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mimetypes, "types_map", {".html": "text/nonsense"})
    assert types.media_type(b"a.html", {}, "") == b"text/html"
