"""The process title: what ps and top show.  It is for people; nothing is read back from it."""

from __future__ import annotations

import setproctitle


def set_title(text: str) -> None:
    """Show `text` as the command line of this process."""
    setproctitle.setproctitle(text)
