"""The steps that change a host's containers, as values: one line of what, one of why."""

import shlex
from dataclasses import dataclass

from fleet.serving.inspection import Held
from fleet.serving.spec import ContainerSpec


@dataclass(frozen=True)
class WriteSecrets:
    """The values are not part of the plan: the executor asks for them when it gets here."""

    service: str
    path: str
    why: str

    @property
    def what(self) -> str:
        return f"write the secrets of {self.service} to {self.path} (0600)"


@dataclass(frozen=True)
class Create:
    """Created with restart=no, so that an unproved container never starts in a loop."""

    spec: ContainerSpec
    name: str
    held: tuple[Held, ...]
    why: str

    @property
    def what(self) -> str:
        return f"create {self.name} from {self.spec.image.reference}"


@dataclass(frozen=True)
class SetRestart:
    name: str
    policy: str
    why: str

    @property
    def what(self) -> str:
        return f"set restart={self.policy} on {self.name}"


@dataclass(frozen=True)
class Stop:
    """SIGTERM, then SIGKILL after `grace` seconds: killing in the middle of GPU work can leak VRAM until a reset."""

    name: str
    grace: int
    why: str

    @property
    def what(self) -> str:
        return f"stop {self.name} (grace {self.grace} s)"


@dataclass(frozen=True)
class FreeVram:
    """Wait until the GPUs have given their memory back. `minors` None is every GPU.

    `share` is the gpu-memory-utilization of what is started next, which must not be started where it does not fit; 0:
    nothing is. `service` says how long to wait. Not `patient`: somebody has just waited, one look is enough.
    """

    minors: frozenset[int] | None
    why: str
    share: float = 0.0
    service: str = ""
    patient: bool = True

    @property
    def what(self) -> str:
        which = "all GPUs" if self.minors is None else ", ".join(f"renderD{minor}" for minor in sorted(self.minors))
        return f"wait until VRAM is free on {which}"


@dataclass(frozen=True)
class Start:
    name: str
    why: str

    @property
    def what(self) -> str:
        return f"start {self.name}"


@dataclass(frozen=True)
class Wait:
    """Follow the start-up by log phases until /health answers."""

    name: str
    service: str
    port: int
    why: str

    @property
    def what(self) -> str:
        return f"wait until {self.name} is ready"


@dataclass(frozen=True)
class Verify:
    name: str
    service: str
    port: int
    why: str

    @property
    def what(self) -> str:
        return f"verify {self.name} by a real answer on port {self.port}"


@dataclass(frozen=True)
class Settle:
    """Watch an answering container: it counts as healthy only after so many seconds without a crash."""

    name: str
    service: str
    port: int
    seconds: float
    why: str

    @property
    def what(self) -> str:
        return f"watch {self.name} for {self.seconds:.0f} s"


@dataclass(frozen=True)
class SaveLogs:
    name: str
    why: str

    @property
    def what(self) -> str:
        return f"save the logs of {self.name}"


@dataclass(frozen=True)
class Remove:
    """Only a stopped container is removed, with the secrets file that it alone mounts."""

    name: str
    why: str

    @property
    def what(self) -> str:
        return f"remove {self.name}"


@dataclass(frozen=True)
class Remember:
    """Write down on the host that a replica answered: a line of its audit, and what a later roll-back needs.

    It stands before the new container takes its name: a run that is cut off in between is finished by one that writes it
    again, and a line twice is better than none. `spec` is the hash of the container's specification.
    """

    name: str
    service: str
    release: str
    spec: str
    why: str

    @property
    def what(self) -> str:
        return f"write down that {self.name} answers with {self.release}"


@dataclass(frozen=True)
class Rename:
    name: str
    to: str
    why: str

    @property
    def what(self) -> str:
        return f"rename {self.name} to {self.to}"


@dataclass(frozen=True)
class Hook:
    """A command of the inventory, and the replica that it is about. `where`: controller, host; `timeout` in seconds."""

    argv: tuple[str, ...]
    where: str
    timeout: float
    service: str
    replica: str
    port: int
    release: str

    def __str__(self) -> str:
        return f"`{shlex.join(self.argv)}` on {'the host' if self.where == 'host' else 'this controller'}"


@dataclass(frozen=True)
class DrainOut:
    """Take a replica out of whatever routes to it."""

    hook: Hook
    why: str

    @property
    def what(self) -> str:
        return f"take {self.hook.replica} out of its router: {self.hook}"


@dataclass(frozen=True)
class DrainIdle:
    """Wait until a replica has nothing under way, at most `limit` seconds."""

    name: str
    service: str
    port: int
    limit: float
    why: str

    @property
    def what(self) -> str:
        return f"wait until {self.name} has no requests under way (at most {self.limit:g} s)"


@dataclass(frozen=True)
class DrainBack:
    """Put a replica that has answered back into whatever routes to it."""

    hook: Hook
    why: str

    @property
    def what(self) -> str:
        return f"put {self.hook.replica} back into its router: {self.hook}"


Step = (
    WriteSecrets
    | Create
    | SetRestart
    | Stop
    | FreeVram
    | Start
    | Wait
    | Verify
    | Settle
    | SaveLogs
    | Remove
    | Remember
    | Rename
    | DrainOut
    | DrainIdle
    | DrainBack
)


@dataclass(frozen=True)
class Change:
    """Steps that belong together.

    If one of `steps` fails, `undo` puts back what was there (each of its steps is harmless when there is nothing to
    do). `commit` follows once the new container has proved itself; it is not undone but finished by the next run.
    """

    name: str
    why: str
    steps: tuple[Step, ...]
    commit: tuple[Step, ...] = ()
    undo: tuple[Step, ...] = ()


@dataclass(frozen=True)
class ServingPlan:
    """`kept` says why nothing happens to a replica; `problems` forbid to carry the plan out."""

    changes: tuple[Change, ...]
    kept: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def replaces(self) -> bool:
        """Does it take something down that serves? Such hosts go one at a time."""
        return any(isinstance(step, Stop) for change in self.changes for step in change.steps)
