"""A pull on one host, through its Docker API: authorised per call, followed layer by layer, tried again when the line was bad.

The limit is on progress, not on a clock: a layer that arrives or unpacks is progress, an engine that says only that it
waits or tries again is not. An engine that says nothing at all meets the client's read timeout.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, NotFound

from fleet.delivery.plan import Pull
from fleet.delivery.progress import STALL, At
from fleet.errors import HostError

TRIES = 4
PAUSE = 2.0  # seconds before the second try, doubled each time

PLAIN = "the registry speaks plain HTTP: give it TLS, or list it in the host's insecure-registries"
# The engine wraps the registry's answer in words; these are the ones that another try does not change, with what helps.
FINAL: Mapping[str, str] = {
    "unauthorized": "the registry refused our credentials: fleet.registry.username and .password",
    "authentication required": "the registry wants credentials: set fleet.registry.username and .password",
    "no basic auth credentials": "the registry wants credentials: set fleet.registry.username and .password",
    "access denied": "the registry account may not read this repository",
    "denied: ": "the registry account may not read this repository",
    "manifest unknown": "push the release first: invoke push",
    "not found": "push the release first: invoke push",
    "x509": "the host does not trust the registry's certificate: fleet.registry.ca_file",
    "server gave http response": PLAIN,
    "does not look like a tls handshake": PLAIN,  # the same, of a server whose answer is no HTTP either
    "no space left": "free space under Docker's root directory; invoke preflight shows how much is needed",
}
# What the engine says of a layer while nothing of it moves.
IDLE = ("Retrying", "Waiting")


@dataclass
class Progress:
    """Bytes of the layers of one pull, from the engine's events. A second try goes on with what the first had."""

    done: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    seen: dict[str, tuple[str, object]] = field(default_factory=dict)

    def take(self, event: Mapping[str, Any]) -> bool:
        """Count one event; whether it tells of anything that moved."""
        layer, status, detail = event.get("id"), str(event.get("status", "")), event.get("progressDetail") or {}
        if not layer or status.startswith(IDLE):
            return False
        sign = (status, detail.get("current"))
        moved = self.seen.get(layer) != sign
        self.seen[layer] = sign
        if status in ("Downloading", "Download complete", "Pull complete"):
            if detail.get("total"):
                self.total[layer] = detail["total"]
            whole = status != "Downloading"
            self.done[layer] = self.total.get(layer, 0) if whole else int(detail.get("current") or 0)
        return moved

    @property
    def bytes_done(self) -> int:
        return sum(self.done.values())


def _jitter() -> float:
    """Hosts that were refused together should not come back together."""
    return random.uniform(0.5, 1.5)  # noqa: S311  nothing secret


def pull(
    client: docker.DockerClient,
    host: str,
    step: Pull,
    auth: Mapping[str, str] | None,
    *,
    at: At = lambda _done: None,
    stall: float = STALL,
    tries: int = TRIES,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    jitter: Callable[[], float] = _jitter,
) -> None:
    """Pull `step.repository@step.digest`; `auth` is `{username, password}`. Raises HostError when it cannot be had.

    `stall` is in seconds without progress; a stalled try is given up and counts as one of the `tries`.
    """
    progress = Progress()
    pause = PAUSE
    for attempt in range(1, tries + 1):
        error = _once(client, step, auth, progress, at, stall, clock)
        if not error:
            return
        final = _final(error)
        if final or attempt == tries:
            tried = f" (tried {attempt} times)" if attempt > 1 else ""
            hint = final or f"can the host reach {step.registry}? The same command goes on with the layers that it has"
            raise HostError(host, f"could not pull {step.repository}@{step.digest}: {error}{tried}", hint=hint)
        sleep(pause * jitter())
        pause *= 2


def _once(
    client: docker.DockerClient,
    step: Pull,
    auth: Mapping[str, str] | None,
    progress: Progress,
    at: At,
    stall: float,
    clock: Callable[[], float],
) -> str:
    """What went wrong, empty when nothing did."""
    try:
        events: Any = client.api.pull(
            step.repository, tag=step.digest, stream=True, decode=True, auth_config=dict(auth) if auth else None
        )
        try:
            error = _follow(events, progress, at, stall, clock)
        finally:
            close = getattr(events, "close", None)
            if close is not None:
                close()
        return error or _arrived(client, step)
    except APIError as error:
        return str(error.explanation or error)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        return f"the connection to the engine ended: {error}"


def _arrived(client: docker.DockerClient, step: Pull) -> str:
    """An engine that is stopped in the middle ends its answer as if all were well, so the image itself is asked for."""
    api: Any = client.api  # docker's stubs have no types for inspect_image
    try:
        api.inspect_image(f"{step.repository}@{step.digest}")
    except NotFound:
        return "the engine ended the pull early"
    return ""


def _follow(
    events: Iterable[Mapping[str, Any]], progress: Progress, at: At, stall: float, clock: Callable[[], float]
) -> str:
    moved = clock()
    for event in events:
        if "error" in event:
            return str(event["error"])
        if progress.take(event):
            moved = clock()
            at(progress.bytes_done)
        elif clock() - moved >= stall:
            return f"nothing moved for {stall:.0f} s"
    return ""


def _final(error: str) -> str:
    lower = error.lower()
    return next((hint for words, hint in FINAL.items() if words in lower), "")
