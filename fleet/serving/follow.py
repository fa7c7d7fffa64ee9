"""Following a container on its host: its start-up until it is ready, and the proof that it answers."""

from dataclasses import replace
from datetime import UTC, datetime

import docker
import docker.errors

from fleet.errors import FleetError, HostError
from fleet.inventory.settings import Service
from fleet.serving.address import address_of
from fleet.serving.context import Context
from fleet.serving.load import CLIENTS, Speed
from fleet.serving.steps import Settle, Verify, Wait
from fleet.serving.verify import Proof, Question, healthy, load, verify
from fleet.serving.wait import Look, wait_ready


def wait(step: Wait, context: Context) -> None:
    service = context.services.get(step.service)
    logs = NewLines(context.client, step.name)
    with context.session.forward_local(step.port, address_of(service)) as (address, port):

        def look() -> Look:
            if context.cancelled.is_set():
                raise HostError(context.name, f"interrupted while {step.name} was starting")
            try:
                value = context.client.api.inspect_container(step.name)
                lines = logs.read(value["State"].get("StartedAt") or "")
            except docker.errors.NotFound:
                return Look((), "gone")
            state = value["State"]
            return Look(
                tuple(map(context.redact, lines)),
                state.get("Status", ""),
                state.get("ExitCode") or 0,
                state.get("Error") or "",
                value.get("RestartCount") or 0,
                state.get("Status") == "running" and healthy(address, port),
                out_of_memory=bool(state.get("OOMKilled")),
            )

        wait_ready(
            context.name,
            step.name,
            look,
            deadline=service.progress_deadline if service else Service(name="", model="").progress_deadline,
            diagnose=lambda line: context.diagnose(line, "container"),
            on_phase=lambda phase: context.say(f"{step.name}: {phase}"),
            redact=context.redact,
            clock=context.clock,
            sleep=context.sleep,
        )


def prove(step: Verify, context: Context) -> Proof:
    service = context.services[step.service]
    with context.session.forward_local(step.port, address_of(service)) as (address, port):
        try:
            proof = verify(address, port, question(service, context), clock=context.clock)
            if proof.note:
                context.say(f"{step.name}: {context.redact(proof.note)}")
            return replace(proof, at=context.clock())
        except HostError:
            raise
        except FleetError as error:
            tail = context.client.api.logs(step.name, tail=20).decode("utf-8", "replace").splitlines()
            message = context.redact(f"{step.name} does not serve: {error.message}")
            raise HostError(context.name, message, hint=error.hint, tail=tuple(map(context.redact, tail))) from error


def load_on(name: str, service: Service, port: int, seconds: float, context: Context) -> Speed | None:
    """The fixed load on one running replica, through the tunnel. None where the task has no tokens."""
    context.say(f"{name}: {CLIENTS} requests at a time for {seconds:.0f} s")
    with context.session.forward_local(port, address_of(service)) as (address, here):
        asked = question(service, context)
        speed = load(address, here, asked, seconds, clock=context.clock, stopped=context.cancelled.is_set)
    if context.cancelled.is_set():
        raise HostError(context.name, f"interrupted while {name} was measured")
    if speed is not None and speed.requests == speed.errors:
        message = f"{name} answered none of {speed.requests} requests under load: {context.redact(speed.error)}"
        raise HostError(context.name, message, hint=f"invoke logs {service.name} --limit {context.name}")
    return speed


def question(service: Service, context: Context) -> Question:
    """What the inventory wants asked. Reveals the service's key where it has one."""
    return Question(
        served_name=service.served_name or service.model,
        task=service.verify.task,
        prompts=service.verify.prompts,
        max_tokens=service.verify.max_tokens,
        timeout=service.verify.timeout,
        api_key=context.secret_values(service).get("VLLM_API_KEY", "") if "VLLM_API_KEY" in service.secrets else "",
        known=service.verify.known,
        pass_rule=service.verify.pass_,
    )


def settle(step: Settle, context: Context) -> None:
    """Watch a container that has answered. Raises HostError when it stops, restarts or is no longer healthy."""
    ends = context.clock() + step.seconds
    restarts = -1
    with context.session.forward_local(step.port, address_of(context.services.get(step.service))) as (address, port):
        while True:
            if context.cancelled.is_set():
                raise HostError(context.name, f"interrupted while {step.name} was watched")
            value = context.client.api.inspect_container(step.name)
            count = value.get("RestartCount") or 0
            restarts = count if restarts < 0 else restarts
            state = value["State"].get("Status", "")
            if state != "running" or count > restarts or not healthy(address, port):
                said = (
                    f"it is {state}" if state != "running" else "it restarted" if count > restarts else "/health fails"
                )
                message = f"{step.name} answered, but did not stay healthy for {step.seconds:.0f} s: {said}"
                tail = context.client.api.logs(step.name, tail=20).decode("utf-8", "replace").splitlines()
                raise HostError(
                    context.name,
                    message,
                    tail=tuple(map(context.redact, tail)),
                )
            left = ends - context.clock()
            if left <= 0:
                return
            context.sleep(min(1.0, left))


class NewLines:
    """Log lines since the last look, of the container's present life only, each exactly once."""

    def __init__(self, client: docker.DockerClient, name: str) -> None:
        self._client, self._name, self._last = client, name, ""

    def read(self, started_at: str) -> list[str]:
        if started_at.startswith("0001"):  # never started
            return []
        self._last = self._last or stamp(started_at)
        since = int(calendar_seconds(self._last))
        text = self._client.api.logs(self._name, timestamps=True, since=since).decode("utf-8", "replace")
        fresh = []
        for line in text.split("\n"):  # an entry each; a progress bar's \r stands inside one, without a time of its own
            when, _, rest = line.partition(" ")
            if when and stamp(when) > self._last:
                fresh += [(stamp(when), piece) for piece in rest.splitlines() or [""]]
        if fresh:
            self._last = fresh[-1][0]
        return [rest for _when, rest in fresh]


def stamp(text: str) -> str:
    """An engine's RFC 3339 time with exactly nine digits behind the point, so that text order is time order."""
    whole, _, part = text.removesuffix("Z").partition(".")
    return f"{whole}.{part.ljust(9, '0')}"


def calendar_seconds(text: str) -> float:
    """Seconds since the epoch of a `stamp`, which is in UTC."""
    return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC).timestamp()
