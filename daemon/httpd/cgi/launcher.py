"""The process between the master and the spawners: as root the only one that can become a script's user.

    master: Mount, Admit, Drop --> tables, one for each generation
    worker: Ask(mount) --> is it in the table of its generation? --> spawner, made when first asked for --> Door

Rules:

- It is small, has no threads, reads no request and starts no program: it forks spawners, which become their users
  before they hear a word from a worker.
- A worker gets a door to the mounts of its own generation and to nothing else; what else it says is noted.
- Mounts that are the same in two generations share their spawner, so `concurrency` holds over a reload.
- Without the master it ends with the last worker: spawners see that, and end their scripts.
- Who has lost all parents among the scripts becomes a child of this process (a subreaper), and is ended with it; where
  this process was killed, a child of the master, which ends it with the server.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping

from httpd.cgi.dying import GRACE
from httpd.cgi.messages import (
    Admit,
    Ask,
    Door,
    Drop,
    Message,
    Mount,
    Note,
    Ping,
    Pong,
    Receiver,
    Shut,
    Suspect,
    ToLauncher,
    ToMaster,
    send,
)
from httpd.cgi.spawner import Spawner
from httpd.cgi.teams import Record, Team, Worker
from httpd.system import children, pairs, privileges, signals
from httpd.system.descriptors import close_all_but
from httpd.system.limits import raise_nofile, usable_cpus
from httpd.system.pairs import EOF, BadMessage
from httpd.system.reaping import become_subreaper, end_children
from httpd.system.slots import SHARED, Slots
from httpd.system.title import set_title
from httpd.system.watching import Watching

_PONG_SECONDS = 2.0  # that a spawner has to show that it lives
_LEAVE_SECONDS = 10.0  # ... when it has nothing new to do, and nobody waits for it
_END_SECONDS = GRACE + 1.5  # that spawners have behind the master's word, until what is left of them is killed
_IGNORED = ("HUP", "USR1", "USR2", "TTIN", "TTOU", "WINCH", "INT", "QUIT", "TERM")
# Spawners of a mount; a worker has always the same one.  Where they can't count together there is one.
_MEMBERS = min(8, usable_cpus()) if SHARED else 1
_FDS, _FDS_PER_MOUNT = 1024, 2 + 2 * _MEMBERS  # open files: for workers and the rest; slots, spawners with their pidfds
_SHOWN = 200  # characters of a defect
_NEVER = float("inf")


class Launcher:
    """See the head of this file."""

    def __init__(self, master: socket.socket, environ: Mapping[bytes, bytes], nofile: int) -> None:
        """`nofile` is the soft limit on open files that scripts are to have."""
        self._nofile = nofile
        self._master = Receiver(master, ToLauncher)
        self._environ = environ
        self._watching = Watching(self._failed)
        self._tables: dict[int, dict[str, Mount]] = {}
        self._teams: list[Team] = []
        self._spawners: list[Record] = []
        self._workers: set[Worker] = set()
        self._wakeup = signals.Wakeup()
        self._wakeup.install(("CHLD",))
        self._end_by = _NEVER
        self._ending = False
        self._watching.watch(master.fileno(), self._on_master)
        self._watching.watch(self._wakeup.fd, self._on_child)

    def run(self) -> None:
        """Serve until the master is gone, and then until the spawners are."""
        while not self._over():
            self._watching.round(min([self._end_by, *(record.pinged for record in self._spawners)]))
            self._look_at_silent(time.monotonic())
        for record in self._spawners:
            children.kill(record.pid, record.pidfd, signal.SIGKILL)
        end_children()

    def _failed(self, error: Exception) -> None:
        """One message must not take the scripts of all from the others."""
        self._note("error", f"defect in the launcher: {error!r}"[:_SHOWN])
        traceback.print_exception(error)

    def _over(self) -> bool:
        """The master is gone, and so are the workers, and the spawners or their time."""
        return self._end_by < _NEVER and (not self._spawners or time.monotonic() >= self._end_by)

    def _note(self, level: str, text: str) -> None:
        send(self._master.sock, Note(level, text))  # type: ignore[arg-type]  # one of the four, everywhere here

    # What the master says

    def _on_master(self) -> None:
        try:
            received = self._master.next()
        except BadMessage as error:
            self._note("error", f"bad message to the launcher: {error}")
            return
        if received is None:
            return
        if received is EOF:
            self._end()
            return
        message, fds = received
        match message:
            case Mount():
                self._tables.setdefault(message.generation, {})[message.mount.key] = message
                raise_nofile(_FDS + _FDS_PER_MOUNT * sum(map(len, self._tables.values())))
            case Admit() if len(fds) == 1:
                worker = Worker(Receiver(socket.socket(fileno=fds.pop()), ToLauncher), message.generation,
                                message.worker)  # fmt: skip
                self._workers.add(worker)
                self._watching.watch(worker.receiver.sock.fileno(), lambda: self._on_worker(worker))
            case Drop():
                self._drop(message.generation)
            case Ping():
                send(self._master.sock, Pong())
            case _:
                self._note("error", f"unknown message to the launcher: {type(message).__name__}")
        for fd in fds:
            os.close(fd)

    def _drop(self, generation: int) -> None:
        self._tables.pop(generation, None)
        for team in list(self._teams):
            team.generations.discard(generation)
            if not team.generations:
                self._dismiss(team)

    def _dismiss(self, team: Team) -> None:
        self._teams.remove(team)
        for record in team.members.values():
            self._let_go(record)
        team.dismiss()

    def _let_go(self, record: Record) -> None:
        """Hang up, when it has shown that it lives: of one that stands still nobody would hear any more."""
        if record.receiver.sock.fileno() < 0:
            return
        record.leaving = True
        if send(record.receiver.sock, Ping()):
            record.pinged = min(record.pinged, time.monotonic() + _LEAVE_SECONDS)
        else:
            self._hang_up(record)

    def _hang_up(self, record: Record) -> None:
        """It ends when its last worker has gone."""
        if record.receiver.sock.fileno() >= 0:
            self._watching.forget(record.receiver.sock.fileno())
            record.receiver.sock.close()

    def _end(self) -> None:
        """The master is gone.  Where it has died its workers finish what they have begun, with their scripts."""
        self._ending = True
        self._watching.forget(self._master.sock.fileno())
        self._end_without_workers()

    def _end_without_workers(self) -> None:
        if self._ending and not self._workers:
            self._end_by = time.monotonic() + _END_SECONDS
            for record in self._spawners:
                self._hang_up(record)

    # What workers say

    def _on_worker(self, worker: Worker) -> None:
        try:
            received = worker.receiver.next()
        except BadMessage as error:
            self._note("error", f"worker {worker.number} sent the launcher what is no message: {error}")
            return
        if received is None:
            return
        if received is EOF:
            self._workers.discard(worker)
            self._watching.forget(worker.receiver.sock.fileno())
            worker.receiver.sock.close()
            self._end_without_workers()
            return
        message, fds = received
        for fd in fds:
            os.close(fd)
        if not isinstance(message, Ask | Suspect) or fds:
            self._note("error", f"worker {worker.number} sent the launcher what workers never send: refused")
            return
        wanted = self._tables.get(worker.generation, {}).get(message.mount)
        if wanted is None:
            self._note("error", f"worker {worker.number} asked for scripts that its generation does not have: refused")
            send(worker.receiver.sock, Shut(message.mount[:200], "not a mount of its generation"))
            return
        team = next((known for known in self._teams if _same(known.mount, wanted)), None)
        record = None if team is None else team.members.get(worker.number % _MEMBERS)
        if isinstance(message, Ask):
            self._open_door(worker, wanted, team, record)
        elif record is not None and record.pinged == _NEVER:
            record.pinged = time.monotonic() + _PONG_SECONDS
            send(record.receiver.sock, Ping())

    def _open_door(self, worker: Worker, wanted: Mount, team: Team | None, record: Record | None) -> None:
        try:
            if team is None:
                team = Team(wanted, Slots(wanted.mount.concurrency), Slots(wanted.mount.queue))
                self._teams.append(team)
            if record is None:
                record = team.members[worker.number % _MEMBERS] = self._fork(team)
            team.generations.add(worker.generation)
            ours, theirs = pairs.control_pair()
        except OSError as error:
            self._note("error", f"no spawner for {wanted.mount.key}: {error.strerror}")
            send(worker.receiver.sock, Shut(wanted.mount.key, str(error.strerror)))
            return
        with ours, theirs:
            admitted = send(record.receiver.sock, Admit(worker.generation, worker.number), [ours.fileno()])
            answer: Message = Door(wanted.mount.key) if admitted else Shut(wanted.mount.key, "its spawner is gone")
            send(worker.receiver.sock, answer, [theirs.fileno()] if admitted else [])

    # Spawners

    def _fork(self, team: Team) -> Record:
        ours, theirs = pairs.control_pair()
        try:
            with signals.blocked_signals():
                pid = os.fork()
                if pid == 0:
                    _become_spawner(team, theirs, self._environ, self._nofile)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        record = Record(team, pid, children.watch(pid), Receiver(ours, ToMaster))
        self._spawners.append(record)
        self._watching.watch(ours.fileno(), lambda: self._on_spawner(record))
        return record

    def _on_spawner(self, record: Record) -> None:
        with contextlib.suppress(BadMessage):
            received = record.receiver.next()
            if received is EOF:
                self._watching.forget(record.receiver.sock.fileno())
            elif received is not None:
                message, fds = received
                for fd in fds:
                    os.close(fd)
                if isinstance(message, Note):
                    self._note("error", f"{record.name}: {message.text}"[: 2 * _SHOWN])
                else:
                    record.pinged = _NEVER
                    if record.leaving:
                        self._hang_up(record)

    def _look_at_silent(self, now: float) -> None:
        for record in self._spawners:
            if now >= record.pinged:
                record.pinged = _NEVER
                self._note("error", f"{record.name} does not answer: killed")
                children.kill(record.pid, record.pidfd, signal.SIGKILL)

    def _on_child(self) -> None:
        self._wakeup.take()
        for record in list(self._spawners):
            status = children.reap(record.pid, record.pidfd)
            if status is None:
                continue
            self._spawners.remove(record)
            if record.receiver.sock.fileno() >= 0:
                self._hang_up(record)
                if record.team in self._teams:  # what it had counted is lost: the others go with it
                    self._dismiss(record.team)
                level = "error" if status.code != 0 else "info"
                self._note(level, f"{record.name} has ended: {status.text}")
            if record.pidfd is not None:
                os.close(record.pidfd)
        children.reap_strangers({record.pid for record in self._spawners})


def _same(one: Mount, other: Mount) -> bool:
    """Whether scripts of the one may be run by the spawner of the other."""
    return one.mount == other.mount and one.identity == other.identity


def _become_spawner(team: Team, channel: socket.socket, environ: Mapping[bytes, bytes], nofile: int) -> None:
    """In the child: does not return."""
    code = 70
    gc.freeze()
    try:
        signals.reset_dispositions()
        signals.ignore(_IGNORED[:-1])
        wanted, mount = team.mount, team.mount.mount
        who = "" if wanted.identity is None else f" as {wanted.identity.user}"
        set_title(f"httpd: spawner {mount.path}{who}")
        close_all_but((channel.fileno(), team.slots.fd, team.places.fd))
        os.setsid()  # scripts are in it: they have no terminal
        os.umask(os.umask(0o077) | 0o022)
        if wanted.identity is not None:
            privileges.drop(wanted.identity, no_new_privs=False)
        switched = wanted.identity is not None
        Spawner(mount, channel, environ, team.slots, team.places, nofile=nofile, switched=switched).run()
        code = 0
    except privileges.PrivilegeError as error:
        sys.stderr.write(f"httpd: spawner of {team.mount.mount.key}: {error}\n")
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def launch(channel: socket.socket, environ: Mapping[bytes, bytes]) -> None:
    """Be the launcher.  Called in the child right after the fork; does not return."""
    code = 70
    gc.freeze()  # what came from the master stays shared: a collection would write to all of it
    try:
        signals.reset_dispositions()
        signals.ignore(_IGNORED)
        set_title("httpd: launcher")
        os.chdir("/")
        close_all_but((channel.fileno(),))
        become_subreaper()
        Launcher(channel, environ, resource.getrlimit(resource.RLIMIT_NOFILE)[0]).run()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
