"""The lock of real nodes: root, sudo and plain users exclude each other; a killed controller's container is put back."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fleet.errors import HostError
from fleet.inventory.model import Become, Connection, Host
from fleet.inventory.settings import Settings
from fleet.lab import Lab, NodeSpec
from fleet.lab.node import Node
from fleet.locks import WAIT_ENGINE, WAIT_GPUS_IDLE, Holder, HostLock, LockedError, Owner, holder_of, unlock
from fleet.locks.program import PROGRAM
from fleet.transport import Connector, Session
from tests.lab.conftest import lab_name
from tests.lab.images import import_busybox

pytestmark = pytest.mark.lab

SPECS = (
    NodeSpec("old", profile="mi300x-8", user="ops"),
    NodeSpec("dev", profile="mi250-4", user="dev"),
    NodeSpec("new", base="trixie", user="ops"),
)
OWNER = Owner("ann", "run-1", "laptop", 1_795_400_000)
OTHER = Owner("bob", "run-2", "desk", 1_795_400_000)
ROOT = Path(__file__).parents[2]
SWITCH = (
    WAIT_ENGINE,
    ("docker", "stop", "-t", "5", "chat-0"),
    (*WAIT_GPUS_IDLE, "chat-0-kept"),
    ("docker", "update", "--restart", "unless-stopped", "chat-0-kept"),
    ("docker", "start", "chat-0-kept"),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    name = lab_name("lock")
    try:
        made = Lab.up(name, SPECS, inventories=tmp_path_factory.mktemp("inventories"))
        for spec in SPECS:
            import_busybox(made.node(spec.name))
            key = made.paths.client_key.with_suffix(".pub").read_text()
            keep = "umask 077; mkdir -p /root/.ssh && cat >/root/.ssh/authorized_keys"
            made.node(spec.name).exec(("sh", "-c", keep), stdin=key)
        yield made
    finally:
        Lab.remove(name)


def fields(lab: Lab, name: str, user: str) -> dict[str, object]:
    return {
        "address": lab.node(name).links[0].address,
        "user": user,
        "key_file": str(lab.paths.client_key),
        "common_args": ("-F", str(lab.paths.ssh_config)),
    }


@pytest.fixture
def reach(lab: Lab) -> Iterator[Callable[..., Session]]:
    with ExitStack() as stack:
        connector = stack.enter_context(Connector())

        def connect(name: str, user: str, *, become: bool = False) -> Session:
            connection = Connection(**fields(lab, name, user), become=Become(enabled=become))  # type: ignore[arg-type]
            return connector.connect(Host(name, ("all",), connection, Settings()))

        yield connect


def shell(node: Node, script: str) -> str:
    return node.exec(("sh", "-c", script), check=False).stdout.strip()


def within(seconds: float, ready: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not ready() and time.monotonic() < end:
        time.sleep(0.2)
    return ready()


def quiet(node: Node) -> bool:
    """Nobody holds the lock, and none of its processes is left."""
    left = "grep -lis 'fleet[-_]loc[k]' /proc/[0-9]*/cmdline; ls -A /tmp | grep -v box.tar"
    return shell(node, "flock -n /run echo free") == "free" and shell(node, left) == ""


def named(holder: Holder | None) -> str:
    assert holder is not None
    assert holder.owner is not None
    return holder.owner.who


def roll_begun(node: Node) -> None:
    """Where a host stands in the middle of a replacement: the old container kept and stopped, the new one started."""
    node.exec(("sh", "-c", "docker rm -f chat-0 chat-0-kept 2>/dev/null; true"))
    node.exec(("docker", "create", "--init", "--name", "chat-0-kept", "--restart", "no", "box", "sleep", "1000"))
    node.exec(("docker", "run", "-d", "--init", "--name", "chat-0", "box", "sleep", "1000"))


def state(node: Node) -> str:
    found = "docker inspect -f '{{.State.Running}} {{.HostConfig.RestartPolicy.Name}}'"
    return shell(node, f"{found} chat-0 chat-0-kept").replace("\n", ", ")


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("old", ("ops", True), ("root", False)),
        ("old", ("root", False), ("ops", True)),
        ("old", ("ops", False), ("ops", True)),
        ("new", ("ops", True), ("root", False)),
        ("dev", ("root", False), ("dev", False)),
        ("dev", ("dev", False), ("root", False)),
    ],
)
def test_users_exclude_and_name_each_other(
    lab: Lab, reach: Callable[..., Session], name: str, first: tuple[str, bool], second: tuple[str, bool]
) -> None:
    one, two = reach(name, first[0], become=first[1]), reach(name, second[0], become=second[1])
    with HostLock.take(one, OWNER) as lock:
        with pytest.raises(LockedError, match="locked by ann on laptop") as caught:
            HostLock.take(two, OTHER)
        assert caught.value.holder.owner == OWNER
        assert named(holder_of(two)) == "ann"
        lock.check()
    assert within(5, lambda: quiet(lab.node(name)))
    HostLock.take(two, OTHER).release()


def test_a_plain_user_cannot_end_roots_lock_but_root_can_end_anybodys(lab: Lab, reach: Callable[..., Session]) -> None:
    root, dev = reach("dev", "root"), reach("dev", "dev")
    with HostLock.take(root, OWNER) as lock:
        with pytest.raises(HostError, match=r"held by ann .* and dev may not end it"):
            unlock(dev)
        lock.check()
    lock = HostLock.take(dev, OWNER)
    assert named(unlock(root)) == "ann"
    with pytest.raises(HostError, match="lost the lock of dev: somebody ended it"):
        lock.check()


@pytest.mark.parametrize(
    ("name", "user", "become"),
    [("old", "ops", True), ("new", "ops", True), ("old", "root", False), ("dev", "dev", False)],
)
def test_a_killed_controllers_host_starts_the_kept_container_again(
    lab: Lab, name: str, user: str, become: bool
) -> None:
    node = lab.node(name)
    roll_begun(node)
    assert state(node) == "true no, false no"
    client = controller(lab, name, user, become, lease=60)
    client.kill()
    client.wait()
    assert within(25, lambda: state(node) == "false no, true unless-stopped")
    assert within(5, lambda: quiet(node))


def test_a_cut_link_ends_the_lease_and_no_sooner(lab: Lab) -> None:
    node = lab.node("old")
    roll_begun(node)
    client = controller(lab, "old", "ops", True, lease=6)
    try:
        lab.break_("link-cut", "old")
        time.sleep(3)
        assert state(node) == "true no, false no"
        assert within(25, lambda: state(node) == "false no, true unless-stopped")
        assert within(5, lambda: quiet(node))
    finally:
        lab.mend("old")
        client.kill()
        client.wait()


def test_a_switch_waits_for_an_engine_that_is_starting_again(lab: Lab) -> None:
    node = lab.node("old")
    roll_begun(node)
    client = controller(lab, "old", "ops", True, lease=6)
    try:
        node.stop_engine()
        client.kill()
        time.sleep(4)
        node.start_engine()
        assert within(25, lambda: state(node) == "false no, true unless-stopped")
        assert within(5, lambda: quiet(node))
    finally:
        client.kill()
        client.wait()


def test_a_clock_an_hour_off_ends_no_lease(lab: Lab) -> None:
    node = lab.node("old")
    roll_begun(node)
    client = controller(lab, "old", "ops", True, lease=30)
    try:
        lab.break_("clock-off", "old")
        time.sleep(4)
        assert state(node) == "true no, false no"
        assert not quiet(node)
    finally:
        lab.mend("old")
        client.kill()
        client.wait()
    assert within(25, lambda: quiet(node))


def test_a_switch_waits_for_busy_gpus_but_not_for_ever(lab: Lab) -> None:
    node = lab.node("old")

    def waited(*starts: str) -> float:
        begun = time.monotonic()
        node.exec(("sh", "-c", f"{PROGRAM}\nwait_gpus_idle 3 {' '.join(starts)}", "sh", "nothing"))
        return time.monotonic() - begun

    assert waited() < 2
    lab.break_("gpu-busy", "old")
    try:
        assert within(10, lambda: shell(node, "ls /sys/class/kfd/kfd/proc") != "")
        assert waited() >= 3
        assert waited("chat-0", "no-such-container") >= 3
        node.exec(("docker", "start", "chat-0-kept"))
        assert waited("chat-0-kept") < 2  # it was never stopped: the GPUs are its own
    finally:
        lab.mend("old")


def controller(lab: Lab, name: str, user: str, become: bool, *, lease: float) -> subprocess.Popen[str]:
    wanted = {
        "connection": fields(lab, name, user),
        "become": become,
        "known_hosts": "",
        "options": {"lease": lease},
        "interval": 1,
        "commands": SWITCH,
    }
    argv = (sys.executable, "-m", "tests.ssh.lock_client", json.dumps(wanted))
    process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process
