"""Trying again what a registry, or the line to it, could not do just now."""

import math
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from fleet.errors import FleetError

T = TypeVar("T")
TRIES = 4
PAUSE = 0.5  # seconds before the second try, doubled each time
PATIENCE = 60.0  # seconds that a registry may ask to be left alone
# Words of tools that have no codes for it (skopeo, and Go's net/http below it).
SIGNS = re.compile(
    r"\b(429|502|503|504)\b|too ?many ?requests|internal server error|bad gateway|service unavailable|gateway timeout|connection reset"
    r"|connection refused|broken pipe|\beof\b|time-?out|timed out|deadline exceeded|temporary failure"
    r"|server misbehaving|no route to host|network is unreachable|\bgoaway\b",
    re.IGNORECASE,
)


class TransientError(FleetError):
    """Another try may go well. `after` is how many seconds the registry asked to be left alone."""

    def __init__(self, message: str, *, hint: str = "", after: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.after = after


def is_transient(words: str) -> bool:
    """Whether a tool's last words tell of something that passes."""
    return bool(SIGNS.search(words))


def jitter() -> float:
    """Those that were refused together should not come back together."""
    return random.uniform(0.5, 1.5)  # noqa: S311  nothing secret


def again(
    once: Callable[[], T],
    *,
    say: Callable[[str], None] = lambda _line: None,
    limit: float = math.inf,
    pause: float = PAUSE,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """What `once` gives, tried up to four times; after `limit` seconds there is no third try.

    Raises the last TransientError, which then says how often it was tried, and any other error at once.
    """
    started, attempt = clock(), 1
    while True:
        try:
            return once()
        except TransientError as error:
            late = attempt > 1 and clock() - started > limit
            if attempt == TRIES or late or error.after > PATIENCE:
                tried = f" (tried {attempt} times)" if attempt > 1 else ""
                raise TransientError(f"{error.message}{tried}", hint=error.hint, after=error.after) from error
            wait = max(error.after, pause * jitter())
            say(f"{error.message}; trying again in {wait:.1f} s")
        sleep(wait)
        pause *= 2
        attempt += 1
