"""What the master tells about itself: the objects and texts of `status` and `reload`."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from httpd import __version__
from httpd.config import schema
from httpd.control.wire import DONE, ROLLED_BACK, Outcome
from httpd.master.children import Child, State
from httpd.master.generations import Generation
from httpd.master.losses import Losses
from httpd.system.usage import footprint, listen_overflows

_VERDICTS = {DONE: "done", ROLLED_BACK: "rolled back"}
_SHOWN = 5  # replaced workers in the status for people


def status(
    active: Generation | None,
    generations: Sequence[Generation],
    last_reload: Mapping[str, object],
    losses: Losses,
    since: float,
    uptime: float,
    *,
    stopping: bool,
    launcher: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """The object of `httpd-ctl status --json`.

    `since` is when the server started, in seconds since the epoch.  `uptime` is in seconds too, and has nothing to do
    with the clock on the wall.
    """
    now = time.monotonic()
    workers = [_worker(generation, child, now) for generation in generations for child in generation.children]
    state = "stopping" if stopping else "starting" if active is None else "running"
    if state == "running" and active is not None and active.serving() < len(active.slots):
        state = "degraded"
    slots = [] if active is None else active.slots
    return {
        "version": __version__,
        "pid": os.getpid(),
        "state": state,
        "generation": 0 if active is None else active.number,
        "uptime": round(uptime, 3),
        "started": since,
        "config": "" if active is None else active.config.path,
        "script": "" if active is None or active.config.script is None else active.config.script.path,
        "listeners": [] if active is None or stopping else active.listener_names,
        "last_reload": dict(last_reload) or None,
        "wanted_workers": len(slots),
        "restarts": sum(slot.restarts for slot in slots),
        "last_exits": [{"slot": slot.number, "reason": slot.last_exit} for slot in slots if slot.last_exit],
        "replaced": losses.count,
        "replacements": [dataclasses.asdict(loss) for loss in losses.last],
        "queues": [
            {"listener": name, "waiting": waiting, "limit": limit}
            for listener in (active.listeners if active is not None and not stopping else ())
            for name, waiting, limit in listener.queues
        ],
        "listen_overflows": listen_overflows(),
        "launcher": None if launcher is None else dict(launcher),
        "workers": sorted(workers, key=lambda worker: (worker["generation"], worker["slot"])),
    }


def _worker(generation: Generation, child: Child, now: float) -> dict[str, Any]:
    figures = generation.scoreboard.read(child.board)
    cpu, memory = footprint(child.pid)
    return {
        "pid": child.pid,
        "slot": child.slot,
        "generation": generation.number,
        "state": child.state.value,
        "uptime": round(now - child.started, 3),
        "requests": figures.requests,
        "connections": figures.connections,
        "scripts": figures.scripts,
        "accepted": figures.accepted,
        "dropped_log_lines": figures.dropped_lines,
        "cpu": cpu,
        "memory": memory,
    }


def status_text(data: Mapping[str, Any]) -> str:
    """`status` for people."""
    lines = [
        "httpd {version}, pid {pid}: {state}, generation {generation}, up {up}".format(
            up=_span(data["uptime"]), **data
        ),
        f"config    {data['config'] or data['script'] or '(none: a folder on the command line)'}",
        f"listening {', '.join(data['listeners']) or '-'}",
    ]
    lines += _script_lines(data)
    reload = data["last_reload"]
    if reload:
        verdict = _VERDICTS.get(reload["code"], "refused")
        first, *_ = reload["text"].splitlines() or [""]
        lines.append(f"reload    {verdict} {_ago(reload['at'])}: {first}")
    lines += [
        f"replaced  worker {loss['slot']} of generation {loss['generation']} {_ago(loss['at'])}: "
        f"{loss['reason']}"
        for loss in data["replacements"][-_SHOWN:]
    ]
    hidden = data["replaced"] - min(_SHOWN, len(data["replacements"]))
    lines += [f"          and {hidden} before"] if hidden else []
    lines.append(f"{'worker':>6} {'gen':>4} {'pid':>8}  {'state':<9} {'up':>8} {'requests':>10} {'open':>6} "
                 f"{'cpu':>8} {'memory':>9}")  # fmt: skip
    return "\n".join(lines + [_worker_line(worker) for worker in data["workers"]])


def _script_lines(data: Mapping[str, Any]) -> list[str]:
    launcher = data["launcher"]
    if launcher is None:
        return []
    there = f"launcher pid {launcher['pid']}, up {_span(launcher['uptime'])}" if launcher["pid"] else "no launcher now"
    count = launcher["replaced"]
    lost = f", replaced {count} time{'s' if count > 1 else ''}" if count else ""
    return [f"scripts   {sum(worker['scripts'] for worker in data['workers'])} run or wait; {there}{lost}"]


def _worker_line(worker: Mapping[str, Any]) -> str:
    return (
        f"{worker['slot']:>6} {worker['generation']:>4} {worker['pid']:>8}  {worker['state']:<9} "
        f"{_span(worker['uptime']):>8} {worker['requests']:>10} {worker['connections']:>6} "
        f"{worker['cpu']:>7.2f}s {worker['memory'] / 2**20:>6.1f} MiB"
    )


def _ago(at: float) -> str:
    """`at` is in seconds since the epoch; the clock may have been set back since."""
    return f"{_span(max(0.0, time.time() - at))} ago"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.1f}s"


def status_line(active: Generation | None, last_reload: Mapping[str, object]) -> str:
    """One line for `systemctl status`."""
    if active is None:
        return "not serving"
    text = f"generation {active.number}, {active.serving()} workers on {', '.join(active.listener_names)}"
    if not last_reload or last_reload["ok"]:
        return text
    return f"{text}; last reload {'rolled back' if last_reload['code'] == ROLLED_BACK else 'refused'}"


def changes(before: Generation | None, after: Generation | None) -> list[str]:
    """What a reload changed, one line each."""
    if before is None or after is None:
        return []
    old, new = before.config, after.config
    found = [
        *_set_change("listener", [a.text for a in old.server.listen], [a.text for a in new.server.listen]),
        *_vhost_changes(old.vhosts, new.vhosts),
    ]
    if len(before.slots) != len(after.slots):
        found.append(f"workers: {len(before.slots)} -> {len(after.slots)}")
    for name in ("server", "timeouts", "limits", "log"):
        found += _table_changes(name, getattr(old, name), getattr(new, name))
    return found


def _set_change(noun: str, old: Sequence[str], new: Sequence[str]) -> list[str]:
    return [f"{noun} added: {text}" for text in new if text not in old] + [
        f"{noun} removed: {text}" for text in old if text not in new
    ]


def _vhost_changes(old: Sequence[schema.Vhost], new: Sequence[schema.Vhost]) -> list[str]:
    before = {_vhost_name(vhost): vhost for vhost in old}
    after = {_vhost_name(vhost): vhost for vhost in new}
    found = _set_change("vhost", list(before), list(after))
    for name in [name for name in after if name in before]:
        mounts_before = {mount.path: mount for mount in before[name].mounts}
        mounts_after = {mount.path: mount for mount in after[name].mounts}
        found += _set_change(f"vhost {name}: mount", list(mounts_before), list(mounts_after))
        found += [
            f"vhost {name}: mount changed: {path}" for path in mounts_after
            if path in mounts_before and _without_key(mounts_before[path]) != _without_key(mounts_after[path])
        ]  # fmt: skip
        if (before[name].settings, before[name].listen) != (after[name].settings, after[name].listen):
            found.append(f"vhost {name}: settings changed")
    return found


def _vhost_name(vhost: schema.Vhost) -> str:
    return vhost.names[0] if vhost.names else "(default)"


def _without_key(mount: schema.Mount) -> dict[str, object]:
    return {name: getattr(mount, name) for name in mount.__struct_fields__ if name != "key"}


def _table_changes(name: str, old: Any, new: Any) -> list[str]:
    return [
        f"{name}.{field}: {getattr(old, field)!r} -> {getattr(new, field)!r}" for field in old.__struct_fields__
        if field not in ("listen", "workers") and getattr(old, field) != getattr(new, field)
    ]  # fmt: skip


def reload_text(
    after: Generation | None, found: Sequence[str], seconds: float, marks: Sequence[tuple[str, float]]
) -> str:
    """What `httpd-ctl reload` prints when it worked."""
    number = 0 if after is None else after.number
    steps = ", ".join(f"{step} {took * 1000:.0f} ms" for step, took in marks)
    lines = [f"reloaded: generation {number} serves after {seconds * 1000:.0f} ms ({steps})"]
    return "\n".join(lines + [f"  {change}" for change in found or ["nothing changed in the configuration"]])


def settled(generation: Generation, count: int, leaving: Sequence[Child]) -> Outcome | None:
    """The outcome of a changed worker count, once the new ones serve and the others are gone."""
    if generation.serving() == count and all(child.state is State.GONE for child in leaving):
        return Outcome(DONE, f"{count} workers", {"workers": count})
    return None
