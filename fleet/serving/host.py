"""What serving needs of an open SSH session; fleet.transport's Session is one, and tests bring their own."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from fleet.inventory.model import Host


class Answer(Protocol):
    """What a finished command left: its text and how it ended."""

    @property
    def stdout(self) -> str: ...

    @property
    def stderr(self) -> str: ...

    @property
    def exit_code(self) -> int: ...


class Shell(Protocol):
    """One host, reached."""

    @property
    def host(self) -> Host: ...

    def run(
        self, argv: Sequence[str], *, sudo: bool = False, timeout: float | None = None, check: bool = True
    ) -> Answer: ...

    def script(
        self,
        text: str,
        *,
        args: Sequence[str] = (),
        sudo: bool = False,
        timeout: float | None = None,
        check: bool = True,
    ) -> Answer: ...

    def upload(self, source: BinaryIO, path: str, *, mode: int = 0o644, sudo: bool = False) -> None: ...

    def forward_local(self, port: int, address: str = "127.0.0.1") -> AbstractContextManager[tuple[str, int]]: ...
