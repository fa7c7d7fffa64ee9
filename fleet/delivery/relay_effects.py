"""A relay's effects on its host, and taking its CA off a neighbour. Each is one step; see execute."""

import io
from typing import Any

import docker
from docker.errors import NotFound

from fleet.delivery import relay_scripts, scripts
from fleet.delivery.persist import minutes, persist, stage
from fleet.delivery.relay import (
    CONTAINER,
    LABEL,
    Distrust,
    Fill,
    Ground,
    StartRelay,
    StopRelay,
    container,
    packed,
    parse,
)
from fleet.delivery.send import Parcel, Sender, Sent
from fleet.delivery.staging import Staging, hexes
from fleet.delivery.way import Way
from fleet.errors import HostError
from fleet.image.layout import LayoutImage

TRIES_OF_A_BLOB = 2
CHECK = 1800.0  # seconds for the checksums of everything that arrived


def ground(sender: Sender, client: docker.DockerClient, staging: Staging) -> Ground:
    """What a host has of relays. Changes nothing. Raises HostError, DockerException."""
    said = sender.command(relay_scripts.GROUND, staging.directory)
    return parse(said.splitlines(), staging, left=bool(_ours(client)))


def fill(step: Fill, way: Way) -> Way:
    """Send what the store lacks of the image. Returns the way that is open now. Raises HostError as a sideload does."""
    if way.layout is None:
        raise HostError(way.host, f"could not {step.what}: its layout is not here", hint="invoke build")
    image = way.layout(step.name)
    absent = [one.digest for one in image.layers if not image.blob_path(one).is_file()]
    if absent:
        raise HostError(way.host, f"could not {step.what}: {', '.join(absent)} is not here: the bundle left it out")

    def bring(way: Way, sent: Sent, _again: bool) -> None:
        _fill(step, image, way, sent)

    return persist(step, step.what, way, bring)


def _fill(step: Fill, image: LayoutImage, way: Way, sent: Sent) -> None:
    parcels = tuple(
        Parcel(one.digest, one.size, image.blob_path(one))
        for one in {blob.digest: blob for blob in image.blobs}.values()
    )
    (manifest, config) = hexes((image.manifest.digest, image.config.digest))
    repository = step.name.rpartition(":")[0]
    for _ in range(TRIES_OF_A_BLOB):
        sender = way.sender
        place = sender.look(way.staging_dir)
        known = parse(sender.command(relay_scripts.GROUND, place.directory).splitlines(), place, left=False).blobs
        missing = [one for one in parcels if known.get(one.digest) != one.size]
        staging = stage(image, step.name, missing, way, sent) if missing else place
        names = hexes([one.digest for one in parcels])
        code, said, complaint = sender.run(
            relay_scripts.LINK, (staging.directory, repository, manifest, *names), None, CHECK
        )
        if not code:
            sender.command(scripts.END, staging.directory, minutes(way), "", config)
            return
        if code != scripts.WRONG:
            raise HostError(way.host, complaint or said or f"the store could not be written (exit {code})")
        for parcel in missing:
            sender.check(parcel)
        way.say(f"{step.name}: a blob is damaged on the host; sending what is wrong of it again")
    raise HostError(way.host, "a blob arrived damaged twice", hint="does the disk of the staging directory fail?")


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
