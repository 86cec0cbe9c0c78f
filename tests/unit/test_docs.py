"""What the manuals copy from the code, held against the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli

from httpd import cli
from httpd.config.load import load
from httpd.control import ctl, wire
from httpd.control.commands import COMMANDS, SIGNALS
from httpd.logs.access import compile_format
from httpd.master.children import TABLE, Event, State
from httpd.protocol.messages import REASONS
from httpd.protocol.receiver import ON_END_OF_INPUT, ON_TIMEOUT

HERE = Path(__file__).parents[2]
PAGES = [*HERE.glob("*.md"), *(HERE / "docs").glob("*.md")]


def rows(page: str, header: str) -> list[list[str]]:
    """The cells of the table of a page whose header line starts so."""
    lines = (HERE / "docs" / page).read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(header))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_the_states_of_a_worker() -> None:
    shown = {tuple(row) for row in rows("architecture.md", "| state | event |")}
    exits = {(state, Event.EXIT) for state in State}
    table = {
        (state.value, event.value, after.value, action.value)
        for (state, event), (after, action) in TABLE.items()
        if (state, event) not in exits
    }
    assert shown == table | {("any", "exit", "gone", "bury")}


def test_the_phases_of_a_connection() -> None:
    def text(status: int | None) -> str:
        return "close" if status is None else str(status)

    expected = [[f"`{phase.value}`", text(ON_TIMEOUT[phase]), text(ON_END_OF_INPUT[phase])] for phase in ON_TIMEOUT]
    assert rows("architecture.md", "| phase |") == expected


def test_every_signal_is_described() -> None:
    shown = {name for row in rows("control.md", "| signal |") for name in row[0].split(", ")}
    assert shown == {*SIGNALS, "all others"}


def test_every_command_is_described() -> None:
    text = (HERE / "docs" / "control.md").read_text()
    headings = set(re.findall(r"^### ([a-z, -]+?)(?: N| URL)?$", text, re.MULTILINE))
    assert {name for heading in headings for name in heading.split(", ")} >= set(COMMANDS)


def test_the_exit_codes() -> None:
    codes = [int(row[0]) for row in rows("control.md", "| exit code |")]
    assert codes == sorted(value for name, value in vars(cli).items() if name.startswith("EXIT_"))
    codes = [int(row[0]) for row in rows("control.md", "| code |")]
    assert codes == list(range(wire.ROLLED_BACK + 1))
    assert ctl.DONE == 0


def test_the_statuses_have_a_meaning() -> None:
    assert all(int(row[0]) in REASONS for row in rows("http.md", "| status |"))


def blocks() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, text in enumerate(re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)):
            yield f"{page.name}-{number}", text


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in blocks()])
def test_a_configuration_that_is_shown_is_good(text: str, tmp_path: Path) -> None:
    path = tmp_path / "shown.toml"
    path.write_text(text)
    assert tomli.loads(text)
    assert load(str(path), compile_format, euid=0).config.vhosts


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
