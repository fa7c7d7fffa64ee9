"""A limit on bytes a second, shared by everything of a run that moves bulk bytes from this controller."""

import re
import threading
import time
from collections.abc import Callable, Iterable

AHEAD = 0.25  # seconds that a pause may be saved up for: a burst of so much passes at once
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]?)(B|bit)(?:/s)?", re.IGNORECASE)


class Throttle:
    """`take(n)` waits until n more bytes may go. `rate` is in bytes a second, 0 = no limit. For many threads at once."""

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rate = rate
        self._clock, self._sleep = clock, sleep
        self._guard = threading.Lock()
        self._next = clock()  # when the bytes that were asked for so far will have gone

    def piece(self, most: int) -> int:
        """How much to move at once, so that a low limit does not look like a stalled link."""
        return min(most, max(int(self.rate / 10), 1024)) if self.rate else most

    def allow(self, most: int) -> int:
        """Wait for a piece of at most so many bytes; how many may go."""
        count = self.piece(most)
        self.take(count)
        return count

    def take(self, count: int) -> None:
        if not self.rate:
            return
        with self._guard:
            now = self._clock()
            self._next = max(self._next, now - AHEAD) + count / self.rate
            wait = self._next - now
        if wait > 0:
            self._sleep(wait)


def rate_of(text: str) -> float:
    """`50MB/s` or `400Mbit/s` in bytes a second, 0 for an empty text. Raises ValueError."""
    if not text:
        return 0.0
    found = _RATE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no rate")
    number, unit, kind = found.groups()
    rate = float(number) * _UNITS[unit.lower()] / (8 if kind.lower() == "bit" else 1)
    if not rate:
        raise ValueError("a rate of nothing moves nothing")
    return rate


def least(texts: Iterable[str]) -> float:
    """The smallest of several limits; those that are empty do not count."""
    return min((rate for text in texts if (rate := rate_of(text))), default=0.0)
