"""The lock of a host over OpenSSH's own sshd: one holder, gone with its controller, putting back what it was told to."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.errors import HostError
from fleet.inventory.model import Connection, Host
from fleet.inventory.settings import Settings
from fleet.locks import WAIT_ENGINE, WAIT_GPUS_IDLE, Heart, HostLock, LockedError, Owner, holder_of, unlock
from fleet.transport import Connector, Session
from tests.proc import command_lines
from tests.ssh.conftest import Keys
from tests.ssh.sshd import Sshd
from tests.ssh.test_openssh import OpenSsh, openssh

pytestmark = pytest.mark.lab  # needs root and openssh-server

OWNER = Owner("ann", "run-1", "laptop", 1_795_400_000)
OTHER = Owner("bob", "run-2", "desk", 1_795_400_000)
SHELLS = ("dash", "bash", "busybox sh")
ROOT = Path(__file__).parents[2]


@dataclass
class Client:
    process: subprocess.Popen[str]

    def say(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        assert self.heard() == "done"

    def heard(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


Start = Callable[..., Client]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of the test's own for the lock: /run is the machine's, and other tests run on it."""
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture
def node(tmp_path: Path, keys: Keys) -> Iterator[OpenSsh]:
    with openssh(tmp_path / "node", keys) as running:
        yield running


@pytest.fixture
def session(node: OpenSsh, keys: Keys, tmp_path: Path) -> Iterator[Session]:
    with connected(node, keys, tmp_path / "known") as made:
        yield made


@contextlib.contextmanager
def connected(node: OpenSsh, keys: Keys, known: Path) -> Iterator[Session]:
    options = ("-F", "none")
    connection = Connection(
        address="127.0.0.1", port=node.port, user="root", key_file=str(keys.user), common_args=options
    )
    with Connector(known_hosts=known, accept_new=True) as connector:
        yield connector.connect(Host("node", ("all",), connection, Settings()))


@pytest.fixture
def client(node: OpenSsh, keys: Keys, tmp_path: Path, place: Path) -> Iterator[Start]:
    started = []

    def start(command: str = "", *, lease: float = 60, shell: str = "sh", interval: float = 1) -> Client:
        wanted = {
            "connection": {
                "address": "127.0.0.1",
                "port": node.port,
                "user": "root",
                "key_file": str(keys.user),
                "common_args": ("-F", "none"),
            },
            "become": False,
            "known_hosts": str(tmp_path / "known"),
            "options": {"place": str(place), "lease": lease, "shell": shell},
            "interval": interval,
            "commands": [("sh", "-c", command)] if command else [],
        }
        argv = (sys.executable, "-m", "tests.ssh.lock_client", json.dumps(wanted))
        process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        made = Client(process)
        assert made.heard() == "held"
        return made

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()


def within(seconds: float, ready: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not ready() and time.monotonic() < end:
        time.sleep(0.05)
    return ready()


def gone(lock: HostLock) -> bool:
    lock.look()
    return bool(lock.lost)


def free(place: Path) -> bool:
    return subprocess.run(("flock", "-n", place, "true"), check=False).returncode == 0


def children(place: Path) -> list[str]:
    """Processes of a lock's holder, and those that still read for it."""
    inode = f"inode={place.stat().st_dev}:{place.stat().st_ino}"
    return [str(pid) for pid, words in command_lines() if inode.encode() in words]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_lock_is_held_by_one_and_named_to_the_other(session: Session, place: Path, shell: str) -> None:
    assert holder_of(session, place=str(place)) is None
    with HostLock.take(session, OWNER, place=str(place), shell=shell) as lock:
        with pytest.raises(LockedError, match="locked by ann on laptop, run run-1, since 20") as caught:
            HostLock.take(session, OTHER, place=str(place), shell=shell)
        assert caught.value.holder.owner == OWNER
        found = holder_of(session, place=str(place))
        assert found is not None
        assert found.owner == OWNER
        assert found.held is not None
        assert found.held < 30
        lock.check()
        lock.arm((("true",), ("docker", "start", "it's")))
        lock.disarm()
        lock.check()
    assert free(place)
    assert within(3, lambda: not children(place))
    HostLock.take(session, OTHER, place=str(place), shell=shell).release()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_killed_controller_frees_the_host_after_its_switch_ran(
    client: Start, place: Path, tmp_path: Path, shell: str
) -> None:
    mark = tmp_path / "it's back"
    one = client(f'test ! -e "{mark}" && flock -n {place} true || echo held > "{mark}"', shell=shell)
    one.process.kill()
    assert within(10, lambda: mark.exists() and free(place))
    assert mark.read_text() == "held\n"
    assert within(3, lambda: not children(place))


@pytest.mark.parametrize("shell", SHELLS)
def test_a_silent_controller_loses_the_host_when_its_lease_ends(
    client: Start, place: Path, tmp_path: Path, shell: str
) -> None:
    mark = tmp_path / "mark"
    one = client(f"date > {mark}", lease=3, shell=shell)
    time.sleep(5)
    assert not mark.exists()
    one.process.send_signal(signal.SIGSTOP)
    assert within(10, lambda: mark.exists() and free(place))
    assert within(3, lambda: not children(place))
    one.process.send_signal(signal.SIGCONT)
    assert one.process.stdin
    one.process.stdin.write("check\n")
    one.process.stdin.flush()
    assert one.process.wait(10) == 1


@pytest.mark.parametrize("word", ["disarm", "release"])
def test_nothing_runs_after_disarm_or_release(client: Start, place: Path, tmp_path: Path, word: str) -> None:
    mark = tmp_path / "mark"
    one = client(f"date > {mark}")
    one.say(word)
    assert free(place) == (word == "release")
    one.process.kill()
    assert within(5, lambda: free(place))
    assert within(3, lambda: not children(place))
    assert not mark.exists()


def test_each_command_of_a_switch_is_tried_in_order_even_after_a_failure(
    session: Session, place: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    steps = [("sh", "-c", f'echo "$1" >> {log}; exit {code}', "sh", word) for code, word in ((1, "a b"), (0, "c'd"))]
    with HostLock.take(session, OWNER, place=str(place)) as lock:
        lock.arm((("sh", "-c", f"echo never >> {log}"),))
        lock.arm((steps[0], ("no-such-command",), WAIT_GPUS_IDLE, steps[1]))
    assert within(10, lambda: free(place))
    assert log.read_text() == "a b\nc'd\n"


def test_unlock_ends_the_holder_which_puts_back_first(
    client: Start, session: Session, place: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    one = client(f"sleep 2; date > {mark}")
    found = unlock(session, place=str(place))
    assert found is not None
    assert found.owner == OWNER
    assert mark.exists()
    assert free(place)
    assert one.process.stdin
    one.process.stdin.write("check\n")
    one.process.stdin.flush()
    assert one.process.wait(10) == 1
    assert unlock(session, place=str(place)) is None


def test_a_lock_that_was_lost_is_told_once_and_stops_the_next_step(session: Session, place: Path) -> None:
    lost: list[str] = []
    with Heart(on_lost=lambda lock: lost.append(lock.lost)) as heart:
        lock = HostLock.take(session, OWNER, place=str(place))
        heart.add(lock)
        unlock(session, place=str(place))
        assert within(5, lambda: bool(lost))
        with pytest.raises(HostError, match="lost the lock of node: somebody ended it"):
            lock.check()
        lock.release()
    assert len(lost) == 1


def test_a_cut_connection_is_a_lost_lock(session: Session, place: Path) -> None:
    lock = HostLock.take(session, OWNER, place=str(place))
    session.close()
    assert within(5, lambda: gone(lock))
    with pytest.raises(HostError, match="lost the lock of node: the connection was lost"):
        lock.check()
    assert within(5, lambda: free(place))


def test_who_waits_gets_the_lock_when_it_is_given_back(session: Session, place: Path) -> None:
    lock = HostLock.take(session, OWNER, place=str(place))
    threading.Timer(1, lock.release).start()
    HostLock.take(session, OTHER, place=str(place), wait=20).release()


def test_of_two_in_the_same_instant_exactly_one_wins(node: OpenSsh, keys: Keys, tmp_path: Path, place: Path) -> None:
    with connected(node, keys, tmp_path / "a") as one, connected(node, keys, tmp_path / "b") as two:
        for _ in range(20):
            gate = threading.Barrier(2)
            held: list[HostLock] = []
            refused: list[LockedError] = []

            def contend(session: Session, owner: Owner, gate: threading.Barrier = gate) -> None:
                gate.wait()
                try:
                    held.append(HostLock.take(session, owner, place=str(place)))  # noqa: B023  joined below
                except LockedError as error:
                    refused.append(error)  # noqa: B023  joined below

            threads = [threading.Thread(target=contend, args=pair) for pair in ((one, OWNER), (two, OTHER))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert (len(held), len(refused)) == (1, 1)
            assert refused[0].holder.owner == held[0].owner
            held[0].release()


def test_a_host_without_flock_is_named_with_the_package(
    session: Session, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.locks.lock.BOOT", "PATH=/nowhere\n" + (ROOT / "fleet/locks/boot.sh").read_text())
    with pytest.raises(HostError, match="no flock command on the host") as caught:
        HostLock.take(session, OWNER, place=str(place))
    assert "util-linux" in caught.value.hint


def test_a_place_that_is_not_there_is_named(session: Session) -> None:
    with pytest.raises(HostError, match="needs the directory /no/such"):
        HostLock.take(session, OWNER, place="/no/such")


def test_a_newer_lock_is_said_in_one_sentence(session: Session, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.locks.owner.SCHEMA", 2)
    lock = HostLock.take(session, OWNER, place=str(place))
    monkeypatch.setattr("fleet.locks.owner.SCHEMA", 1)
    for ask in (lambda: HostLock.take(session, OTHER, place=str(place)), lambda: holder_of(session, place=str(place))):
        with pytest.raises(HostError, match="lock schema 2, this one knows 1"):
            ask()
    lock.release()


def test_the_holder_asks_no_clock_that_could_jump() -> None:
    program = (ROOT / "fleet/locks/holder.sh").read_text()
    assert "date" not in program.replace("update", "")
    assert "/proc/uptime" in program


def test_a_server_that_grants_one_session_says_so_at_once(
    node: OpenSsh, keys: Keys, tmp_path: Path, place: Path
) -> None:
    with (
        openssh(tmp_path / "narrow", keys, "MaxSessions 1") as narrow,
        connected(narrow, keys, tmp_path / "k") as session,
        HostLock.take(session, OWNER, place=str(place)),
        pytest.raises(HostError, match="refused a channel") as caught,
    ):
        session.run(("true",))
    assert "MaxSessions" in caught.value.hint


def test_the_lock_is_taken_through_sudo_with_a_password(
    connector: Connector, sshd: Sshd, keys: Keys, place: Path
) -> None:
    Path(sshd.behaviour.path, "password").write_text("s3cret")
    session = connector.connect(sshd.host(key_file=str(keys.user), become_password="s3cret"))
    with HostLock.take(session, OWNER, place=str(place)) as lock:
        lock.check()
        found = holder_of(session, place=str(place))
        assert found is not None
        assert found.owner == OWNER
        assert found.pid is not None
        environment = Path(f"/proc/{found.pid}/environ").read_text() + Path(f"/proc/{found.pid}/cmdline").read_text()
        assert "s3cret" not in environment
    assert free(place)


def test_a_holder_that_is_killed_is_a_lost_lock_and_leaves_nothing(session: Session, place: Path) -> None:
    with HostLock.take(session, OWNER, place=str(place)) as lock:
        found = holder_of(session, place=str(place))
        assert found is not None
        assert found.pid is not None
        os.kill(found.pid, signal.SIGKILL)
        assert within(5, lambda: gone(lock))
        assert free(place)
        assert not children(place)


def test_what_a_switch_did_is_told_to_the_log_of_the_host(
    connector: Connector, sshd: Sshd, keys: Keys, place: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    logger = Path(sshd.behaviour.path, "logger")
    logger.write_text(f'#!/bin/sh\nsed "s/^/$2: /" >>{log}\n')
    logger.chmod(0o755)
    session = connector.connect(sshd.host(key_file=str(keys.user)))
    lock = HostLock.take(session, OWNER, place=str(place))
    lock.arm((("sh", "-c", "echo out; echo err >&2; exit 3"),))
    lock.abandon()
    assert within(10, lambda: free(place))
    assert log.read_text().splitlines() == [
        "fleet: out",
        "fleet: err",
        "fleet: the dead man's switch ran (left): sh -c 'echo out; echo err >&2; exit 3': exit 3",
    ]


@pytest.mark.parametrize("shell", SHELLS)
def test_an_engine_that_hangs_keeps_no_lock_for_ever(session: Session, place: Path, tmp_path: Path, shell: str) -> None:
    """A switch's commands come to an end one by one, and the last is tried although the first never answered."""
    log, engine = tmp_path / "log", tmp_path / "bin/docker"
    engine.parent.mkdir()
    engine.write_text(f'#!/bin/sh\necho "$1" >>{log}\n[ "$1" != stop ] || exec sleep 600\n')
    engine.chmod(0o755)
    words = f"env PATH={engine.parent}:{os.environ['PATH']} {shell}"
    lock = HostLock.take(session, OWNER, place=str(place), shell=words)
    # The grace and a minute more is what a stop gets: here two seconds.
    lock.arm((WAIT_ENGINE, ("docker", "stop", "--time", "-58", "old"), ("docker", "start", "old")))
    lock.abandon()
    assert within(20, lambda: free(place))
    assert log.read_text().split() == ["version", "stop", "start"]
