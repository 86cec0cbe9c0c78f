"""What the launcher keeps of its spawners, and of the workers that may ask for them."""

from __future__ import annotations

from dataclasses import dataclass, field

from httpd.cgi.messages import Mount, Receiver
from httpd.system.slots import Slots

_NEVER = float("inf")


@dataclass(slots=True, eq=False)
class Team:
    """The spawners of one mount: one for each few workers, as each waits while a program is being loaded."""

    mount: Mount
    slots: Slots
    places: Slots
    members: dict[int, Record] = field(default_factory=dict)
    generations: set[int] = field(default_factory=set)

    def dismiss(self) -> None:
        """No more for it: its members end with their last script."""
        self.slots.close()
        self.places.close()


@dataclass(slots=True, eq=False)
class Record:
    """A spawner."""

    team: Team
    pid: int
    pidfd: int | None
    receiver: Receiver
    pinged: float = _NEVER  # until when it has to answer
    leaving: bool = False  # nobody is sent to it any more

    @property
    def name(self) -> str:
        return f"the spawner of {self.team.mount.mount.key} (pid {self.pid})"


@dataclass(slots=True, eq=False)
class Worker:
    """A worker's end, and the generation whose mounts it may use."""

    receiver: Receiver
    generation: int
    number: int
