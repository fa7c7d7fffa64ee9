"""A relay's effects on its host, and taking its CA off a neighbour. Each is one step; see execute."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import NotFound

from fleet.delivery import relay_scripts, scripts
from fleet.delivery.persist import minutes, persist, sending, stage
from fleet.delivery.relay import (
    CONTAINER,
    LABEL,
    MODELS,
    Courier,
    Distrust,
    Fill,
    FillModel,
    Ground,
    StartRelay,
    StopRelay,
    container,
    packed,
    parse,
)
from fleet.delivery.send import AnotherWayError, Parcel, Sender, Sent
from fleet.delivery.sideload import opened
from fleet.delivery.staging import Staging, blobs_of, hexes
from fleet.delivery.way import Way
from fleet.errors import HostError

TRIES_OF_A_BLOB = 2
CHECK = 1800.0  # seconds for the checksum of one blob that arrived


def ground(sender: Sender, client: docker.DockerClient, staging: Staging) -> Ground:
    """What a host has of relays. Changes nothing. Raises HostError, DockerException."""
    said = sender.command(relay_scripts.GROUND, staging.directory)
    return parse(said.splitlines(), staging, left=bool(_ours(client)))


def fill(step: Fill, way: Way) -> Way:
    """Send what the store lacks of the image. Returns the way that is open now. Raises HostError as a sideload does."""
    image, courier = opened(step.name, way, step.what, straight=step.straight)
    if courier is None and (absent := image.absent(image.layers)):
        raise HostError(way.host, f"could not {step.what}: {', '.join(absent)} is not here: the bundle left it out")
    blobs = {blob.digest: blob for blob in image.blobs}.values()
    parcels = tuple(Parcel(one.digest, one.size, image.blob_path(one)) for one in blobs)
    (manifest, config) = hexes((image.manifest.digest, image.config.digest))
    freight = _Freight(step.name, step.name.rpartition(":")[0], config, parcels, way.sender.damaged, manifest, courier)
    return persist(step, step.what, way, lambda way, sent, _again: _fill(freight, way, sent))


def fill_model(step: FillModel, way: Way) -> Way:
    """Send what the store lacks of a model's files, or have it brought; the rest as above."""

    def changed(parcel: Parcel) -> HostError:
        return HostError(way.host, f"{parcel.path} is not any more what it was when this began", hint="run it again")

    freight = _Freight(f"model {step.name}", MODELS, step.key, step.parcels, changed, courier=step.courier)
    return persist(step, step.what, way, lambda way, sent, _again: _fill(freight, way, sent))


@dataclass(frozen=True)
class _Freight:
    """What is filled into a store: parcels of a repository, by a manifest (hex) where they are an image.

    `config` (hex) is what the staging directory knows them by, `damaged` says that one of them is wrong here.
    """

    name: str
    repository: str
    config: str
    parcels: tuple[Parcel, ...]
    damaged: Callable[[Parcel], HostError]
    manifest: str = ""
    courier: Courier | None = None


def _fill(freight: _Freight, way: Way, sent: Sent) -> None:
    for _ in range(TRIES_OF_A_BLOB):
        sender = way.sender
        place = sender.look(way.staging_dir)
        known = parse(sender.command(relay_scripts.GROUND, place.directory).splitlines(), place, left=False).blobs
        missing = [one for one in freight.parcels if known.get(one.digest) != one.size]
        for parcel in missing if freight.courier is None else ():
            if not parcel.path.is_file() or parcel.path.stat().st_size != parcel.size:
                raise freight.damaged(parcel)
        staging = _staged(freight, missing, way, sent) if missing else place
        names = hexes([one.digest for one in freight.parcels])
        args = (staging.directory, freight.repository, freight.manifest)
        words = io.BytesIO("".join(f"{name}\n" for name in names).encode())
        code, _, complaint = sender.run(relay_scripts.LINK, args, words, CHECK)
        if not code:
            sender.command(scripts.END, staging.directory, minutes(way), "", freight.config)
            if freight.courier is not None:
                freight.courier.done(freight.parcels)
            return
        if code != scripts.WRONG:
            raise HostError(way.host, complaint or f"the store could not be written (exit {code})")
        for parcel in missing:
            if freight.courier is not None:
                freight.courier.blame(sender, blobs_of(staging.directory), parcel)
            elif not sender.right(parcel):
                raise freight.damaged(parcel)
        way.say(f"{freight.name}: a blob is damaged on the host; sending what is wrong of it again")
    raise HostError(way.host, "a blob arrived damaged twice", hint="does the disk of the staging directory fail?")


def _staged(freight: _Freight, missing: Sequence[Parcel], way: Way, sent: Sent) -> Staging:
    try:
        return stage(freight.config, freight.name, missing, way, sent, send=sending(freight.courier))
    except AnotherWayError:
        return stage(freight.config, freight.name, missing, way, sent, send=sending(freight.courier))


def start(step: StartRelay, way: Way) -> None:
    """In the place of one that was left. Raises HostError; a container of that name that is not ours is left alone."""
    if way.access is None:
        raise HostError(way.host, f"could not {step.what}: there is nothing to run it with")
    _remove(way)
    directory = way.sender.look(way.staging_dir).directory
    if not directory:
        hint = "set fleet.staging_dir to a directory that is yours or that you can make"
        raise HostError(way.host, f"nothing can be stored in {way.staging_dir}", hint=hint)
    way.sender.command(relay_scripts.PREPARE, directory, stdin=io.BytesIO(packed(way.access.files)))
    api: Any = way.client.api  # docker's stubs have no types for the call with a body of one's own
    api.create_container_from_config(container(step, directory), name=CONTAINER)
    api.start(CONTAINER)


def stop(step: StopRelay, way: Way) -> None:
    _remove(way)
    way.sender.command(relay_scripts.STOP, step.directory)


def distrust(step: Distrust, way: Way) -> None:
    way.sender.command(relay_scripts.DISTRUST, step.registry, step.fingerprint)


def ended(client: docker.DockerClient) -> tuple[str, ...]:
    """The last lines of our relay where it does not run any more; empty while it does."""
    api = client.api
    try:
        if api.inspect_container(CONTAINER)["State"]["Running"]:
            return ()
        said = api.logs(CONTAINER, tail=5).decode(errors="replace").strip().splitlines()
    except NotFound:
        return ("its container is gone",)
    return tuple(said) or ("it ended without a word",)


def _remove(way: Way) -> None:
    for name in _ours(way.client):
        try:
            way.client.api.remove_container(name, force=True, v=True)
        except NotFound:
            continue
    try:
        way.client.api.inspect_container(CONTAINER)
    except NotFound:
        return
    hint = f"rename it, or remove it: docker rm {CONTAINER}"
    raise HostError(way.host, f"a container {CONTAINER} is there, and it is not ours", hint=hint)


def _ours(client: docker.DockerClient) -> list[str]:
    """Ids of relays' containers in every state, also those that another version made."""
    return [str(one["Id"]) for one in client.api.containers(all=True, filters={"label": LABEL})]
