"""The one place through which every effect on a host goes, so that a journal can tell of each, before and after.

What is written down on a host about a step (its audit, its record, what it answered with) is a step too, though no plan counts
it. Two things go past: a host's lock, which is there before the first step and ends by itself; and what is done on the builder
and in the registry, which no host has yet: builds and pushes can be repeated as a whole, and are killed at every point of their
own by tests/lab/test_killed_builds.py. What a roll asks of a host beside the seam is listed in tests/seam_watch.py.
"""

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
