"""Carrying out what keeps requests away from a replica: the inventory's hooks, and waiting for what is under way."""

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress

from fleet.errors import FleetError, HostError, UnreachableError
from fleet.serving.address import address_of
from fleet.serving.api import Api
from fleet.serving.context import Context
from fleet.serving.steps import DrainBack, DrainIdle, DrainOut, Hook
from fleet.shell import STATE_DIR

TAIL = 12  # lines of a hook's output that an error shows
QUIET = 2  # looks in a row that must find nothing under way: a router may send one request more
PAUSE = 0.5  # seconds between two looks
COUNTED = ("vllm:num_requests_running", "vllm:num_requests_waiting")


# A mark for the next run: a controller that vanishes after the hook would leave a replica that serves nobody.
MARK = f"""{STATE_DIR}case $1 in
  out) mkdir -p "$dir/drained" && : >"$dir/drained/$2" ;;
  in) rm -f "$dir/drained/$2" ;;
esac
"""


def take_out(step: DrainOut, context: Context) -> None:
    """Raises HostError; the replica serves on as before."""
    context.session.script(MARK, args=("out", step.hook.replica), sudo=True)
    failed = _run(step.hook, context)
    if failed is not None:
        context.session.script(MARK, args=("in", step.hook.replica), sudo=True)
        said, tail = failed
        message = f"{step.hook.replica} could not be taken out of its router: {said}"
        raise HostError(context.name, message, hint="mend the hook (drain.out in the inventory), then again", tail=tail)


def put_back(step: DrainBack, context: Context) -> None:
    """Raises HostError; the replica goes on running, without requests from its router."""
    failed = _run(step.hook, context)
    if failed is not None:
        said, tail = failed
        hook = step.hook
        message = f"{hook.replica} serves, but could not be put back into its router: {said}"
        hint = f"the same command again goes on from here; by hand: {by_hand(hook, context)}"
        raise HostError(context.name, message, hint=hint, tail=tail)
    context.session.script(MARK, args=("in", step.hook.replica), sudo=True)


def by_hand(hook: Hook, context: Context) -> str:
    """The hook as a line to type."""
    line = shlex.join(("env", *(f"{name}={value}" for name, value in environment(hook, context).items()), *hook.argv))
    return line if hook.where == "controller" else f"on {context.name}: {line}"


def environment(hook: Hook, context: Context) -> dict[str, str]:
    """What a hook is told. Nothing secret."""
    return {
        "FLEET_HOST": context.name,
        "FLEET_ADDRESS": context.session.host.connection.address,
        "FLEET_PORT": str(hook.port),
        "FLEET_SERVICE": hook.service,
        "FLEET_REPLICA": hook.replica,
        "FLEET_RELEASE": hook.release,
    }


def _run(hook: Hook, context: Context) -> tuple[str, tuple[str, ...]] | None:
    """None where it went well; otherwise what went wrong, and the end of its output."""
    there = hook.where == "host"
    code, output = _there(hook, context) if there else _here(hook, environment(hook, context))
    if code == 0:
        return None
    how = output if code is None else f"exited with {code}"
    lines = () if code is None else tuple(context.redact(output).strip().splitlines()[-TAIL:])
    return f"`{shlex.join(hook.argv)}` {f'on {context.name}' if there else 'on this controller'} {how}", lines


def _there(hook: Hook, context: Context) -> tuple[int | None, str]:
    words = ("env", *(f"{name}={value}" for name, value in environment(hook, context).items()), *hook.argv)
    try:
        answer = context.session.run(words, sudo=True, timeout=hook.timeout, check=False)
    except UnreachableError:
        raise
    except HostError as error:
        return None, f"did not end well: {error.message}"
    return answer.exit_code, f"{answer.stdout}\n{answer.stderr}"


def _here(hook: Hook, told: Mapping[str, str]) -> tuple[int | None, str]:
    """Exit code and output; None and why where it has no exit code. Its whole process group ends with its time."""
    with tempfile.TemporaryFile() as output:  # no pipe, which a child of the hook could hold open
        try:
            process = subprocess.Popen(
                hook.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **told},
                start_new_session=True,
            )
        except OSError as error:
            return None, f"could not be started: {error.strerror}"
        try:
            code = process.wait(hook.timeout)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None, f"was ended after {hook.timeout:g} s (drain.timeout)"
        output.seek(0)
        return code, output.read().decode("utf-8", "replace")


def wait_idle(step: DrainIdle, context: Context) -> None:
    """Until nothing is under way, or the limit passes, which is said. Raises HostError when it was interrupted."""
    ends = context.clock() + step.limit
    quiet, before = 0, 0
    with context.session.forward_local(step.port, address_of(context.services.get(step.service))) as (address, port):
        while True:
            if context.cancelled.is_set():
                raise HostError(context.name, f"interrupted while {step.name} was drained")
            busy = under_way(address, port)
            if busy is None:
                context.say(f"{step.name} does not tell what is under way: not waited for")
                return
            quiet = quiet + 1 if not busy else 0
            if quiet >= QUIET:
                return
            if context.clock() >= ends:
                if busy:
                    context.say(
                        f"{step.name} still has {busy} requests under way after {step.limit:g} s: not waited for"
                    )
                return
            if busy and busy != before:
                context.say(f"{step.name}: {busy} requests under way")
            before = busy
            context.sleep(PAUSE)


def under_way(address: str, port: int) -> int | None:
    """Requests that a vLLM server is working on; None where it tells nothing.

    /load counts only with --enable-server-load-tracking and says 0 without, so /metrics is asked as well.
    Source: vllm/entrypoints/openai (server_load_metrics), vllm/v1/metrics.
    """
    counts = []
    with Api(address, port, 5.0, "") as api:
        with suppress(FleetError):
            load = api.get("/load").get("server_load")
            if isinstance(load, int):
                counts.append(load)
        with suppress(FleetError):
            counts.append(in_metrics(api.text("/metrics")))
    return max(counts, default=None)


def in_metrics(text: str) -> int:
    """Running and waiting requests in Prometheus text."""
    total = 0.0
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.partition("{")[0] in COUNTED:
            with suppress(ValueError):
                total += float(value)
    return int(total)
