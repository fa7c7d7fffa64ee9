"""What planners of one host share: what planning has found so far, and the steps that every change has."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet.serving.command import memory_share
from fleet.serving.diff import Difference, Same, compare
from fleet.serving.draining import Drains
from fleet.serving.inspection import Held, Inspection, spec_gpus
from fleet.serving.spec import ContainerSpec
from fleet.serving.steps import Change, FreeVram, Remember, Settle, Step, Stop, Verify, Wait

DEFAULT_GRACE = 60  # seconds


@dataclass
class Work:
    """What planning has found so far; lives only inside `plan`."""

    real: dict[str, Inspection]
    wanted: Mapping[str, ContainerSpec]
    written: frozenset[str]
    prune: bool
    take_over: frozenset[str]
    settle: float
    changes: list[Change]
    kept: list[str]
    notes: list[str]
    problems: list[str]
    held: dict[str, Held]  # what dropped candidates had replaced
    dropped: dict[str, tuple[Step, ...]]  # by replica, what takes its dropped candidate away
    drains: Drains
    aside: frozenset[str]
    drained: frozenset[str]


def differences(spec: ContainerSpec, real: Inspection, written: frozenset[str]) -> tuple[Difference, ...]:
    """All that keeps a container from being the wanted one, its restart policy aside."""
    verdict = compare(spec, real, restart=False)
    found = () if isinstance(verdict, Same) else verdict.differences
    if real.state in ("dead", "removing"):
        found += (Difference("state", real.state, "running"),)
    if spec.secrets_file and spec.secrets_file not in written and not any(d.what.startswith("mount") for d in found):
        found += (Difference("secrets file", "other or missing content", "the present values"),)
    return found


def held_as(one: Inspection) -> Held:
    """A container of ours with restart=no that should have another policy was stopped by us and did serve."""
    return Held(one.name, one.policy, one.alive or (one.restart == "no" and one.policy != "no"))


def grace(one: Inspection) -> int:
    """Seconds from SIGTERM to SIGKILL."""
    return max(one.stop_timeout, DEFAULT_GRACE if not one.stop_timeout else 1)


def stopped(one: Inspection, why: str) -> tuple[Step, ...]:
    """Stop it, and wait until its GPUs' memory is free."""
    stop = Stop(one.name, grace(one), why)
    if one.gpus is not None and not one.gpus:
        return (stop,)
    return (stop, FreeVram(one.gpus, f"{one.name} was stopped", service=one.service))


def free_vram(spec: ContainerSpec, why: str, share: float) -> FreeVram:
    """Wait until `share` of each GPU of the replica is free."""
    return FreeVram(spec_gpus(spec), why, share, spec.service)


def needed(returning: Iterable[Inspection]) -> float:
    """What has to be free of each GPU, so that these start again. What a stranger needs is not known."""
    return max((memory_share((*one.entrypoint, *one.arguments)) for one in returning if one.owned), default=0.0)


def prove(work: Work, spec: ContainerSpec, name: str) -> list[Step]:
    """What a started container has to pass before it counts."""
    steps: list[Step] = [
        Wait(name, spec.service, spec.port, "it was started"),
        Verify(name, spec.service, spec.port, "only an answer proves that it serves"),
    ]
    if work.settle:
        steps.append(Settle(name, spec.service, spec.port, work.settle, "it counts only after it stayed healthy"))
    return steps


def remember(spec: ContainerSpec, why: str) -> Remember:
    """After the replica has answered. `why` it was started."""
    return Remember(spec.name, spec.service, spec.image.release, spec.hash, why)


def back_in(work: Work, old: Inspection, why: str) -> tuple[Step, ...]:
    """For an old container that was started again: it must be seen to serve before requests go there."""
    back = work.drains.back_old(old, why)
    return (Wait(old.name, old.service, old.port, why), *back) if back else ()
