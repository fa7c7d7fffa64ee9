"""The steps around a stop that keep requests away from a replica: out of its router before, back into it after. Pure.

A replica is back only when it has answered. So the step stands before the new container takes its name: a controller that
vanishes in between leaves NAME-new, and the next run does it again. The host by itself cannot run hooks of the controller.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.inventory.settings import Drain, Settings
from fleet.serving.inspection import Inspection, replica_of
from fleet.serving.spec import LABEL, ContainerSpec
from fleet.serving.steps import DrainBack, DrainIdle, DrainOut, Hook, Step


@dataclass(frozen=True)
class Drains:
    """The hooks by service; `default` is of services without their own."""

    default: Drain | None = None
    services: Mapping[str, Drain] = field(default_factory=dict)

    @classmethod
    def of_settings(cls, settings: Settings) -> "Drains":
        own = {name: service.drain for name, service in settings.services.items() if service.drain is not None}
        return cls(settings.drain, own)

    def of(self, service: str) -> Drain | None:
        return self.services.get(service, self.default)

    def out(self, one: Inspection, why: str) -> tuple[Step, ...]:
        """Before a container of ours is stopped. Nothing for one that does not run, and for a stranger."""
        drain = self.of(one.service)
        if drain is None or not one.owned or not one.alive:
            return ()
        replica = replica_of(one)
        return (
            DrainOut(
                _hook(drain, drain.out, one.service, replica, one.port, one.labels.get(f"{LABEL}release", "")), why
            ),
            DrainIdle(one.name, one.service, one.port, drain.limit, "what is under way may end"),
        )

    def back(self, spec: ContainerSpec, why: str) -> tuple[Step, ...]:
        """After a replica has answered."""
        drain = self.of(spec.service)
        if drain is None:
            return ()
        return (DrainBack(_hook(drain, drain.back, spec.service, spec.name, spec.port, spec.image.release), why),)

    def back_old(self, one: Inspection, why: str) -> tuple[Step, ...]:
        """After a container that was stopped for another one serves again."""
        drain = self.of(one.service)
        if drain is None or not one.owned:
            return ()
        release = one.labels.get(f"{LABEL}release", "")
        return (DrainBack(_hook(drain, drain.back, one.service, replica_of(one), one.port, release), why),)


NONE = Drains()


def _hook(drain: Drain, argv: tuple[str, ...], service: str, replica: str, port: int, release: str) -> Hook:
    return Hook(argv, drain.where, drain.timeout, service, replica, port, release)
