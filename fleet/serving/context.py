"""All that the steps of one host need to be carried out."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import docker

from fleet.facts import Facts
from fleet.inventory.settings import Service
from fleet.preflight import Finding
from fleet.seam import Bare, Seam
from fleet.serving.diagnose import diagnose
from fleet.serving.steps import Change, Remember, Step
from fleet.serving.verify import Proof
from fleet.serving.wait import Diagnosis
from fleet.shell import Shell


class Guard(Protocol):
    """Keeps a host ours while it is changed, and puts things back there when we vanish."""

    def check(self) -> None:
        """Raise HostError when the host is not ours any more."""

    def arm(self, undo: Sequence[Step]) -> None:
        """From now on the host carries out `undo` by itself if it loses us."""

    def disarm(self) -> None:
        """The change has proved itself, or was undone."""

    def leave(self) -> None:
        """We cannot put back what was there: give the host up, so that it does that by itself, at once."""


def _nothing_known() -> Facts:
    """For tests and for hosts that nobody may probe."""
    return Facts()


class Unguarded:
    """For single commands and tests: nobody else is kept out."""

    def check(self) -> None: ...

    def arm(self, undo: Sequence[Step]) -> None: ...

    def disarm(self) -> None: ...

    def leave(self) -> None: ...


@dataclass
class Context:
    """All that steps need of one host.

    `secret_values` reveals a service's secrets when they are needed; `diagnose(text, where)` knows the field's fatal
    lines; `say` gets one line of progress; `cancelled` ends the work before the next step, with everything put back.
    `remember` keeps what answered for later; `facts` probes the host anew; `findings` are what the steps found out about it.
    """

    session: Shell
    client: docker.DockerClient
    services: Mapping[str, Service]
    secret_values: Callable[[Service], Mapping[str, str]]
    log_dir: Path
    diagnose: Callable[[str, str], Diagnosis | None] = diagnose
    say: Callable[[str], None] = lambda _text: None
    redact: Callable[[str], str] = str
    cancelled: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    proofs: dict[str, Proof] = field(default_factory=dict)
    finished: list[Change] = field(default_factory=list)  # those that a later failure does not undo
    remember: Callable[[Remember], None] = lambda _step: None
    facts: Callable[[], Facts] = _nothing_known
    findings: list[Finding] = field(default_factory=list)
    seam: Seam = field(default_factory=Bare)
    guard: Guard = field(default_factory=Unguarded)

    @property
    def name(self) -> str:
        return self.session.host.name
