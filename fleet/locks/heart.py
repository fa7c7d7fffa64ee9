"""One thread that beats for the locks of all hosts of a run, and notices which were lost."""

import queue
import threading
from collections.abc import Callable
from typing import Self

from fleet.locks.lock import HostLock

INTERVAL = 10.0  # seconds between two beats of a lock; its lease is 60
ROUND = 1.0  # seconds between two looks at all locks


class Heart:
    """Beats for every lock that was added, until it is given back or lost. `on_lost(lock)` is called once for each.

    A beat can hang for as long as its connection does, and must not keep the others waiting: beats are sent by a worker,
    and whenever a round finds the queue still full, one worker more is started. All well, that is one.
    """

    def __init__(self, *, on_lost: Callable[[HostLock], None] = lambda _: None, interval: float = INTERVAL) -> None:
        self._on_lost = on_lost
        self._interval = interval
        self._locks: dict[HostLock, int] = {}  # rounds until the next beat
        self._guard = threading.Lock()
        self._stopped = threading.Event()
        self._due: queue.SimpleQueue[HostLock | None] = queue.SimpleQueue()
        self._sending: set[HostLock] = set()
        self._workers = 0

    def add(self, lock: HostLock) -> HostLock:
        with self._guard:
            self._locks[lock] = 0
        return lock

    def start(self) -> Self:
        threading.Thread(target=self._run, name="fleet-heart", daemon=True).start()
        return self

    def stop(self) -> None:
        """No more beats. Locks that are still held go when their lease or their connection ends."""
        self._stopped.set()
        for _ in range(self._workers):
            self._due.put(None)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        pause = min(ROUND, self._interval)
        rounds = max(round(self._interval / pause), 1)
        while not self._stopped.is_set():
            self.round(rounds)
            self._stopped.wait(pause)

    def round(self, rounds: int = 1) -> None:
        """Look at every lock; queue a beat for those whose turn it is: every `rounds`-th time."""
        if not self._workers or not self._due.empty():
            self._workers += 1
            threading.Thread(target=self._work, name="fleet-beat", daemon=True).start()
        with self._guard:
            locks = tuple(self._locks)
        for lock in locks:
            lock.look()
            if lock.over:
                with self._guard:
                    self._locks.pop(lock, None)
                if lock.lost:
                    self._on_lost(lock)
                continue
            with self._guard:
                self._locks[lock] -= 1
                turn = self._locks[lock] < 0
                if turn:
                    self._locks[lock] = rounds - 1
                if not turn or lock in self._sending:
                    continue
                self._sending.add(lock)
            self._due.put(lock)

    def _work(self) -> None:
        while (lock := self._due.get()) is not None:
            try:
                lock.beat()
            finally:
                with self._guard:
                    self._sending.discard(lock)
