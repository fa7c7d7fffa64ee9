"""A router that hooks edit, and clients that go by it: a roll takes no request away from anybody.

The router is a directory with a file for each replica that gets requests. The tests are one story and run in their order.
"""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

import pytest

from fleet.lab import NodeSpec
from tests.lab.cli import Controller
from tests.lab.rolls import PORT, Fleet, fleet_of

pytestmark = pytest.mark.lab

ONE, TWO = HOSTS = ("n1", "n2")
LB = """\
#!/bin/sh
# lb out|back: takes a replica out of the router, or puts it back; fails where a file `broken-out` or `broken-back` says so.
cd "$(dirname "$0")" || exit 1
echo "$1 $FLEET_HOST $FLEET_SERVICE $FLEET_REPLICA $FLEET_RELEASE" >>calls
[ ! -e "broken-$1" ] || { echo "the router does not know $FLEET_ADDRESS:$FLEET_PORT"; exit 3; }
case $1 in
  out) rm -f "backends/$FLEET_HOST" ;;
  back) echo "$FLEET_ADDRESS:$FLEET_PORT" >"backends/$FLEET_HOST" ;;
esac
"""
SLOW = {"STANDIN_SLOW_TOKENS": "0.1"}  # a completion of 20 tokens takes 2 s
ROUNDS = count(1)


@dataclass(frozen=True)
class Router:
    folder: Path

    @property
    def backends(self) -> set[str]:
        return {one.name for one in (self.folder / "backends").iterdir()}

    def calls(self) -> list[str]:
        """What was called since the last time."""
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def breaks(self, hook: str, *, broken: bool = True) -> None:
        file = self.folder / f"broken-{hook}"
        file.touch() if broken else file.unlink(missing_ok=True)


@dataclass
class Clients:
    """One client a backend that asks for a slow completion after another, as long as the router has the backend."""

    router: Router
    good: int = 0
    bad: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    guard: threading.Lock = field(default_factory=threading.Lock)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.threads = [threading.Thread(target=self._ask, args=(host,), daemon=True) for host in HOSTS]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, host: str) -> None:
        while not self.over.is_set():
            try:
                address = (self.router.folder / "backends" / host).read_text().partition(":")[0]
            except FileNotFoundError:
                time.sleep(0.05)
                continue
            if not address:  # just being written
                continue
            said = completion(address)
            with self.guard:
                self.good += not said
                self.bad += [f"{host}: {said}"] if said else []


def completion(address: str) -> str:
    """What went wrong with a slow completion, or empty."""
    connection = http.client.HTTPConnection(address, PORT, timeout=30)
    body = {"prompt": "tell me a long story", "max_tokens": 20, "temperature": 0}
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    else:
        return "" if response.status == 200 else f"status {response.status}"
    finally:
        connection.close()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    specs = (NodeSpec(name, profile="mi300x-8") for name in HOSTS)
    with fleet_of("drain", tmp_path_factory.mktemp("drain"), *specs) as made:
        yield made


@pytest.fixture(scope="module")
def router(fleet: Fleet) -> Router:
    folder = fleet.folder / "router"
    (folder / "backends").mkdir(parents=True)
    (folder / "lb").write_text(LB)
    (folder / "lb").chmod(0o755)
    return Router(folder)


def wants(fleet: Fleet, router: Router, number: int = 0, **drain: Any) -> Controller:
    """Another specification of the service than the one that serves, unless `number` says which."""
    lb = str(router.folder / "lb")
    hooks = {"out": [lb, "out"], "back": [lb, "back"], "limit": 20, **drain}
    over = {"gpu": {"vars": {"fleet": {"drain": hooks}}}}
    return fleet.wants("a", over=over, env={**SLOW, "ROUND": str(number or next(ROUNDS))})


def test_a_first_deploy_brings_each_replica_into_the_router(fleet: Fleet, router: Router) -> None:
    code, document = wants(fleet, router).ask("deploy")
    assert (code, document["failed"]) == (0, {})
    assert router.backends == set(HOSTS)
    assert [call.split()[:4] for call in sorted(router.calls())] == [["back", host, "chat", "chat-0"] for host in HOSTS]


def test_a_roll_takes_no_request_away_from_anybody(fleet: Fleet, router: Router) -> None:
    command = wants(fleet, router)
    shown = command.run("deploy", "--check").stdout
    assert "take chat-0 out of its router" in shown
    assert "put chat-0 back into its router" in shown
    assert router.calls() == []
    before = {host: fleet.serving(host) for host in HOSTS}
    with Clients(router) as clients:
        time.sleep(1)
        done = command.run("deploy")
        time.sleep(2.5)
    assert done.returncode == 0, done.stderr
    assert (clients.bad, clients.good > 4) == ([], True)
    assert all(fleet.serving(host) != before[host] for host in HOSTS)
    said, calls = done.stderr.splitlines(), router.calls()
    for host in HOSTS:
        order = (
            "take chat-0 out",
            "wait until chat-0 has",
            "1 requests",
            "stop chat-0 ",
            "verify chat-0-new",
            "put chat-0 back",
        )
        places = [
            next(n for n, line in enumerate(said) if line.startswith(f"{host}: ") and part in line) for part in order
        ]
        assert places == sorted(places), done.stderr
        assert [call.split()[0] for call in calls if host in call] == ["out", "back"]


def test_a_failing_out_hook_fails_the_host_before_anything_is_touched(fleet: Fleet, router: Router) -> None:
    before = fleet.serving(ONE)
    router.breaks("out")
    done = wants(fleet, router).run("deploy", "--limit", ONE)
    router.breaks("out", broken=False)
    assert done.returncode == 1
    assert "chat-0 could not be taken out of its router" in done.stderr
    assert "the router does not know" in done.stderr
    assert "Nothing else was changed" in done.stderr
    assert fleet.serving(ONE) == before
    assert fleet.containers(ONE) == {"chat-0"}
    assert router.backends == set(HOSTS)
    assert [call.split()[0] for call in router.calls()] == ["out", "back"]


def test_a_failing_back_hook_leaves_the_new_one_serving_and_the_next_deploy_goes_on(
    fleet: Fleet, router: Router
) -> None:
    number, before = next(ROUNDS), fleet.serving(ONE)
    command = wants(fleet, router, number)
    router.breaks("back")
    done = command.run("deploy", "--limit", ONE)
    router.breaks("back", broken=False)
    assert done.returncode == 1
    assert "chat-0 serves, but could not be put back into its router" in done.stderr
    assert "env FLEET_HOST=n1 FLEET_ADDRESS=" in done.stderr
    assert "DOWN" not in done.stderr
    assert fleet.answers(ONE)
    assert fleet.containers(ONE) == {"chat-0", "chat-0-new"}
    assert router.backends == {TWO}
    router.calls()
    code, document = command.ask("deploy", "--limit", ONE)
    assert (code, document["failed"]) == (0, {})
    assert fleet.containers(ONE) == {"chat-0"}
    assert fleet.serving(ONE) != before
    assert router.backends == set(HOSTS)
    assert [call.split()[0] for call in router.calls()] == ["back"]
    assert command.ask("deploy", "--limit", ONE)[1]["hosts"][ONE]["changed"] == 0


def test_a_new_one_that_is_no_good_leaves_the_old_one_in_the_router(fleet: Fleet, router: Router) -> None:
    before = fleet.serving(ONE)
    lb = str(router.folder / "lb")
    hooks = {"out": [lb, "out"], "back": [lb, "back"]}
    command = fleet.wants("a", over={"gpu": {"vars": {"fleet": {"drain": hooks}}}}, env={"STANDIN_FAIL": "no_hip_gpus"})
    done = command.run("deploy", "--limit", ONE)
    assert done.returncode == 1
    assert "chat-0 was put back and serves again" in done.stderr
    assert fleet.serving(ONE) == before
    assert router.backends == set(HOSTS)
    assert [call.split()[0] for call in router.calls()] == ["out", "back"]


def test_stop_drains_and_serve_puts_back(fleet: Fleet, router: Router) -> None:
    command = wants(fleet, router)
    assert command.run("deploy", "--limit", ONE).returncode == 0
    router.calls()
    assert "would take chat-0 out of its router" in command.run("stop", "--limit", ONE, "--check").stderr
    assert command.run("stop", "--limit", ONE).returncode == 0
    assert router.backends == {TWO}
    assert not fleet.answers(ONE)
    assert command.run("serve", "--limit", ONE).returncode == 0
    assert router.backends == set(HOSTS)
    assert [call.split()[0] for call in router.calls()] == ["out", "back"]


def test_hooks_on_the_host_run_there(fleet: Fleet, router: Router) -> None:
    tell = 'echo "$0 $FLEET_REPLICA" >>/run/router'
    drain: dict[str, Any] = {"out": ["sh", "-c", tell, "out"], "back": ["sh", "-c", tell, "back"], "where": "host"}
    assert wants(fleet, router, **drain).run("deploy", "--limit", ONE).returncode == 0
    assert fleet.sh(ONE, "cat /run/router").splitlines() == ["out chat-0", "back chat-0"]
    assert router.calls() == []
