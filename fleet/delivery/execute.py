"""Carrying a delivery out on one host: every effect goes through `apply`, and nothing is believed until it is read again."""

import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import docker
import requests
from docker.errors import DockerException

from fleet.delivery.plan import Keep, Load, PlaceCa, Pull, Step, Tag, ca_path
from fleet.delivery.pull import pull
from fleet.errors import HostError
from fleet.image import docker_archive
from fleet.image.layout import LayoutImage
from fleet.seam import Bare, Seam

CHUNK = 1 << 20  # bytes


class Uploader(Protocol):
    """What of an SSH session is needed here."""

    def run(self, argv: Sequence[str], *, sudo: bool = False) -> object: ...

    def upload(self, source: BinaryIO, path: str, *, mode: int = 0o644, sudo: bool = False) -> None: ...


@dataclass(frozen=True)
class Way:
    """All that the steps of one host need. `layout` gives the image of a name to sideload; `auth` is `{username, password}`."""

    host: str
    session: Uploader
    client: docker.DockerClient
    ca_file: str = ""
    auth: Callable[[], Mapping[str, str] | None] = lambda: None
    layout: Callable[[str], LayoutImage] | None = None
    on_bytes: Callable[[int], None] = lambda _done: None
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
    except (DockerException, requests.RequestException, OSError) as error:
        raise HostError(way.host, f"could not {step.what}: {error}") from error


def _do(step: PlaceCa | Pull | Load | Tag, way: Way) -> None:
    match step:
        case PlaceCa():
            _place_ca(step, way)
        case Pull():
            pull(way.client, way.host, step, way.auth(), on_bytes=way.on_bytes)
        case Load():
            _load(step, way)
        case Tag():
            repository, _, tag = step.name.rpartition(":")
            way.client.api.tag(step.image, repository, tag, force=True)


def _place_ca(step: PlaceCa, way: Way) -> None:
    path = ca_path(step.registry)
    way.session.run(("mkdir", "-p", path.rpartition("/")[0]), sudo=True)
    way.session.upload(io.BytesIO(Path(way.ca_file).read_bytes()), path, sudo=True)


def _load(step: Load, way: Way) -> None:
    """Stream the archive into the engine. Nothing of the size of a layer is held here."""
    if way.layout is None:
        raise HostError(way.host, f"could not {step.what}: its layout is not here", hint="invoke build")
    image = way.layout(step.name)
    stays = {layer.digest for index, layer in enumerate(image.layers) if index not in step.layers}
    api: Any = way.client.api  # docker's stubs have no types for load_image
    for event in api.load_image(_archive(image, step.name, stays, way.on_bytes)) or ():
        if "error" in event:
            hint = "free space under Docker's root directory" if "no space left" in event["error"] else ""
            raise HostError(way.host, f"could not {step.what}: {event['error']}", hint=hint)


def _archive(image: LayoutImage, name: str, leave_out: set[str], on_bytes: Callable[[int], None]) -> Iterator[bytes]:
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
                on_bytes(done)
    finally:
        with suppress(RuntimeError):
            writer.join(timeout=10)
    if failed:
        raise OSError(f"the layout could not be read: {failed[0]}") from failed[0]
