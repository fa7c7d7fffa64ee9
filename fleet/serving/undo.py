"""Undoing a change that failed: what served is put back, and what is there afterwards is said."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import docker.errors
import requests

from fleet.errors import FleetError, HostError, LostError, UnreachableError
from fleet.serving import observe, routing, vram
from fleet.serving.context import Context
from fleet.serving.steps import (
    Change,
    Create,
    DrainBack,
    DrainIdle,
    DrainOut,
    FreeVram,
    Remove,
    SaveLogs,
    Start,
    Step,
    Wait,
    WriteSecrets,
)

SHOWN = 12  # lines of a saved log that an error shows; the cause stands above them and the rest is in the file
ENGINE = 60.0  # seconds that an engine may need to start again
BROKEN = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)

Do = Callable[[Step, Context, str], None]  # does a step; the text is said before it


def log_file(name: str, context: Context) -> Path:
    return context.log_dir / f"{context.name}-{name}.log"


def save_logs(name: str, context: Context) -> Path:
    """The container's log so far, redacted, in a file of the controller."""
    context.log_dir.mkdir(parents=True, exist_ok=True)
    path = log_file(name, context)
    text = context.client.api.logs(name, timestamps=True)
    path.write_text(context.redact(text.decode("utf-8", "replace")), encoding="utf-8")
    context.say(f"log of {name} saved to {path}")
    return path


@dataclass(frozen=True)
class Left:
    """What is there after a change was undone, in a sentence, and where the log of what failed was saved."""

    said: str
    log: Path | None = None
    well: bool = True  # everything was put back
    lost: HostError | None = None  # the host was not ours any more, so what failed may be its own putting back


def told(error: HostError, left: Left, context: Context) -> HostError:
    """The failure with what is there now, the end of the log, and where all of it is."""
    if left.lost is not None and error.message != left.lost.message:
        seen = f"{left.lost.message}. Seen last, maybe the host's own doing: {error.message}"
        error = HostError(error.host, seen, hint=left.lost.hint)
    before = ", ".join(change.name for change in context.finished)
    message = f"{error.message.rstrip('. ')}. {left.said}" + (f". Done before that: {before}" if before else "")
    hint, tail = error.hint, error.tail
    if left.log is not None and tail and not isinstance(error, vram.DirtyError):  # that one never started
        tail = tail[-SHOWN:]
        hint = f"{hint.rstrip('. ')}. Its whole log: {left.log}" if hint else f"read its log: {left.log}"
    return HostError(error.host, message, hint=hint, tail=tail)


def undo(change: Change, begun: Sequence[Step], context: Context, do: Do, *, waited: bool = False) -> Left:
    """Every undo step is tried, whatever happens to the others. What served is put back although NAME-new is gone.

    `waited`: the GPUs' memory was waited for in vain just now, so one more look at it is enough.
    """
    subject = next((step.name for step in change.undo if isinstance(step, SaveLogs)), "")
    touched = any(not isinstance(step, WriteSecrets | Create | DrainOut | DrainIdle) for step in begun)
    context = replace(context, cancelled=threading.Event())  # what is begun here is brought to its end
    if not change.undo or (not touched and (not subject or _gone(subject, context))):
        return _undo_hooks(change, begun, context, do)
    log = None
    lost = None
    if silent := _silence(context) or ("the lock of the host is lost" if (lost := _lost(context)) else ""):
        context.say(f"{silent}; what to put back is left to the host")
    failures: dict[str, list[str]] = {}  # what was said -> the steps, so that a lost host is told once
    starts = {step.name for step in change.undo if isinstance(step, Start)}
    dirty: vram.DirtyError | None = None
    unwell: set[str] = set()
    unrouted: list[str] = []
    for planned in change.undo:
        step = planned
        if silent and not isinstance(step, DrainBack):
            continue  # one that hangs would keep each step for minutes, and the host from doing all of them by itself
        if isinstance(step, FreeVram):
            if starts and all(_running(name, context) for name in starts):
                continue  # nothing was stopped yet, so what is in use is theirs
            step = replace(step, patient=not waited)
        if dirty and getattr(step, "name", "") in starts:
            continue  # it stays as it is held, so that the next run knows that it served
        if isinstance(step, DrainBack) and (silent or unwell or not _running(step.hook.replica, context)):
            unrouted.append(
                f"{step.hook.replica} is out of its router; once it serves: {routing.by_hand(step.hook, context)}"
            )
            continue
        try:
            context.seam.perform(context.name, step, partial(do, step, context, "undo: "))
            log = log_file(step.name, context) if isinstance(step, SaveLogs) else log
        except docker.errors.NotFound:
            continue
        except vram.DirtyError as error:
            dirty = error
        except (FleetError, *BROKEN) as error:
            if isinstance(step, DrainBack):
                unrouted.append(str(error))
                continue
            if isinstance(step, SaveLogs):  # a full disk of the controller: what served is put back all the same
                context.say(f"the log of {step.name} could not be kept: {error}")
                continue
            failures.setdefault(str(error), []).append(step.what)
            unwell |= {step.name} if isinstance(step, Start | Wait) else set()
    failed = silent or "; ".join(f"{', '.join(steps)}: {said}" for said, steps in failures.items())
    routes = f". {'; '.join(unrouted)}" if unrouted else ""
    kept = dirty is not None and bool(starts)  # the host by itself would start it all the same, so is not left to it
    return Left(_said(change, subject, failed, dirty=kept) + routes, log, well=kept or not failed, lost=lost)


def _said(change: Change, subject: str, failed: str, *, dirty: bool) -> str:
    """What is there now. `failed` tells the steps of the undo that did not work, or is empty."""
    back = ", ".join(step.name for step in change.undo if isinstance(step, Start))
    if dirty:
        more = f" ({failed})" if failed else ""
        return f"{back} does not fit either and is kept stopped until the GPUs are clean: it is DOWN{more}"
    if failed:
        return (
            f"Putting back did not work in full ({failed}); the host goes on with it by itself if it can: "
            "invoke status shows what serves"
        )
    if back:
        return f"{back} was put back and serves again"
    if not subject:  # of a stop
        return "Nothing else was changed"
    gone = any(isinstance(step, Remove) for step in change.undo)
    said = f"{subject} was removed again" if gone else f"{subject} was left as it is"
    return f"{said}: nothing serves as {change.name}"


def _undo_hooks(change: Change, begun: Sequence[Step], context: Context, do: Do) -> Left:
    """Nothing but hooks ran: a replica whose hook was begun, also one that failed half-way, goes back into its router."""
    out = {step.hook.replica for step in begun if isinstance(step, DrainOut)}
    failed = []
    for step in change.undo:
        if isinstance(step, DrainBack) and step.hook.replica in out:
            try:
                context.seam.perform(context.name, step, partial(do, step, context, "undo: "))
            except (FleetError, *BROKEN) as error:
                failed.append(str(error))
    return Left("Nothing else was changed" + (f", but {'; '.join(failed)}" if failed else ""))


def _silence(context: Context) -> str:
    """Why nothing can be put back from here; empty where the engine answers.

    One that is just being started again answers soon; what to put back can wait that long, but not for ever.
    """
    until = context.clock() + ENGINE
    told = False
    while True:
        try:
            if context.client.api.ping():
                return ""
        except (UnreachableError, LostError):  # there is nothing to wait for
            return "the connection to the host is lost"
        except (HostError, *BROKEN):
            pass
        if context.clock() >= until:
            return "the Docker engine does not answer"
        if not told:
            context.say(f"the engine does not answer; waiting up to {ENGINE:.0f} s before anything is put back")
            told = True
        context.sleep(1)


def _lost(context: Context) -> HostError | None:
    """Why the host is not ours any more: then nothing is put back from here."""
    try:
        context.guard.check()
    except HostError as error:
        return error
    return None


def _gone(name: str, context: Context) -> bool:
    """Is there no such container? An engine that does not answer counts as there: better one undo too many."""
    try:
        return observe.inspect(context.client, name) is None
    except (HostError, *BROKEN):
        return False


def _running(name: str, context: Context) -> bool:
    try:
        found = observe.inspect(context.client, name)
    except (HostError, *BROKEN):
        return False
    return found is not None and found.state == "running"
