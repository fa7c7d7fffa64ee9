"""What of models lies on a host, and what brings it what the run has for it. Changes nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import docker

from fleet.delivery.send import Sender
from fleet.models.content import Source
from fleet.models.disk import There
from fleet.models.look import compare
from fleet.models.plan import Plan, plan_models
from fleet.models.resolve import Origin, lacking, left_out, resolve
from fleet.serving.observe import observe
from fleet.transport import Session


@dataclass(frozen=True)
class Weighed:
    """`sources` are what the models are on this host; `notes` say what is not brought; `curl`: the host has one."""

    plan: Plan = field(default_factory=Plan)
    sources: Mapping[str, Source] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    curl: bool = False


def weigh(
    session: Session, client: docker.DockerClient | None, wanted: Mapping[str, Origin], *, rehash: bool
) -> Weighed:
    """Without an engine (None) no container has any of them mounted. Raises HostError."""
    if not wanted:
        return Weighed()
    sender, directory = Sender.of(session), session.host.settings.models_dir
    relayed = session.host.settings.relay is not None
    found = resolve(sender, directory, wanted, everything=rehash, relayed=relayed)
    contents = {name: source.content for name, source in found.sources.items()}
    ground = compare(sender, directory, contents, everything=rehash)
    several = any(model.versions for model in ground.models.values())
    living = [one for one in observe(session, client).containers if one.alive] if several and client else []
    sources = [volume.source.rstrip("/") for one in living for volume in one.volumes]

    def mounted(path: str) -> bool:
        return any(source == path or source.startswith(f"{path}/") for source in sources)

    plan = plan_models(ground, found.sources, mounted)
    problems = (
        *found.problems,
        *plan.problems,
        *lacking(plan, found.sources, ground),
        *left_out(plan, found.sources, ground),
    )
    return Weighed(Plan(plan.steps, problems), found.sources, tuple(found.notes), ground.curl)


def differing(sources: Mapping[str, Mapping[str, Source]]) -> tuple[str, ...]:
    """Models that are not the same on all hosts whose own disks they come from, in words; `sources` go by host and name."""
    known: dict[str, dict[str, list[str]]] = {}
    for host, of_host in sources.items():
        for name, source in of_host.items():
            if isinstance(source, There):
                known.setdefault(name, {}).setdefault(source.content.digest[:12], []).append(host)
    return tuple(
        f"model {name} is not the same on all disks, and each host gets its own: {_listed(digests.items())}"
        for name, digests in known.items()
        if len(digests) > 1
    )


def _listed(digests: Iterable[tuple[str, list[str]]]) -> str:
    return "; ".join(f"{digest} on {', '.join(hosts)}" for digest, hosts in digests)
