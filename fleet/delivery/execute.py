"""Carrying a delivery out on one host: every effect goes through `apply`, and nothing is believed until it is read again."""

import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import docker
import requests
import urllib3
from docker.errors import DockerException

from fleet.delivery.plan import Keep, Load, PlaceCa, Pull, Step, Tag, ca_path
from fleet.delivery.progress import STALL, At, Moving, silent
from fleet.delivery.pull import pull
from fleet.errors import HostError
from fleet.image import docker_archive
from fleet.image.layout import LayoutImage
from fleet.inventory.settings import Registry
from fleet.seam import Bare, Seam

CHUNK = 1 << 20  # bytes


class Uploader(Protocol):
    """What of an SSH session is needed here."""

    def run(self, argv: Sequence[str], *, sudo: bool = False) -> object: ...

    def upload(self, source: BinaryIO, path: str, *, mode: int = 0o644, sudo: bool = False) -> None: ...


@dataclass(frozen=True)
class Way:
    """All that the steps of one host need.

    `registries` go by repository (`registry.corp:5000/vllm-rocm`), so that every step has its own one's credentials and
    CA. `layout` gives the image of a name to sideload. `slot(registry)` is held during a pull. `loader` is a client that
    waits longer for an answer than `client` does: an engine with the containerd store unpacks without a word.
    """

    host: str
    session: Uploader
    client: docker.DockerClient
    registries: Mapping[str, Registry] = field(default_factory=dict)
    layout: Callable[[str], LayoutImage] | None = None
    moving: Moving = silent
    slot: Callable[[str], AbstractContextManager[object]] = lambda _registry: nullcontext()
    loader: docker.DockerClient | None = None
    stall: float = STALL
    seam: Seam = field(default_factory=Bare)


def carry_out(steps: Sequence[Step], way: Way) -> int:
    """All steps in order; returns how many changed something. Raises HostError."""
    for step in steps:
        apply(step, way)
    return sum(step.changes for step in steps)


def apply(step: Step, way: Way) -> None:
    if isinstance(step, Keep):
        return
    try:
        way.seam.perform(way.host, step, lambda: _do(step, way))
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise HostError(way.host, f"could not {step.what}: {error}") from error


def _do(step: PlaceCa | Pull | Load | Tag, way: Way) -> None:
    match step:
        case PlaceCa():
            _place_ca(step, way)
        case Pull():
            _pull(step, way)
        case Load():
            _load(step, way)
        case Tag():
            repository, _, tag = step.name.rpartition(":")
            way.client.api.tag(step.image, repository, tag, force=True)


def _place_ca(step: PlaceCa, way: Way) -> None:
    path = ca_path(step.registry)
    source = next((one.ca_file for one in way.registries.values() if one.host == step.registry and one.ca_file), "")
    if not source:
        raise HostError(way.host, f"could not {step.what}: no ca_file is set", hint="fleet.registry.ca_file")
    way.session.run(("mkdir", "-p", path.rpartition("/")[0]), sudo=True)
    way.session.upload(io.BytesIO(Path(source).expanduser().read_bytes()), path, sudo=True)


def _pull(step: Pull, way: Way) -> None:
    registry = way.registries.get(step.repository)
    auth = None
    if registry is not None and registry.username is not None and registry.password is not None:
        auth = {"username": registry.username.reveal(), "password": registry.password.reveal()}
    with way.slot(step.registry), way.moving(way.host, f"pull {step.repository}", step.size) as at:
        pull(way.client, way.host, step, auth, at=at, stall=way.stall)


def _load(step: Load, way: Way) -> None:
    """Stream the archive into the engine. Nothing of the size of a layer is held here."""
    if way.layout is None:
        raise HostError(way.host, f"could not {step.what}: its layout is not here", hint="invoke build")
    image = way.layout(step.name)
    stays = {layer.digest for index, layer in enumerate(image.layers) if index not in step.layers}
    total = docker_archive.size(image, step.name, leave_out=stays)
    api: Any = (way.loader or way.client).api  # docker's stubs have no types for load_image
    sent = 0
    with way.moving(way.host, f"sideload {step.name} {step.way}", total) as at:

        def count(done: int) -> None:
            nonlocal sent
            sent = done
            at(done)

        try:
            for event in api.load_image(_archive(image, step.name, stays, count)) or ():
                if "error" in event:
                    full = "no space left" in event["error"]
                    hint = "free space under Docker's root directory, then the same command again" if full else ""
                    raise HostError(way.host, f"could not {step.what}: {event['error']}", hint=hint)
        except HostError as error:
            if error.message.startswith("could not "):
                raise
            how_far = f"after {sent} of {total} bytes" if sent < total else "while the engine was unpacking it"
            message = f"could not {step.what}: {error.message}, {how_far}; the host has nothing of it"
            raise HostError(way.host, message, hint="the same command sends it again", tail=error.tail) from error


def _archive(image: LayoutImage, name: str, leave_out: set[str], at: At) -> Iterator[bytes]:
    """The bytes of the tar, made by a thread that writes into a pipe. A reader that goes away ends the thread."""
    read_end, write_end = os.pipe()
    failed: list[BaseException] = []

    def write() -> None:
        try:
            with os.fdopen(write_end, "wb", buffering=CHUNK) as out:
                docker_archive.write(image, name, out, leave_out=leave_out)
        except BrokenPipeError:
            pass
        except Exception as error:  # noqa: BLE001  raised again where the archive is read
            failed.append(error)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    done = 0
    try:
        with os.fdopen(read_end, "rb", buffering=0) as source:
            while chunk := source.read(CHUNK):
                done += len(chunk)
                yield chunk
                at(done)
    finally:
        with suppress(RuntimeError):
            writer.join(timeout=10)
    if failed:
        raise OSError(f"the layout could not be read: {failed[0]}") from failed[0]
