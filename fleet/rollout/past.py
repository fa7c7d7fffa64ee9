"""What a host remembers of the releases that answered there: its audit, its records, its images and containers.

Beside the release's own record a host keeps, in `releases/served/SERVICE@RELEASE.json` of the state directory, which
release answered as which service and with which settings, so that a roll-back needs neither a registry nor the
inventory of that day. Secrets are not among the settings.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fleet.delivery import observe as images
from fleet.engine import docker_client
from fleet.errors import FleetError, HostError
from fleet.image.release import Release, from_json, to_json
from fleet.inventory.settings import Service
from fleet.journal.audit import read_all
from fleet.journal.header import SCHEMA, parse
from fleet.rollout.lineage import Lineage, lineages
from fleet.rollout.pins import pinned_in
from fleet.seam import Seam
from fleet.serving.inspection import Inspection
from fleet.serving.observe import observe
from fleet.serving.spec import LABEL
from fleet.shell import STATE_DIR
from fleet.transport import Session

if TYPE_CHECKING:  # a look at a host reads its past too
    from fleet.rollout.run import Outcome

KEEP = 32  # records of one service; a fleet that is rebuilt every night then remembers a month
# What makes a container what it is. Secrets, verification and hooks are today's: they belong to the site.
SETTINGS = (
    "model", "port", "host", "served_name", "replicas", "gpus", "nodes", "tensor_parallel_size", "args", "env",
    "hardened", "network", "ipc", "shm_size", "ulimits", "volumes", "restart", "stop_grace",
)  # fmt: skip

READ_SERVED = f"""{STATE_DIR}
for place in "$dir" /var/lib/fleet; do
  for file in "$place"/releases/*.json "$place"/releases/served/*.json "$place"/releases/pinned/*.json; do
    [ -r "$file" ] && tr -d '\\n' < "$file" && echo
  done
  [ "$dir" = /var/lib/fleet ] && break
done
exit 0
"""
# The records come behind it by standard input, because arguments can be seen by everybody on the host.
LEAVE_SERVED = f"""{STATE_DIR}
mkdir -p "$dir/releases/served" || exit 1
umask 077
put() {{
  cat > "$dir/releases/served/.$1.$$" && mv -f "$dir/releases/served/.$1.$$" "$dir/releases/served/$1.json"
}}
old() {{
  ls -t -- "$dir/releases/served/$1@"* | tail -n +{KEEP + 1} | while read -r file; do rm -f -- "$file"; done
}}
"""
_END = "END-OF-RECORD"
_COMING = ("bring", "serve")  # actions in the audit
_PULL = "pull "  # how the audit tells of a pull: the step's own words


@dataclass(frozen=True)
class Record:
    """One release that answered as a service, with the settings of that day."""

    service: str
    release: Release
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Past:
    """One host. `records` go by (service, release id), `releases` and `held` (its image is on the host) by release id."""

    lineages: Mapping[str, Lineage] = field(default_factory=dict)
    records: Mapping[tuple[str, str], Record] = field(default_factory=dict)
    releases: Mapping[str, Release] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    containers: tuple[Inspection, ...] = ()
    touched: frozenset[str] = frozenset()  # releases that this tool brought here or served here, by the audit
    pinned: Mapping[str, str] = field(default_factory=dict)  # release id -> why
    recorded: frozenset[str] = frozenset()  # releases of which the host itself keeps a record
    came: Mapping[str, float] = field(default_factory=dict)  # release id -> when it was last brought or answered
    pulled: frozenset[str] = frozenset()  # REPOSITORY@DIGEST that this tool had the host pull

    def running(self, service: str) -> frozenset[str]:
        """The releases of the containers that serve it, or would if they were started."""
        ours = (one for one in self.containers if one.service == service and not (one.candidate or one.kept))
        return frozenset(one.labels.get(f"{LABEL}release", "") for one in ours) - {""}

    def kept(self, service: str) -> frozenset[str]:
        """The releases of which a container waits, stopped."""
        ours = (one for one in self.containers if one.service == service and one.kept)
        return frozenset(one.labels.get(f"{LABEL}release", "") for one in ours) - {""}


def look_back(session: Session, names: Iterable[str], known: Mapping[str, Release]) -> Past:
    """Read a host's past over an open session. `names` are its images', `known` the releases of which others tell.

    Raises HostError, also where the engine does not answer; FleetError for what a newer fleet wrote.
    """
    audit = read_all(session)
    told, where = session.script(READ_SERVED, sudo=True).stdout.splitlines(), f"a record of {session.host.name}"
    records, releases = understand(told, where)
    everything = {**known, **releases}
    client = docker_client(session)
    digests = {digest for one in everything.values() for digest in (one.config_digest, one.manifest_digest)}
    named = {*names, *(one.name for one in everything.values())}
    there = images.observe(client, session.host.name, named, digests, containerd_store=False)
    held = {
        name
        for name, one in everything.items()
        if there.find((one.config_digest, one.manifest_digest), one.diff_ids) is not None
    }
    containers = tuple(one for one in observe(session, client).containers if one.owned)
    touched = frozenset(entry.release for entry in audit.entries) - {""}
    pins = pinned_in(told, where)
    return Past(
        lineages(audit.entries),
        records,
        everything,
        frozenset(held),
        containers,
        touched,
        pins,
        frozenset(releases),
        {one.release: one.at for one in sorted(audit.entries, key=lambda one: one.at) if one.action in _COMING},
        frozenset(one.message.removeprefix(_PULL) for one in audit.entries if one.message.startswith(_PULL)),
    )


def understand(lines: Iterable[str], where: str) -> tuple[dict[tuple[str, str], Record], dict[str, Release]]:
    """The host's records: of services, and of releases. Damaged ones are none. Raises FleetError for a newer fleet's."""
    records: dict[tuple[str, str], Record] = {}
    releases: dict[str, Release] = {}
    for line in lines:
        data = parse(line, where)
        if data is None:
            continue
        told = data.get("release")
        try:
            release = from_json(told if isinstance(told, dict) else data, where)
        except FleetError:
            continue
        releases[release.id] = release
        service, settings = data.get("service"), data.get("settings")
        if isinstance(service, str) and isinstance(settings, dict):
            records[service, release.id] = Record(service, release, settings)
    return records, releases


def as_then(service: Service, settings: Mapping[str, Any]) -> Service | None:
    """The service with the settings of a record; None where they are none of ours. Pure."""
    found: dict[str, Any] = {}
    for name in SETTINGS:
        today, then = getattr(service, name), settings.get(name)
        if isinstance(today, tuple) and isinstance(then, list) and all(isinstance(one, str) for one in then):
            found[name] = tuple(then)
        elif name == "tensor_parallel_size" and isinstance(then, int | str):
            found[name] = then
        elif isinstance(then, int | float) and isinstance(today, float):
            found[name] = float(then)
        elif type(then) is type(today) or (isinstance(today, Mapping) and isinstance(then, dict)):
            found[name] = then
        else:
            return None
    return replace(service, **found)


def settings_of(service: Service) -> dict[str, Any]:
    """What a record holds of a service, as JSON-able data. Pure."""
    return {name: _plain(getattr(service, name)) for name in SETTINGS}


@dataclass(frozen=True)
class LeaveServed:
    """What these services ran with when they answered."""

    services: tuple[str, ...]
    why: str = "a roll-back needs it, from another controller too"

    @property
    def what(self) -> str:
        return f"leave on the host with what {', '.join(self.services)} answered"


def leave_served(outcome: "Outcome", releases: Mapping[str, Release], seam: Seam) -> str:
    """Write down on the host what has answered there since the last audit; returns what went wrong, or empty.

    Bookkeeping, as the audit is: a host where it fails is well all the same.
    """
    site = outcome.site
    if site is None:
        return ""
    services = dict.fromkeys(one.service for one in outcome.deeds if one.action == "serve" and one.outcome == "done")
    known = [name for name in services if name in releases and name in site.host.settings.services]
    if not known:
        return ""
    session, text = site.session, LEAVE_SERVED + "".join(_puts(known, site.host.settings.services, releases))

    def do() -> None:
        session.script(text, sudo=True)

    try:
        seam.perform(outcome.host, LeaveServed(tuple(known)), do)
    except HostError as error:
        return f"what answered here could not be written down for a later roll-back: {error.message}"
    return ""


def _puts(names: Iterable[str], services: Mapping[str, Service], releases: Mapping[str, Release]) -> Iterator[str]:
    for name in names:
        settings, release = settings_of(services[name]), to_json(releases[name])
        text = json.dumps({"schema": SCHEMA, "service": name, "settings": settings, "release": release})
        # Names of services hold nothing that a shell would read otherwise, and JSON dumped so is one line of ASCII.
        yield f"put '{name}@{releases[name].id}' <<'{_END}' || exit 1\n{text}\n{_END}\nold '{name}'\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
