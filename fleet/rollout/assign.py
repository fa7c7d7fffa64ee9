"""A playbook over an inventory: which hosts each play takes, and what the plays ask of each host. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fleet.errors import UsageError
from fleet.inventory import select
from fleet.inventory.model import Host, Inventory
from fleet.playbook import STAGES, Models, Play, Playbook, Preflight, Prepare, Prune, Serve
from fleet.rollout.site import Tuning

IMAGES = frozenset({"image", "distribute", "serve", "verify", "prune"})  # stages that need to know the releases


@dataclass(frozen=True)
class Assignment:
    """A play and the hosts that its patterns stand for, in inventory order."""

    play: Play
    hosts: tuple[str, ...]
    canaries: frozenset[str] = frozenset()

    @property
    def stages(self) -> frozenset[str]:
        return frozenset(stage.name for stage in self.play.stages)


@dataclass(frozen=True)
class Programme:
    """All plays of a run. `hosts` are those of any play, with what the plays change of their settings."""

    assignments: tuple[Assignment, ...]
    hosts: tuple[Host, ...]
    tuning: Mapping[str, Tuning] = field(default_factory=dict)
    prune: bool = False
    take_over: frozenset[str] = frozenset()

    @property
    def stages(self) -> frozenset[str]:
        return frozenset(stage for one in self.assignments for stage in one.stages)


def assign(
    playbook: Playbook, inventory: Inventory, chosen: Sequence[Host], *, stages: Collection[str] = ()
) -> Programme:
    """`chosen` is what --limit left; `stages` keeps only these (all where empty). Plays without hosts are left out.

    Raises UsageError for an unknown stage, and for a pattern that matches no host of the inventory.
    """
    unknown = sorted(set(stages) - {stage.name for stage in STAGES})
    if unknown:
        hint = f"stages: {', '.join(stage.name for stage in STAGES)}"
        raise UsageError(f"there is no stage {', '.join(unknown)}", hint=hint)
    assignments = []
    narrowed = [
        replace(play, stages=tuple(stage for stage in play.stages if not stages or stage.name in stages))
        for play in playbook.plays
    ]
    for play in (one for one in narrowed if one.stages):
        matching = {host.name for host in select(inventory, play.hosts)}
        hosts = tuple(host.name for host in chosen if host.name in matching and takes_part(host, play))
        canaries: frozenset[str] = frozenset()
        if isinstance(play.canary, str):
            canaries = frozenset(host.name for host in select(inventory, play.canary))
        if hosts:
            assignments.append(Assignment(play, hosts, canaries))
    return _programme(assignments, chosen)


def takes_part(host: Host, play: Play) -> bool:
    """Does `fleet:` give this host anything to do in the play's stages?"""
    settings = host.settings
    if settings.services:
        return True
    if any(isinstance(stage, Models) and stage.names for stage in play.stages):
        return bool(settings.gpus.model or settings.gpus.count)
    if any(stage.name in IMAGES for stage in play.stages):
        return False
    return bool(settings.gpus.model or settings.gpus.count or settings.builder == host.name)


def without(programme: Programme, names: Collection[str]) -> Programme:
    """The same programme with some hosts left out."""
    return replace(
        programme,
        hosts=tuple(host for host in programme.hosts if host.name not in names),
        assignments=tuple(
            replace(one, hosts=left)
            for one in programme.assignments
            if (left := tuple(name for name in one.hosts if name not in names))
        ),
    )


def peers(programme: Programme, inventory: Inventory) -> tuple[Host, ...]:
    """Hosts outside the run that serve the services which a play with min_available replaces: they count too."""
    services: set[str] = set()
    mine = {host.name: host for host in programme.hosts}
    for one in programme.assignments:
        if one.play.min_available is not None and "serve" in one.stages:
            services |= {service for name in one.hosts for service in mine[name].settings.services}
    return tuple(
        host for host in inventory.hosts.values() if host.name not in mine and services & set(host.settings.services)
    )


def _programme(assignments: Sequence[Assignment], chosen: Sequence[Host]) -> Programme:
    tuning: dict[str, Tuning] = {}
    tuned = {host.name: host for host in chosen if any(host.name in one.hosts for one in assignments)}
    serving: list[Serve] = []
    for one in assignments:
        serving += [stage for stage in one.play.stages if isinstance(stage, Serve)]
        for name in one.hosts:
            tuning[name] = _tune(tuning.get(name, Tuning()), one.play)
            tuned[name] = _host(tuned[name], one.play)
    return Programme(
        tuple(assignments),
        tuple(tuned.values()),
        tuning,
        prune=any(stage.prune for stage in serving),
        take_over=frozenset(name for stage in serving for name in stage.take_over),
    )


def _tune(so_far: Tuning, play: Play) -> Tuning:
    serves = any(isinstance(stage, Serve) for stage in play.stages)
    prepares: list[Prepare] = [stage for stage in play.stages if isinstance(stage, Prepare)]
    keeps = [stage.keep for stage in play.stages if isinstance(stage, Prune)]
    return Tuning(
        settle=max(so_far.settle, play.min_healthy_time if serves else 0.0),
        strict=so_far.strict or any(isinstance(stage, Preflight) and stage.strict for stage in play.stages),
        prepare=_both([so_far.prepare, *(stage.only for stage in prepares)]),
        keep=max((one for one in (so_far.keep, *keeps) if one is not None), default=None),
    )


def _both(asked: Iterable[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """Ids of fixes from several plays; an empty tuple is all of them."""
    given = [one for one in asked if one is not None]
    if not given:
        return None
    return () if not all(given) else tuple(dict.fromkeys(name for one in given for name in one))


def _host(host: Host, play: Play) -> Host:
    settings = host.settings
    accepted = {
        key: reason for stage in play.stages if isinstance(stage, Preflight) for key, reason in stage.accept.items()
    }
    if accepted:
        settings = replace(settings, accept={**settings.accept, **accepted})
    deadline = play.progress_deadline
    if deadline is not None and any(isinstance(stage, Serve) for stage in play.stages):
        services = {name: replace(one, progress_deadline=deadline) for name, one in settings.services.items()}
        settings = replace(settings, services=services)
    return host if settings is host.settings else replace(host, settings=settings)
