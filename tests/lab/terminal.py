"""A command on a pseudo terminal, typed at and read with deadlines: a test that waits in vain says what was there."""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Terminal:
    """Our side of it. `settings` are those that the command found."""

    process: subprocess.Popen[bytes]
    master: int
    slave: int
    settings: list[Any]
    said: str = field(default="")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, pattern: str, seconds: float = 20) -> re.Match[str]:
        """The pattern in what has been said since the last match."""
        until = time.monotonic() + seconds
        while not (found := re.search(pattern, self.said)):
            assert self._read(until), f"no {pattern!r} in {self.said!r}"
        self.said = self.said[found.end() :]
        return found

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self, seconds: float = 20) -> int:
        """The exit code, once it has ended; what it still says is read, or it could not end."""
        until = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < until, f"it goes on after {self.said!r}"
            self._read(time.monotonic() + 0.1)
        while self._read(time.monotonic() + 0.1):
            pass
        return self.process.returncode

    def restored(self) -> bool:
        """Whether the terminal is again as the command found it."""
        return termios.tcgetattr(self.slave) == self.settings

    def _read(self, until: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], max(until - time.monotonic(), 0))
        if ready:
            self.said += os.read(self.master, 4096).decode(errors="replace")
        return bool(ready)


@contextmanager
def on_terminal(argv: Sequence[str], directory: Path, *, rows: int = 24, columns: int = 80) -> Iterator[Terminal]:
    """Start the command with the pseudo terminal as its controlling one; it is killed if it outlives the test."""
    master, slave = os.openpty()
    try:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        settings = termios.tcgetattr(slave)
        process = subprocess.Popen(
            ("setsid", "--ctty", *argv), stdin=slave, stdout=slave, stderr=slave, cwd=directory, close_fds=True
        )
        try:
            yield Terminal(process, master, slave, settings)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
    finally:
        os.close(master)
        os.close(slave)
