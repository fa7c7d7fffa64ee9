"""Relays in the plans of a run: who would be one, and which way everybody's images would come. Changes nothing."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from fleet.delivery.persist import SPARE
from fleet.delivery.plan import Step, sideload_way
from fleet.delivery.relay import Ground, StartRelay, StopRelay
from fleet.delivery.send import Sender
from fleet.image.release import Release
from fleet.report.units import size
from fleet.rollout import relays
from fleet.rollout.images import weight
from fleet.rollout.relays import Group, Post
from fleet.rollout.run import Outcome, site_of
from fleet.rollout.site import Site, Wishes
from fleet.rollout.straighten import depot_of, straight_way

Route = Callable[[Outcome, Post, Collection[str]], None]
"""Gives a host's plan its steps by way of a relay; the last are the hosts that the load has to come to."""


class Load(Protocol):
    """What relays bring: images, or models. `noun` is for people: the image."""

    @property
    def noun(self) -> str: ...

    def needs(self, outcome: Outcome) -> bool: ...

    def fills(self, waiting: Collection[str], relay: Outcome) -> tuple[Step, ...]:
        """What the store of `relay` lacks of all that these hosts need."""


@dataclass(frozen=True)
class Images:
    """A Load. `found` are the hosts of the run."""

    found: Mapping[str, Outcome]
    wishes: Wishes
    noun = "the image"

    def needs(self, outcome: Outcome) -> bool:
        return relays.needs(own(outcome))

    def fills(self, waiting: Collection[str], relay: Outcome) -> tuple[Step, ...]:
        site = site_of(relay)
        needed = coming(self.found, self.wishes, waiting)
        return relays.fills(needed, site.ground or Ground(), way_of(site), lambda one: self._way(one, site))

    def _way(self, release: Release, site: Site) -> tuple[str, bool]:
        depot = depot_of(self.wishes.depots, release, site.host)
        if depot and not depot.reach(Sender.of(site.session), release):
            return straight_way(depot), True
        return sideload_way(site.session.via, self.wishes.origins.get(release.id, "")), False


def arrange(found: Mapping[str, Outcome], wishes: Wishes) -> None:
    """Give the hosts' plans the steps by which images come while a relay serves, or a note why they do not."""
    load = Images(found, wishes)

    def route(outcome: Outcome, place: Post, needy: Collection[str]) -> None:
        _route(outcome, place, load.fills(needy, outcome), wishes, needy=outcome.host in needy)

    arrange_load(found, wishes, load, route)


def arrange_load(found: Mapping[str, Outcome], wishes: Wishes, load: Load, route: Route) -> None:
    """The same for any load."""
    taken: set[str] = set()
    for group in groups(found) if wishes.relays else ():
        needy = [name for name in group.names if found[name].error is None and load.needs(found[name])]
        if not needy:
            continue
        name = relays.pick(group, able(group, found, wishes, load, needy) - taken)
        if not name:
            for one in needy:
                note(found[one], f"none of its group can be a relay, so {load.noun} comes as if there were none")
            continue
        taken.add(name)
        place = relays.post(group, site_of(found[name]).host, wishes.fingerprint)
        passed = passed_over(group, found, wishes, load, needy)
        for one in dict.fromkeys((name, *needy)):
            if passed:
                note(found[one], passed)
            route(found[one], place, needy)


def groups(found: Mapping[str, Outcome]) -> tuple[Group, ...]:
    """Of the hosts that were reached."""
    return relays.groups(outcome.site.host for outcome in found.values() if outcome.site is not None)


def own(outcome: Outcome) -> tuple[Step, ...]:
    """A host's steps without a relay."""
    return outcome.site.plan.images if outcome.site is not None else ()


def coming(found: Mapping[str, Outcome], wishes: Wishes, needy: Iterable[str]) -> tuple[Release, ...]:
    """The releases that these hosts need, each once."""
    all_of_them = (one for name in needy for one in relays.wanted(own(found[name]), wishes.releases.get(name, {})))
    return tuple({one.id: one for one in all_of_them}.values())


def unable(outcome: Outcome, wishes: Wishes) -> str:
    """Why a host cannot be a relay, "" where it can."""
    site = outcome.site
    if outcome.error is not None or site is None:
        return "it is not ready"
    if site.ground is None or outcome.host not in wishes.relays:
        return "there is no image of a registry for it"
    if not site.ground.directory:
        return f"nothing can be stored in {site.host.settings.staging_dir}"
    return "" if is_root(site) else "only root may be a relay"


def crowded(outcome: Outcome, fills: Iterable[Step], wishes: Wishes) -> str:
    """Why the disk of a host has no room for the store, "" where it has.

    What is staged becomes what is stored, so it counts once. What comes to other places of the same disk counts too: the
    host's own models, and for an image the engine's copy and what it unpacks.
    """
    site = site_of(outcome)
    ground, space = site.ground or Ground(), site.facts.space
    store = sum(one.size for one in fills)
    disk = space["staging"].device if "staging" in space else None
    own_store = "containerd" in space and site.facts.docker.image_store == "containerd"
    image = weight(wishes.releases.get(outcome.host, {}), own(outcome))
    others = {
        "models": sum(step.size for step in site.plan.models),
        "containerd" if own_store else "root": image.size_bytes + image.unpacked_bytes if image else 0,
    }
    beside = sum(count for name, count in others.items() if disk and name in space and space[name].device == disk)
    if not store or store + beside + SPARE <= ground.staging.free:
        return ""
    there = f" beside {size(beside)} that come to the same disk" if beside else ""
    return f"{ground.directory} has {size(ground.staging.free)} free, and its store needs {size(store + SPARE)}{there}"


def able(group: Group, found: Mapping[str, Outcome], wishes: Wishes, load: Load, waiting: Collection[str]) -> set[str]:
    """The hosts of a group that can be its relay, for what these hosts wait for."""
    return {name for name in group.order if name in found and not _hindered(found[name], wishes, load, waiting)}


def passed_over(
    group: Group, found: Mapping[str, Outcome], wishes: Wishes, load: Load, waiting: Collection[str]
) -> str:
    """Why the host that was named is not the relay, "" where it is, or where none was named."""
    named = group.setting.host
    if named == relays.AUTO:
        return ""
    there = named in found and group.first
    why = _hindered(found[named], wishes, load, waiting) if there else "it takes no part in this run"
    return f"{named} cannot be the relay: {why}" if why else ""


def _hindered(outcome: Outcome, wishes: Wishes, load: Load, waiting: Collection[str]) -> str:
    return unable(outcome, wishes) or crowded(outcome, load.fills(waiting, outcome), wishes)


def opening(site: Site, place: Post, wishes: Wishes) -> tuple[Step, ...]:
    """What brings a relay up, but for its store."""
    return (*site.registry_image, relays.starting(place, wishes.relays[place.host].local_name))


def is_root(site: Site) -> bool:
    return site.facts.user.uid == 0


def may_pull(site: Site, ground: Ground, place: Post) -> bool:
    """Without root nothing can be put into certs.d; what an administrator put there is as good."""
    return is_root(site) or relays.trusts(ground, place)


def no_root(site: Site, place: Post) -> str:
    return (
        f"only root may place the CA of relay {place.host}, and {site.session.user} is not root, so the image comes "
        "as if there were no relay"
    )


def way_of(site: Site) -> str:
    """How the bytes for a relay's store go."""
    return sideload_way(site.session.via)


def _route(outcome: Outcome, place: Post, fills: tuple[Step, ...], wishes: Wishes, *, needy: bool) -> None:
    site = site_of(outcome)
    ground = site.ground or Ground()
    mine = site.host.name == place.host
    if needy and not may_pull(site, ground, place):
        note(outcome, no_root(site, place))
        return
    weights = site.plan.relayed_models
    serves = any(
        isinstance(step, StartRelay) for step in weights
    )  # models came before by the same relay, which serves on
    up = opening(site, place, wishes) if mine and not serves else ()
    steps: list[Step] = [*up, *fills] if mine else []
    if needy:
        steps += relays.through(own(outcome), wishes.releases.get(outcome.host, {}), place, ground, outcome.host)
    else:
        steps += own(outcome)
    if not place.keep:
        steps += [relays.ending(ground)] if mine else []
        steps += [relays.forgetting(place)] if needy else []
    if mine and serves:
        weights = tuple(step for step in weights if not isinstance(step, StopRelay))
    outcome.site = replace(site, plan=replace(site.plan, relayed=tuple(steps), relayed_models=weights))


def note(outcome: Outcome, words: str) -> None:
    """For the host's plan."""
    site = site_of(outcome)
    outcome.site = replace(site, plan=replace(site.plan, notes=(*site.plan.notes, words)))
