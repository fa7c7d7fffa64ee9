"""Which hosts share a relay, which of them may be it, and what becomes of everybody's steps then. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fleet.delivery.plan import Load, PlaceCa, Pull, Step, Sweep, Tag
from fleet.delivery.relay import Distrust, Fill, Ground, StartRelay, StopRelay, location
from fleet.image.release import Release
from fleet.inventory.model import Host
from fleet.inventory.settings import Image, Relay

AUTO = "auto"
NEIGHBOURS = "the others of its group pull from it"


@dataclass(frozen=True)
class Group:
    """Hosts that share a relay. `first` is the host that was named, "" for auto; it may be no member itself."""

    key: str
    setting: Relay
    names: tuple[str, ...]
    first: str = ""

    @property
    def order(self) -> tuple[str, ...]:
        """Who is asked to be the relay, one after the other."""
        return tuple(dict.fromkeys((*([self.first] if self.first else []), *self.names)))


@dataclass(frozen=True)
class Post:
    """A relay that is to serve. `registry` is its address and port, as in certs.d; `fingerprint` that of the site's CA."""

    host: str
    registry: str
    address: str
    port: int
    keep: bool
    fingerprint: str


def groups(hosts: Iterable[Host]) -> tuple[Group, ...]:
    """The groups of these hosts; one host alone needs no relay."""
    hosts = tuple(hosts)
    present = {host.name for host in hosts}
    members: dict[str, list[Host]] = {}
    for host in hosts:
        if host.settings.relay is not None:
            members.setdefault(_key(host, host.settings.relay), []).append(host)
    found = []
    for key, inside in members.items():
        setting = inside[0].settings.relay or Relay()
        first = setting.host if setting.host != AUTO and setting.host in present else ""
        group = Group(key, setting, tuple(host.name for host in inside), first)
        if len(group.order) > 1:
            found.append(group)
    return tuple(found)


def _key(host: Host, setting: Relay) -> str:
    """The host that was named; with auto the line that says so, or, where that is unsaid, the first that says anything."""
    if setting.host != AUTO:
        return setting.host
    origins = host.origins
    place = origins.get("fleet.relay.host") or origins.get("fleet.relay")
    if place is None:
        said = {path: at for path, at in origins.items() if path.startswith("fleet.relay.")}
        place = min((at for path, at in said.items() if path != "fleet.relay.address"), default=None)
        place = place or min(said.values(), default=None)
    return str(place)


def registry_images(hosts: Iterable[Host]) -> dict[Image, tuple[str, ...]]:
    """The registry's images that these hosts may have to run, each with the hosts that may."""
    by_name = {host.name: host for host in hosts}
    found: dict[Image, tuple[str, ...]] = {}
    for group in groups(by_name.values()):
        for name in group.order:
            image = _setting(group, by_name[name]).image
            found[image] = tuple(dict.fromkeys((*found.get(image, ()), name)))
    return found


def pick(group: Group, able: Collection[str], needy: Collection[str] = ()) -> str:
    """The first that is able, "" where none is. With `needy`, those that need the images themselves come first."""
    order = [name for name in group.order if name in able]
    return next((name for name in order if name in needy), order[0] if order else "")


def post(group: Group, host: Host, fingerprint: str) -> Post:
    """Where `host` would serve."""
    setting = _setting(group, host)
    address = setting.address or host.connection.address
    registry = location(address, setting.port)
    return Post(host.name, registry, address, setting.port, setting.keep, fingerprint)


def _setting(group: Group, host: Host) -> Relay:
    """A host's own where it is a member, else the group's."""
    return host.settings.relay if host.name in group.names and host.settings.relay else group.setting


def needs(steps: Iterable[Step]) -> bool:
    """Do images have to come to this host?"""
    return any(isinstance(step, Load | Pull) for step in steps)


def wanted(steps: Iterable[Step], releases: Mapping[str, Release]) -> tuple[Release, ...]:
    """The releases that these steps of a host bring there, each once."""
    names = {step.name for step in steps if isinstance(step, Load)}
    digests = {step.digest for step in steps if isinstance(step, Pull)}
    found = {one.id: one for one in releases.values() if one.local_name in names or one.manifest_digest in digests}
    return tuple(found.values())


def trusts(ground: Ground, place: Post) -> bool:
    return bool(place.fingerprint) and ground.trusts.get(place.registry) == place.fingerprint


def through(
    own: Sequence[Step], releases: Mapping[str, Release], place: Post, ground: Ground, host: str
) -> tuple[Step, ...]:
    """A host's own steps, with everything that comes to it coming from the relay. What ends a relay is left out."""
    by_name = {one.local_name: one for one in releases.values()}
    by_digest = {one.manifest_digest: one for one in releases.values()}
    mine = host == place.host
    why = "its own store has it" if mine else f"relay {place.host} has it for the group"
    steps: list[Step] = []
    if not trusts(ground, place):
        steps.append(PlaceCa(place.registry, "the host is to trust the relay"))
    for step in own:
        match step:
            case Load():
                release = by_name[step.name]
                size = 0 if mine else step.size + step.there
                steps.append(Pull(_repository(place, release), release.manifest_digest, size, why, place.host))
                steps.append(Tag(_reference(place, release), step.name, "the name is not there"))
                if any(one.config == release.config_digest for one in ground.staging.images):
                    because = "it comes from the relay"
                    steps.append(Sweep(ground.directory, step.name, release.config_digest, because))
            case Pull():
                release = by_digest[step.digest]
                size = 0 if mine else step.size
                steps.append(Pull(_repository(place, release), step.digest, size, why, place.host))
            case Tag() if (pulled := by_digest.get(step.image.rpartition("@")[2])) is not None and "@" in step.image:
                steps.append(replace(step, image=_reference(place, pulled)))
            case PlaceCa() | StopRelay() | Distrust():
                continue
            case _:
                steps.append(step)
    return tuple(steps)


def fills(
    releases: Iterable[Release],
    ground: Ground,
    way: str,
    way_of: Callable[[Release], tuple[str, bool]] = lambda _release: ("", False),
) -> tuple[Fill, ...]:
    """What a relay's store has to get, by `way`. A layer that two releases share moves once.

    `way_of` gives the words for a release that goes another way, and whether that is straight from its builder.
    """
    there = set(ground.blobs)
    steps = []
    for release in releases:
        sizes = dict(zip(release.layer_digests, release.layer_sizes, strict=True))
        missing = {digest: size for digest, size in sizes.items() if digest not in there}
        there |= set(missing)
        size = sum(size - ground.staging.there(digest, size) for digest, size in missing.items())
        have = len(sizes) - len(missing)
        known = f"; its store has {have} of {len(sizes)} layers" if have else ""
        words, straight = way_of(release)
        steps.append(Fill(release.local_name, size, f"{NEIGHBOURS}{known}", words or way, straight))
    return tuple(steps)


def starting(place: Post, image: str) -> StartRelay:
    return StartRelay(place.registry, image, place.keep, NEIGHBOURS)


def ending(ground: Ground) -> StopRelay:
    return StopRelay(ground.directory, "it serves for this run only")


def forgetting(place: Post) -> Distrust:
    return Distrust(place.registry, place.fingerprint, "the relay serves for this run only")


def leftovers(ground: Ground, setting: Relay, fingerprint: str, *, root: bool) -> tuple[Step, ...]:
    """What a run that was killed has left of relays here, where it is not to stay."""
    if setting.keep:
        return ()
    why = "an earlier run has left it"
    steps: list[Step] = [StopRelay(ground.directory, why)] if ground.left else []
    if root and fingerprint:
        ours = sorted(registry for registry, found in ground.trusts.items() if found == fingerprint)
        steps += [Distrust(registry, fingerprint, why) for registry in ours]
    return tuple(steps)


def _repository(place: Post, release: Release) -> str:
    return f"{place.registry}/{release.name}"


def _reference(place: Post, release: Release) -> str:
    return f"{_repository(place, release)}@{release.manifest_digest}"
