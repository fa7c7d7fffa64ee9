"""A pull on one host, through its Docker API: authorised per call, followed layer by layer, tried again when the line was bad.

The limit is on progress, not on a clock: the engine reports every few hundred milliseconds while bytes arrive or layers
unpack, so the client's read timeout (set by whoever made the client) ends a pull that stands still.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import docker
import requests
from docker.errors import APIError

from fleet.delivery.plan import Pull
from fleet.errors import HostError

TRIES = 4
PAUSE = 2.0  # seconds before the second try, doubled each time

# The engine wraps the registry's answer in words; these are the ones that another try does not change, with what helps.
FINAL: Mapping[str, str] = {
    "unauthorized": "the registry refused our credentials: fleet.registry.username and .password",
    "authentication required": "the registry wants credentials: set fleet.registry.username and .password",
    "no basic auth credentials": "the registry wants credentials: set fleet.registry.username and .password",
    "denied": "the registry account may not read this repository",
    "manifest unknown": "push the release first: invoke push",
    "not found": "push the release first: invoke push",
    "x509": "the host does not trust the registry's certificate: fleet.registry.ca_file",
    "server gave HTTP response": "the registry speaks plain HTTP: give it TLS, or list it in the host's insecure-registries",
    "no space left": "free space under Docker's root directory",
}


@dataclass
class Progress:
    """Bytes of the layers of one pull, from the engine's events."""

    done: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)

    def take(self, event: Mapping[str, Any]) -> None:
        layer, detail = event.get("id"), event.get("progressDetail") or {}
        if not layer or event.get("status") not in ("Downloading", "Download complete", "Pull complete"):
            return
        if detail.get("total"):
            self.total[layer] = detail["total"]
        self.done[layer] = detail.get("current") or self.total.get(layer, 0)

    @property
    def bytes_done(self) -> int:
        return sum(self.done.values())


def pull(
    client: docker.DockerClient,
    host: str,
    step: Pull,
    auth: Mapping[str, str] | None,
    *,
    on_bytes: Callable[[int], None] = lambda _done: None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Pull `step.repository@step.digest`; `auth` is `{username, password}`. Raises HostError when it cannot be had."""
    pause = PAUSE
    for attempt in range(1, TRIES + 1):
        error = _once(client, step, auth, on_bytes)
        if not error:
            return
        final = _final(error)
        if final or attempt == TRIES:
            tried = f" (tried {attempt} times)" if attempt > 1 else ""
            raise HostError(host, f"could not pull {step.repository}@{step.digest}: {error}{tried}", hint=final)
        sleep(pause)
        pause *= 2


def _once(
    client: docker.DockerClient, step: Pull, auth: Mapping[str, str] | None, on_bytes: Callable[[int], None]
) -> str:
    """What went wrong, empty when nothing did."""
    progress = Progress()
    try:
        events: Iterable[Mapping[str, Any]] = client.api.pull(
            step.repository, tag=step.digest, stream=True, decode=True, auth_config=dict(auth) if auth else None
        )
        for event in events:
            if "error" in event:
                return str(event["error"])
            progress.take(event)
            on_bytes(progress.bytes_done)
    except APIError as error:
        return str(error.explanation or error)
    except (requests.RequestException, OSError) as error:
        return f"the connection to the engine ended: {error}"
    return ""


def _final(error: str) -> str:
    lower = error.lower()
    return next((hint for words, hint in FINAL.items() if words.lower() in lower), "")
