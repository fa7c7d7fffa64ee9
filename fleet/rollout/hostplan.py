"""What one host will go through, as one value: how its images come, what its containers do, what speaks against it."""

from dataclasses import dataclass, field

from fleet.delivery import plan as delivery
from fleet.models.plan import Step as ModelStep
from fleet.preflight import Finding
from fleet.prepare import Fix
from fleet.rollout.surplus import RemoveImage
from fleet.serving.steps import ServingPlan


@dataclass(frozen=True)
class Line:
    """One step for a person: what, why, the bytes to move at most (0 = none), and which way they go."""

    what: str
    why: str
    size: int = 0
    changes: bool = True
    way: str = ""  # from registry.corp:5000, from this controller through bastion jump@gate, …
    details: tuple[str, ...] = ()  # the commands, how they are undone, what they do not do


@dataclass(frozen=True)
class HostPlan:
    """`blocked` are the findings that keep the host out, `problems` what else does; then nothing of it is touched."""

    host: str
    images: tuple[delivery.Step, ...] = ()
    serving: ServingPlan = field(default_factory=lambda: ServingPlan(()))
    blocked: tuple[Finding, ...] = ()
    obstacles: tuple[str, ...] = ()
    fixes: tuple[Fix, ...] = ()  # of the stage prepare
    by_hand: tuple[Fix, ...] = ()  # fixes that wait for somebody who is root
    removals: tuple[RemoveImage, ...] = ()  # of the stage prune
    relayed: tuple[delivery.Step, ...] = ()  # what is done instead of `images` while a relay serves
    models: tuple[ModelStep, ...] = ()  # of the stage models
    relayed_models: tuple[ModelStep | delivery.Step, ...] = ()  # instead of `models`, as above
    notes: tuple[str, ...] = ()  # why the images come another way than was asked for

    @property
    def problems(self) -> tuple[str, ...]:
        return (*self.obstacles, *self.serving.problems)

    @property
    def ready(self) -> bool:
        return not self.blocked and not self.problems

    @property
    def lines(self) -> tuple[Line, ...]:
        """The steps in order, the no-ops too: they say why nothing happens."""
        images = [Line(step.what, step.why, step.size, step.changes, step.way) for step in self.relayed or self.images]
        kept = [Line(f"keep {text}", "", changes=False) for text in self.serving.kept]
        steps = [
            Line(step.what, step.why) for change in self.serving.changes for step in (*change.steps, *change.commit)
        ]
        weights = [
            Line(step.what, step.why, step.size, step.changes, step.way) for step in self.relayed_models or self.models
        ]
        fixes = [Line(fix.what, fix.why, details=fix.details) for fix in self.fixes]
        removals = [Line(step.what, step.why) for step in self.removals]
        return (*fixes, *weights, *images, *kept, *steps, *removals)

    @property
    def changed(self) -> int:
        return sum(line.changes for line in self.lines)

    @property
    def size(self) -> int:
        """Bytes to move to this host."""
        return sum(step.size for step in (*(self.relayed_models or self.models), *(self.relayed or self.images)))

    @property
    def replaces(self) -> bool:
        return self.serving.replaces
