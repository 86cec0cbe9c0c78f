"""What scripts leave behind: processes whose parent has ended become children of their spawner (a subreaper, Linux).

    spawner ends --launcher there--> the launcher has them, and ends them with the server
             +-----launcher gone---> it stays for them, until they or the master have gone, and ends them then

Rules:

- They are nobody's run: nothing waits for them, and a reload does not touch them.
- That one is there is found out behind a run's end, a moment later, and then from time to time; where nothing has run
  nothing is looked for, so an idle spawner sleeps.
- A child that is a run's, or a warm interpreter, is not collected here: its status is for others.
"""

from __future__ import annotations

import os
import select

from httpd.system import children
from httpd.system.reaping import become_subreaper, child_pids, end_children

_SOON = 1.0  # seconds behind a run's end
_AGAIN = 5.0  # seconds between two looks where there are some
_NEVER = float("inf")


class Strays:
    """Those of one spawner."""

    def __init__(self, master: int) -> None:
        """`master` is the master's pidfd; -1: there is none to be had, and nobody is waited for."""
        self._master = master
        self._launcher = os.getppid()
        self.due = _NEVER  # when to look, monotonic seconds
        become_subreaper()

    def ran(self, now: float) -> None:
        """A run has ended."""
        if self.due == _NEVER:
            self.due = now + _SOON

    def look(self, now: float, known: set[int]) -> bool:
        """Collect those that have ended; whether there are others.  `known`: children that are none."""
        children.reap_strangers(known)
        there = not known >= set(child_pids())
        self.due = now + _AGAIN if there else _NEVER
        return there

    def detain(self, now: float, known: set[int]) -> bool:
        """Whether a spawner that nobody needs any more has to stay for them; where the master has gone it ends them."""
        if self._master < 0 or os.getppid() == self._launcher or not self.look(now, known):
            return False
        if select.select([self._master], [], [], 0)[0]:
            end_children()
            return False
        return True

    @property
    def signs(self) -> int:
        """A descriptor that tells of the master's end; -1: there is none."""
        return self._master
