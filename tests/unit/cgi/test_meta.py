"""What scripts are told (RFC 3875 4.1, 4.4), by the cases of tests/corpus/cgi."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli

from httpd.cgi.meta import HOP_BY_HOP, Facts, allowed, variables, words
from httpd.protocol.head import parse_loose
from httpd.protocol.messages import HeadLimits, Request

CORPUS = Path(__file__).parents[2] / "corpus" / "cgi"
Case = dict[str, Any]


def load(name: str) -> list[Any]:
    cases = tomli.loads((CORPUS / f"{name}.toml").read_text("utf-8"))["case"]
    return [pytest.param(case, id=f"{case.get('rfc', '')} {case['name']}".strip()) for case in cases]


REQUESTS, WORDS = load("request"), load("words")
FACTS = {
    "script_name": "/cgi-bin/env.py", "path_info": "", "script_filename": "/srv/cgi/env.py",
    "document_root": "/srv/www", "context_prefix": "/cgi-bin", "context_root": "/srv/cgi",
    "remote_addr": "198.51.100.7", "remote_port": 40000, "server_addr": "192.0.2.1", "server_name": "192.0.2.1",
    "server_port": 8080, "software": "httpd/test",
}  # fmt: skip


def request_of(head: str) -> Request:
    return parse_loose(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n", HeadLimits())


def found(case: Case) -> dict[str, str]:
    facts = {**FACTS, **case.get("facts", {})}
    encoded = {name: value.encode("latin-1") if isinstance(value, str) else value for name, value in facts.items()}
    result = variables(request_of(case["head"]), Facts(**encoded))
    return {name.decode("ascii"): value.decode("latin-1") for name, value in result.items()}


def test_the_corpus_is_there() -> None:
    assert len(REQUESTS) > 35
    assert len(WORDS) > 14
    for cases in (REQUESTS, WORDS):
        assert len({case.id for case in cases}) == len(cases)


@pytest.mark.parametrize("case", REQUESTS)
def test_variables(case: Case) -> None:
    result = found(case)
    assert {name: result.get(name) for name in case.get("set", {})} == case.get("set", {})
    assert [name for name in case.get("unset", []) if name in result] == []
    if "only" in case:
        assert {name: value for name, value in result.items() if name.startswith("HTTP_")} == case["only"]


@pytest.mark.parametrize("case", REQUESTS)
def test_every_variable_may_be_sent_to_a_spawner(case: Case) -> None:
    assert [name for name in found(case) if not allowed(name.encode())] == []


def test_every_variable_of_the_standard_is_known() -> None:
    """RFC 3875 4.1; REMOTE_IDENT is left out, as 4.1.10 lets a server do."""
    case = {
        "head": "POST /cgi-bin/env.py/a?b HTTP/1.1\nHost: a\nContent-Type: a/b\nContent-Length: 1",
        "facts": {"path_info": "/a", "length": 1, "user": "x", "auth_type": "Basic"},
    }
    assert {
        "AUTH_TYPE", "CONTENT_LENGTH", "CONTENT_TYPE", "GATEWAY_INTERFACE", "PATH_INFO", "PATH_TRANSLATED",
        "QUERY_STRING", "REMOTE_ADDR", "REMOTE_HOST", "REMOTE_USER", "REQUEST_METHOD", "SCRIPT_NAME", "SERVER_NAME",
        "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE",
    } <= found(case).keys()  # fmt: skip


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_no_field_of_the_connection_is_passed_on(name: bytes) -> None:
    request = request_of("GET / HTTP/1.1\nHost: a")
    request.fields = {**request.fields, name: b"x"}
    result = variables(request, Facts(b"/s", b"", b"/s", b"/", authorization=True))
    assert [name for name in result if name.startswith(b"HTTP_")] == [b"HTTP_HOST"]


@pytest.mark.parametrize("case", WORDS)
def test_words(case: Case) -> None:
    query = None if case["query"] == "absent" else case["query"].encode("latin-1")
    assert words(case.get("method", "GET").encode(), query) == [word.encode("latin-1") for word in case["words"]]


@pytest.mark.parametrize(("length", "count"), [(8192, 2), (8193, 0)])
def test_a_long_word(length: int, count: int) -> None:
    """If one can't be given, none is (RFC 3875 4.4)."""
    assert len(words(b"GET", b"a+" + b"b" * length)) == count


def test_the_length_of_a_word_is_that_behind_its_code() -> None:
    assert words(b"GET", b"%61" * 8192) == [b"a" * 8192]


@pytest.mark.parametrize(
    "name", [b"HTTP_A", b"HTTP_X_9", b"HTTP_PROXY_X", b"HTTP_X_PROXY", b"HTTPS", b"PATH_INFO", b"REDIRECT_STATUS"]
)
def test_names_that_are_allowed(name: bytes) -> None:
    assert allowed(name)


@pytest.mark.parametrize(
    "name",
    [
        b"", b"PATH", b"LD_PRELOAD", b"LD_LIBRARY_PATH", b"PYTHONPATH", b"PERL5OPT", b"BASH_ENV", b"IFS", b"ENV",
        b"HTTP_PROXY", b"http_proxy", b"HTTP_", b"HTTP_a", b"HTTP_A=B", b"HTTP_A\n", b"HTTP_A\0", b"XHTTP_A",
        b"PATH_INFO\n", b"path_info", b"REDIRECT_STATUS ", b"BASH_FUNC_x%%", b"HTTP_PROXY\n",
    ],
)  # fmt: skip
def test_names_that_are_not(name: bytes) -> None:
    """Whoever has taken a worker over must not load code into another user's process."""
    assert not allowed(name)
