"""The fan-out: bounded, complete, and quick to leave."""

import signal
import threading

import pytest

from fleet import awake
from fleet.errors import FleetError, HostError
from fleet.inventory.model import Connection, Host
from fleet.inventory.settings import Settings
from fleet.transport.fanout import fan_out
from fleet.transport.slots import Slots
from fleet.transport.sudo import Marks, with_password, without_password


def hosts(count: int) -> list[Host]:
    return [Host(f"n{number}", ("all",), Connection(f"n{number}"), Settings()) for number in range(count)]


def test_every_host_finishes_and_failures_are_kept_by_name() -> None:
    def work(host: Host) -> str:
        if host.name == "n1":
            raise HostError(host.name, "broken")
        if host.name == "n2":
            raise FleetError("no secret", hint="set it")
        if host.name == "n3":
            raise KeyError("oops")
        return host.name

    seen: list[str] = []
    results = fan_out(hosts(5), work, forks=2, on_done=lambda host, _result: seen.append(host.name))
    assert list(results) == ["n0", "n1", "n2", "n3", "n4"]
    assert sorted(seen) == list(results)
    assert (results["n0"], results["n4"]) == ("n0", "n4")
    assert [str(results[name]) for name in ("n1", "n2")] == ["broken", "no secret (set it)"]
    strange = results["n3"]
    assert isinstance(strange, HostError)
    assert (strange.host, strange.message) == ("n3", "unexpected KeyError: 'oops'")
    assert isinstance(strange.__cause__, KeyError)


def test_no_more_than_forks_run_at_once() -> None:
    lock, now, most = threading.Lock(), 0, 0
    together = threading.Barrier(3)

    def work(host: Host) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait(5)
        with lock:
            now -= 1

    fan_out(hosts(9), work, forks=3)
    assert most == 3


def test_an_interrupt_leaves_at_once_and_starts_nothing_new() -> None:
    started: list[str] = []
    release = threading.Event()

    def work(host: Host) -> None:
        started.append(host.name)
        if host.name != "n0":
            release.wait(5)

    def interrupt(_host: Host, _result: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fan_out(hosts(20), work, forks=2, on_done=interrupt)
    release.set()
    assert len(started) <= 4


def test_an_interrupt_is_heeded_though_another_thread_took_the_signal() -> None:
    release = threading.Event()

    def work(_host: Host) -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        release.wait(20)

    with pytest.raises(KeyboardInterrupt):
        fan_out(hosts(1), work, forks=1)
    assert not release.is_set()
    release.set()


def test_a_pause_is_cut_short_by_an_interrupt_that_another_thread_took() -> None:
    def interrupt() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    timer = threading.Timer(0.1, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        awake.sleep(600)
    timer.join()


def test_no_hosts_give_no_results() -> None:
    assert fan_out([], lambda host: host.name, forks=4) == {}


def test_slots_shrink_to_what_the_server_grants_and_wait() -> None:
    slots = Slots(3)
    assert slots.acquire()
    assert slots.acquire()
    assert slots.shrink()
    assert not slots.acquire(patience=0)
    slots.release()
    assert slots.acquire(patience=0)
    assert not slots.shrink()


def test_sudo_gets_arguments_as_they_are_and_no_password() -> None:
    assert without_password(("a b",), "root") == ("sudo", "-n", "-u", "root", "--", "a b")
    marks = Marks()
    command = with_password(("id", "-u"), "svc", marks)
    assert command[:9] == ("sudo", "-k", "-S", "-p", marks.prompt, "-u", "svc", "--", "sh")
    assert command[-3:] == (marks.ready, "id", "-u")
    assert marks != Marks()
