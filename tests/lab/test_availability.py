"""Twelve hosts rolled with `min_available: 75%` while three of them fail: nine serve at every moment, seen from outside."""

import json
from collections.abc import Iterator

import pytest

from fleet.lab import NodeSpec
from tests.lab.conftest import REGISTRY
from tests.lab.rolls import Fleet, Sampler, fleet_of

pytestmark = pytest.mark.lab

HOSTS = tuple(f"m{number:02d}" for number in range(1, 13))
LEAST = 9
STARTS = {"STANDIN_START_SECONDS": "1"}
PLAYBOOK = """\
- {name: bring, hosts: all, stages: [preflight, image, distribute]}
- name: roll
  hosts: all
  canary: 1
  serial: [2, 100%]
  min_available: 75%
  max_fail: 3
  min_healthy_time: 1s
  stages: [serve, verify]
"""
BAD = {
    "m03": {"env": {"STANDIN_FAIL": "no_hip_gpus"}},  # crashes
    "m06": {"env": {"STANDIN_HANG": "weights"}, "progress_deadline": 4},  # hangs
    "m10": {"env": {"STANDIN_WRONG_MODEL": "other"}},  # answers, but as another model
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    specs = (NodeSpec(name, profile="mi300x-8") for name in HOSTS)
    with fleet_of("avail", tmp_path_factory.mktemp("avail"), REGISTRY, *specs, playbook=PLAYBOOK) as made:
        assert made.wants("b").run("push").returncode == 0
        done = made.wants("a").run("deploy")
        assert done.returncode == 0, done.stderr
        yield made


def test_availability_never_falls_under_the_promise_though_three_hosts_fail(fleet: Fleet) -> None:
    before = {host: fleet.serving(host) for host in HOSTS}
    over = {"mi300x": {"hosts": {name: {"fleet": {"services": {"chat": chat}}} for name, chat in BAD.items()}}}
    with Sampler([fleet.address(host) for host in HOSTS]) as sampler:
        done = fleet.wants("b", over=over, env=STARTS).run("deploy", "--json")
    document = json.loads(done.stdout)
    assert set(document["failed"]) == set(BAD), document["failed"]
    after = {host: fleet.serving(host) for host in HOSTS}
    assert {host for host in HOSTS if after[host] == before[host]} == set(BAD)
    assert sampler.samples > 100 * len(HOSTS)
    print(f"{sampler.samples} samples, never fewer than {sampler.lowest} of {len(HOSTS)} serve")  # noqa: T201
    assert sampler.lowest >= LEAST
    assert sampler.lowest < len(HOSTS)  # it did go through the hosts, side by side as far as it may
    assert all(fleet.answers(host) for host in HOSTS)


def test_a_roll_that_could_not_keep_the_promise_takes_nobody_away(fleet: Fleet) -> None:
    down = HOSTS[:3]
    for host in down:
        fleet.docker(host, "stop", "chat-0")
        fleet.lab.break_("sshd-down", host)
    left = HOSTS[3:]
    before = {host: fleet.serving(host) for host in left}
    try:
        with Sampler([fleet.address(host) for host in left]) as sampler:
            done = fleet.wants("a", env={"ROUND": "2"}).run("deploy")
    finally:
        for host in down:
            fleet.lab.mend(host)
    assert done.returncode == 1
    assert sampler.lowest == LEAST
    assert {host: fleet.serving(host) for host in left} == before
    assert "min_available" in done.stderr
    done = fleet.wants("b", env=STARTS).run("deploy", "--include-quarantined")
    assert done.returncode == 0, done.stderr
    assert all(fleet.answers(host) for host in HOSTS)
