"""Bytes into a host's staging directory, going on where an earlier transfer stopped.

At most a block of what arrived is sent again, and of a connection that broke what was still on its way: no more than
the channel's window, 2 MiB with OpenSSH's server (channels.h, CHAN_SES_WINDOW_DEFAULT).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from fleet.delivery import scripts
from fleet.delivery.staging import BLOCK, Staging, blobs_of, parse, right_prefix
from fleet.delivery.throttle import Throttle
from fleet.errors import HostError
from fleet.transport import Session
from fleet.transport.channel import Channel
from fleet.transport.openssh import FAILED, Bulk, NoConnectionError, pour
from fleet.transport.process import Stalled, converse

CHUNK = 1 << 20  # bytes
LARGE = 32 << 20  # bytes for which another connection pays
ANSWER = 120.0  # seconds for a short command

Sent = Callable[[int], None]  # hears the size of every piece that was handed to the connection


class LinkError(HostError):
    """The connection broke or nothing moved any more; with a new one the transfer can go on."""


class AnotherWayError(HostError):
    """Who was to bring a blob cannot, which was said. What has come stays, and the next try goes another way; an engine that
    reads along has to begin anew.
    """


class Line(Protocol):
    """What of an SSH session is needed here."""

    @property
    def alive(self) -> bool: ...

    def open_process(self, argv: Sequence[str], *, sudo: bool = False) -> Channel: ...


@dataclass(frozen=True)
class Parcel:
    """A blob to be staged: `digest` is `sha256:…`, `path` where it lies here, `size` its bytes."""

    digest: str
    size: int
    path: Path


@dataclass(frozen=True)
class Sender:
    """Talks to one host over one connection. `stall` is in seconds in which nothing moves."""

    host: str
    line: Line
    stall: float
    throttle: Throttle
    bulk: Bulk | None = None  # another connection for large blobs, by OpenSSH's client
    say: Callable[[str], None] = lambda _line: None

    @classmethod
    def of(cls, session: Session) -> "Sender":
        """For a look alone."""
        return cls(session.host.name, session, ANSWER, Throttle(0))

    def look(self, directory: str) -> Staging:
        """What is staged, and where. Changes nothing."""
        return parse(self.command(scripts.LOOK, directory).splitlines())

    def command(self, script: str, *args: str, stdin: BinaryIO | None = None, timeout: float = ANSWER) -> str:
        """A script to its end; what it printed. Raises HostError, LinkError."""
        code, said, complaint = self.run(script, args, stdin, timeout)
        if code == scripts.NO_PLACE:
            hint = "set fleet.staging_dir to a directory that is yours or that you can make"
            raise HostError(self.host, "the staging directory cannot be made, or others may write it", hint=hint)
        if code:
            tail = tuple((complaint or said).splitlines()[-4:])
            raise HostError(self.host, f"staging failed on the host (exit {code})", tail=tail)
        return said

    def send(self, directory: str, parcel: Parcel, staging: Staging, sent: Sent) -> None:
        """Complete one blob on the host; its checksum is looked at when it is loaded. Raises HostError, LinkError."""
        if staging.whole.get(parcel.digest) == parcel.size:
            return
        if not parcel.path.is_file() or parcel.path.stat().st_size != parcel.size:
            raise self.damaged(parcel)
        path = f"{blobs_of(directory)}/{parcel.digest.removeprefix('sha256:')}"
        self.complete(path, parcel, staging.there(parcel.digest, parcel.size), sent)

    def complete(self, path: str, parcel: Parcel, have: int, sent: Sent) -> None:
        """The same for a blob at any path on the host, of whose part `have` bytes came before. Raises HostError, LinkError."""
        self._complete(path, parcel, self._right(path, parcel, have), sent)

    def right(self, parcel: Parcel) -> bool:
        """Does the file here have the bytes that its digest says?"""
        return f"sha256:{_digest(parcel.path, parcel.size)}" == parcel.digest

    def check(self, parcel: Parcel) -> None:
        """Raise HostError where it is the blob here that is damaged."""
        if not self.right(parcel):
            raise self.damaged(parcel)

    def damaged(self, parcel: Parcel) -> HostError:
        message = f"the layout here is damaged: blob {parcel.digest}"
        return HostError(self.host, message, hint=f"remove {parcel.path.parents[2]}, then the same command again")

    def _right(self, path: str, parcel: Parcel, have: int) -> int:
        """How many bytes of the part are right."""

        def same(count: int) -> bool:
            blocks = str(count // BLOCK)
            code, said, _ = self.run(scripts.HASH, (f"{path}.part", blocks), None, self.stall)
            words = said.replace(".\n", "").split()
            return code == 0 and bool(words) and words[0] == _digest(parcel.path, count)

        return right_prefix(have, same)

    def _complete(self, path: str, parcel: Parcel, start: int, sent: Sent) -> None:
        """Send everything from `start`."""
        args = (path, str(start // BLOCK), str(parcel.size))
        with parcel.path.open("rb") as file:
            file.seek(start)
            done = self._poured(args, file, sent) if self.bulk and parcel.size - start >= LARGE else None
            if done is None:
                source = cast("BinaryIO", _Source(file, self.throttle))
                done = self.run(scripts.RECEIVE, args, source, self.stall, sent)
        code, _, complaint = done
        if code == scripts.SHORT:
            raise LinkError(self.host, "the transfer ended early")
        if code:
            full = "no space left" in complaint.lower()
            hint = "free space in the staging directory, or choose another fleet.staging_dir" if full else ""
            raise HostError(self.host, f"a blob could not be staged: {complaint or f'exit {code}'}", hint=hint)

    def _poured(self, args: Sequence[str], file: BinaryIO, sent: Sent) -> tuple[int, str, str] | None:
        """The same by OpenSSH's client; None where that cannot log in, and nothing was sent. Raises LinkError."""
        if self.bulk is None:
            return None
        argv = self.bulk.argv(("sh", "-c", scripts.RECEIVE, "sh", *args))
        try:
            done = pour(argv, file, take=self.throttle.allow, sent=sent, timeout=self.stall)
        except NoConnectionError as error:
            self.say(f"OpenSSH's client was not let in, so the first connection carries the bytes: {error}")
            return None
        except Stalled as error:
            raise LinkError(self.host, f"nothing moved for {error.seconds:.0f} s") from error
        except OSError as error:
            self.say(f"OpenSSH's client cannot be run, so the first connection carries the bytes: {error}")
            return None
        if done[0] == FAILED or done[0] < 0:
            raise LinkError(self.host, "the connection was lost")
        return done

    def run(
        self,
        script: str,
        args: Sequence[str],
        stdin: BinaryIO | None,
        timeout: float | None,
        sent: Sent | None = None,
        heard: Callable[[bytes], object] = lambda _data: None,
    ) -> tuple[int, str, str]:
        """A script's exit code, standard output and standard error; `heard` gets its output as it comes.

        Raises HostError, LinkError.
        """
        out, err = bytearray(), bytearray()

        def hear(data: bytes) -> None:
            out.extend(data)
            heard(data)

        try:
            with self.line.open_process(("sh", "-c", script, "sh", *args), sudo=True) as channel:
                code = converse(channel, stdin=stdin, stdout=hear, stderr=err.extend, timeout=timeout, on_sent=sent)
        except Stalled as error:
            raise LinkError(self.host, f"nothing moved for {error.seconds:.0f} s") from error
        except HostError as error:
            if self.line.alive:
                raise
            raise LinkError(self.host, error.message) from error
        if code < 0:
            raise LinkError(self.host, "the connection was lost")
        return code, out.decode(errors="replace"), err.decode(errors="replace").strip()


class _Source:
    """A file that is read as fast as the limit allows."""

    def __init__(self, file: BinaryIO, throttle: Throttle) -> None:
        self._file, self._throttle = file, throttle

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._throttle.piece(size))
        self._throttle.take(len(data))
        return data


def _digest(path: Path, count: int) -> str:
    """sha256 of the first `count` bytes of a file here, in hex."""
    digest, left = hashlib.sha256(), count
    with path.open("rb") as file:
        while left > 0 and (data := file.read(min(CHUNK, left))):
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()
