"""The one place through which every effect on a host goes, so that a journal can tell of each, before and after."""

from collections.abc import Callable
from typing import Protocol


class Described(Protocol):
    """A step of any plan: what will be done, and why."""

    @property
    def what(self) -> str: ...

    @property
    def why(self) -> str: ...


class Seam(Protocol):
    """Does one step. What `do` raises goes on to the caller; a seam neither adds effects nor swallows errors."""

    def perform(self, host: str, step: Described, do: Callable[[], None], /) -> None: ...


class Bare:
    """A seam that only does the step: for looks, for single commands and for tests."""

    def perform(self, _host: str, _step: Described, do: Callable[[], None], /) -> None:
        do()
