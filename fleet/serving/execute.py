"""Carrying a plan out: every effect of serving on a host goes through `apply`."""

import io
import posixpath
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

import docker
import docker.errors

from fleet.errors import HostError
from fleet.inventory.settings import Service
from fleet.serving import follow, observe, routing, secrets, vram
from fleet.serving.context import Context
from fleet.serving.inspection import replaces_label
from fleet.serving.steps import (
    Create,
    DrainBack,
    DrainIdle,
    DrainOut,
    FreeVram,
    Remember,
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
from fleet.serving.undo import BROKEN, SHOWN, save_logs, told, undo
from fleet.serving.verify import Proof


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
            left = undo(change, begun, context, _do, waited=isinstance(error, vram.DirtyError))
            if left.well:
                with suppress(HostError):  # a lost link: the host puts back by itself
                    context.guard.disarm()
            else:
                context.guard.leave()
            if isinstance(error, HostError):
                raise told(error, left, context) from error
            raise
        to_its_end = replace(context, cancelled=threading.Event())  # it has answered: Ctrl-C waits for a few renames
        for step in change.commit:
            apply(step, to_its_end)
        context.finished.append(change)
    return context.proofs


def prove(name: str, service: Service, port: int, context: Context) -> Proof:
    """Wait until a running replica is ready and verify it, changing nothing. Raises HostError."""
    try:
        apply(Wait(name, service.name, port, "it runs already"), context, quiet=True)
        apply(Verify(name, service.name, port, "it runs already"), context, quiet=True)
    except HostError as error:
        hint = error.hint or f"invoke logs {service.name} --limit {context.name}"
        raise HostError(error.host, error.message, hint=hint, tail=error.tail[-SHOWN:]) from error
    return context.proofs[name]


def apply(step: Step, context: Context, *, quiet: bool = False) -> None:
    """Do one step, and say so unless `quiet`. Raises HostError with the step, the host and what the engine said."""
    if context.cancelled.is_set():
        raise HostError(context.name, f"interrupted before: {step.what}", hint="run the same command again to go on")
    context.guard.check()
    try:
        context.seam.perform(context.name, step, lambda: _do(step, context, None if quiet else ""))
    except BROKEN as error:
        raise _refused(step, context, error) from error


def _do(step: Step, context: Context, mark: str | None = "") -> None:
    if mark is not None:
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
        case Remember():
            context.remember(step)
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
    state_dir, files, _ = observe.read_state(context.session)
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
