"""Signs of life: which worker hangs.

A worker writes a number to the scoreboard whenever it has been awake.  One that has nothing to do writes nothing, so
from time to time it is asked; the question alone wakes it.  Who was asked and stays silent hangs.

    seen to change --patience/4--> asked --patience--> hung

Rules:

- Pure: figures and times come in, a judgement comes out.
- What is watched is the worker's loop, not its requests.
- Time in which the master itself did not run counts for nobody (`forgive`): the whole machine may
  have been asleep, frozen or overloaded.
- A worker that waited for a processor does not hang, it starves; killing it would make that worse.
"""

from __future__ import annotations

import enum

from httpd.master.children import Pulse
from httpd.system.usage import Usage

LOOKS = 4  # in the time that a worker may be silent; after the first it is asked
_STARVED = 0.25  # share of that time which it waited for a processor
_RAN = 0.1  # ... and which it ran at most


class Judgement(enum.Enum):
    FINE = "fine"
    ASK = "ask"
    HUNG = "hung"


def judge(pulse: Pulse, beat: int, now: float, patience: float) -> Judgement:
    """Look at a worker: `beat` is what it wrote last, `patience` the seconds that it may leave a question unanswered.

    Changes `pulse`.  After ASK the caller asks the worker and calls `asked`; before it believes HUNG, `starved`.
    """
    if beat != pulse.beat or not pulse.seen:
        pulse.beat, pulse.seen, pulse.asked = beat, now, 0.0
        return Judgement.FINE
    if pulse.asked:
        return Judgement.HUNG if now - pulse.asked >= patience else Judgement.FINE
    return Judgement.ASK if now - pulse.seen >= patience / LOOKS else Judgement.FINE


def asked(pulse: Pulse, now: float, usage: Usage | None) -> None:
    """Note that the worker was asked for a sign."""
    pulse.asked, pulse.usage = now, usage


def forgive(pulse: Pulse, now: float) -> None:
    """Begin anew: nothing that was not seen until now counts."""
    pulse.seen, pulse.asked = now, 0.0


def starved(pulse: Pulse, usage: Usage | None, now: float) -> bool:
    """Whether a worker that is silent since it was asked had no chance to answer."""
    before = pulse.usage
    if before is None or usage is None:
        return False
    seconds = now - pulse.asked
    return usage.waited - before.waited > seconds * _STARVED and usage.ran - before.ran < seconds * _RAN
