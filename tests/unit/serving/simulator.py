"""A host's engine as a pure state machine: steps in, containers out. It refuses what a real engine refuses."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from fleet.serving.inspection import Inspection, listening, overlap, predict, replica_of
from fleet.serving.steps import (
    Change,
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
    Start,
    Step,
    Stop,
    Verify,
    Wait,
    WriteSecrets,
)


class Failed(Exception):  # noqa: N818  it is an event of the simulation, not an error of the program
    """A step of a change failed, as a sick container would make it fail."""


class Killed(Exception):  # noqa: N818  see above
    """kill -9 of the controller before this step."""


@dataclass
class Engine:
    containers: dict[str, Inspection] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    routed: set[str] = field(default_factory=set)  # replicas that get requests
    sick: Callable[[Inspection], bool] = lambda _container: False
    steps_left: int = 1_000_000

    def put(self, *containers: Inspection) -> "Engine":
        self.containers |= {one.name: one for one in containers}
        return self

    def run(self, plan: ServingPlan) -> list[str]:
        """Every change of a plan; returns the names of those that failed and were undone."""
        assert not plan.problems, plan.problems
        failed = []
        for change in plan.changes:
            try:
                self._all(change.steps)
            except Failed:
                self._undo(change)
                failed.append(change.name)
                break
            self._all(change.commit)
        return failed

    def _all(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self.apply(step)

    def _undo(self, change: Change) -> None:
        for step in change.undo:
            name = getattr(step, "name", None)
            if name is None or name in self.containers:
                with contextlib.suppress(Failed):  # an undo goes on to its end
                    self.apply(step)

    def apply(self, step: Step) -> None:
        if self.steps_left == 0:
            raise Killed
        self.steps_left -= 1
        match step:
            case WriteSecrets():
                self.written.add(step.path)
            case Create():
                assert step.name not in self.containers, f"{step.name} is there already"
                assert not step.spec.secrets_file or step.spec.secrets_file in self.written
                self.put(predict(step.spec, name=step.name, held=step.held))
            case SetRestart():
                self._change(step.name, restart=step.policy)
            case Stop():
                if self.containers[step.name].alive:
                    self._change(step.name, state="exited")
            case Start():
                self._change(step.name, state="running")
                self.check_exclusive()
            case Wait() | Verify():
                if self.sick(self.containers[step.name]):
                    raise Failed
                assert self.containers[step.name].state == "running"
            case Remove():
                assert not self.containers[step.name].alive, f"{step.name} is removed while it runs"
                del self.containers[step.name]
            case Rename():
                assert step.to not in self.containers
                self.put(replace(self.containers.pop(step.name), name=step.to))
            case DrainOut():
                self.routed.discard(step.hook.replica)
            case DrainBack():
                serving = [
                    one for one in self.containers.values() if one.owned and replica_of(one) == step.hook.replica
                ]
                assert any(one.state == "running" for one in serving), f"{step.hook.replica} gets requests and is down"
                self.routed.add(step.hook.replica)
            case FreeVram() | SaveLogs() | DrainIdle() | Remember():
                pass

    def check_exclusive(self) -> None:
        """No two containers of ours that run ever share a GPU or a port."""
        running = [one for one in self.containers.values() if one.alive and one.owned]
        for number, one in enumerate(running):
            for two in running[number + 1 :]:
                assert not overlap(one.gpus, two.gpus), f"{one.name} and {two.name} share GPUs"
                assert not listening(one) & listening(two), f"{one.name} and {two.name} share a port"

    def _change(self, name: str, **changes: Any) -> None:
        self.containers[name] = replace(self.containers[name], **changes)
