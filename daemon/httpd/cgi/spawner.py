"""A process that starts scripts of one mount, and sees to their end.

    worker: Run --> (Queued) --> examined --> Started --> Ended
                       +------------+--> Declined

Rules:

- It has become the scripts' user before it hears the first word, and can't go back.  It is told by workers which script
  to run, and looks at that script itself: a worker that was taken over can start nothing that the mount does not have.
- `concurrency` and `queue` are counted by all spawners of a mount together, so they hold over all workers.
- A script is ended by TERM to its process group, and KILL to what is left of it `GRACE` seconds later.  Whoever asked
  for it being gone, by an end of its worker too, is a reason.
- Without its launcher it takes nothing new, says so, and ends with its last script.
- No threads, and nothing in the loop waits: the current folder and the limits of this process are those of the program
  that is being started.
"""

from __future__ import annotations

import os
import resource
import socket
import time
import traceback
from collections.abc import Mapping

from httpd.cgi.checks import Refused
from httpd.cgi.dying import GRACE, Dying
from httpd.cgi.ends import Ends
from httpd.cgi.jobs import Client, Job, base_environment
from httpd.cgi.messages import (
    Admit,
    Declined,
    Ended,
    Leaving,
    Note,
    Ping,
    Pong,
    Queued,
    Receiver,
    Run,
    Started,
    Stop,
    ToSpawner,
    send,
)
from httpd.cgi.preparing import Preparation
from httpd.cgi.process import Launch, explain, start
from httpd.cgi.waiting import Waiting
from httpd.cgi.warm_interpreters import WarmInterpreters
from httpd.config import schema
from httpd.system.limits import raise_nofile
from httpd.system.pairs import EOF, BadMessage
from httpd.system.slots import Slots
from httpd.system.watching import Watching

_FDS_PER_RUN = 4
_SPARE_FDS = 256
_LAST_ROUNDS = 5.0  # seconds that a spawner whose workers are gone waits for what it has killed
_TELL = 0.01  # seconds behind which a worker is told of the end of a run that was short
_MOST_UNSENT = 10_000  # messages to a worker
_SHOWN = 200  # characters of a defect
_STALL = 1.0  # seconds by which a round is late that say: this process stood still, and others may have
_NEVER = float("inf")


class Spawner:
    """One mount's."""

    def __init__(self, mount: schema.Cgi, launcher: socket.socket, environ: Mapping[bytes, bytes], slots: Slots,
                 places: Slots, *, nofile: int, switched: bool) -> None:  # fmt: skip
        """`environ` is what the server was started with, `nofile` the soft limit on open files that it had then;
        `slots` are for scripts that run, `places` for requests that wait; `switched`: this process became another
        user."""
        self._mount = mount
        self._slots = slots
        self._launcher = Receiver(launcher, ToSpawner)
        self._watching = Watching(self._failed)
        self.watch, self.forget = self._watching.watch, self._watching.forget
        self._clients: set[Client] = set()
        self._waiting = Waiting(places, mount.concurrency)
        self._running = 0
        self._nested = False
        self._dying = Dying()
        self._ends = Ends(self, mount.concurrency)
        self._tell_at = _NEVER  # when to tell of short runs' ends
        self._leaving = False
        self._leave_by = _NEVER
        base = base_environment(mount, environ)
        self._preparation = Preparation(mount, base, switched=switched)
        self._soft, self._hard = nofile, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        raise_nofile(_FDS_PER_RUN * (2 * mount.concurrency + mount.queue) + _SPARE_FDS)
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._limit = None if self._soft == raised else (self._soft, raised, self._hard)
        self._warm = WarmInterpreters(mount, base, self._soft, self) if mount.warm_python else None
        self.watch(launcher.fileno(), self._on_launcher)

    def run(self) -> None:
        """Serve until nobody needs it any more."""
        while not self._over():
            due = self._warm.due if self._warm is not None else _NEVER
            due = min(due, self._leave_by, self._tell_at, self._ends.due, self._waiting.due, self._dying.due)
            self._watching.round(due)
            now = time.monotonic()
            if now > due + _STALL and self._warm is not None:
                self._warm.postpone(now - due)
            self._dying.look(now)
            self._ends.look(now)
            if now >= self._waiting.due:
                self._refuse_late(now)
            if self._warm is not None:
                self._warm.look(now)
            if now >= self._tell_at:
                self._tell_at = _NEVER
                for client in self._clients:
                    client.tell_ends()
        if self._warm is not None:
            self._warm.kill()

    def _failed(self, error: Exception) -> None:
        """What runs is to be seen to its end, whatever one message has done."""
        for client in self._clients:
            client.tell(Declined(0, 500, f"defect in a spawner: {error!r}"[:_SHOWN], alarm=True))
        traceback.print_exception(error)

    def _over(self) -> bool:
        if not self._leaving:
            return False
        if not self._clients and self._leave_by == _NEVER:
            self._leave_by = time.monotonic() + GRACE + _LAST_ROUNDS
        idle = not self._running and not self._waiting
        return (idle and not self._clients) or time.monotonic() >= self._leave_by

    # What the launcher says

    def _on_launcher(self) -> None:
        try:
            received = self._launcher.next()
        except BadMessage:
            return
        if received is None:
            return
        if received is EOF:
            self._leave()
            return
        message, fds = received
        if isinstance(message, Ping):
            send(self._launcher.sock, Pong())
        elif isinstance(message, Admit) and len(fds) == 1:
            client = Client(Receiver(socket.socket(fileno=fds.pop()), ToSpawner), self._wait_for_room)
            self._clients.add(client)
            self.watch(client.receiver.sock.fileno(), lambda: self._on_client(client))
        for fd in fds:
            os.close(fd)

    def _leave(self) -> None:
        self._leaving = True
        self.forget(self._launcher.sock.fileno())
        for client in self._clients:
            client.tell(Leaving())

    def _wait_for_room(self, client: Client) -> None:
        self._watching.wait_for_room(client.receiver.sock.fileno())

    # What workers say

    def _on_client(self, client: Client) -> None:
        if client.unsent:
            if client.flush():
                self._watching.wait_for_room(client.receiver.sock.fileno(), room=False)
            elif len(client.unsent) > _MOST_UNSENT:
                self._lose(client)  # it does not read, and goes on asking
                return
        try:
            received = client.receiver.next()
        except BadMessage as error:
            client.tell(Declined(0, 500, f"bad message to a spawner: {error}", alarm=True))
            return
        if received is None:
            return
        if received is EOF:
            self._lose(client)
            return
        message, fds = received
        if isinstance(message, Run) and len(fds) == 3 and message.number not in client.jobs:
            self._take(Job(client, message, fds))
            return
        for fd in fds:
            os.close(fd)
        if isinstance(message, Stop):
            job = client.jobs.get(message.number)
            if job is not None:
                self._stop(job)
        else:
            client.tell(Declined(0, 500, "a message to a spawner that is none", alarm=True))

    def _lose(self, client: Client) -> None:
        self.forget(client.receiver.sock.fileno())
        self._clients.discard(client)
        client.receiver.sock.close()  # before what is said of its runs
        for job in list(client.jobs.values()):
            self._stop(job)

    def _take(self, job: Job) -> None:
        job.client.jobs[job.run.number] = job
        if not self._waiting and self._take_slot():
            self._start(job)
        elif self._waiting.add(job, time.monotonic()):
            job.client.tell(Queued(job.run.number))
            if len(self._waiting) == 1 and self._slots.fd >= 0:
                self.watch(self._slots.fd, self._next)
        else:
            self._refuse(job)

    def _refuse(self, job: Job) -> None:
        mount = self._mount
        self._forget(job, 503, f"{mount.concurrency} scripts run and {mount.queue} wait")

    def _refuse_late(self, now: float) -> None:
        for job in self._waiting.late(now):
            self._refuse(job)
        self._look_at_queue()

    def _forget(self, job: Job, status: int, reason: str) -> None:
        """It never had a slot."""
        job.close_fds()
        job.client.jobs.pop(job.run.number, None)
        job.client.tell(Declined(job.run.number, status, reason))

    def _take_slot(self) -> bool:
        if self._slots.take():
            return True
        self._ends.collect()  # one may be over, and nobody has looked
        return self._slots.take()

    # Runs

    def _start(self, job: Job) -> None:
        """Start it; it has a slot."""
        self._running += 1
        try:
            launch = self._preparation.launch(job)
        except Refused as refused:
            self.decline(job, refused.status, refused.reason)
        except OSError as error:  # it has become another one while it was looked at
            self.decline(job, 500, explain(error, b""))
        else:
            self.resume(job, launch)

    def resume(self, job: Job, launch: Launch) -> None:
        """Start what may run; once more, if what was to run it has ended before it did."""
        job.warm = None
        try:
            if self._warm is not None and self._warm.start(job, launch):
                return
            job.pid = start(launch, self._mount.limits, self._limit)
        except OSError as error:
            self.decline(job, 500, explain(error, launch.file))
        else:
            self.started(job)

    def started(self, job: Job) -> None:
        """It runs, whoever started it."""
        job.close_fds()
        self._ends.add(job)

    def delayed(self, job: Job) -> None:
        """It has a slot, and what is to run it is not ready."""
        job.client.tell(Queued(job.run.number, ready=False))

    def note(self, text: str) -> None:
        """Something for the error log, which is not one request's."""
        send(self._launcher.sock, Note("error", text[:_SHOWN]))

    def announce(self, job: Job) -> None:
        """It has run for a moment."""
        job.announced = True
        job.client.tell(Started(job.run.number, job.pid))

    def decline(self, job: Job, status: int, reason: str) -> None:
        """It will not run, although it had a slot."""
        job.close_fds()
        job.client.jobs.pop(job.run.number, None)
        self._dying.discard(job)
        self._free()
        job.client.tell(Declined(job.run.number, status, reason))

    def ended(self, job: Job, how: str) -> None:
        """A run is over, whoever started it."""
        job.over = True
        self._dying.discard(job)
        job.client.jobs.pop(job.run.number, None)
        job.client.ends.append(Ended(job.run.number, job.pid, how))
        if job.announced or job.stopping:
            job.client.tell_ends()
        else:
            self._tell_at = min(self._tell_at, time.monotonic() + _TELL)
        self._free()

    def _free(self) -> None:
        """A slot is free again."""
        self._running -= 1
        self._slots.give()
        if self._waiting and not self._nested:
            self._nested = True  # what is started may be declined at once
            try:
                self._next()
            finally:
                self._nested = False

    def _next(self) -> None:
        """Start what waits, as far as there are slots."""
        while self._waiting and self._slots.take():
            job = self._waiting.next()
            self._look_at_queue()
            self._start(job)

    def _look_at_queue(self) -> None:
        if not self._waiting and self._slots.fd >= 0:
            self.forget(self._slots.fd)

    def _stop(self, job: Job) -> None:
        if job.client.jobs.get(job.run.number) is not job:
            return  # the end of another one was its own
        if not job.pid and job in self._waiting:
            self._waiting.remove(job)
            self._look_at_queue()
            self._forget(job, 503, "it was told to forget it")
        elif not job.stopping:
            self._ends.watch(job)
            self._dying.add(job, time.monotonic())
