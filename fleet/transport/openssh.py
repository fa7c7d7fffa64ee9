"""Bulk bytes by OpenSSH's own client: one connection more, each on a core of its own.

paramiko moves about 150 MB/s in a process, for all hosts together; the client 280 to 470 MB/s a host with AES-GCM
(measured over loopback). It reads the configuration that `ssh -G` told us of, so user, keys, agent, known_hosts and jump
hosts are the same. It asks nobody anything: where a password is needed it is of no use.
"""

import contextlib
import fcntl
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, BinaryIO

from fleet.inventory.model import Connection
from fleet.transport import sudo as become
from fleet.transport.loginshell import portable
from fleet.transport.process import Progress, Stalled
from fleet.transport.target import query

FAILED = 255  # ssh's own exit code when the connection failed (ssh(1))
PIPE = 1 << 20  # bytes; /proc/sys/fs/pipe-max-size of everybody
PIECE = 1 << 18  # bytes at once
ENDING = 10.0  # seconds for the client's last words
LOOK = 0.5  # seconds between two looks at the clock while nothing can be written
OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",  # the first connection has settled whom we trust
    "ControlMaster=no",
    "ControlPath=none",
    "ClearAllForwardings=yes",
    "RequestTTY=no",
    "LogLevel=ERROR",
    "Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com",
)


class NoConnectionError(Exception):
    """The client could not log in, and nothing was sent. The text is its own."""


@dataclass(frozen=True)
class Bulk:
    """How the client reaches one host; `sudo_user` is the user to become there, empty for none."""

    words: tuple[str, ...]
    sudo_user: str = ""

    def argv(self, command: Sequence[str]) -> tuple[str, ...]:
        """The client's whole command line for a command on the host."""
        there = become.without_password(command, self.sudo_user) if self.sudo_user else tuple(command)
        return (*self.words, portable(there))


def bulk(connection: Connection, user: str) -> Bulk | str:
    """The way for a host on which we are `user`, or why there is none. Pure."""
    wanted = connection.become
    becomes = wanted.enabled and wanted.user != user
    if connection.password is not None:
        return "its log-in is by password"
    if becomes and wanted.password is not None:
        return "sudo asks for a password there"
    first, _, *rest = query(connection)  # ssh -G …
    options = [word for option in OPTIONS for word in ("-o", option)]
    return Bulk((first, "-T", *options, *rest), wanted.user if becomes else "")


def pour(
    argv: Sequence[str],
    source: BinaryIO,
    *,
    take: Callable[[int], int],
    sent: Callable[[int], None],
    timeout: float,
) -> tuple[int, str, str]:
    """Run the client and feed it the rest of `source`; its exit code, standard output and standard error.

    `take(n)` waits until at most n bytes may go and says how many. The bytes never pass through Python, and end with this
    process, whatever ends it: the client reads a pipe of ours. `sent` hears of every piece, and takes them back where the
    client was not let in. Raises Stalled when nothing moved for `timeout` seconds, NoConnectionError.
    """
    progress = Progress()
    moved = 0
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        out, err = bytearray(), bytearray()
        readers = [_reader(child.stdout, out, progress), _reader(child.stderr, err, progress)]
        try:
            if child.stdin is not None:
                for count in _feed(source, child.stdin, take, progress, timeout):
                    moved += count
                    sent(count)
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = child.wait(LOOK)
                    break
                _check(progress, timeout)
        except BaseException:
            child.kill()
            raise
        finally:
            for reader in readers:
                reader.join(ENDING)
    if code == FAILED and moved <= PIPE:  # the client reads nothing before it is let in, and the pipe holds so much
        sent(-moved)
        raise NoConnectionError(err.decode(errors="replace").strip() or "it said nothing")
    return code, out.decode(errors="replace"), err.decode(errors="replace").strip()


def _feed(
    source: BinaryIO, pipe: IO[bytes], take: Callable[[int], int], progress: Progress, timeout: float
) -> Iterator[int]:
    """Move the file into the pipe, in the kernel; yields how much went. Ends early when nobody reads any more."""
    fd = pipe.fileno()
    with contextlib.suppress(OSError):  # a user may have only so many large ones (pipe(7))
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE)
    os.set_blocking(fd, False)
    writable = select.poll()
    writable.register(fd, select.POLLOUT)
    offset, end = source.tell(), os.fstat(source.fileno()).st_size
    with pipe:
        while offset < end:
            left = take(min(PIECE, end - offset))
            while left:
                if not writable.poll(LOOK * 1000):
                    _check(progress, timeout)
                    continue
                try:
                    count = os.splice(source.fileno(), fd, left, offset_src=offset, flags=os.SPLICE_F_NONBLOCK)
                except BlockingIOError:  # less room than a page
                    time.sleep(0.001)
                    continue
                except BrokenPipeError:
                    return
                if not count:
                    return  # the file was cut short under us
                progress.moved()
                offset, left = offset + count, left - count
                yield count


def _reader(stream: IO[bytes] | None, into: bytearray, progress: Progress) -> threading.Thread:
    def read() -> None:
        with contextlib.suppress(OSError, ValueError):  # closed under us, when somebody else still holds the other end
            while stream is not None and (data := os.read(stream.fileno(), 1 << 16)):
                progress.moved()
                into.extend(data)

    thread = threading.Thread(target=read, name="fleet-bulk", daemon=True)
    thread.start()
    return thread


def _check(progress: Progress, timeout: float) -> None:
    if progress.idle() >= timeout:
        raise Stalled(timeout)
