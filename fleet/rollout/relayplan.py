"""Relays in the plans of a run: who would be one, and which way everybody's images would come. Changes nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fleet.delivery.plan import Step, sideload_way
from fleet.delivery.relay import Ground
from fleet.image.release import Release
from fleet.rollout import relays
from fleet.rollout.relays import Group, Post
from fleet.rollout.run import Outcome, site_of
from fleet.rollout.site import Site, Wishes


def arrange(found: Mapping[str, Outcome], wishes: Wishes) -> None:
    """Give the hosts' plans the steps that they go by while a relay serves, or a note why they do not."""
    taken: set[str] = set()
    for group in groups(found) if wishes.relays else ():
        needy = [name for name in group.names if found[name].error is None and relays.needs(own(found[name]))]
        name = relays.pick(group, able(group, found, wishes) - taken)
        if not needy:
            continue
        if not name:
            for one in needy:
                _note(found[one], "none of its group can be a relay, so the image comes as if there were none")
            continue
        taken.add(name)
        place = relays.post(group, site_of(found[name]).host, wishes.fingerprint)
        releases = coming(found, wishes, needy)
        passed = passed_over(group, found, wishes)
        for one in dict.fromkeys((name, *needy)):
            if passed:
                _note(found[one], passed)
            _route(found[one], place, releases, wishes, needy=one in needy)


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


def able(group: Group, found: Mapping[str, Outcome], wishes: Wishes) -> set[str]:
    """The hosts of a group that can be its relay."""
    return {name for name in group.order if name in found and not unable(found[name], wishes)}


def passed_over(group: Group, found: Mapping[str, Outcome], wishes: Wishes) -> str:
    """Why the host that was named is not the relay, "" where it is, or where none was named."""
    named = group.setting.host
    if named == relays.AUTO:
        return ""
    why = unable(found[named], wishes) if named in found and group.first else "it takes no part in this run"
    return f"{named} cannot be the relay: {why}" if why else ""


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


def _route(outcome: Outcome, place: Post, releases: tuple[Release, ...], wishes: Wishes, *, needy: bool) -> None:
    site = site_of(outcome)
    ground = site.ground or Ground()
    mine = site.host.name == place.host
    if needy and not may_pull(site, ground, place):
        _note(outcome, no_root(site, place))
        return
    steps: list[Step] = []
    if mine:
        image = wishes.relays[place.host].local_name
        steps += [*site.registry_image, relays.starting(place, image), *relays.fills(releases, ground, way_of(site))]
    if needy:
        steps += relays.through(own(outcome), wishes.releases.get(outcome.host, {}), place, ground, outcome.host)
    else:
        steps += own(outcome)
    if not place.keep:
        steps += [relays.ending(ground)] if mine else []
        steps += [relays.forgetting(place)] if needy else []
    outcome.site = replace(site, plan=replace(site.plan, relayed=tuple(steps)))


def _note(outcome: Outcome, words: str) -> None:
    site = site_of(outcome)
    outcome.site = replace(site, plan=replace(site.plan, notes=(*site.plan.notes, words)))
