"""Models through relays: their files are blobs of the relay's registry, and its neighbours get them from it by curl."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from fleet.delivery.plan import Step
from fleet.delivery.relay import Courier, FillModel, Ground
from fleet.delivery.send import Parcel
from fleet.models import courier
from fleet.models.carry import FromStore, from_relay, parcel
from fleet.models.courier import FromHub
from fleet.models.execute import Work, carry_out
from fleet.models.hub import Remote
from fleet.models.plan import Bring
from fleet.models.plan import Step as ModelStep
from fleet.models.source import Here
from fleet.rollout import relayplan, relays
from fleet.rollout.relaycircle import Traces, Up
from fleet.rollout.relaying import Attempt, Relays
from fleet.rollout.relays import NEIGHBOURS, Post
from fleet.rollout.relaystart import Roads
from fleet.rollout.run import Outcome, site_of
from fleet.rollout.site import Site, Wishes


@dataclass(frozen=True)
class Weights:
    """A Load. `found` are the hosts of the run."""

    found: Mapping[str, Outcome]
    noun = "the model"

    def needs(self, outcome: Outcome) -> bool:
        return bool(shared(outcome))

    def fills(self, waiting: Collection[str], relay: Outcome) -> tuple[Step, ...]:
        return fills([self.found[name] for name in waiting], relay)


def bring(outcome: Outcome, work: Work, by: Relays, roads: Roads) -> int:
    """Carry out a host's steps, what comes from elsewhere through its relay where there is one. How many changed
    something.
    """
    steps = site_of(outcome).plan.models
    coming = shared(outcome)
    try:
        for step in steps:
            one = step if isinstance(step, Bring) and step in coming else None
            if one is None or not by.through(outcome, _attempt(outcome, one, work, roads)):
                carry_out((step,), work, roads(outcome))
    finally:
        by.leave(outcome.host)
    return sum(step.changes for step in steps)


def _attempt(outcome: Outcome, step: Bring, work: Work, roads: Roads) -> Attempt:
    def attempt(up: Up, _traces: Traces) -> str:
        site = site_of(outcome)
        if hindered := no_curl(site, up.post):
            return hindered
        mine = up.post.host == outcome.host
        through = FromStore((site.ground or Ground()).directory) if mine else from_relay(up.registry)
        carry_out((routed(step, outcome.host, up.post),), replace(work, through=through), roads(outcome))
        return ""

    return attempt


def shared(outcome: Outcome) -> tuple[Bring, ...]:
    """The steps that bring a host models of this controller or of Hugging Face, by its own plan."""
    if outcome.site is None:
        return ()
    sources = outcome.site.weighed.sources
    bring = (step for step in outcome.site.plan.models if isinstance(step, Bring))
    return tuple(step for step in bring if isinstance(sources[step.name], Here | Remote))


def fills(needy: Iterable[Outcome], relay: Outcome) -> tuple[FillModel, ...]:
    """What a relay's store has to get. A file that two models share moves once."""
    site = site_of(relay)
    ground = site.ground or Ground()
    there, steps = set(ground.blobs), []
    for (name, key), (parcels, road, by) in _parcels(needy, relayplan.way_of(site)).items():
        missing = [one for one in parcels if one.digest not in there]
        there |= {one.digest for one in missing}
        size = sum(one.size - ground.staging.there(one.digest, one.size) for one in missing)
        have = len(parcels) - len(missing)
        known = f"; its store has {have} of {len(parcels)} files" if have else ""
        steps.append(FillModel(name, key, parcels, size, f"{NEIGHBOURS}{known}", road, by))
    return tuple(steps)


def _parcels(
    needy: Iterable[Outcome], way: str
) -> dict[tuple[str, str], tuple[tuple[Parcel, ...], str, Courier | None]]:
    """By model, with what it holds: the files that any of these hosts lacks, each once, and how they come to the relay."""
    found: dict[tuple[str, str], dict[str, Parcel]] = {}
    remote: dict[tuple[str, str], Remote] = {}
    for outcome in needy:
        for step in shared(outcome):
            source = site_of(outcome).weighed.sources[step.name]
            key = (step.name, source.content.digest)
            own = found.setdefault(key, {})
            if isinstance(source, Here):
                own |= {f"sha256:{file.sha256}": parcel(source, file) for file in step.files}
            elif isinstance(source, Remote):
                remote[key] = source
                own |= {f"sha256:{file.sha256}": courier.parcel(source, file) for file in step.files}
    return {
        key: (
            tuple(parcels.values()),
            remote[key].way if key in remote else way,
            FromHub(remote[key]) if key in remote else None,
        )
        for key, parcels in found.items()
    }


def routed(step: Bring, host: str, place: Post) -> Bring:
    """The step as it goes while `place` serves."""
    if host == place.host:
        return replace(step, size=0, way="from its own store")
    return replace(step, way=f"from relay {place.host}")


def no_curl(site: Site, place: Post) -> str:
    """Why a host cannot get models from a relay, "" where it can."""
    if site.host.name == place.host or site.weighed.curl:
        return ""
    return f"there is no curl on the host to ask relay {place.host}, so the model comes as if there were no relay"


def arrange(found: Mapping[str, Outcome], wishes: Wishes) -> None:
    """Give the hosts' plans the steps by which their models come while a relay serves."""
    load = Weights(found)

    def route(outcome: Outcome, place: Post, needy: Collection[str]) -> None:
        site = site_of(outcome)
        coming = shared(outcome)
        if coming and (hindered := no_curl(site, place)):
            relayplan.note(outcome, hindered)
            return
        steps: tuple[ModelStep | Step, ...] = tuple(
            routed(step, outcome.host, place) if isinstance(step, Bring) and step in coming else step
            for step in site.plan.models
        )
        if outcome.host == place.host:
            end = () if place.keep else (relays.ending(site.ground or Ground()),)
            steps = (*relayplan.opening(site, place, wishes), *load.fills(needy, outcome), *steps, *end)
        outcome.site = replace(site, plan=replace(site.plan, relayed_models=steps))

    relayplan.arrange_load(found, wishes, load, route)
