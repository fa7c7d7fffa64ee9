"""Release records on the hosts themselves, for images that no registry of ours tells of.

A record lies beside the image it tells of, in `releases/KEY.json` of the state directory: /var/lib/fleet where we are
root, else the login's own. What a record says is believed only where the host's engine really holds that image.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fleet.delivery import observe as images
from fleet.engine import docker_client
from fleet.errors import FleetError, HostError
from fleet.image.machine import There
from fleet.image.release import Release, dumps, loads
from fleet.inventory.model import Host
from fleet.rollout.run import Outcome, Run, going, site_of
from fleet.shell import STATE_DIR
from fleet.transport import Connector, Session, fan_out

# Another login may have left the record where only root writes, and others may read.
_READ = f"""{STATE_DIR}
for file in "$dir/releases/$1.json" "/var/lib/fleet/releases/$1.json"; do
  [ -r "$file" ] && exec cat "$file"
done
exit 0
"""
_LOOK = f"""{STATE_DIR}
echo "$dir"
for key in "$@"; do
  file="$dir/releases/$key.json"
  [ -f "$file" ] && echo "$(sha256sum < "$file" | cut -d ' ' -f 1) $key"
done
exit 0
"""
_FORKS = 16


@dataclass(frozen=True)
class _Held:
    """One host that holds a release, and what its engine calls it."""

    host: Host
    release: Release
    reference: str


@dataclass
class HostRecords:
    """The hosts of one image as a place where releases are found (fleet.image.workshop.Hosts).

    `near` are asked first, `far` (those of the inventory that this run leaves alone) only where no near one knows. Every
    question is asked once.
    """

    connector: Connector
    near: Sequence[Host]
    far: Sequence[Host]
    say: Callable[[str], None]
    _answers: dict[tuple[str, str], Release | None] = field(default_factory=dict)
    _holders: dict[str, list[_Held]] = field(default_factory=dict)  # by release id

    def find(self, name: str, key: str, known: Release | None) -> Release | None:
        """The release of `key` that most hosts hold, of equals the youngest. Hosts that do not answer do not count."""
        if (name, key) not in self._answers:
            self._answers[name, key] = self._ask(self.near, name, key, known) or self._ask(self.far, name, key, known)
        return self._answers[name, key]

    def saved(self, release: Release, folder: Path) -> Iterator[AbstractContextManager[Path]]:
        if release.id not in self._holders:
            self._ask((*self.near, *self.far), release.name, "", release)
        for held in self._holders.get(release.id, ()):
            yield self._saved(held, folder)

    @contextmanager
    def _saved(self, held: _Held, folder: Path) -> Iterator[Path]:
        self.say(f"bringing {held.release.local_name} back from {held.host.name}")
        path = folder / "saved.tar"
        with self.connector.connect(held.host) as session:
            There(session, held.host.settings.staging_dir).fetch(("docker", "save", held.reference), path)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _ask(self, hosts: Sequence[Host], name: str, key: str, known: Release | None) -> Release | None:
        found = fan_out(hosts, lambda host: self._look(host, name, key, known), forks=_FORKS)
        held = [one for one in found.values() if isinstance(one, _Held)]
        silent = [host for host, one in found.items() if isinstance(one, HostError)]
        if silent and not held:
            self.say(f"not asked for a record of {name}, because they do not answer: {', '.join(silent)}")
        if not held:
            return None
        counts = Counter(one.release.id for one in held)
        best = max(held, key=lambda one: (counts[one.release.id], one.release.created, one.release.id)).release
        self._holders[best.id] = [one for one in held if one.release == best]
        self.say(f"{best.local_name} was found on {', '.join(one.host.name for one in self._holders[best.id])}")
        return best

    def _look(self, host: Host, name: str, key: str, known: Release | None) -> _Held | None:
        with self.connector.connect(host) as session:
            text = session.script(_READ, args=(key,), sudo=True).stdout if key else ""
            told = _told(text, f"{host.name}: record {key}", name)
            if told is None and known is None:
                return None
            return _held(session, [release for release in (told, known) if release is not None])


@dataclass(frozen=True)
class LeaveRecord:
    """One record, beside the image that it tells of."""

    name: str
    key: str
    why: str = "no registry of ours has it, and other controllers find it here"

    @property
    def what(self) -> str:
        return f"leave the record of {self.name} on the host"


def leave(run: Run, outcomes: Mapping[str, Outcome], records: Mapping[str, Mapping[str, Release]]) -> None:
    """Put the records (by host, then content key) on the hosts that now have the images. What is there stays.

    This is bookkeeping, which no plan counts: a host where it fails is well all the same, and the reason is said.
    """

    def put(host: Host) -> None:
        wanted = {key: (release, dumps(release).encode()) for key, release in records[host.name].items()}
        session = site_of(outcomes[host.name]).session
        place, *lines = session.script(_LOOK, args=tuple(wanted), sudo=True).stdout.splitlines()
        there = {key: digest for digest, _, key in (line.partition(" ") for line in lines)}
        for key, (release, content) in wanted.items():
            if there.get(key) != hashlib.sha256(content).hexdigest():
                step = LeaveRecord(release.local_name, key)
                run.seam.perform(host.name, step, partial(_write, session, f"{place}/releases", key, content))

    hosts = [site_of(one).host for one in going(outcomes) if records.get(one.host)]
    for name, result in fan_out(hosts, put, forks=run.forks).items():
        if isinstance(result, HostError):
            run.say(name, f"the release's record could not be left here: {result.message}")


def _write(session: Session, folder: str, key: str, content: bytes) -> None:
    session.run(("mkdir", "-p", folder), sudo=True)
    session.upload(io.BytesIO(content), f"{folder}/{key}.json", sudo=True)


def _told(text: str, where: str, name: str) -> Release | None:
    """A record that is damaged, or of another image, is none."""
    try:
        release = loads(text, where) if text else None
    except FleetError:
        return None
    return release if release is not None and release.name == name else None


def _held(session: Session, candidates: Sequence[Release]) -> _Held | None:
    """The first candidate that the host's engine has, with these digests and diffIDs."""
    client = docker_client(session)
    for release in candidates:
        digests = (release.config_digest, release.manifest_digest)
        holdings = images.observe(client, session.host.name, {release.name}, set(digests), containerd_store=False)
        image = holdings.find(digests, release.diff_ids)
        if image is not None:
            reference = release.local_name if release.local_name in image.names else image.id
            return _Held(session.host, release, reference)
    return None
