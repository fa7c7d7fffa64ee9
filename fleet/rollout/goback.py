"""A roll-back's part before the roll: what every host goes back to, as the releases and settings that a roll takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from fleet.errors import FleetError, HostError, UsageError
from fleet.image.machine import Here, There
from fleet.image.produce_source import export_again
from fleet.image.release import Release, loads
from fleet.image.store import Store
from fleet.image.workshop import Workshop
from fleet.inventory.model import Host
from fleet.inventory.settings import Image
from fleet.report.hosts import fold
from fleet.rollout.images import registry_of
from fleet.rollout.lineage import Choice, Standing, go_back, go_to
from fleet.rollout.past import Past, as_then, look_back
from fleet.rollout.records import HostRecords
from fleet.rollout.releases import Say
from fleet.rollout.stock import Stock
from fleet.transport import Connector, fan_out


@dataclass(frozen=True)
class Back:
    """What a roll-back asks for: `to` names a release (empty: the last one before), `services` are all where empty."""

    to: str = ""
    services: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Road:
    """What a roll needs to go back: the hosts with the settings of that day, the releases, and who is left alone."""

    hosts: tuple[Host, ...]
    stock: Stock
    refused: Mapping[str, str] = field(default_factory=dict)


def pasts(
    hosts: Sequence[Host], connector: Connector, root: Path, *, forks: int
) -> tuple[dict[str, Past], dict[str, HostError]]:
    """What every host remembers, and who could not be asked. Changes nothing."""
    known = cached(root)

    def ask(host: Host) -> Past:
        names = {image.name for image in (host.settings.image, *_images(host)) if image and image.name}
        with connector.visiting(host) as session:
            return look_back(session, names, known)

    answers = fan_out(hosts, ask, forks=forks)
    failed = {name: one for name, one in answers.items() if isinstance(one, HostError)}
    return {name: one for name, one in answers.items() if isinstance(one, Past)}, failed


def cached(root: Path) -> dict[str, Release]:
    """The releases that this controller's cache tells of, by id; what is damaged there counts as none."""
    found: dict[str, Release] = {}
    for path in sorted((root / "releases").glob("*.json")):
        try:
            release = loads(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError, FleetError):
            continue
        found[release.id] = release
    return found


def named(text: str, releases: Mapping[str, Release]) -> Release:
    """The release that `text` means: the beginning of its id, a digest or its content key, or a whole reference.

    Raises UsageError for none and for several, with all of them.
    """
    found = sorted((one for one in releases.values() if _means(text, one)), key=lambda one: (one.created, one.id))
    if len(found) == 1:
        return found[0]
    told = [_described(one) for one in found or sorted(releases.values(), key=lambda one: (one.created, one.id))]
    if found:
        raise UsageError(f"{text} may mean {len(found)} releases: {'; '.join(told)}", hint="say more of it")
    known = f"; known are {'; '.join(told)}" if told else ""
    raise UsageError(
        f"no release {text!r} is known on these hosts or to this controller{known}",
        hint="invoke releases shows what the hosts ran",
    )


def arrange(
    back: Back,
    hosts: Sequence[Host],
    everybody: Sequence[Host],
    connector: Connector,
    root: Path,
    *,
    forks: int,
    say: Say,
) -> Road:
    """Ask every host for its past and choose. Raises UsageError for an unknown service or release; changes nothing."""
    missing = sorted(back.services - {name for host in hosts for name in host.settings.services})
    if missing:
        raise UsageError(f"no selected host has a service {', '.join(missing)}")
    found, silent = pasts(hosts, connector, root, forks=forks)
    releases = {**cached(root), **{name: one for past in found.values() for name, one in past.releases.items()}}
    chosen = {host.name: tuple(_chosen(host, back)) for host in hosts}
    if back.to:
        wanted = named(back.to, releases)
        chosen = {host.name: tuple(_of_image(host, chosen[host.name], wanted, found)) for host in hosts}
        if not any(chosen.values()):
            hint = "invoke releases shows what they run and ran"
            raise UsageError(f"{wanted.local_name} is no release of any chosen service of these hosts", hint=hint)
    standing = {
        host.name: Standing(
            chosen[host.name],
            {service: found[host.name].running(service) for service in chosen[host.name]},
            found[host.name].lineages,
        )
        for host in hosts
        if host.name in found
    }
    choice = go_to(standing, wanted.id) if back.to else go_back(standing)
    road = _Work(Stock(Store(root)), dict(choice.refused), {host.name: host for host in hosts})
    for name, error in silent.items():
        road.refused[name] = f"what answered there before could not be read: {error.message}"
    for name, aims in choice.aims.items():
        _take(road, name, aims, found[name], releases)
    _tell(road, choice, found)
    for host in hosts:
        for service, release in road.stock.releases.get(host.name, {}).items():
            registry = registry_of(host.settings, host.settings.services[service])
            near = [one for one in hosts if one.name in found]
            records = HostRecords(connector, near, [one for one in everybody if one not in near], say)
            known = host.settings.registries
            shop = Workshop(road.stock.store, Here(), registry, say, hosts=records, registries=known)
            builder = next((one for one in everybody if one.name == host.settings.builder), None)
            if builder is not None:
                shop = replace(shop, again=partial(_built, shop, connector, builder, host.settings.staging_dir))
            road.stock.workshops.setdefault(release.id, shop)
    return Road(tuple(road.hosts[host.name] for host in hosts), road.stock, road.refused)


def _built(shop: Workshop, connector: Connector, builder: Host, staging: str, release: Release) -> None:
    """A lost layout from the builder's image, which may be the only one that there is. Raises FleetError."""
    if release.source == "source":
        export_again(replace(shop, machine=There(connector.connect(builder), staging)), release)


@dataclass
class _Work:
    """What arranging has found so far; lives only inside `arrange`."""

    stock: Stock
    refused: dict[str, str]
    hosts: dict[str, Host]
    today: dict[tuple[str, str], list[str]] = field(
        default_factory=dict
    )  # (service, release) -> hosts without settings


def _take(road: _Work, name: str, aims: Mapping[str, str], past: Past, releases: Mapping[str, Release]) -> None:
    lost = [f"{service}: the record of {one} is gone" for service, one in aims.items() if one not in releases]
    if lost:
        road.refused[name] = f"{'; '.join(lost)}, and without it nobody knows which image that was"
        return
    host = road.hosts[name]
    services = dict(host.settings.services)
    for service, release in aims.items():
        record = past.records.get((service, release))
        then = as_then(services[service], record.settings) if record else None
        if then is None:
            road.today.setdefault((service, release), []).append(name)
        services[service] = then or services[service]
    road.stock.releases[name] = {service: releases[release] for service, release in aims.items()}
    road.hosts[name] = replace(host, settings=replace(host.settings, services=services))


def _tell(road: _Work, choice: Choice, found: Mapping[str, Past]) -> None:
    """Notes for a person: which way each service goes on which hosts, equal ones together."""
    ways: dict[str, list[str]] = {}
    for name, of_host in road.stock.releases.items():
        past = found[name]
        for service, release in of_host.items():
            now = ", ".join(sorted(past.running(service))) or "nothing"
            there = "its image is on the host" if release.id in past.held else "its image has to be brought again"
            there = "its container is still there" if release.id in past.kept(service) else there
            ways.setdefault(f"{service}: from {now} to {_described(release)}; {there}", []).append(name)
    for name, stays in choice.stays.items():
        for service, why in stays.items():
            ways.setdefault(f"{service} stays: {why}", []).append(name)
    road.stock.notes += [f"{text}: {fold(names)}" for text, names in ways.items()]
    road.stock.notes += [
        f"{service}: no settings are known of the time of {release}, so it gets today's: {fold(names)}"
        for (service, release), names in road.today.items()
    ]


def _chosen(host: Host, back: Back) -> list[str]:
    return [name for name in host.settings.services if not back.services or name in back.services]


def _of_image(host: Host, services: Sequence[str], wanted: Release, found: Mapping[str, Past]) -> list[str]:
    """The services that ran this release somewhere, or run another release of the same image."""
    ran = {
        service
        for past in found.values()
        for service, lineage in past.lineages.items()
        if wanted.id in {one.release for one in (*lineage.standing, *lineage.left)}
    }
    return [name for name in services if name in ran or _image_name(host, name) == wanted.name]


def _image_name(host: Host, service: str) -> str:
    image = host.settings.services[service].image or host.settings.image
    return image.name if image else ""


def _images(host: Host) -> list[Image | None]:
    return [service.image for service in host.settings.services.values()]


def _means(text: str, release: Release) -> bool:
    digests = (release.manifest_digest, release.config_digest, release.source_digest)
    starts = (release.content_key, *digests, *(one.removeprefix("sha256:") for one in digests))
    whole = (release.local_name, release.source_reference)
    pinned = text.rpartition("@")[2] if "@" in text else ""
    return text in whole or (pinned in digests if pinned else any(one.startswith(text) for one in starts if one))


def _described(release: Release) -> str:
    made = f" of {release.source_reference}" if release.source_reference else ""
    version = f", vLLM {release.vllm_version}" if release.vllm_version else ""
    return f"{release.local_name}{made}{version}"
