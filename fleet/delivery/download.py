"""A file that the host gets by curl, into the part that it staged before: it goes on where that ends."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from fleet import awake
from fleet.delivery import curl_scripts as scripts
from fleet.delivery.send import Sent
from fleet.errors import HostError

TRIES = 4  # in a row in which nothing came
PAUSE = 1.0  # seconds between two tries, doubled each time
FETCH = 700.0  # seconds for a short answer
NO_CURL = "there is no curl on the host, which it takes to get anything by itself"
HINT_CURL = "install curl there, or let it come from this controller"


@dataclass(frozen=True)
class Address:
    """Where something is got from. `token_file` lies on the host; `settings` are lines for curl, kept out of every argv.

    `ca` is a certificate that alone is trusted; `tries` are those in a row in which nothing came. `refused(status)` is a
    hint for what the server answers.
    """

    url: str
    token_file: str = ""
    settings: str = ""
    ca: str = ""
    tries: int = TRIES
    refused: Callable[[int], str] = lambda _status: ""


def logged_in(login: str) -> str:
    """Lines for curl, an Address's `settings`: the `name:password` at a near server, to which nobody's proxy leads."""
    return f'user = "{login}"\nnoproxy = "*"\n'


class Runner(Protocol):
    """Where curl runs: a host, or this controller. `stall` is in seconds in which nothing moves."""

    @property
    def host(self) -> str: ...

    @property
    def stall(self) -> float: ...

    @property
    def say(self) -> Callable[[str], None]: ...

    def run(
        self,
        script: str,
        args: Sequence[str],
        stdin: BinaryIO | None,
        timeout: float | None,
        /,
        *,
        heard: Callable[[bytes], object] = ...,
    ) -> tuple[int, str, str]: ...


class Growth:
    """Takes what a script tells of its part, and passes on by how much that grew."""

    def __init__(self, start: int, sent: Sent) -> None:
        self.at, self._sent, self._rest = start, sent, b""

    def hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word, _, number = line.partition(b" ")
            if word == b"at" and number.isdigit():
                self.reached(int(number))

    def reached(self, size: int) -> None:
        if size > self.at:
            self._sent(size - self.at)
        self.at = size


def download(by: Runner, name: str, size: int, path: str, address: Address, have: int, sent: Sent) -> None:
    """Complete a blob of `size` bytes at `path` on the host; `name` is for people.

    Raises HostError, LinkError for the connection to the host.
    """
    growth, tries, pause = Growth(have, sent), 0, PAUSE
    args = (path, str(size), address.url, address.token_file, f"{by.stall:.0f}", address.ca)
    while True:
        before = growth.at
        settings = io.BytesIO(address.settings.encode())
        code, said, complaint = by.run(scripts.DOWNLOAD, args, settings, 2 * by.stall, heard=growth.hear)
        if not code:
            growth.reached(size)
            return
        status = _status(said)
        why = _why(code, status, complaint)
        if code != scripts.FAILED or (400 <= status < 500 and status not in (408, 416, 429)):
            raise HostError(by.host, f"{address.url}: {why}", hint=_hint(code, status, address))
        tries = 1 if growth.at > before else tries + 1
        if tries >= address.tries:
            hint = address.refused(status) or "the host keeps what came: the same command goes on from there"
            raise HostError(by.host, f"{address.url}: {why}", hint=hint)
        by.say(f"{name}: {why}; going on")
        pause = PAUSE if growth.at > before else pause * 2
        awake.sleep(pause)


def fetch(by: Runner, address: Address) -> bytes:
    """The body of a short answer. Raises HostError, LinkError."""
    args = (address.url, address.token_file)
    code, said, complaint = by.run(scripts.FETCH, args, io.BytesIO(address.settings.encode()), FETCH)
    body, _, status = base64.b64decode(said).rpartition(b"\n") if not code else (b"", b"", b"")
    number = int(status) if status.isdigit() else 0
    if code or number != 200:
        why = _why(code, number, complaint)
        raise HostError(by.host, f"{address.url}: {why}", hint=_hint(code, number, address))
    return body


def _status(said: str) -> int:
    words = [line.removeprefix("status ") for line in said.splitlines() if line.startswith("status ")]
    return int(words[-1]) if words and words[-1].isdecimal() else 0


def _why(code: int, status: int, complaint: str) -> str:
    if code == scripts.NO_CURL:
        return NO_CURL
    if code == scripts.NO_TOKEN:
        return complaint or "its token cannot be read"
    if code == scripts.SHORT:
        return "it is not of the size that was told"
    if status >= 400:
        return f"the server answers {status}"
    told = [line.removeprefix("curl: ") for line in complaint.splitlines() if line.startswith("curl: ")]
    return next(iter(told), complaint or f"exit {code}")


def _hint(code: int, status: int, address: Address) -> str:
    if code == scripts.NO_CURL:
        return HINT_CURL
    if code == scripts.NO_TOKEN:
        return f"token_file is a path on the host: is {address.token_file} there, and its one line a token?"
    return address.refused(status)
