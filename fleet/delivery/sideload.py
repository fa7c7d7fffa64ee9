"""Bringing an image to a host over SSH: its missing layers are staged there, then the engine loads them.

What arrived stays: after a broken link the transfer goes on over a new connection, and after a failure in the next run.
Measured: the classic store (20.10) loads an archive without layers that it has; the containerd store (26.1) loads an OCI
layout without blobs that its content store has. Where a blob is missing there too, that store says "Loaded image" and
does not list the image: then the other layers are sent as well.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import requests
import urllib3
from docker.errors import DockerException

from fleet.delivery import scripts
from fleet.delivery.plan import Load, Sweep
from fleet.delivery.send import LARGE, LinkError, Parcel, Sent
from fleet.delivery.staging import Staging, hexes
from fleet.delivery.way import Way
from fleet.errors import HostError
from fleet.image import docker_archive
from fleet.image.layout import Blob, LayoutImage
from fleet.report.units import size

# An engine with the containerd store (26.1) unpacks a loaded image without a word; a ROCm image takes it minutes.
UNPACK = 1800.0  # seconds
TRIES = 5  # connections in a row over which nothing moved
TRIES_OF_A_BLOB = 2
SPARE = 64 << 20  # bytes that staging leaves free


@dataclass
class Count:
    """Bytes handed to the connection in this run, and how many there were to send when it began."""

    total: int
    sent: int = 0


def sideload(step: Load, way: Way, *, more: bool = False) -> Way:
    """Carry the step out; `more`: another sideload to this host follows. Returns the way that is open now.

    Raises HostError that says how far it came and what the host keeps.
    """
    if way.layout is None:
        raise HostError(way.host, f"could not {step.what}: its layout is not here", hint="invoke build")
    image = way.layout(step.name)
    count, tries = Count(step.size), 0
    if way.no_bulk and step.size >= LARGE:
        way.say(f"{way.no_bulk}, so the bytes go over the first connection, which is slower than OpenSSH's client")
    with way.moving(way.host, f"sideload {step.name} {step.way}", step.size) as at:

        def sent(piece: int) -> None:
            count.sent += piece
            at(count.sent)

        while True:
            before = count.sent
            try:
                _bring(step, image, way, sent, again=bool(tries), more=more)
            except LinkError as error:
                tries = 1 if count.sent > before else tries + 1
                if way.renew is None or tries >= TRIES:
                    raise _given_up(step, count, error) from error
                way.say(f"{step.what}: {error.message}, after {size(count.sent)}; going on over a new connection")
                try:
                    way = way.renew()
                except HostError as worse:
                    raise _given_up(step, count, error, worse) from worse
            except HostError as error:
                message = f"could not {step.what}: {error.message}"
                raise HostError(way.host, message, hint=error.hint, tail=error.tail) from error
            else:
                return way


def clear(step: Sweep, way: Way) -> None:
    """Remove a staged transfer."""
    way.sender.command(scripts.END, step.directory, minutes(way), "", *hexes((step.config,)))


def minutes(way: Way) -> str:
    """How long what is left of a failed transfer stays, as the scripts take it.

    find counts whole minutes, so two are taken off: what a plan calls old is old for the script too.
    """
    return str(max(int(way.sideload.keep_seconds // 60) - 2, 0))


def _bring(step: Load, image: LayoutImage, way: Way, sent: Sent, *, again: bool, more: bool) -> None:
    """One try over one connection."""
    if again and _holds(way, step, image):  # the connection broke while the engine was at work
        _finish(image, way, way.sender.look(way.staging_dir), more=more)
        return
    layers = tuple(dict.fromkeys(image.layers))
    chosen = {image.layers[index] for index in step.layers}
    travelling = tuple(layer for layer in layers if layer in chosen)
    staging, complaint = _stage_and_load(image, step, travelling, way, sent)
    missing = len(travelling) < len(layers) and "no space left" not in complaint
    if missing and (complaint or not _holds(way, step, image)):
        way.say(f"{step.name}: the engine lacks layers that it seemed to have; sending those too")
        staging, complaint = _stage_and_load(image, step, layers, way, sent)
    if complaint:
        full = "no space left" in complaint
        hint = "free space under Docker's root directory, then the same command again" if full else ""
        raise HostError(way.host, complaint, hint=hint)
    if not _holds(way, step, image):
        raise HostError(way.host, "the engine loaded it and does not show it", hint="docker images on the host")
    _finish(image, way, staging, more=more)


def _stage_and_load(
    image: LayoutImage, step: Load, layers: Sequence[Blob], way: Way, sent: Sent
) -> tuple[Staging, str]:
    """Stage these layers and let the engine load them with the others; its complaint, empty when it had none."""
    parcels = [Parcel(one.digest, one.size, image.blob_path(one)) for one in layers]
    for _ in range(TRIES_OF_A_BLOB):
        staging = _stage(image, step, parcels, way, sent)
        rest = io.BytesIO()
        docker_archive.write(image, step.name, rest, leave_out={layer.digest for layer in image.layers})
        rest.seek(0)
        (config, *blobs) = hexes((image.config.digest, *(one.digest for one in parcels)))
        code, said, complaint = way.sender.run(scripts.LOAD, (staging.directory, config, *blobs), rest, UNPACK)
        if code != scripts.WRONG:
            return staging, (complaint or said or f"docker load ended with {code}") if code else ""
        for parcel in parcels:
            way.sender.check(parcel)
        way.say(f"{step.name}: a layer is damaged on the host; sending what is wrong of it again")
    raise HostError(way.host, "a layer arrived damaged twice", hint="does the disk of the staging directory fail?")


def _stage(image: LayoutImage, step: Load, parcels: Sequence[Parcel], way: Way, sent: Sent) -> Staging:
    """Bring what is missing of these blobs into the staging directory."""
    sender = way.sender
    staging = sender.look(way.staging_dir)
    _check_room(parcels, staging, way)
    (config,) = hexes((image.config.digest,))
    needs = "".join(f"{one.digest.removeprefix('sha256:')} {one.size}\n" for one in parcels)
    begin = (staging.directory, minutes(way), config, step.name)
    sender.command(scripts.BEGIN, *begin, stdin=io.BytesIO(needs.encode()))
    if staging.parts:  # a receiver that lived until now may have finished one
        staging = sender.look(way.staging_dir)
    for parcel in parcels:
        sender.send(staging.directory, parcel, staging, sent)
    return staging


def _check_room(parcels: Sequence[Parcel], staging: Staging, way: Way) -> None:
    """Before the first byte: is there a place, and is there room for what is still to come?"""
    if not staging.directory:
        hint = "set fleet.staging_dir to a directory that is yours or that you can make"
        raise HostError(way.host, f"nothing can be staged in {way.staging_dir}", hint=hint)
    wanted = sum(one.size - staging.there(one.digest, one.size) for one in parcels)
    if wanted and wanted + SPARE > staging.free:
        message = f"{staging.directory} has {size(staging.free)} free, and {size(wanted + SPARE)} are needed"
        raise HostError(way.host, message, hint="make room there, or choose another fleet.staging_dir")


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


def _given_up(step: Load, count: Count, error: HostError, worse: HostError | None = None) -> HostError:
    how_far = f"after {size(count.sent)} of {size(count.total)}"
    why = f", and there was no new connection: {worse.message}" if worse else ""
    message = f"could not {step.what}: {error.message} {how_far}{why}; the host keeps what arrived"
    hint = "the same command goes on from there" + (f"; {worse.hint}" if worse and worse.hint else "")
    return HostError(error.host, message, hint=hint, tail=error.tail)
