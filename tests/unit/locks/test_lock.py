"""The controller's side against a scripted holder: freshness, loss, and a heart that no stuck connection stops."""

import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from fleet.errors import HostError
from fleet.locks.heart import Heart
from fleet.locks.lock import HostLock
from fleet.locks.owner import Owner


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Wire:
    """Answers as the holder does; `deaf`: no answers, and whoever waits for one finds the time gone."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.deaf = False
        self.sent: list[str] = []
        self.waiting: list[bytes] = []
        self.timeout = 0.0
        self.closed = False
        self.stuck = threading.Event()
        self.stuck.set()

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds

    def sendall(self, data: bytes) -> None:
        self.stuck.wait(10)
        lines = data.decode().splitlines()
        self.sent += lines
        if not self.deaf:
            self.waiting.append(f"fleet-lock ok {lines[-1].split(' ')[-1]}\n".encode())

    def recv(self, _size: int) -> bytes:
        if self.waiting:
            return self.waiting.pop(0)
        self.clock.now += self.timeout
        raise TimeoutError

    def close(self) -> None:
        self.closed = True


def made() -> tuple[HostLock, Wire, Clock]:
    clock = Clock()
    wire = Wire(clock)
    lock = HostLock("n1", cast("Any", wire), Owner("a", "r", "c", 0), 60, clock)
    return lock, wire, clock


def test_a_fresh_lock_is_checked_without_a_round_trip() -> None:
    lock, wire, clock = made()
    clock.now += 29
    lock.check()
    assert wire.sent == []


def test_an_old_sign_of_life_is_asked_for_anew() -> None:
    lock, wire, clock = made()
    clock.now += 45
    lock.check()
    assert wire.sent == ["beat 1"]


def test_a_silent_holder_is_a_lost_lock_before_its_lease_ends() -> None:
    lock, wire, clock = made()
    wire.deaf = True
    lock.beat()
    clock.now += 31
    with pytest.raises(HostError, match="lost the lock of n1: no sign of its holder for 46 s"):
        lock.check()
    with pytest.raises(HostError, match="lost the lock"):
        lock.arm(())


def test_a_holder_that_ended_says_why() -> None:
    lock, wire, _ = made()
    wire.waiting.append(b"fleet-lock over lea")
    lock.look()
    assert not lock.lost
    wire.waiting.append(b"se\n")
    with pytest.raises(HostError, match="its lease ended"):
        lock.check()


def test_a_closed_channel_is_a_lost_lock() -> None:
    lock, wire, _ = made()
    wire.waiting.append(b"")
    with pytest.raises(HostError, match="connection was lost"):
        lock.check()


def test_freshness_counts_from_the_sending_of_the_beat_not_from_its_answer() -> None:
    lock, wire, clock = made()
    lock.beat()
    clock.now += 31
    lock.look()
    assert lock._age() == 31
    assert wire.sent == ["beat 1"]


def test_arming_sends_the_commands_before_the_word_that_arms() -> None:
    lock, wire, _ = made()
    lock.arm((("docker", "stop", "a b"), ("docker", "start", "c")))
    assert wire.sent == ["run docker stop 'a b'", "run docker start c", "arm 1"]
    assert lock.armed
    lock.disarm()
    assert not lock.armed


def test_leaving_while_armed_lets_the_switch_run_and_leaving_otherwise_releases() -> None:
    lock, wire, _ = made()
    with lock:
        lock.arm((("true",),))
    assert wire.closed
    assert "release 2" not in wire.sent
    lock, wire, _ = made()
    with lock:
        pass
    assert wire.sent == ["release 1"]
    assert not lock.lost


def test_a_release_that_nobody_confirms_is_an_error_only_while_armed() -> None:
    lock, wire, _ = made()
    wire.deaf = True
    lock.release()
    lock, wire, _ = made()
    lock.arm((("true",),))
    wire.deaf = True
    with pytest.raises(HostError, match="runs its switch by itself"):
        lock.release()
    lock.release()


def test_an_unconfirmed_disarm_leaves_it_armed() -> None:
    lock, wire, _ = made()
    lock.arm((("true",),))
    wire.deaf = True
    with pytest.raises(HostError, match="at `disarm`"):
        lock.disarm()
    assert lock.armed


def until(ready: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not ready() and time.monotonic() < end:
        time.sleep(0.005)
    return ready()


def test_a_heart_beats_each_lock_when_its_turn_comes() -> None:
    lock, wire, _ = made()
    heart = Heart()
    heart.add(lock)
    for _ in range(5):
        heart.round(3)
        assert until(heart._due.empty)
        assert until(lambda: not heart._sending)
    heart.stop()
    assert wire.sent == ["beat 1", "beat 2"]


def test_a_stuck_connection_does_not_keep_the_others_waiting() -> None:
    stuck, wire, _ = made()
    wire.stuck.clear()
    fine = [made() for _ in range(5)]
    heart = Heart()
    heart.add(stuck)
    for lock, _, _ in fine:
        heart.add(lock)
    heart.round()
    assert until(lambda: stuck in heart._sending)
    heart.round()
    assert until(lambda: all(wire.sent for _, wire, _ in fine))
    wire.stuck.set()
    heart.stop()


def test_a_heart_tells_of_a_lost_lock_once_and_forgets_released_ones() -> None:
    lost: list[HostLock] = []
    gone, wire, _ = made()
    back, _, _ = made()
    heart = Heart(on_lost=lost.append)
    heart.add(gone)
    heart.add(back)
    heart.round()
    wire.waiting.append(b"fleet-lock over ended\n")
    back.release()
    heart.round()
    heart.round()
    heart.stop()
    assert lost == [gone]
    assert heart._locks == {}
