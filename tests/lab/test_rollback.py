"""Back to what answered before, by real engines of two generations and logins with and without root.

The tests of this module are one story and run in their order.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.conftest import MI250, MI300X, REGISTRY
from tests.lab.logins import make_loud
from tests.lab.rolls import PORT, Fleet, answers, fleet_of

pytestmark = pytest.mark.lab

HOSTS = (MI300X.name, MI250.name)
ONE, TWO = HOSTS
MOVED = PORT + 100


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Release `a` serves on the usual port and with an environment of its own. Who logs in is greeted, and has tcsh on one."""
    with fleet_of("back", tmp_path_factory.mktemp("rollback"), REGISTRY, MI300X, MI250) as made:
        make_loud(made.lab.node(ONE), "bash")
        make_loud(made.lab.node(TWO), "tcsh")
        assert made.wants("a", env={"ROUND": "first"}).run("deploy").returncode == 0
        yield made


def marks(fleet: Fleet) -> list[str]:
    """Which release each host really runs, and with which of the settings."""
    return [mark(fleet, host) for host in HOSTS]


def mark(fleet: Fleet, host: str) -> str:
    env = json.loads(fleet.docker(host, "inspect", "-f", "{{json .Config.Env}}", "chat-0"))
    words = dict(word.split("=", 1) for word in env)
    return f"{words['MARK']} {words['ROUND']}"


def everything(fleet: Fleet) -> list[list[str]]:
    script = "docker ps -a --format '{{.ID}} {{.Names}}'; find /var/lib/fleet /root/.local -type f | sort"
    return [[*fleet.state(host), fleet.sh(host, script)] for host in HOSTS]


def identity(fleet: Fleet, name: str) -> list[str]:
    return [fleet.docker(host, "inspect", "-f", "{{.Id}}", name) for host in HOSTS]


def told(fleet: Fleet) -> dict[str, list[dict[str, Any]]]:
    code, document = fleet.wants("b").ask("releases")
    assert (code, document["failed"]) == (0, {})
    return dict(document["hosts"])


def states(fleet: Fleet, host: str = ONE) -> list[tuple[str, bool, bool]]:
    return [(row["state"], row["image"], row["next"]) for row in told(fleet)[host]]


def test_a_first_release_has_nothing_before_it(fleet: Fleet) -> None:
    assert states(fleet) == [("runs", True, False)]
    before = everything(fleet)
    done = fleet.wants("a").run("rollback")
    assert done.returncode == 1
    assert "chat: there is nothing to go back to" in done.stderr
    assert everything(fleet) == before


def test_the_next_release_serves_elsewhere_and_the_first_is_remembered(fleet: Fleet) -> None:
    done = fleet.wants("b", env={"ROUND": "second"}, port=MOVED).run("deploy")
    assert done.returncode == 0, done.stderr
    assert marks(fleet) == ["b second", "b second"]
    assert states(fleet) == [("runs", True, False), ("before", True, True)]
    shown = fleet.wants("b").run("releases", "--history").stdout
    assert shown.count("goes here") == len(HOSTS)
    assert shown.count("on the host, container kept") == len(HOSTS)
    rows = fleet.wants("b", env={"ROUND": "second"}, port=MOVED).ask("status")[1]["hosts"]
    assert {(row["name"], row["state"], row["role"]) for row in rows[ONE]} == {
        ("chat-0", "running", "serving"),
        ("chat-0-previous", "exited", "kept"),
    }
    code, again = fleet.wants("b", env={"ROUND": "second"}, port=MOVED).ask("deploy")
    assert (code, [host["changed"] for host in again["hosts"].values()]) == (0, [0, 0])


def test_one_release_is_shown_and_two_are_compared(fleet: Fleet) -> None:
    before = everything(fleet)
    new, old = (row["name"].rpartition(":")[2] for row in told(fleet)[ONE])
    code, document = fleet.wants("b").ask("releases.show", old)
    assert (code, document["release"]["id"], document["failed"]) == (0, old, {})
    where = {
        host: (place["image"], [row["state"] for row in place["services"]]) for host, place in document["hosts"].items()
    }
    assert where == dict.fromkeys(HOSTS, (True, ["before"]))
    code, document = fleet.wants("b").ask("releases.diff", old, new)
    assert (code, document["failed"]) == (0, {})
    assert {"what": "env MARK", "before": "a", "after": "b"} in document["differences"]
    assert document["layers"]["shared"] > 0
    assert "a roll-back goes here" in fleet.wants("b").run("releases.show", old).stdout
    assert "env MARK" in fleet.wants("b").run("releases.diff", old, new).stdout
    unknown = fleet.wants("b").run("releases.show", "nothing-like-it")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert everything(fleet) == before


def test_check_shows_the_way_back_and_changes_nothing(fleet: Fleet) -> None:
    before = everything(fleet)
    done = fleet.wants("b", env={"ROUND": "second"}, port=MOVED).run("rollback", "--check")
    assert done.returncode == 0, done.stderr
    assert "its container is still there" in done.stdout
    assert "rename chat-0-previous to chat-0-new" in done.stdout
    assert everything(fleet) == before


def test_the_first_release_serves_again_with_its_own_settings_and_no_registry(fleet: Fleet) -> None:
    kept = identity(fleet, "chat-0-previous")
    fleet.lab.node("registry").stop_service("registry")
    try:
        done = fleet.wants("b", env={"ROUND": "second"}, port=MOVED).run("rollback")
    finally:
        fleet.lab.node("registry").start_service("registry")
    assert done.returncode == 0, done.stderr
    assert marks(fleet) == ["a first", "a first"]
    assert identity(fleet, "chat-0") == kept
    assert [fleet.answers(host) for host in HOSTS] == [True, True]
    assert [answers(fleet.address(host), port=MOVED) for host in HOSTS] == [False, False]
    assert "rolls forward again" in done.stderr
    assert states(fleet) == [("runs", True, False), ("left", True, False)]
    story = fleet.journal()
    assert (story["verb"], story["counts"]) == ("rollback", {"changed": 2})


def test_a_second_one_does_not_flip_to_the_release_that_was_left(fleet: Fleet) -> None:
    before = everything(fleet)
    done = fleet.wants("b").run("rollback")
    assert done.returncode == 1
    assert done.stderr.count("there is nothing to go back to") == 1
    assert "was rolled away from" in done.stderr
    assert everything(fleet) == before


def test_a_named_release_goes_forward_again_and_an_unclear_name_nowhere(fleet: Fleet) -> None:
    names = [row["name"] for row in told(fleet)[ONE]]
    unclear = fleet.wants("b").run("rollback", "--to", "sha256:")
    assert unclear.returncode == 2
    assert all(name in unclear.stderr for name in names)
    unknown = fleet.wants("b").run("rollback", "--to", "no-such")
    assert unknown.returncode == 2
    assert marks(fleet) == ["a first", "a first"]
    left = next(row for row in told(fleet)[ONE] if row["state"] == "left")
    done = fleet.wants("a").run("rollback", "--to", left["release"][:6])
    assert done.returncode == 0, done.stderr
    assert marks(fleet) == ["b second", "b second"]
    assert states(fleet) == [("runs", True, False), ("before", True, True)]


def test_only_the_hosts_that_are_not_back_yet_go_back(fleet: Fleet) -> None:
    command = fleet.wants("b", env={"ROUND": "second"}, port=MOVED)
    assert command.run("rollback", "--limit", ONE).returncode == 0
    assert marks(fleet) == ["a first", "b second"]
    before = fleet.state(ONE)
    done = command.run("rollback")
    assert done.returncode == 0, done.stderr
    assert "to which other hosts go back" in done.stdout
    assert marks(fleet) == ["a first", "a first"]
    assert fleet.state(ONE) == before


def test_an_image_that_is_gone_comes_from_the_registry(fleet: Fleet) -> None:
    deployed = fleet.wants("b", env={"ROUND": "third"}).run("deploy")
    assert deployed.returncode == 0, deployed.stderr
    first = next(row for row in told(fleet)[TWO] if row["next"])
    fleet.docker(TWO, "rm", "chat-0-previous")
    images = fleet.docker(TWO, "images", "--quiet", "--no-trunc", "--filter", f"reference={first['name']}")
    fleet.docker(TWO, "rmi", "--force", *set(images.split()))
    assert [row["image"] for row in told(fleet)[TWO] if row["next"]] == [False]
    planned = fleet.wants("b", env={"ROUND": "third"}).run("rollback", "--check").stdout
    assert "has to be brought again" in planned
    done = fleet.wants("b", env={"ROUND": "third"}).run("rollback")
    assert done.returncode == 0, done.stderr
    assert marks(fleet) == ["a first", "a first"]
    assert "rolled away" not in done.stderr


def test_a_deploy_after_it_goes_forward_and_is_a_release_like_any_other(fleet: Fleet) -> None:
    command = fleet.wants("b", env={"ROUND": "fourth"})
    assert command.run("deploy").returncode == 0
    code, again = command.ask("deploy")
    assert (code, [host["changed"] for host in again["hosts"].values()]) == (0, [0, 0])
    assert states(fleet, TWO) == [("runs", True, False), ("before", True, True)]


def test_a_release_that_does_not_prove_itself_is_put_back_as_in_any_roll(fleet: Fleet) -> None:
    """What an answer must be like is today's, and by that the old release is not good enough any more."""
    strict = {"verify": {"known": [{"prompt": "The capital of France is", "expect": "Berlin"}]}}
    done = fleet.wants("b", env={"ROUND": "fourth"}, **strict).run("rollback")
    assert done.returncode == 1
    assert "was put back and serves again" in done.stderr
    assert marks(fleet) == ["b fourth", "b fourth"]
    assert states(fleet) == [("runs", True, False), ("before", True, True)]
