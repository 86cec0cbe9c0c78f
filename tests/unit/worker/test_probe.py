"""One run of a script without a client: the way to the script, when there is a report, and what is in it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd.config import schema
from httpd.system.pairs import MAX_MESSAGE
from httpd.worker import probe as probe_module
from httpd.worker.probe import Report
from httpd.worker.run_faces import State
from machine import descriptors
from unit.worker.scripted import HEAD, PID, Scripted, make_scripts, scripted


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_scripts(tmp_path)


@pytest.fixture
def world(root: Path) -> Iterator[Scripted]:
    with scripted(root) as made:
        yield made


# Scripts that give no answer


def test_one_that_is_not_run(world: Scripted) -> None:
    world.run().declined(403, "it is not executable")
    report = world.report()
    assert (report["status"], report["failure"]) == (403, "it is not executable")
    assert (report["ended"], report["pid"], report["fields"]) == ("it was not run", 0, [])
    assert 0 <= report["seconds"] < 100
    assert b"script failed: it is not executable" in world.errors[0]


@pytest.mark.parametrize("name", ["run.cgi", "nph-run.cgi"])
def test_one_that_ends_without_a_word(world: Scripted, name: str) -> None:
    report = world.end(b"", "killed by SIGSEGV", f"/cgi-bin/{name}")
    assert (report["status"], report["failure"], report["ended"]) == (502, "it wrote nothing", "killed by SIGSEGV")
    assert 0 <= report["seconds"] < 100


def test_one_without_a_head(world: Scripted) -> None:
    report = world.end(b"hello\n")
    assert report["status"] == 502
    assert "it begins with 'hello'" in report["failure"]


def test_one_whose_head_ends_early_as_that_of_no_answer(world: Scripted) -> None:
    report = world.end(b"HTTP/1.1 200 OK\r\nX: ", url="/cgi-bin/nph-run.cgi")
    assert (report["status"], report["fields"]) == (502, [])
    assert report["failure"]


def test_one_that_waits_in_vain_for_its_spawner(world: Scripted) -> None:
    run = world.run()
    world.context.now = run.deadline
    run.look(world.context.now)
    report = world.report()
    assert (report["status"], report["failure"]) == (503, "the launcher does not answer")
    assert report["ended"] == "it was not run"


def test_one_whose_answer_is_cut_off(world: Scripted) -> None:
    run = world.run()
    run.started(PID)
    os.write(run.output.child_fd, b"Content-Length: 10\n" + HEAD + b"hello")
    run.output.read()
    world.context.now += 1
    world.scripts.look(world.context.now)  # the beginning is not held any longer
    run.close_child_fds()
    run.ended(PID, "exit status 0")
    report = world.report()
    assert (report["status"], report["body"], report["size"]) == (200, "hello", 5)
    why = "it promised 10 bytes and sent 5, behind the beginning of its answer"
    assert report["failure"] == f"the answer is cut off: {why}"


# Answers, and when there is a report


def test_an_answer(world: Scripted) -> None:
    report = world.end(b"Status: 404 Not Found\nX-Y: z\n" + HEAD + b"body")
    assert (report["status"], report["failure"], report["ended"], report["pid"]) == (404, "", "exit status 0", PID)
    assert (report["body"], report["size"], report["cut"]) == ("body", 4, [])
    assert ("X-Y", "z") in report["fields"]


def test_interim_answers_are_no_part_of_the_body(world: Scripted) -> None:
    output = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nbody"
    report = world.end(output, url="/cgi-bin/nph-run.cgi")
    assert (report["status"], report["body"], report["size"]) == (200, "body", 4)


def test_a_local_redirect(world: Scripted) -> None:
    report = world.end(b"Location: /elsewhere\n\n")
    assert (report["local_redirect"], report["failure"]) == ("/elsewhere", "")
    assert 0 <= report["seconds"] < 100


def test_no_report_before_the_process_has_ended(world: Scripted) -> None:
    run = world.run()
    world.write(run, HEAD + b"body")
    run.look(world.context.now)
    assert run.state is State.ANSWERED
    assert world.reports == []
    run.ended(PID, "exit status 7")
    assert world.report()["ended"] == "exit status 7"


def test_who_runs_on_behind_its_answer_is_not_waited_for(world: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.run()
    world.write(run, HEAD + b"body")
    monkeypatch.setattr(probe_module, "_PATIENCE", 0.0)
    run.look(world.context.now)
    assert (world.report()["ended"], world.report()["status"]) == ("it still runs", 200)
    run.ended(PID, "exit status 0")
    world.report()  # there is still one


# A report is bounded


def size(report: Report) -> int:
    return len(json.dumps({"event": "probed", "ask": 2**62, "report": report}))


def test_what_a_message_can_not_carry_is_cut(world: Scripted) -> None:
    fields = b"".join(b"X-%d: %b\n" % (number, b"v" * 500) for number in range(40))
    report = world.end(fields + HEAD + b"\1" * 8192)
    assert size(report) <= MAX_MESSAGE
    assert report["cut"] == ["body"]
    assert len(report["body"]) > 1000
    assert (report["size"], len(report["fields"])) == (8192, 45)


def test_the_worst_of_reports_fits(world: Scripted) -> None:
    run = world.run()
    run.started(PID)
    os.write(run.stderr.child_fd, b"\1" * 3000)
    world.write(run, b"".join(b"%d-%b: %b\n" % (n, b"N" * 1200, b"\xff" * 1200) for n in range(9)) + HEAD
                     + b"\1" * 30_000)  # fmt: skip
    run.ended(PID, "exit status 0")
    report = world.report()
    assert size(report) <= MAX_MESSAGE
    assert {"body", "fields"} <= set(report["cut"])
    assert report["size"] == 30_000


def test_fields_of_which_all_are_long_fit(world: Scripted) -> None:
    lines = b"".join(b"X-%d: %b\r\n" % (number, b"\xff" * 2000) for number in range(29))
    report = world.end(b"HTTP/1.1 200 OK\r\n%b\r\nbody" % lines, url="/cgi-bin/nph-run.cgi")
    assert size(report) <= MAX_MESSAGE
    assert "fields" in report["cut"]
    assert (report["body"], report["status"]) == ("body", 200)


@pytest.mark.parametrize(("length", "cut"), [(2000, []), (2001, ["stderr"])])
def test_of_a_long_stderr_the_end_is_shown(world: Scripted, length: int, cut: list[str]) -> None:
    run = world.run()
    run.started(PID)
    os.write(run.stderr.child_fd, b"x" * (length - 4) + b"end\n")
    world.write(run, HEAD)
    run.ended(PID, "exit status 0")
    report = world.report()
    assert report["stderr"].endswith("xend")
    assert report["cut"] == cut


def test_of_a_long_body_the_beginning_is_shown(world: Scripted) -> None:
    report = world.end(HEAD + b"begin" + b"x" * 20_000)
    assert (len(report["body"]), report["size"], report["cut"]) == (8192, 20_005, ["body"])
    assert report["body"].startswith("begin")


# The way to a script


@pytest.mark.parametrize("path", ["/cgi%2Dbin/run.cgi", "/x/../cgi-bin//run%2ecgi", "/%63gi-bin/run.cgi"])
def test_a_path_in_other_words(world: Scripted, path: str) -> None:
    assert world.run(path).found.name == b"/cgi-bin/run.cgi"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/cgi-bin/nothing", "there is no 'nothing' (404)"),
        ("/cgi-bin/folder", "it is a folder (403)"),
        ("/cgi-bin/folder/", "it is a folder (403)"),
        ("/cgi-bin/indexed", "with a slash at the end (301)"),
        ("/cgi-bin/out/x", "'out' is a link that symlinks = \"inside\" does not let pass (404)"),
        ("/cgi-bin/nowhere", "'nowhere' is a link that leads nowhere"),
        ("/cgi-bin/fifo", "neither a file nor a folder"),
        ("/cgi-bin/.hidden/run.cgi", "begins with a dot"),
        ("/mixed/folder/", "it is a folder, which is answered"),
        ("/mixed/folder/a.txt", "it is a file, which is answered"),
        ("/mixed/folder/a.txt/more", "more follows behind a file"),
        ("/files/a", "directory[0] answers for it"),
        ("/elsewhere", "no mount answers for it (404)"),
        ("/cgi-bin/%zz", "malformed"),
        ("/../x", "climbs above the root"),
        ("http://a:81/cgi-bin/run.cgi", "on port 81"),
        ("run.cgi", "no URL"),
        ("ftp://a/b", "no URL"),
    ],
)
def test_what_is_no_script_is_named(world: Scripted, path: str, reason: str) -> None:
    assert reason in world.refusal(path)
    assert not world.scripts.active


def test_a_method_that_the_mount_does_not_have(root: Path) -> None:
    with scripted(root, methods=("GET",)) as world:
        assert world.refusal("/cgi-bin/run.cgi", "POST", b"data").endswith("is not among the methods of cgi[0] (405)")
        assert "(404)" in world.refusal("/cgi-bin/nothing", "POST")  # as for a request
        assert world.refusal("/cgi-bin/run.cgi") == ""


@pytest.mark.parametrize(
    ("method", "data", "length"),
    [("GET", b"", None), ("POST", b"", b"0"), ("PUT", b"", b"0"), ("POST", b"four", b"4"), ("DELETE", b"four", b"4")],
)
def test_the_length_of_the_body_is_that_of_the_request(
    world: Scripted, method: str, data: bytes, length: bytes | None
) -> None:
    run = world.run(method=method, data=data)
    assert run.environment.get(b"CONTENT_LENGTH") == length
    assert (run.child_fds[0] == world.scripts.null) == (not data)


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [("127.0.0.1", 8000, b"127.0.0.1:8000"), ("::1", 8000, b"[::1]:8000"), ("", 8000, b"localhost:8000")],
)
def test_the_host_is_what_a_client_would_say(world: Scripted, host: str, port: int, said: bytes) -> None:
    run = world.run(address=schema.Address("x", host=host, port=port))
    assert run.environment[b"HTTP_HOST"] == said


# Out of descriptors


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("data", [b"", b"four"])
def test_without_descriptors_there_is_an_answer(
    world: Scripted, monkeypatch: pytest.MonkeyPatch, left: int, data: bytes
) -> None:
    assert world.refusal("/cgi-bin/nothing")  # the root is open now
    before, real, pipes = descriptors(), os.pipe, [1] * left

    def pipe() -> tuple[int, int]:
        if not pipes:
            raise OSError(errno.EMFILE, "Too many open files")
        pipes.pop()
        return real()

    monkeypatch.setattr(os, "pipe", pipe)
    assert world.refusal("/cgi-bin/run.cgi", "POST", data).endswith("it can't be run: Too many open files")
    assert descriptors() == before
    assert not world.scripts.active
    assert world.reports == []


@pytest.mark.parametrize(
    ("output", "shown", "cut"),
    [
        (b"no head", "no head", []), (b"no head\n\nTraceback\xff", "no head\n\nTraceback\\xff", []),
        (b"no head\n\n" + b"x" * 20_000, "no head\n\n" + "x" * 8183, ["output"]), (HEAD + b"hello", "", []),
        (b"Location: /a\n\n", "", []),
    ],
    ids=["cut short", "no head", "long", "an answer", "a redirect"],
)  # fmt: skip
def test_output_that_is_no_answer(world: Scripted, output: bytes, shown: str, cut: list[str]) -> None:
    report = world.end(output)
    assert (report["output"], report["cut"]) == (shown, cut)
