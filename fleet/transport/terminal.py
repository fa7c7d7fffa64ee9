"""A remote command joined to our own terminal, or to whatever our standard input is: raw bytes both ways.

On a terminal every key goes to the other side, Ctrl-C and Ctrl-Z too, as with ssh(1); the size of our window goes with
them, and our settings are back at the end.
"""

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from types import FrameType

import paramiko

PIECE = 1 << 15  # bytes read at once
FULL = 0.05  # seconds between tries to send while the other side takes nothing


def open_terminal(channel: paramiko.Channel) -> None:
    """Ask for a terminal like ours, before the command."""
    columns, rows = _size()
    channel.get_pty(os.environ.get("TERM") or "xterm", columns, rows)


def join(channel: paramiko.Channel) -> None:
    """Carry our standard input to the channel, and what it says to standard output, until it ends."""
    sys.stdout.flush()
    source, sink = sys.stdin.fileno(), sys.stdout.fileno()
    pending, open_ = b"", True
    channel.set_combine_stderr(True)
    with _raw(source), _resizes() as resized:
        heard = channel.fileno()
        while True:
            inputs = (heard, resized, source) if open_ and len(pending) < PIECE else (heard, resized)
            ready, _, _ = select.select(inputs, (), (), FULL if pending else None)
            if resized in ready:
                os.read(resized, PIECE)
                channel.resize_pty(*_size())
            if heard in ready:
                said = channel.recv(PIECE)
                if not said:
                    return
                _write(sink, said)
            if source in ready:
                typed = os.read(source, PIECE)
                pending += typed
                open_ = bool(typed)
            with contextlib.suppress(OSError):  # it has ended, which what it said last will tell
                if pending and channel.send_ready():
                    pending = pending[channel.send(pending) :]
                if not open_ and not pending and not channel.eof_sent:
                    channel.shutdown_write()


def _size() -> tuple[int, int]:
    """Columns and rows of our window."""
    for stream in (sys.stdin, sys.stdout):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(stream.fileno())
            return size.columns, size.lines
    return 80, 24


def _write(sink: int, data: bytes) -> None:
    while data:
        data = data[os.write(sink, data) :]


@contextlib.contextmanager
def _raw(source: int) -> Iterator[None]:
    if not os.isatty(source):
        yield
        return
    settings = termios.tcgetattr(source)
    tty.setraw(source, termios.TCSADRAIN)  # what was typed ahead stays
    try:
        yield
    finally:
        termios.tcsetattr(source, termios.TCSADRAIN, settings)


@contextlib.contextmanager
def _resizes() -> Iterator[int]:
    """A descriptor that becomes readable when our window has another size."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def told(_signal: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writer, b"!")

    before = signal.signal(signal.SIGWINCH, told)
    try:
        yield reader
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(reader)
        os.close(writer)
