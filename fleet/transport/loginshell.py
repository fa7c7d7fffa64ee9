"""Commands past a login shell that says things, or that is no POSIX shell.

sshd hands a command to the login's shell as one line. bash then reads ~/.bashrc (Debian's and Red Hat's do, for sshd), tcsh
~/.tcshrc, fish its config.fish, zsh ~/.zshenv: what these print stands in front of the command's own output. And csh knows
neither a newline nor `!` in quotes, fish has an escape in them. So the first commands of a connection say where they begin
and which shell it is; where it is a quiet POSIX shell, those that follow are as they are.
"""

import base64
import secrets
import shlex
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

POSIX = frozenset({"sh", "ash", "bash", "dash", "ksh", "ksh93", "mksh", "zsh"})
ODD = frozenset("\n!\\")  # what quotes do not protect in csh, and in fish
BEGIN = 'echo "$0$SHELL"; echo "$0" >&2; exec "$@"'
DECODE = 'eval "$(echo "$@" | tr -d " " | base64 -d)"'
CHUNK = 1000  # letters; csh's words have an end
MOST = 1 << 16  # bytes that may stand before the mark
PIECE = 1 << 16

Receive = Callable[[int], bytes]


def portable(command: Sequence[str]) -> str:
    """A command as a line that every login shell takes alike."""
    line = shlex.join(command)
    if not ODD & set(line):
        return line
    letters = base64.b64encode(f"exec {line}".encode()).decode()
    return shlex.join(("sh", "-c", DECODE, "sh", *(letters[at : at + CHUNK] for at in range(0, len(letters), CHUNK))))


class LoginShell:
    """What is known of a connection's login shell. Threads may meet here: they learn the same."""

    def __init__(self) -> None:
        self.mark = f"fleet-begins-{secrets.token_hex(8)}"
        self.name = ""  # "" = nobody has told yet
        self._quiet = {"out": False, "err": False}

    @property
    def plain(self) -> bool:
        return self.name in POSIX and all(self._quiet.values())

    def line(self, command: Sequence[str]) -> tuple[str, bool]:
        """What the server is to run, and whether the mark stands before its output."""
        if self.plain:
            return shlex.join(command), False
        marked = ("sh", "-c", BEGIN, self.mark, *command)
        return (shlex.join(marked) if self.name in POSIX else portable(marked)), True

    def begun(self, side: str, noise: bytes, rest: bytes) -> None:
        """Take in what stood before the mark of one side, and the rest of its line."""
        self._quiet[side] = not noise
        if side == "out":
            self.name = PurePosixPath(rest.decode(errors="replace")).name


class Heard:
    """One side of a command's output, from where it begins. `shell` None: there is no mark."""

    def __init__(self, receive: Receive, side: str, shell: LoginShell | None) -> None:
        self._receive, self._side, self._shell = receive, side, shell
        self._kept = b""

    @property
    def kept(self) -> bool:
        """Is there something that was read and not given yet?"""
        return bool(self._kept) and self._shell is None

    def read(self, size: int) -> bytes:
        """Like a socket's recv. Of a command that never began, everything that was said instead of it."""
        while self._shell is not None:
            data = self._receive(PIECE)
            self._kept += data
            noise, mark, after = self._kept.partition(self._shell.mark.encode())
            rest, newline, begun = after.partition(b"\n")
            if mark and newline:
                self._shell.begun(self._side, noise, rest)
                self._shell, self._kept = None, begun
            elif not data:
                self._shell = None
            else:
                self._kept = self._kept[-MOST:]
        if self._kept:
            head, self._kept = self._kept[:size], self._kept[size:]
            return head
        return self._receive(size)

    def unread(self, data: bytes) -> None:
        """Give back what was read too far."""
        self._kept = data + self._kept
