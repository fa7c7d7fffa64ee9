"""A roll over a simulated fleet: every host is replaced, and a second deploy finds nothing to do."""

import json
import re
from collections.abc import Iterator

import pytest

from benchmarks.simulated.fleet import Cost, SimulatedFleet, simulated
from benchmarks.simulated.machine import Delays
from benchmarks.simulated.registry import releases
from fleet.journal import runs

HOSTS = 8
QUICK = Delays(trip=0.001, probe=0.02, pull=0.05, stop=0.05, start=0.2, token=0.001)
PLAYBOOK = """\
- name: all at once
  hosts: all
  min_available: 50%
  min_healthy_time: 0s
  stages: [preflight, image, distribute, serve, verify]
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedFleet]:
    with simulated(tmp_path_factory.mktemp("fleet"), HOSTS, delays=QUICK) as made:
        (made.folder / "roll.yaml").write_text(PLAYBOOK, encoding="utf-8")
        yield made


def changed(cost: Cost) -> list[int]:
    """What the recap says of each host."""
    return [int(count) for count in re.findall(r"^node-\d+ *: ok=\d+ *changed=(\d+)", cost.output, re.MULTILINE)]


def test_a_release_that_only_the_registry_knows_can_be_shown(fleet: SimulatedFleet) -> None:
    """Asked by its digest, of a fleet that has served nothing yet."""
    shown = fleet.run("releases.show", releases()[1].manifest_digest[:19], release=0)
    assert shown.code == 0, shown.output
    assert "none of the asked hosts holds, runs or ran it" in shown.output
    unknown = fleet.run("releases.show", "nothing-like-it", release=0)
    assert unknown.code == 2, unknown.output


def test_a_roll_replaces_every_host_and_the_next_deploy_changes_nothing(fleet: SimulatedFleet) -> None:
    for release in (0, 1):
        done = fleet.deploy(release)
        assert done.code == 0, done.output
        assert len(changed(done)) == HOSTS
        assert all(changed(done)), done.output
    again = fleet.deploy(1)
    assert again.code == 0, again.output
    assert changed(again) == [0] * HOSTS
    assert again.counts["connections"] == HOSTS


def test_replicas_that_are_bound_to_one_address_are_asked_there(fleet: SimulatedFleet) -> None:
    told = fleet.run("status", release=1)
    assert told.code == 0, told.output
    assert "no answer" not in told.output


def test_a_release_is_one_row_of_what_the_registry_and_all_hosts_say_of_it(fleet: SimulatedFleet) -> None:
    shown = fleet.run("releases", "--json", release=1)
    assert shown.code == 0, shown.output
    found = {one["id"]: one for one in json.loads(shown.output)["releases"]}
    old, new = (found[one.id] for one in releases())
    everywhere = sorted(f"node-{number:03d}" for number in range(1, HOSTS + 1))
    assert sorted(new["running"]) == sorted(new["verified"]) == sorted(new["hosts"]) == everywhere
    assert (sorted(old["verified"]), old["running"], old["asked"], new["asked"]) == (everywhere, {}, False, True)
    assert old["registries"] == new["registries"] != []
    assert old["record"]["gfx"] == ["gfx942"]


def test_a_registry_that_is_down_is_said_and_what_the_hosts_know_is_shown(fleet: SimulatedFleet) -> None:
    path = fleet.folder / "release-1.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r'registry: \{host: "[^"]+"', 'registry: {host: "127.0.0.1:9"', text), encoding="utf-8")
    try:
        shown = fleet.run("releases", release=1)
    finally:
        path.write_text(text, encoding="utf-8")
    assert shown.code == 1, shown.output
    assert "FAILED registry 127.0.0.1:9" in shown.output
    assert all(one.id in shown.output for one in releases())
    assert f"node-[001:{HOSTS:03d}]" in shown.output


def test_another_kernel_is_drift_until_an_answer_or_a_person_accepts_it(fleet: SimulatedFleet) -> None:
    memory = fleet.folder / ".fleet/seen/node-001.json"
    kept = memory.read_text(encoding="utf-8")
    older = re.sub(r'("kernel": \{\s*"value": ")[^"]+', r"\g<1>5.4.0", kept)
    for accepting in (("verify",), ("drift", "--accept")):
        memory.write_text(older, encoding="utf-8")
        for _ in range(2 if accepting == ("verify",) else 1):  # telling it accepts nothing
            told = fleet.run("drift", release=1)
            assert told.code == 1, told.output
            assert "node-001: changed: kernel: 5.4.0 → " in told.output
        fleet.run(*accepting, release=1)
        told = fleet.run("drift", release=1)
        assert told.code == 0, told.output


def test_a_rollback_goes_by_what_the_hosts_remember_and_a_second_one_goes_nowhere(fleet: SimulatedFleet) -> None:
    (fleet.folder / "playbooks").mkdir()
    (fleet.folder / "playbooks/deploy.yaml").write_text(PLAYBOOK, encoding="utf-8")
    planned = fleet.run("rollback", "--check", release=1)
    assert planned.code == 0, planned.output
    assert f"its container is still there: node-[001:{HOSTS:03d}]" in planned.output
    back = fleet.run("rollback", release=1)
    assert back.code == 0, back.output
    assert all(changed(back)), back.output
    assert "rolls forward again" in back.output
    again = fleet.run("rollback", release=1)
    assert again.code == 1
    assert again.output.count("nothing to go back to") == 1, again.output
    assert "was rolled away from" in again.output
    settled = fleet.deploy(0)
    assert changed(settled) == [0] * HOSTS, settled.output


def test_a_stop_is_a_run_with_a_lock_a_journal_and_an_audit_and_the_second_stops_nothing(fleet: SimulatedFleet) -> None:
    stopped = fleet.run("stop", "--limit", "node-001", release=0)
    assert stopped.code == 0, stopped.output
    assert changed(stopped) == [1]
    again = fleet.run("stop", "--limit", "node-001", release=0)
    assert changed(again) == [0], again.output
    assert [one.verb for one in runs(fleet.folder / ".fleet")].count("stop") == 2
    entries = json.loads(fleet.run("audit", "--json", "--limit", "node-001", release=0).output)["entries"]
    (entry,) = [one for one in entries if one["action"] == "stop"]
    assert (entry["replica"], entry["outcome"], entry["release"]) == ("chat-0", "done", releases()[0].id)
    started = changed(fleet.deploy(0))
    assert (started[0] > 0, started[1:]) == (True, [0] * (HOSTS - 1))


def test_two_rolls_of_the_same_eight_hosts_in_the_same_second_change_no_host_twice(fleet: SimulatedFleet) -> None:
    """One changes all of them and the other none: neither gets a half."""
    eight = ",".join(f"node-{number:03d}" for number in range(1, 9))
    words = ("play", str(fleet.folder / "roll.yaml"), "--limit", eight)
    rolls = [fleet.start(*words, release=1, folder=f"controller-{number}") for number in range(2)]
    told = [(process.communicate()[0], process.returncode) for process in rolls]
    found = []
    for said, code in told:
        counts = re.findall(r"^node-\d+ *: ok=\d+ *changed=(\d+)", said, re.MULTILINE)
        assert len(counts) == 8, said
        assert code == 0 or "the host is locked by " in said, said
        found.append({int(count) > 0 for count in counts})
    assert found in ([{True}, {False}], [{False}, {True}]), told
