"""httpd.content.paths: the corpus tests/corpus/paths/urls.toml, and properties over generated paths."""

import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.content import paths

CORPUS = Path(__file__).parents[2] / "corpus" / "paths" / "urls.toml"
CASES: dict[str, list[dict[str, Any]]] = tomllib.loads(CORPUS.read_text("utf-8"))

# Text made of what matters in a path, beside arbitrary bytes.
pieces = st.sampled_from(
    [b"/", b"//", b".", b"..", b"/../", b"\\", b"%2e", b"%2F", b"%5c", b"%", b"a", b"b.c", b"\xff"]
)
raw_paths = st.lists(st.one_of(pieces, st.binary(max_size=3)), max_size=12).map(lambda parts: b"/" + b"".join(parts))


def cases(name: str, *keys: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(c, id=repr([c.get(k) for k in keys])) for c in CASES[name]])


def check(function: Any, argument: bytes, expected: dict[str, Any], key: str) -> None:
    if "error" in expected:
        with pytest.raises(paths.PathError) as caught:
            function(argument)
        assert caught.value.status == expected["error"]
        assert caught.value.reason.isascii()
    else:
        assert function(argument) == expected[key].encode("latin-1")


@cases("decode", "raw")
def test_decode(case: dict[str, Any]) -> None:
    check(paths.decode, case["raw"].encode("latin-1"), case, "path")


@cases("normalize", "path")
def test_normalize(case: dict[str, Any]) -> None:
    check(paths.normalize, case["path"].encode("latin-1"), case, "result")


@cases("quote", "path")
def test_quote(case: dict[str, Any]) -> None:
    check(paths.quote, case["path"].encode("latin-1"), case, "result")


@cases("dotfile", "path")
def test_has_dotfile(case: dict[str, Any]) -> None:
    assert paths.has_dotfile(case["path"].encode("latin-1")) is case["result"]


@cases("redirect", "to", "rest", "query")
def test_join_redirect(case: dict[str, Any]) -> None:
    query = case["query"].encode("latin-1") if "query" in case else None
    assert paths.join_redirect(case["to"], case["rest"].encode("latin-1"), query) == case["result"].encode("ascii")


@given(raw_paths)
def test_a_normalized_path_is_safe_and_stays_so(raw: bytes) -> None:
    try:
        path = paths.normalize(paths.decode(raw))
    except paths.PathError:
        return
    assert path.startswith(b"/")
    assert b"//" not in path
    assert b"\0" not in path
    assert not {b".", b".."} & set(path.split(b"/"))
    assert paths.normalize(path) == path


@given(st.lists(st.sampled_from([b"a", b"..", b".", b"b"]), max_size=10), st.booleans())
def test_normalize_removes_dot_segments_as_rfc_3986_does(segments: list[bytes], slash: bool) -> None:
    path = b"/" + b"/".join(segments) + (b"/" if slash and segments else b"")
    try:
        result = paths.normalize(path)
    except paths.PathError:
        depth = lowest = 0
        for segment in segments:
            depth += {b"..": -1, b".": 0}.get(segment, 1)
            lowest = min(lowest, depth)
        assert lowest < 0
    else:
        assert result == resolve(path)


def resolve(path: bytes) -> bytes:
    """RFC 3986 5.2.4, step by step, as it is written there."""
    given_, output = path, b""
    while given_:
        if given_.startswith((b"/./", b"/../")):
            if given_.startswith(b"/../"):
                output = output.rpartition(b"/")[0]
            given_ = b"/" + given_.split(b"/", 2)[2]
        elif given_ in (b"/.", b"/.."):
            if given_ == b"/..":
                output = output.rpartition(b"/")[0]
            given_ = b"/"
        else:
            end = given_.find(b"/", 1)
            end = len(given_) if end < 0 else end
            output, given_ = output + given_[:end], given_[end:]
    return output


@given(st.binary(max_size=20))
def test_quote_is_undone_by_one_decoding(path: bytes) -> None:
    quoted = paths.quote(path)
    assert not quoted.startswith(b"//")
    assert not set(quoted) & set(b"\\\"'<>&?# \r\n\t")
    assert quoted.isascii()
    assert unquote_to_bytes(quoted) == (b"/" + path.lstrip(b"/") if path.startswith(b"//") else path)


@given(
    st.sampled_from(
        ["/", "/new", "/new/", "//", "https://x.org", "https://x.org/", "https://x.org/a", "http://x.org:81/?a#b"]
    ),
    st.one_of(
        raw_paths, st.binary(max_size=12), st.sampled_from([b".evil.com", b"@evil.com", b":81", b"\\\\evil", b"//evil"])
    ),
    st.one_of(st.none(), st.binary(max_size=8)),
)
def test_a_redirect_never_changes_the_host(to: str, rest: bytes, query: bytes | None) -> None:
    location = paths.join_redirect(to, rest, query).decode("ascii")
    assert location.isprintable()
    assert " " not in location
    wanted = urlsplit(to) if to.startswith("http") else urlsplit("http://here/")
    # What browsers make of it: a backslash is a slash to them.
    landed = urlsplit(urljoin("http://here/old/x", location.replace("\\", "/")))
    assert (landed.scheme, landed.netloc) == (wanted.scheme, wanted.netloc)
    assert landed.fragment == (wanted.fragment if to.startswith("http") else "")
