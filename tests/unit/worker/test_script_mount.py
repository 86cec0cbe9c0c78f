"""A mount of scripts in a worker: which requests are for a script, and the answers for what is none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from httpd.config import schema
from httpd.protocol.messages import FileBody, Request, Response
from httpd.worker.script_mount import ScriptMount

MakeRequest = Callable[..., Request]
CGI_BIN, MIXED = "vhost[0].cgi[0]", "vhost[0].cgi[1]"
SOURCE = b"#!/bin/sh\nsecret\n"
LATER = 4e9  # seconds since the epoch: every file here is old enough to be kept


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("run.cgi", "tools/run.cgi", "indexed/index.cgi", "page.cgi.d/x.txt", "inner.cgi/x.txt", "UPPER.CGI"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(SOURCE)
    (tmp_path / "style.css").write_bytes(b"css")
    (tmp_path / "tools" / "index.html").write_bytes(b"html")
    return tmp_path


def make(folder: Path, *, mixed: bool = False, script: str = "", **settings: Any) -> ScriptMount:
    values = {"index": ("index.cgi", "index.html"), **settings}
    return ScriptMount(schema.Cgi(
        "/cgi/", MIXED if mixed else CGI_BIN, schema.Settings(**values), "" if script else str(folder), script,
        extensions=(".cgi",) if mixed else (),
    ), None)  # fmt: skip


def asked(mount: ScriptMount, request: Request) -> Response:
    """The answer for what is no script, as the site asks for it."""
    response, _ = mount.answer(request, request.path, 0.0, 0.0)
    return response


def content(response: Response) -> bytes:
    body = response.body
    if isinstance(body, bytes):
        return body
    assert isinstance(body, FileBody)
    data = os.pread(body.fd, body.length, body.offset)
    os.close(body.fd)
    return data


# Scripts


@pytest.mark.parametrize(
    ("target", "name", "info"),
    [
        ("/cgi/run.cgi", b"/cgi/run.cgi", b""),
        ("/cgi/run.cgi/a%20b?q", b"/cgi/run.cgi", b"/a b"),
        ("/cgi/%72un.cgi", b"/cgi/run.cgi", b""),
        ("/cgi/tools/../run.cgi", b"/cgi/run.cgi", b""),
        ("/cgi//run.cgi", b"/cgi/run.cgi", b""),
        ("/cgi/run.cgi%2Fa", b"/cgi/run.cgi", b"/a"),
        ("/cgi/indexed/", b"/cgi/indexed/index.cgi", b""),
    ],
)
def test_a_script(folder: Path, make_request: MakeRequest, target: str, name: bytes, info: bytes) -> None:
    """The path is decoded once and its dots are taken out, as for every mount."""
    found = make(folder).script_for(make_request("GET", target), 0.0)
    assert found is not None
    assert (found.name, found.info) == (name, info)
    assert found.file == os.fsencode(folder) + name.removeprefix(b"/cgi")


@pytest.mark.parametrize(
    "target", ["/cgi/", "/cgi", "/cgi/nothing", "/cgi/indexed", "/cgi/%zz", "/cgi/%00", "/cgi/../../x"]
)
def test_no_script(folder: Path, make_request: MakeRequest, target: str) -> None:
    assert make(folder).script_for(make_request("GET", target), 0.0) is None


def test_one_script(folder: Path, make_request: MakeRequest) -> None:
    mount = make(folder, script=str(folder / "run.cgi"))
    found = mount.script_for(make_request("GET", "/cgi/a/b"), 0.0)
    assert found is not None
    assert (found.relative, found.name, found.info) == (b"", b"/cgi", b"/a/b")


def test_what_was_found_is_known_for_a_moment(folder: Path, make_request: MakeRequest) -> None:
    """That it is gone is then found where it is run."""
    mount, request = make(folder), make_request("GET", "/cgi/run.cgi")
    found = mount.script_for(request, 100.0)
    (folder / "run.cgi").unlink()
    assert mount.script_for(request, 100.9) is found
    assert mount.script_for(request, 101.0) is None


def test_what_was_not_found_is_looked_for_again(folder: Path, make_request: MakeRequest) -> None:
    mount, request = make(folder), make_request("GET", "/cgi/new")
    assert mount.script_for(request, 100.0) is None
    (folder / "new").touch()
    assert mount.script_for(request, 100.0) is not None


def test_what_is_known_does_not_grow_without_end(folder: Path, make_request: MakeRequest) -> None:
    """Every PATH_INFO is another path."""
    mount = make(folder)
    for number in range(2500):
        assert mount.script_for(make_request("GET", f"/cgi/run.cgi/{number}"), 0.0) is not None
    assert len(mount._known) <= 1000


# What is no script


@pytest.mark.parametrize(
    ("target", "status"), [("/cgi/nothing", 404), ("/cgi/", 403), ("/cgi/run.cgi", 404), ("/cgi/tools/nothing", 404)]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_answers(folder: Path, make_request: MakeRequest, method: str, target: str, status: int) -> None:
    """Also for a script that was none a moment ago: its text is never sent."""
    mount = make(folder, index=())
    assert asked(mount, make_request(method, target)).status == status
    assert mount.load(target.encode(), LATER, 0.0) is None


@pytest.mark.parametrize(
    ("query", "location"),
    [("", b"/cgi/indexed/"), ("?a=b?c", b"/cgi/indexed/?a=b?c"), ("?", b"/cgi/indexed/?")],
)
def test_a_folder_without_its_slash(folder: Path, make_request: MakeRequest, query: str, location: bytes) -> None:
    request = make_request("GET", f"/cgi/indexed{query}")
    response, _ = make(folder).answer(request, b"/cgi/indexed", 0.0, 0.0)
    assert response.status == 301
    assert dict(response.fields)[b"Location"] == location


def test_the_location_is_quoted(folder: Path, make_request: MakeRequest) -> None:
    (folder / "a b\r\n").mkdir()
    (folder / "a b\r\n" / "index.cgi").touch()
    response, _ = make(folder).answer(make_request(), b"/cgi/a b\r\n", 0.0, 0.0)
    assert dict(response.fields)[b"Location"] == b"/cgi/a%20b%0D%0A/"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter everything")
def test_a_folder_that_is_closed(folder: Path, make_request: MakeRequest) -> None:
    (folder / "tools").chmod(0)
    try:
        assert asked(make(folder), make_request("GET", "/cgi/tools/run.cgi")).status == 403
    finally:
        (folder / "tools").chmod(0o700)


# Files beside the scripts


def test_a_file(folder: Path, make_request: MakeRequest) -> None:
    mount = make(folder, mixed=True)
    request = make_request("GET", "/cgi/style.css")
    assert mount.script_for(request, 0.0) is None
    response = asked(mount, request)
    assert response.status == 200
    assert content(response) == b"css"


def test_the_index_of_a_folder_may_be_a_file(folder: Path, make_request: MakeRequest) -> None:
    mount = make(folder, mixed=True)
    request = make_request("GET", "/cgi/tools/")
    assert mount.script_for(request, 0.0) is None
    assert content(asked(mount, request)) == b"html"
    assert mount.script_for(make_request("GET", "/cgi/indexed/"), 0.0) is not None


@pytest.mark.parametrize("path", ["run.cgi", "tools/run.cgi", "UPPER.CGI", "indexed/index.cgi", "run.cgi/", ".cgi"])
def test_what_has_the_name_of_a_script_is_never_sent(folder: Path, make_request: MakeRequest, path: str) -> None:
    (folder / ".cgi").write_bytes(SOURCE)
    mount = make(folder, mixed=True, listing=True)
    request = make_request("GET", f"/cgi/{path}")
    assert asked(mount, request).status == 404
    assert mount.load(request.path, LATER, 0.0) is None


def test_a_folder_that_has_the_name_of_a_script(folder: Path, make_request: MakeRequest) -> None:
    """What is in it is served."""
    mount = make(folder, mixed=True, listing=True)
    response = asked(mount, make_request("GET", "/cgi/inner.cgi?a=b"))
    assert (response.status, dict(response.fields)[b"Location"]) == (301, b"/cgi/inner.cgi/?a=b")
    assert b"x.txt" in content(asked(mount, make_request("GET", "/cgi/inner.cgi/")))
    assert content(asked(mount, make_request("GET", "/cgi/inner.cgi/x.txt"))) == SOURCE
    assert mount.load(b"/cgi/inner.cgi/x.txt", LATER, 0.0) is not None


def test_an_index_that_is_a_script_is_never_sent(folder: Path, make_request: MakeRequest) -> None:
    """Neither by the answer nor by the cache, where the index of a file's folder is looked for."""
    mount = make(folder, mixed=True)
    response = asked(mount, make_request("GET", "/cgi/indexed/"))
    assert response.status == 403
    assert SOURCE not in content(response)
    assert mount.load(b"/cgi/indexed/", LATER, 0.0) is None


def test_only_the_end_of_a_name_says_what_it_is(folder: Path, make_request: MakeRequest) -> None:
    response = asked(make(folder, mixed=True), make_request("GET", "/cgi/page.cgi.d/x.txt"))
    assert response.status == 200
    assert content(response) == SOURCE


def test_a_file_for_the_cache(folder: Path) -> None:
    entry = make(folder, mixed=True).load(b"/cgi/style.css", LATER, 0.0)
    assert entry is not None


# Refusals


@pytest.mark.parametrize("mixed", [False, True])
def test_methods(folder: Path, make_request: MakeRequest, mixed: bool) -> None:
    mount = make(folder, mixed=mixed, methods=("GET", "POST"))
    assert [method for method in (b"GET", b"HEAD", b"POST", b"PUT") if mount.refuses(method)] == [b"HEAD", b"PUT"]
    response = asked(mount, make_request("PUT", "/cgi/style.css"))
    assert response.status == 405
    assert sorted(dict(response.fields)[b"Allow"].split(b", ")) == [b"GET", b"POST"]


def test_all_methods_unless_the_configuration_names_some(folder: Path) -> None:
    assert not any(make(folder).refuses(method) for method in (b"GET", b"DELETE", b"PROPFIND"))


def test_too_many_at_once_is_for_a_moment(folder: Path) -> None:
    assert make(folder).refusal(503).fields == [(b"Retry-After", b"2")]
    assert not make(folder).full
