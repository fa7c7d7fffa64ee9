"""How one file of a model comes onto a host: sent from here, copied there from a disk, or got there by curl."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet.delivery.download import Address, Growth, download, logged_in
from fleet.delivery.relay import MODELS, stored
from fleet.delivery.send import Parcel, Sent
from fleet.delivery.staging import BLOCK
from fleet.delivery.way import Way
from fleet.errors import HostError
from fleet.inventory.settings import Registry
from fleet.models import carry_scripts as scripts
from fleet.models.content import File, Source
from fleet.models.disk import There
from fleet.models.held import Ground
from fleet.models.hub import Remote
from fleet.models.look import STALL, hashed
from fleet.models.source import Here

TRIES_OF_A_RELAY = 2  # in a row in which nothing came: there is another way


class Carrier(Protocol):
    """`carry` makes a blob of the file; `blame` hears that it was wrong, and raises HostError where its source is."""

    def carry(self, way: Way, file: File, ground: Ground, sent: Sent) -> None: ...

    def blame(self, way: Way, file: File, ground: Ground) -> None: ...


def carrier(source: Source) -> Carrier:
    match source:
        case Here():
            return FromHere(source)
        case There():
            return FromDisk(source)
        case Remote():
            return ByCurl(source.address, f"from {source.repository.endpoint}")
    raise TypeError(f"nobody carries {type(source).__name__}")


@dataclass(frozen=True)
class FromHere:
    """Over the host's own SSH connection."""

    source: Here

    def carry(self, way: Way, file: File, ground: Ground, sent: Sent) -> None:
        path = self.source.path(file)
        if not path.is_file() or path.stat().st_size != file.size:
            raise HostError(way.host, f"{path} is not any more what it was when this began", hint="run it again")
        way.sender.complete(blob(ground, file), parcel(self.source, file), ground.staged(file), sent)

    def blame(self, way: Way, file: File, ground: Ground) -> None:  # noqa: ARG002  others look there
        if not way.sender.right(parcel(self.source, file)):
            hint = "its disk fails, or it is being written: run the command again when it is whole"
            message = f"{self.source.path(file)} has other bytes than when it was hashed"
            raise HostError(way.host, message, hint=hint)
        way.say(f"{file.path} is damaged on the host; sending what is wrong of it again")


@dataclass(frozen=True)
class FromDisk:
    """By a copy on the host."""

    source: There

    def carry(self, way: Way, file: File, ground: Ground, sent: Sent) -> None:
        copy(way, file, self.source.path(file), ground, sent)

    def blame(self, way: Way, file: File, ground: Ground) -> None:
        inside = f"{self.source.directory}/{self.source.root}"
        if hashed(way.sender, self.source.directory, self.source.root, (file.path,))[file.path] != file.sha256:
            hint = "the disk fails, or the list beside the files or the blob's name is wrong: --rehash reads all of it"
            raise HostError(way.host, f"{inside}/{file.path} has other bytes than it should", hint=hint)
        forget(way, file, ground)
        way.say(f"{file.path} was damaged by the copy; copying it again")


@dataclass(frozen=True)
class ByCurl:
    """From a server that the host itself asks."""

    address: Callable[[File], Address]
    words: str

    def carry(self, way: Way, file: File, ground: Ground, sent: Sent) -> None:
        download(way.sender, file.path, file.size, blob(ground, file), self.address(file), ground.staged(file), sent)

    def blame(self, way: Way, file: File, ground: Ground) -> None:
        forget(way, file, ground)
        way.say(f"{file.path} {self.words} has other bytes than it should; getting it again")


@dataclass(frozen=True)
class FromStore:
    """From the store of the relay that the host itself is; `directory` is its staging directory."""

    directory: str

    def carry(self, way: Way, file: File, ground: Ground, sent: Sent) -> None:
        copy(way, file, stored(self.directory, file.sha256), ground, sent)

    def blame(self, way: Way, file: File, ground: Ground) -> None:
        forget(way, file, ground)
        way.say(f"{file.path} was damaged by the copy out of the relay's store; copying it again")


def from_relay(registry: Registry) -> ByCurl:
    """From a relay's registry, whose CA is in the registry's ca_file. Nobody's proxy lies between."""
    username, password = registry.username, registry.password
    login = f"{username.reveal()}:{password.reveal()}" if username and password else ""
    ca = Path(registry.ca_file).read_text("utf-8")

    def address(file: File) -> Address:
        url = f"https://{registry.host}/v2/{MODELS}/blobs/sha256:{file.sha256}"
        return Address(url, settings=logged_in(login), ca=ca, tries=TRIES_OF_A_RELAY)

    return ByCurl(address, "from the relay")


def blob(ground: Ground, file: File) -> str:
    return f"{ground.directory}/.fleet/blobs/{file.sha256}"


def parcel(source: Here, file: File) -> Parcel:
    return Parcel(f"sha256:{file.sha256}", file.size, source.path(file))


def copy(way: Way, file: File, path: str, ground: Ground, sent: Sent) -> None:
    """A blob from a file on the host, going on where an earlier copy stopped."""
    have = ground.staged(file) // BLOCK
    args = (blob(ground, file), path, str(have), str(file.size))
    growth = Growth(have * BLOCK, sent)
    code, _, complaint = way.sender.run(scripts.COPY, args, None, STALL, heard=growth.hear)
    if code == scripts.LOST:
        raise HostError(way.host, f"{path} is not any more what it was when this began", hint="run it again")
    if code:
        full = "no space left" in complaint.lower()
        hint = f"free space in {ground.directory}" if full else ""
        raise HostError(way.host, f"{path} could not be copied: {complaint or f'exit {code}'}", hint=hint)
    growth.reached(file.size)


def forget(way: Way, file: File, ground: Ground) -> None:
    way.sender.command(scripts.FORGET, f"{ground.directory}/.fleet/blobs", file.sha256)
