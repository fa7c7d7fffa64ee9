"""Two rolls of the same eight real hosts, started in the same second from two controllers: no host is changed by both."""

import json
from collections.abc import Iterator

import pytest

from fleet.lab import NodeSpec
from tests.lab.cli import Controller
from tests.lab.conftest import REGISTRY
from tests.lab.rolls import Fleet, Sampler, fleet_of

pytestmark = [pytest.mark.lab, pytest.mark.matrix]

HOSTS = tuple(f"e{number}" for number in range(1, 9))
LEAST = 6
PLAYBOOK = """\
- {name: bring, hosts: all, stages: [preflight, image, distribute]}
- name: roll
  hosts: all
  canary: 1
  min_available: 75%
  max_fail: 0
  min_healthy_time: 1s
  stages: [serve, verify]
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    specs = (NodeSpec(name, profile="mi300x-8") for name in HOSTS)
    with fleet_of("two", tmp_path_factory.mktemp("two"), REGISTRY, *specs, playbook=PLAYBOOK) as made:
        assert made.wants("b").run("push").returncode == 0
        done = made.wants("a").run("deploy")
        assert done.returncode == 0, done.stderr
        yield made


def two(fleet: Fleet, release: str) -> tuple[Controller, Controller]:
    """The operator's controller, and one with a directory of its own that knows nothing of the other's runs."""
    first = fleet.wants(release)
    folder = fleet.folder / "second"
    (folder / "playbooks").mkdir(parents=True, exist_ok=True)
    (folder / "playbooks/deploy.yaml").write_text(PLAYBOOK, encoding="utf-8")
    return first, Controller(folder, first.inventories)


def changed_in(fleet: Fleet, runs: set[str]) -> dict[str, set[str]]:
    """By each host's own audit: which of these runs did anything there."""
    code, document = fleet.wants("a").ask("audit", "--last", "1000")
    assert code == 0
    found: dict[str, set[str]] = {host: set() for host in HOSTS}
    for entry in document["entries"]:
        if entry["run"] in runs:
            found[entry["host"]].add(entry["run"])
    return found


@pytest.mark.parametrize(("release", "words"), [("b", ()), ("a", ("--lock-wait", "10m"))], ids=["refuses", "waits"])
def test_of_two_rolls_in_the_same_second_one_changes_all_hosts_and_the_other_none(
    fleet: Fleet, release: str, words: tuple[str, ...]
) -> None:
    before = {host: fleet.serving(host) for host in HOSTS}
    with Sampler([fleet.address(host) for host in HOSTS]) as sampler:
        running = [one.start("deploy", "--json", *words) for one in two(fleet, release)]
        said = [process.communicate(timeout=600) for process in running]
    documents = [json.loads(out) for out, _ in said]
    did = [{host for host, one in document["hosts"].items() if one["changed"]} for document in documents]
    assert sorted(map(len, did)) == [0, len(HOSTS)], said
    winner, other = (0, 1) if did[0] else (1, 0)
    assert (running[winner].returncode, documents[winner]["failed"]) == (0, {})
    if words:
        assert (running[other].returncode, documents[other]["failed"]) == (0, {})
    else:
        assert running[other].returncode == 1
        assert set(documents[other]["failed"]) == set(HOSTS)
        for failure in documents[other]["failed"].values():
            assert documents[winner]["run"] in failure["message"]
    by_audit = changed_in(fleet, {document["run"] for document in documents})
    assert by_audit == {host: {documents[winner]["run"]} for host in HOSTS}
    after = {host: fleet.serving(host) for host in HOSTS}
    assert all(after[host] and after[host] != before[host] for host in HOSTS)
    assert all(fleet.containers(host) == {"chat-0"} for host in HOSTS)
    assert sampler.lowest >= LEAST
