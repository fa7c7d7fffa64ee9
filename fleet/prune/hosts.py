"""Reading a host for a prune, and taking away there what its plan says. Nothing is ever forced."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial

import docker
import docker.errors

from fleet.delivery import scripts
from fleet.delivery.send import Sender
from fleet.delivery.staging import hexes
from fleet.engine import docker_client, engine_errors
from fleet.errors import HostError
from fleet.image.release import Release
from fleet.inventory.model import Host
from fleet.prune.facts import (
    CACHE,
    Box,
    HostFacts,
    Policy,
    PrunePlan,
    RemoveContainer,
    RemoveImage,
    RemoveVolume,
    Room,
    Step,
    SweepStaging,
)
from fleet.report.units import bytes_of
from fleet.rollout.census import Listed
from fleet.rollout.images import pulls_from
from fleet.rollout.past import look_back
from fleet.seam import Seam
from fleet.transport import Session

LONG = 600.0  # seconds for an engine to delete the layers of an image, which are tens of GB
_SIZES = 'for path; do [ -r "$path" ] && du -sk -- "$path" 2>/dev/null; done; exit 0'
_ROOM = """df -Pk -- "$1" | { read -r head; read -r device total used free rest; echo "$used $free"; }"""


def read(session: Session, known: Mapping[str, Release]) -> HostFacts:
    """Everything that a plan needs of one host. `known` are releases of which others tell. Changes nothing.

    Raises HostError, also where the engine does not answer; FleetError for what a newer fleet wrote.
    """
    past = look_back(session, {one.name for one in known.values()}, known)
    client = docker_client(session)
    with engine_errors(session, "looking at images and containers"):
        images = tuple(map(Listed.of, client.api.images()))
        boxes = tuple(map(Box.of, client.api.containers(all=True)))
        volumes = {str(one["Name"]): str(one.get("Mountpoint")) for one in client.api.volumes().get("Volumes") or ()}
        root = str(client.api.info().get("DockerRootDir") or "/")
    staging = Sender.of(session).look(session.host.settings.staging_dir)
    sizes = _sizes({name: path for name, path in volumes.items() if CACHE.fullmatch(name)}, session, client)
    return HostFacts(images, boxes, tuple(volumes), sizes, past, staging, room(session, root))


def _sizes(paths: Mapping[str, str], session: Session, client: docker.DockerClient) -> dict[str, int]:
    """Bytes of volumes by name. Whoever may not look into them asks the engine, where it can tell of volumes alone.

    Before API 1.42 (Docker 23) it walks through every image and container for that, which takes minutes. What cannot be
    seen, or not in time, is left out: without a size nothing goes by its size.
    """
    if not paths:
        return {}
    told = session.script(_SIZES, args=tuple(paths.values()), sudo=True, check=False).stdout.splitlines()
    found = {path: int(count) * 1024 for count, _, path in (line.partition("\t") for line in told)}
    if found:
        return {name: found[path] for name, path in paths.items() if path in found}
    if tuple(map(int, client.api.api_version.split("."))) < (1, 42):
        return {}
    answer = {}
    with contextlib.suppress(HostError), engine_errors(session, "looking at the sizes of volumes"):
        # docker-py's own df() has no such parameter.
        url = f"{client.api.base_url}/v{client.api.api_version}/system/df"
        answer = client.api.get(url, params={"type": "volume"}).json()
    told_of = {str(one["Name"]): (one.get("UsageData") or {}).get("Size", 0) for one in answer.get("Volumes") or ()}
    return {name: max(int(told_of[name]), 0) for name in paths if name in told_of}


def room(session: Session, root: str) -> Room:
    """Of the file system that `root` lies on; zeros where df says nothing."""
    used, _, free = session.script(_ROOM, args=(root,), sudo=True).stdout.strip().partition(" ")
    return Room(int(used) * 1024, int(free) * 1024) if used.isdecimal() and free.isdecimal() else Room()


def policy_of(host: Host, keep: int, wanted: Mapping[str, str]) -> Policy:
    """What the inventory says of one host; `keep` 0 is the inventory's own number."""
    settings = host.settings
    pulled = [one.host for service in settings.services.values() if (one := pulls_from(settings, service))]
    return Policy(
        keep or settings.retention.keep,
        settings.sideload.keep_seconds,
        frozenset(settings.services),
        frozenset(service.model for service in settings.services.values()),
        frozenset(pulled),
        wanted,
        bytes_of(settings.retention.cache_volumes),
    )


def carry_out(plan: PrunePlan, session: Session, seam: Seam, say: Callable[[str], None]) -> list[Step]:
    """Every step, also those behind one that fails; gives those that were done. Raises HostError for the first failure.

    What is gone already is no error, and what is in use after all stays, by the engine's own refusal.
    """
    host = session.host.name
    client = docker_client(session, timeout=LONG)
    done: list[Step] = []
    failures: list[HostError] = []
    for step in plan.steps:
        say(step.what)
        try:
            seam.perform(host, step, partial(_do, step, client, session))
            done.append(step)
        except HostError as error:
            failures.append(error)
    if failures:
        first = failures[0]
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise PartlyError(host, f"{first.message}{more}", hint=first.hint, done=done)
    return done


class PartlyError(HostError):
    """Some steps failed; `done` were carried out."""

    def __init__(self, host: str, message: str, *, hint: str, done: list[Step]) -> None:
        super().__init__(host, message, hint=hint)
        self.done = done


def _do(step: Step, client: docker.DockerClient, session: Session) -> None:
    with engine_errors(session, f"could not {step.what}"):
        match step:
            case RemoveContainer():
                _remove_container(step, client)
            case RemoveImage():
                for reference in step.references:
                    _remove_reference(step, reference, client)
            case RemoveVolume():
                try:
                    client.api.remove_volume(step.name)
                except docker.errors.NotFound:
                    return
            case SweepStaging():
                keep = max(int(session.host.settings.sideload.keep_seconds // 60) - 2, 0)
                Sender.of(session).command(scripts.END, step.directory, str(keep), "", *hexes(step.configs))


def _remove_container(step: RemoveContainer, client: docker.DockerClient) -> None:
    try:
        client.api.remove_container(step.id)
    except docker.errors.NotFound:
        return


def _remove_reference(step: RemoveImage, reference: str, client: docker.DockerClient) -> None:
    """Not where the name has gone to another image since it was looked at."""
    try:
        if client.images.get(reference).id == step.image:
            client.api.remove_image(reference, force=False)
    except docker.errors.NotFound:
        return
