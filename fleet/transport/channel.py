"""One channel of a connection, with the manners of a socket."""

import contextlib
import io
import threading
from collections.abc import Callable
from typing import Any, Self

import paramiko

from fleet.transport.loginshell import Heard, LoginShell

PIECE = 1 << 16  # bytes per write; paramiko copies what is left after every packet


class Channel:
    """A raw duplex channel: a remote process or a forwarded TCP connection. Reads and writes may be in two threads."""

    def __init__(
        self, raw: paramiko.Channel, release: Callable[[], None] = lambda: None, shell: LoginShell | None = None
    ) -> None:
        """`shell` is the login shell whose command marks where it begins, None where nothing is marked."""
        self._raw = raw
        self._out, self._err = Heard(raw.recv, "out", shell), Heard(raw.recv_stderr, "err", shell)
        self._release = release
        self._lock = threading.Lock()
        self._open = True

    @property
    def raw(self) -> paramiko.Channel:
        """The library's own."""
        return self._raw

    def on_close(self, call: Callable[[], None]) -> None:
        """Have `call` made when the channel closes, before its slot is given back."""
        release = self._release

        def both() -> None:
            call()
            release()

        self._release = both

    def send(self, data: bytes) -> int:
        try:
            return self._raw.send(bytes(data[:PIECE]))
        except TimeoutError:
            raise
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise BrokenPipeError(32, "the remote end closed the channel") from error

    def sendall(self, data: bytes | memoryview) -> None:
        view = memoryview(data).cast("B")
        offset = 0
        while offset < len(view):
            sent = self.send(bytes(view[offset : offset + PIECE]))
            if not sent:  # paramiko's word for: EOF was said already
                raise BrokenPipeError(32, "the channel is closed for writing")
            offset += sent

    def recv(self, size: int) -> bytes:
        return self._out.read(size)

    def recv_into(self, buffer: Any) -> int:
        data = self._out.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def recv_stderr(self, size: int) -> bytes:
        return self._err.read(size)

    def unread_stderr(self, data: bytes) -> None:
        """Give back what was read too far."""
        self._err.unread(data)

    def settimeout(self, seconds: float | None) -> None:
        self._raw.settimeout(seconds)

    def gettimeout(self) -> float | None:
        return self._raw.gettimeout()

    def shutdown_write(self) -> None:
        """Say EOF to the other end, and go on reading."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._raw.shutdown_write()

    def shutdown(self, how: int) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._raw.shutdown(how)

    @property
    def ended(self) -> bool:
        """Whether the other end has closed or said EOF and everything was read."""
        read = not (self._raw.recv_ready() or self._out.kept)
        return bool(self._raw.closed or (self._raw.eof_received and read))

    @property
    def closed(self) -> bool:
        return self._raw.closed

    def exit_code(self, timeout: float | None = None) -> int | None:
        """The process's exit code; -1 when a signal ended it or the link died; None if it still runs after `timeout`."""
        if not self._raw.status_event.wait(timeout):
            return None
        return self._raw.exit_status

    def fileno(self) -> int:
        return self._raw.fileno()

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.BufferedReader:
        """A buffered reader, as http.client wants it."""
        if "w" in mode:
            raise ValueError("write with sendall")
        return io.BufferedReader(ChannelReader(self), buffering if buffering > 1 else 1 << 16)

    def close(self) -> None:
        with self._lock:
            if not self._open:
                return
            self._open = False
        try:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self._raw.close()
        finally:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ChannelReader(io.RawIOBase):
    """The reading half as a raw file; closing it leaves the channel open."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self.channel = channel
        self.sock = channel  # where docker-py looks for what to close when a stream is left before its end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.channel.recv_into(buffer)
