"""sshd's MaxSessions: at most 8 session channels at once, fewer where the server says so."""

import threading
import time

MOST = 8  # sshd's default MaxSessions is 10 (sshd_config(5)); two stay free for a person's own use
PATIENCE = 120.0  # seconds to wait for a free channel


class Slots:
    """A semaphore whose limit can shrink to what the server really grants."""

    def __init__(self, most: int = MOST) -> None:
        self._free = threading.Condition()
        self._limit = most
        self._used = 0
        self._lasting = 0

    def acquire(self, patience: float = PATIENCE) -> bool:
        """Take a slot; False when none came free in `patience` seconds."""
        until = time.monotonic() + patience
        with self._free:
            while self._used >= self._limit:
                if not self._free.wait(max(until - time.monotonic(), 0)) and self._used >= self._limit:
                    return False
            self._used += 1
            return True

    def release(self) -> None:
        with self._free:
            self._used -= 1
            self._free.notify()

    def lasts(self, change: int) -> None:
        """Count a taken slot (+1) as one that stays taken, as a lock's does: nobody need wait for it. -1 ends that."""
        with self._free:
            self._lasting += change

    def shrink(self) -> bool:
        """Give back a slot that the server refused, and lower the limit; False when no other will come free."""
        with self._free:
            self._used -= 1
            if self._used <= self._lasting:
                return False
            self._limit = min(self._limit, self._used)
            return True
