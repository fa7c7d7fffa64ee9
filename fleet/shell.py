"""What is wanted of an open SSH session; fleet.transport's Session is one, and tests bring their own.

And where on a host we keep what a later run must know.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Protocol

from fleet.inventory.model import Host

# /var/lib/fleet where we are root, else the login's own state directory.
STATE_DIR = """
if [ "$(id -u)" = 0 ]; then dir=/var/lib/fleet; else dir="${XDG_STATE_HOME:-$HOME/.local/state}/fleet"; fi
"""


class Answer(Protocol):
    """What a finished command left: its text and how it ended."""

    @property
    def stdout(self) -> str: ...

    @property
    def stderr(self) -> str: ...

    @property
    def exit_code(self) -> int: ...


class Scripted(Protocol):
    """A host that runs scripts; one that is asked for nothing but its name."""

    @property
    def host(self) -> Any: ...

    def script(
        self,
        text: str,
        *,
        args: Sequence[str] = (),
        sudo: bool = False,
        timeout: float | None = None,
        check: bool = True,
    ) -> Answer: ...


class Shell(Scripted, Protocol):
    """One host, reached."""

    @property
    def host(self) -> Host: ...

    def run(
        self, argv: Sequence[str], *, sudo: bool = False, timeout: float | None = None, check: bool = True
    ) -> Answer: ...

    def upload(self, source: BinaryIO, path: str, *, mode: int = 0o644, sudo: bool = False) -> None: ...

    def forward_local(self, port: int, address: str = "127.0.0.1") -> AbstractContextManager[tuple[str, int]]: ...
