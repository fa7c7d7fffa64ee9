"""Bringing an image to a host over SSH: its missing layers are staged there, and the engine loads them as they come.

What arrived stays: after a broken link the transfer goes on over a new connection, and after a failure in the next run.
Measured: the classic store (20.10) loads an archive without layers that it has; the containerd store (26.1) loads an OCI
layout without blobs that its content store has. Where a blob is missing there too, that store says "Loaded image" and
does not list the image: then the other layers are sent as well.
"""

from collections.abc import Sequence
from dataclasses import replace

import requests
import urllib3
from docker.errors import DockerException

from fleet.delivery import scripts
from fleet.delivery.loading import Loading
from fleet.delivery.persist import minutes, persist, sending, stage
from fleet.delivery.plan import Load, Sweep
from fleet.delivery.relay import Courier
from fleet.delivery.send import AnotherWayError, LinkError, Parcel, Sent
from fleet.delivery.staging import Staging, blobs_of, hexes
from fleet.delivery.way import Way
from fleet.errors import HostError
from fleet.image.layout import Blob, LayoutImage

TRIES_OF_A_BLOB = 2

Cargo = tuple[LayoutImage, Courier | None]


def sideload(step: Load, way: Way, *, more: bool = False) -> Way:
    """Carry the step out; `more`: another sideload to this host follows. Returns the way that is open now.

    Raises HostError that says how far it came and what the host keeps.
    """
    image, courier = opened(step.name, way, step.what, straight=step.straight)

    def bring(way: Way, sent: Sent, again: bool) -> None:
        _bring(step, (image, courier), way, sent, again=again, more=more)

    if courier is not None:
        way = replace(way, no_bulk="")
    return persist(step, f"sideload {step.name} {step.way}", way, bring)


def opened(name: str, way: Way, what: str, *, straight: bool) -> Cargo:
    """The image of a name, and who brings its layers, None where they lie here. Raises HostError."""
    if straight and way.straight is not None:
        return way.straight(name)
    if way.layout is None:
        raise HostError(way.host, f"could not {what}: its layout is not here", hint="invoke build")
    return way.layout(name), None


def clear(step: Sweep, way: Way) -> None:
    """Remove a staged transfer."""
    way.sender.command(scripts.END, step.directory, minutes(way), "", *hexes((step.config,)))


def _bring(step: Load, cargo: Cargo, way: Way, sent: Sent, *, again: bool, more: bool) -> None:
    """One try over one connection."""
    image, _ = cargo
    if again and _holds(way, step, image):  # the connection broke while the engine was at work
        _finish(image, way, way.sender.look(way.staging_dir), more=more)
        return
    layers = tuple(dict.fromkeys(image.layers))
    chosen = {image.layers[index] for index in step.layers}
    travelling = tuple(layer for layer in layers if layer in chosen)
    staging, complaint = _stage_and_load(cargo, step, travelling, way, sent)
    missing = len(travelling) < len(layers) and "no space left" not in complaint
    if missing and (complaint or not _holds(way, step, image)):
        way.say(f"{step.name}: the engine lacks layers that it seemed to have; sending those too")
        staging, complaint = _stage_and_load(cargo, step, layers, way, sent)
    if complaint:
        full = "no space left" in complaint
        hint = "free space under Docker's root directory, then the same command again" if full else ""
        raise HostError(way.host, complaint, hint=hint)
    if not _holds(way, step, image):
        raise HostError(way.host, "the engine loaded it and does not show it", hint="docker images on the host")
    _finish(image, way, staging, more=more)


def _stage_and_load(cargo: Cargo, step: Load, layers: Sequence[Blob], way: Way, sent: Sent) -> tuple[Staging, str]:
    """Stage these layers and let the engine load them with the others; its complaint, empty when it had none."""
    image, courier = cargo
    if courier is None and (absent := image.absent(layers)):
        message = f"{', '.join(absent)} is not in the layout here: it is damaged, or a bundle left the layer out"
        raise HostError(way.host, message, hint="bring a full bundle, or one --since a fresh bundle.have")
    parcels = [Parcel(one.digest, one.size, image.blob_path(one)) for one in layers]
    (config,) = hexes((image.config.digest,))

    def read_along() -> tuple[Staging, tuple[int, str]]:
        loading = Loading(way.sender, image, step.name, layers)
        with loading:
            staging = stage(config, step.name, parcels, way, sent, loading.begin, sending(courier))
        return staging, loading.end()

    for _ in range(TRIES_OF_A_BLOB):
        try:
            staging, (code, complaint) = read_along()
        except AnotherWayError:
            staging, (code, complaint) = read_along()
        if code != scripts.WRONG:
            return staging, complaint
        for parcel in parcels:
            if courier is None:
                way.sender.check(parcel)
            else:
                courier.blame(way.sender, blobs_of(staging.directory), parcel)
        way.say(f"{step.name}: a layer is damaged on the host; sending what is wrong of it again")
    raise HostError(way.host, "a layer arrived damaged twice", hint="does the disk of the staging directory fail?")


def _finish(image: LayoutImage, way: Way, staging: Staging, *, more: bool) -> None:
    (config,) = hexes((image.config.digest,))
    way.sender.command(scripts.END, staging.directory, minutes(way), "more" if more else "", config)


def _holds(way: Way, step: Load, image: LayoutImage) -> bool:
    """Does the engine list the image under its name? The containerd store lists none of which it lacks a layer."""
    wanted = {image.config.digest, image.manifest.digest}
    try:
        listed = way.client.api.images()
    except HostError as error:
        if way.session.alive:
            raise
        raise LinkError(way.host, error.message) from error
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        if way.session.alive:
            raise HostError(way.host, f"the images could not be read: {error}") from error
        raise LinkError(way.host, "the connection was lost") from error
    return any(one["Id"] in wanted and step.name in (one.get("RepoTags") or ()) for one in listed)
