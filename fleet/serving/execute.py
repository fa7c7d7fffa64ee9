"""Carrying a plan out: every effect of serving on a host goes through `apply`."""

import io
import posixpath
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from fleet.errors import FleetError, HostError, UnreachableError
from fleet.inventory.settings import Service
from fleet.serving import follow, observe, routing, secrets, vram
from fleet.serving.context import Context
from fleet.serving.inspection import replaces_label
from fleet.serving.steps import (
    Change,
    Create,
    DrainBack,
    DrainIdle,
    DrainOut,
    FreeVram,
    Remove,
    Rename,
    SaveLogs,
    ServingPlan,
    SetRestart,
    Settle,
    Start,
    Step,
    Stop,
    Verify,
    Wait,
    WriteSecrets,
)
from fleet.serving.verify import Proof

SHOWN = 12  # lines of a saved log that an error shows; the cause stands above them and the rest is in the file
ENGINE = 60.0  # seconds that an engine may need to start again
BROKEN = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)


def carry_out(plan: ServingPlan, context: Context) -> dict[str, Proof]:
    """All changes in order; returns the proof of each replica that was started. Raises HostError.

    When a change fails, or Ctrl-C or `cancelled` ends it, its undo puts back what served before. Problems of a plan
    are refused here too.
    """
    if plan.problems:
        raise HostError(context.name, "; ".join(plan.problems))
    for change in plan.changes:
        begun: list[Step] = []
        try:
            context.guard.arm(change.undo)
            for step in change.steps:
                begun.append(step)
                apply(step, context)
            context.guard.disarm()
        except BaseException as error:
            left = _undo(change, begun, context)
            if left.well:
                with suppress(HostError):  # a lost link: the host puts back by itself
                    context.guard.disarm()
            else:
                context.guard.leave()
            if isinstance(error, HostError):
                raise _told(error, left, context) from error
            raise
        to_its_end = replace(context, cancelled=threading.Event())  # it has answered: Ctrl-C waits for a few renames
        for step in change.commit:
            apply(step, to_its_end)
        context.finished.append(change)
    return context.proofs


def prove(name: str, service: Service, port: int, context: Context) -> Proof:
    """Wait until a running replica is ready and verify it, changing nothing. Raises HostError."""
    try:
        apply(Wait(name, service.name, port, "it runs already"), context)
        apply(Verify(name, service.name, port, "it runs already"), context)
    except HostError as error:
        hint = error.hint or f"invoke logs {service.name} --limit {context.name}"
        raise HostError(error.host, error.message, hint=hint, tail=error.tail[-SHOWN:]) from error
    return context.proofs[name]


def apply(step: Step, context: Context) -> None:
    """Do one step. Raises HostError that says which step, on which host, and what the engine said."""
    if context.cancelled.is_set():
        raise HostError(context.name, f"interrupted before: {step.what}", hint="run the same command again to go on")
    context.guard.check()
    try:
        context.seam.perform(context.name, step, lambda: _do(step, context))
    except BROKEN as error:
        raise _refused(step, context, error) from error


def _do(step: Step, context: Context, mark: str = "") -> None:
    context.say(f"{mark}{step.what}")  # by now it stands in the journal
    api = context.client.api
    match step:
        case WriteSecrets():
            _write_secrets(step, context)
        case Create():
            host_config = api.create_host_config(**step.spec.host_config_kwargs("no"))
            kwargs = step.spec.create_kwargs(step.name, replaces_label(step.held))
            made = api.create_container(**kwargs, host_config=host_config)
            for warning in made.get("Warnings") or ():
                context.say(f"{step.name}: {warning}")
        case SetRestart():
            api.update_container(step.name, restart_policy=_policy(step.policy))
        case Stop():
            api.stop(step.name, timeout=step.grace)
        case FreeVram():
            vram.free(step, context)
        case Start():
            api.start(step.name)
        case Wait():
            follow.wait(step, context)
        case Verify():
            context.proofs[step.name.removesuffix("-new")] = follow.prove(step, context)
        case Settle():
            follow.settle(step, context)
        case SaveLogs():
            save_logs(step.name, context)
        case Remove():
            _remove(step, context)
        case Rename():
            api.rename(step.name, step.to)
        case DrainOut():
            routing.take_out(step, context)
        case DrainIdle():
            routing.wait_idle(step, context)
        case DrainBack():
            routing.put_back(step, context)


def _policy(name: str) -> Any:
    """docker-py's type wants a retry count, which the engine refuses for any policy but on-failure."""
    return {"Name": name}


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
class _Left:
    """What is there after a change was undone, in a sentence, and where the log of what failed was saved."""

    said: str
    log: Path | None = None
    well: bool = True  # everything was put back


def _told(error: HostError, left: _Left, context: Context) -> HostError:
    """The failure with what is there now, the end of the log, and where all of it is."""
    before = ", ".join(change.name for change in context.finished)
    message = f"{error.message.rstrip('. ')}. {left.said}" + (f". Done before that: {before}" if before else "")
    hint, tail = error.hint, error.tail
    if left.log is not None and tail and not isinstance(error, vram.DirtyError):  # that one never started
        tail = tail[-SHOWN:]
        hint = f"{hint.rstrip('. ')}. Its whole log: {left.log}" if hint else f"read its log: {left.log}"
    return HostError(error.host, message, hint=hint, tail=tail)


def _undo(change: Change, begun: Sequence[Step], context: Context) -> _Left:
    """Every undo step is tried, whatever happens to the others. What served is put back although NAME-new is gone."""
    subject = next((step.name for step in change.undo if isinstance(step, SaveLogs)), "")
    touched = any(not isinstance(step, WriteSecrets | Create | DrainOut | DrainIdle) for step in begun)
    context = replace(context, cancelled=threading.Event())  # what is begun here is brought to its end
    if not change.undo or (not touched and (not subject or _gone(subject, context))):
        return _undo_hooks(change, begun, context)
    log = None
    _await_engine(context)
    failures: dict[str, list[str]] = {}  # what was said -> the steps, so that a lost host is told once
    starts = {step.name for step in change.undo if isinstance(step, Start)}
    dirty: vram.DirtyError | None = None
    unwell: set[str] = set()
    unrouted: list[str] = []
    for planned in change.undo:
        step = planned
        if isinstance(step, FreeVram):
            if starts and all(_running(name, context) for name in starts):
                continue  # nothing was stopped yet, so what is in use is theirs
            step = replace(step, patient=not (begun and isinstance(begun[-1], FreeVram)))
        if dirty and getattr(step, "name", "") in starts:
            continue  # it stays as it is held, so that the next run knows that it served
        if isinstance(step, DrainBack) and (unwell or not _running(step.hook.replica, context)):
            unrouted.append(
                f"{step.hook.replica} is out of its router; once it serves: {routing.by_hand(step.hook, context)}"
            )
            continue
        try:
            context.seam.perform(context.name, step, partial(_do, step, context, "undo: "))
            log = log_file(step.name, context) if isinstance(step, SaveLogs) else log
        except docker.errors.NotFound:
            continue
        except vram.DirtyError as error:
            dirty = error
        except (FleetError, *BROKEN) as error:
            if isinstance(step, DrainBack):
                unrouted.append(str(error))
                continue
            failures.setdefault(str(error), []).append(step.what)
            unwell |= {step.name} if isinstance(step, Start | Wait) else set()
    routes = f". {'; '.join(unrouted)}" if unrouted else ""
    back = ", ".join(step.name for step in change.undo if isinstance(step, Start))
    told = "; ".join(f"{', '.join(steps)}: {said}" for said, steps in failures.items())
    if dirty and starts:  # the host by itself would start it all the same, so that is not left to it
        failed = f" ({told})" if told else ""
        return _Left(
            f"{back} does not fit either and is kept stopped until the GPUs are clean: it is DOWN{failed}{routes}", log
        )
    if failures:
        said = (
            f"Putting back did not work in full ({told}); the host goes on with it by itself if it can: "
            f"invoke status shows what serves{routes}"
        )
        return _Left(said, log, well=False)
    if back:
        return _Left(f"{back} was put back and serves again{routes}", log)
    if not subject:  # of a stop
        return _Left(f"Nothing else was changed{routes}")
    gone = any(isinstance(step, Remove) for step in change.undo)
    said = f"{subject} was removed again" if gone else f"{subject} was left as it is"
    return _Left(f"{said}: nothing serves as {change.name}", log)


def _undo_hooks(change: Change, begun: Sequence[Step], context: Context) -> _Left:
    """Nothing but hooks ran: a replica whose hook was begun, also one that failed half-way, goes back into its router."""
    out = {step.hook.replica for step in begun if isinstance(step, DrainOut)}
    failed = []
    for step in change.undo:
        if isinstance(step, DrainBack) and step.hook.replica in out:
            try:
                context.seam.perform(context.name, step, partial(_do, step, context, "undo: "))
            except (FleetError, *BROKEN) as error:
                failed.append(str(error))
    return _Left("Nothing else was changed" + (f", but {'; '.join(failed)}" if failed else ""))


def _await_engine(context: Context) -> None:
    """An engine that is just being started again answers soon; what to put back can wait that long, but not for ever."""
    until = context.clock() + ENGINE
    told = False
    while not _answers(context) and context.clock() < until:
        if not told:
            context.say(f"the engine does not answer; waiting up to {ENGINE:.0f} s before anything is put back")
            told = True
        context.sleep(1)


def _answers(context: Context) -> bool:
    """A host that is lost altogether counts as answering: there is nothing to wait for."""
    try:
        return bool(context.client.api.ping())
    except UnreachableError:
        return True
    except (HostError, *BROKEN):
        return False


def _gone(name: str, context: Context) -> bool:
    """Is there no such container? An engine that does not answer counts as there: better one undo too many."""
    try:
        return observe.inspect(context.client, name) is None
    except BROKEN:
        return False


def _running(name: str, context: Context) -> bool:
    try:
        found = observe.inspect(context.client, name)
    except BROKEN:
        return False
    return found is not None and found.state == "running"


def _write_secrets(step: WriteSecrets, context: Context) -> None:
    text = secrets.content(context.secret_values(context.services[step.service]))
    folder = posixpath.dirname(step.path)
    context.session.script('umask 077; mkdir -p "$1" && chmod 700 "$1"', args=(folder,), sudo=True)
    context.session.upload(io.BytesIO(text), step.path, mode=0o600, sudo=True)


def _remove(step: Remove, context: Context) -> None:
    found = observe.inspect(context.client, step.name)
    if found is None:
        return
    context.client.api.remove_container(step.name, v=True)
    state_dir, files = observe.read_state(context.session)
    in_use = {one.secrets_file for one in observe.observe(context.session, context.client).containers}
    file = found.secrets_file
    if file in files and file not in in_use and posixpath.dirname(file) == f"{state_dir}/secrets":
        context.session.run(("rm", "-f", file), sudo=True)


def _refused(step: Step, context: Context, error: Exception) -> HostError:
    explanation = getattr(error, "explanation", None)
    said = explanation if isinstance(explanation, str) and explanation else str(error) or type(error).__name__
    known = context.diagnose(said, "run")
    hint = known.fix if known else ""
    if isinstance(step, Create) and isinstance(error, docker.errors.ImageNotFound):
        hint = "the image has to be delivered first: invoke deploy does that"
    cause = f". {known.cause}" if known else ""
    return HostError(context.name, context.redact(f"could not {step.what}: {said}{cause}"), hint=hint)
