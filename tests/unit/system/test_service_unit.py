"""systemd/httpd.service against the code that it has to fit, and against systemd's own judgement."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from httpd.system import privileges

UNIT = Path(__file__).parents[3] / "systemd" / "httpd.service"


def settings() -> list[tuple[str, str]]:
    lines = [line for line in UNIT.read_text().splitlines() if line and line[0] not in "#["]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def values(name: str) -> list[str]:
    return " ".join(value for key, value in settings() if key == name).split()


def test_the_capabilities_are_those_the_master_keeps() -> None:
    assert sorted(values("CapabilityBoundingSet")) == sorted(privileges.KEPT)


@pytest.mark.parametrize(
    "name",
    ["NoNewPrivileges", "RestrictSUIDSGID", "MemoryDenyWriteExecute", "DynamicUser", "User", "ProtectProc"],
)
def test_what_would_break_scripts_is_not_set(name: str) -> None:
    assert values(name) == []


def test_no_start_is_tried_again_that_must_fail_again() -> None:
    assert values("RestartPreventExitStatus") == ["64", "77", "78"]


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    text = UNIT.read_text()
    for command in values("ExecStart")[:1] + values("ExecReload")[:1]:
        text = text.replace(f"{command} ", f"{shutil.which('true')} ")  # not installed here
    # Manual pages of a program that is not installed can't be found either.
    copy = tmp_path / "httpd.service"
    copy.write_text("".join(line for line in text.splitlines(True) if not line.startswith("Documentation=")))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "httpd" in line]
    assert (done.returncode, complaints) == (0, [])
