"""Getting blobs of an image or a model onto a host, however often the connection breaks.

What arrived stays: after a broken link the transfer goes on over a new connection, and after a failure in the next run.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fleet.delivery import scripts
from fleet.delivery.relay import Courier
from fleet.delivery.send import LARGE, LinkError, Parcel, Sender, Sent
from fleet.delivery.staging import Staging, blobs_of
from fleet.delivery.way import Way
from fleet.errors import HostError
from fleet.report.units import size

TRIES = 5  # connections in a row over which nothing moved
SPARE = 64 << 20  # bytes that staging leaves free

Try = Callable[[Way, Sent, bool], None]  # one try over one connection; the last word says that it is not the first

Send = Callable[[Sender, str, Parcel, Staging, Sent], None]  # directory, parcel, what is staged


def sending(courier: Courier | None) -> Send:
    """From here, or by a courier."""

    def send(sender: Sender, directory: str, parcel: Parcel, staging: Staging, sent: Sent) -> None:
        if courier is None:
            sender.send(directory, parcel, staging, sent)
        elif staging.whole.get(parcel.digest) != parcel.size:
            path = f"{blobs_of(directory)}/{parcel.digest.removeprefix('sha256:')}"
            courier.bring(sender, path, parcel, staging.there(parcel.digest, parcel.size), sent)

    return send


class Move(Protocol):
    """A step that moves `size` bytes to a host."""

    @property
    def what(self) -> str: ...

    @property
    def size(self) -> int: ...


@dataclass
class Count:
    """Bytes handed to the connection in this run, and how many there were to send when it began."""

    total: int
    sent: int = 0


def persist(step: Move, words: str, way: Way, once: Try) -> Way:
    """Try until it is done; `words` tell the move. Returns the way that is open now.

    Raises HostError that says how far it came and what the host keeps.
    """
    count, tries = Count(step.size), 0
    if way.no_bulk and step.size >= LARGE:
        way.say(f"{way.no_bulk}, so the bytes go over the first connection, which is slower than OpenSSH's client")
    with way.moving(way.host, words, step.size) as at:

        def sent(piece: int) -> None:
            count.sent += piece
            at(count.sent)

        while True:
            before = count.sent
            try:
                once(way, sent, bool(tries))
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


def stage(
    config: str,
    name: str,
    parcels: Sequence[Parcel],
    way: Way,
    sent: Sent,
    ready: Callable[[Staging], None] = lambda _staging: None,
    send: Send = Sender.send,
) -> Staging:
    """Have what is missing of these blobs brought into the staging directory; `ready` hears of it before the first byte.

    `config` (hex) and `name` are what it is for: an image, or a model. `send` completes one of them. Raises HostError,
    AnotherWayError.
    """
    sender = way.sender
    staging = sender.look(way.staging_dir)
    _check_room(parcels, staging, way)
    needs = "".join(f"{one.digest.removeprefix('sha256:')} {one.size}\n" for one in parcels)
    begin = (staging.directory, minutes(way), config, name)
    sender.command(scripts.BEGIN, *begin, stdin=io.BytesIO(needs.encode()))
    if staging.parts:  # a receiver that lived until now may have finished one
        staging = sender.look(way.staging_dir)
    ready(staging)
    for parcel in parcels:
        send(sender, staging.directory, parcel, staging, sent)
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


def minutes(way: Way) -> str:
    """How long what is left of a failed transfer stays, as the scripts take it.

    find counts whole minutes, so two are taken off: what a plan calls old is old for the script too.
    """
    return str(max(int(way.sideload.keep_seconds // 60) - 2, 0))


def _given_up(step: Move, count: Count, error: HostError, worse: HostError | None = None) -> HostError:
    how_far = f"after {size(count.sent)} of {size(count.total)}"
    why = f", and there was no new connection: {worse.message}" if worse else ""
    message = f"could not {step.what}: {error.message} {how_far}{why}; the host keeps what arrived"
    hint = "the same command goes on from there" + (f"; {worse.hint}" if worse and worse.hint else "")
    return HostError(error.host, message, hint=hint, tail=error.tail)
