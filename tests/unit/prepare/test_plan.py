"""Findings in, fixes out: only what the catalogue marks, only as root, and nothing once it is mended."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from fleet.facts import Facts, parse
from fleet.facts.model import EngineConfig, User
from fleet.inventory.settings import Registry, Service, Settings
from fleet.preflight import Needs, catalogue, check
from fleet.prepare import Fix, by_hand, plan
from fleet.prepare.fix import MergeJson, NotEditableError, Place, SetKey
from fleet.prepare.plan import FIXES

RECORD = Path(__file__).parents[2] / "data/probe/live-mi300x8.txt"
REGISTRY = Registry(host="registry:5000", ca_file="/certs/ca.pem")
SETTINGS = Settings(registry=REGISTRY, services={"chat": Service(name="chat", model="tiny")})
NEEDS = Needs(registries=("registry:5000",))
WELL = EngineConfig(log_max_size="50m", cas=("registry:5000",))

Change = Callable[[Facts], Facts]


@cache
def well() -> Facts:
    facts = parse(RECORD.read_text("utf-8"))
    return replace(
        facts,
        tuning=replace(facts.tuning, numa_balancing=0),
        docker=replace(facts.docker, config=WELL, version="26.1.5"),
        user=User("root", 0, ("root",), "ops", ("ops", *groups(facts))),
    )


def groups(facts: Facts) -> set[str]:
    return {node.group for node in (facts.devices.kfd, *(facts.devices.render or ())) if node}


def config(**changes: object) -> Change:
    return lambda facts: replace(facts, docker=replace(facts.docker, config=replace(WELL, **changes)))  # type: ignore[arg-type]  # fields by name


def no_driver(facts: Facts) -> Facts:
    return replace(facts, driver=replace(facts.driver, state="absent"))


def numa(facts: Facts) -> Facts:
    return replace(facts, tuning=replace(facts.tuning, numa_balancing=1))


def stranger(facts: Facts) -> Facts:
    return replace(facts, user=User("root", 0, ("root",), "ops", ("ops",)))


BROKEN: dict[str, Change] = {
    "amdgpu": no_driver,
    "numa_balancing": numa,
    "user_groups": stranger,
    "docker_logs": config(log_max_size=""),
    "registry_ca": config(cas=()),
}


def planned(facts: Facts, needs: Needs = NEEDS, *only: str) -> tuple[Fix, ...]:
    return plan(check(facts, needs), facts, SETTINGS, only=only)


def test_every_fix_that_the_catalogue_names_is_there_and_tried_here() -> None:
    named = {entry.prepare for entry in catalogue().values() if entry.prepare}
    assert named == set(FIXES) == set(BROKEN)


@pytest.mark.parametrize("name", BROKEN)
def test_an_open_finding_gets_its_fix_with_reason_commands_and_undo(name: str) -> None:
    facts = BROKEN[name](well())
    (fix,) = planned(facts)
    entry = catalogue()[fix.finding]
    (finding,) = [one for one in check(facts, NEEDS) if one.id == entry.id]
    assert (fix.id, fix.why) == (name, finding.evidence)
    assert fix.what
    assert fix.lines
    assert fix.undo_lines
    assert fix.details[: len(fix.lines)] == fix.lines
    assert sum(line.startswith("undo: ") for line in fix.details) == len(fix.undo_lines)
    assert entry.prepare == name


def test_planning_on_a_mended_host_is_empty() -> None:
    assert planned(well()) == ()


def test_fixes_stand_in_the_catalogues_order_and_only_chooses() -> None:
    facts = well()
    for change in (numa, no_driver, config(cas=(), log_max_size="")):
        facts = change(facts)
    assert [fix.id for fix in planned(facts)] == ["amdgpu", "numa_balancing", "docker_logs", "registry_ca"]
    assert [fix.id for fix in planned(facts, NEEDS, "numa_balancing")] == ["numa_balancing"]


def test_findings_that_the_catalogue_does_not_mark_are_never_touched() -> None:
    facts = parse(RECORD.read_text("utf-8"))
    marked = {entry.id for entry in catalogue().values() if entry.prepare}
    findings = tuple(entry.finding("as bad as can be") for entry in catalogue().values() if entry.id not in marked)
    assert plan(findings, facts, SETTINGS) == ()


def test_an_accepted_finding_is_left_alone() -> None:
    assert planned(numa(well()), replace(NEEDS, accept={"numa_balancing": "measured"})) == ()


def test_what_could_not_be_read_is_not_fixed() -> None:
    facts = replace(
        well(), tuning=replace(well().tuning, numa_balancing=None), docker=replace(well().docker, config=None)
    )
    assert {finding.id for finding in check(facts, NEEDS)} >= {"numa_balancing", "docker_logs", "registry_ca"}
    assert planned(facts) == ()


def test_without_root_the_same_fixes_are_for_somebody_who_is() -> None:
    facts = replace(numa(well()), user=User("ops", 1000, ("ops", *groups(well()))))
    assert planned(facts) == ()
    (fix,) = by_hand(check(facts, NEEDS), facts, SETTINGS)
    assert fix.lines[-1] == "sysctl -q -w kernel.numa_balancing=0"
    assert by_hand(check(numa(well()), NEEDS), numa(well()), SETTINGS) == ()


@pytest.mark.parametrize("state", ["coming", "going"])
def test_a_driver_on_its_way_is_somebodys_work(state: str) -> None:
    facts = replace(well(), driver=replace(well().driver, state=state))
    assert next(finding.id for finding in check(facts, NEEDS)) == "amdgpu_state"
    assert planned(facts) == ()


def test_flags_of_dockerd_forbid_a_file_that_says_the_same() -> None:
    assert planned(config(log_max_size="", flags=("--log-driver",))(well())) == ()


def test_only_an_engine_that_can_validates_its_settings() -> None:
    (fix,) = planned(config(log_max_size="")(well()))
    assert fix.commands == (("dockerd", "--validate", "--config-file=/etc/docker/daemon.json"),)
    old = replace(well(), docker=replace(well().docker, version="20.10.24"))
    (fix,) = planned(config(log_max_size="")(old))
    assert fix.commands == ()


def test_undo_goes_back_to_the_value_that_was() -> None:
    facts = replace(well(), tuning=replace(well().tuning, numa_balancing=2))
    (fix,) = planned(facts)
    assert fix.undo == (("sysctl", "-q", "-w", "kernel.numa_balancing=2"),)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "a.b = 0\n"),
        ("x = 1", "x = 1\na.b = 0\n"),
        ("# mine\n a.b=1\nx = 1\n", "# mine\na.b = 0\nx = 1\n"),
        ("#a.b = 1\n", "#a.b = 1\na.b = 0\n"),
        ("a.b = 0\n", "a.b = 0\n"),
    ],
)
def test_a_key_is_set_and_other_lines_stay(before: str, after: str) -> None:
    assert SetKey("/f", "a.b", "0").edited(before) == after


def test_json_is_merged_and_what_is_there_stays() -> None:
    edit = MergeJson("/f", {"log-opts": {"max-size": "50m"}})
    assert edit.edited("") == '{\n  "log-opts": {\n    "max-size": "50m"\n  }\n}\n'
    merged = edit.edited('{"dns": ["1.1.1.1"], "log-opts": {"tag": "{{.Name}}"}}')
    assert '"dns"' in merged
    assert '"tag": "{{.Name}}"' in merged
    assert edit.edited(merged) == merged


@pytest.mark.parametrize("text", ["{", "[]", "nonsense"])
def test_a_file_that_is_no_json_object_is_left_alone(text: str) -> None:
    with pytest.raises(NotEditableError):
        MergeJson("/f", {"a": 1}).edited(text)


def test_a_file_that_the_controller_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotEditableError, match="No such file"):
        Place("/f", tmp_path / "ca.pem").edited("")
