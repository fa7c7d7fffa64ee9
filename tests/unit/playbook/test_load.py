"""Playbooks as files: what is read, and every mistake at its place, in words, all at once."""

from dataclasses import fields
from pathlib import Path

import pytest

from fleet.errors import InputError
from fleet.playbook import (
    STAGES,
    Amount,
    Distribute,
    Image,
    Play,
    Preflight,
    Prepare,
    Serve,
    Verify,
    load,
    schema,
)
from fleet.playbook.load import SHIPPED
from fleet.playbook.reference import reference
from fleet.preflight import catalogue

ROOT = Path(__file__).parents[3]
OK = "- stages: [verify]\n"
WHOLE = """
- name: roll
  hosts: mi300x:!vault
  serial: [1, 25%, "3"]
  canary: 2
  max_fail: 10%
  min_available: 75%
  new_hosts_together: true
  min_healthy_time: 1m30s
  progress_deadline: 1h
  pause: 45
  stages:
    - preflight: {strict: true, accept: {iommu_pt: waits for a reboot}}
    - prepare: {only: [numa_balancing]}
    - image: {update: true}
    - distribute:
    - serve: {prune: true, take_over: [old-vllm]}
    - verify: {load: 30s}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "p.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load(written(tmp_path, text))
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_every_key_is_read(tmp_path: Path) -> None:
    (play,) = load(written(tmp_path, WHOLE)).plays
    assert play.place.line == 2
    assert play == Play(
        name="roll",
        hosts="mi300x:!vault",
        serial=(Amount(1), Amount(25, percent=True), Amount(3)),
        canary=2,
        max_fail=Amount(10, percent=True),
        min_available=Amount(75, percent=True),
        new_hosts_together=True,
        min_healthy_time=90.0,
        progress_deadline=3600.0,
        pause=45.0,
        place=play.place,
        stages=(
            Preflight(strict=True, accept={"iommu_pt": "waits for a reboot"}),
            Prepare(("numa_balancing",)),
            Image(update=True),
            Distribute(),
            Serve(prune=True, take_over=("old-vllm",)),
            Verify(30.0),
        ),
    )


def test_what_is_left_out_has_the_defaults_of_the_values(tmp_path: Path) -> None:
    (play,) = load(written(tmp_path, OK)).plays
    assert play == Play("all", (Verify(),), place=play.place)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("2m", 120.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("45", 45.0), ("0", 0.0)]
)
def test_durations_are_seconds(tmp_path: Path, text: str, seconds: float) -> None:
    (play,) = load(written(tmp_path, f"- {{stages: [verify], pause: {text}}}\n")).plays
    assert play.pause == seconds


@pytest.mark.parametrize(("text", "amounts"), [("2", (Amount(2),)), ("30%", (Amount(30, percent=True),))])
def test_serial_may_be_one_size(tmp_path: Path, text: str, amounts: tuple[Amount, ...]) -> None:
    (play,) = load(written(tmp_path, f"- {{stages: [verify], serial: {text}}}\n")).plays
    assert play.serial == amounts


CASES = {
    "unknown key": ("- stages: [verify]\n  canery: 1\n", "p.yaml:2:3: plays[0].canery: unknown key (did you mean canary?)"),
    "unknown stage": ("- stages: [preflght]\n", "p.yaml:1:12: plays[0].stages[0]: must be one of preflight, prepare"),
    "unknown argument": (
        "- stages: [{serve: {takeover: [x]}}]\n",
        "p.yaml:1:21: plays[0].stages[0].serve.takeover: unknown key (did you mean take_over?)",
    ),
    "argument's type": ("- stages: [{verify: {load: [1]}}]\n", "load: "),
    "no argument": ("- stages: [{distribute: {fast: true}}]\n", "distribute.fast: unknown key"),
    "two stages in one": ("- stages: [{image: {}, serve: {}}]\n", "must be the name of one stage, alone or with its"),
    "stage twice": ("- stages: [serve, verify, serve]\n", "p.yaml:1:12: plays[0].stages[0]: serve is there twice"),
    "no stages": ("- hosts: all\n", "p.yaml:1:3: plays[0]: stages is missing"),
    "empty stages": ("- stages: []\n", "plays[0].stages: must not be empty"),
    "serial": ("- {stages: [verify], serial: [1, 25percent]}\n", "must be a number of hosts or a percentage, not '25per"),
    "negative serial": ("- {stages: [verify], serial: -1}\n", "must be at least 0, not -1"),
    "canary in percent": ("- {stages: [verify], canary: 25%}\n", "must be a number of hosts or a host pattern, not '25%'"),
    "more than all may fail": ("- {stages: [verify], max_fail: 101%}\n", "a percentage up to 100%, not '101%'"),
    "duration": ("- {stages: [verify], pause: 5 minutes}\n", "must be a duration, not '5 minutes' (for example 90s)"),
    "endless duration": ("- {stages: [verify], pause: .inf}\n", "must be a duration"),
    "boolean": ("- {stages: [verify], min_available: yes}\n", "must be a number or a percentage up to 100%, not a boolean"),
    "pattern": ("- {stages: [verify], hosts: '~('}\n", "'~(' is not a valid host pattern"),
    "limit file": ("- {stages: [verify], hosts: '@hosts.txt'}\n", "must be a host pattern, not '@hosts.txt'"),
    "jinja": (
        "- {stages: [verify], hosts: '{{ where }}'}\n",
        "Jinja is not supported inside a playbook (there are no templates here: write the value;",
    ),
    "vault": ("- {stages: [verify], name: !vault x}\n", "!vault is not supported inside a playbook"),
    "duplicate": (OK + "  pause: 1\n  pause: 2\n", "p.yaml:3:3: duplicate key 'pause', first on line 2"),
    "two plays of one name": ("- {name: a, stages: [verify]}\n" * 2, "p.yaml:2:10: plays[1].name: two plays are called 'a'"),
    "unknown fix": (
        "- stages: [{prepare: {only: [numa_balancin]}}]\n",
        "there is no fix 'numa_balancin' (did you mean numa_balancing?)",
    ),
    "unknown finding": ("- stages: [{preflight: {accept: {iommu-pt: x}}}]\n", "'iommu-pt' (did you mean iommu_pt?)"),
    "a mapping": ("stages: [verify]\n", "p.yaml:1:1: plays: must be a list of plays, not a mapping"),
    "a play that is none": ("- verify\n", "plays[0]: must be a mapping, not a string"),
    "key that is no word": ("- {1: x, stages: [verify]}\n", "the key 1 must be a string"),
    "null": ("- {stages: [verify], serial: }\n", "must be a number, a percentage, or a list of them, not empty"),
    "ansible": ("- hosts: all\n  tasks: []\n", "it looks like an Ansible playbook: fleet's plays have stages"),
    "empty": ("", "p.yaml: is empty (a playbook is a list of plays"),
    "no plays": ("[]\n", "plays: must not be empty"),
    "syntax": ("- stages: [verify\n", "p.yaml:2:1: YAML syntax"),
    "two documents": (OK + "---\n" + OK, "write every playbook as one document"),
    "not utf-8": ("- name: \udcff\n", "p.yaml: is not UTF-8 text"),
    "long number": (f"- {{stages: [verify], serial: '{'9' * 5000}'}}\n", "must be a number of hosts or a percentage"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_a_mistake_is_told_at_its_place(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in line for line in problems(tmp_path, text)), problems(tmp_path, text)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, "- stages: [srve, verfy]\n  pause: soon\n- name: x\n")
    assert [line.split(" ")[0] for line in found] == ["p.yaml:1:12:", "p.yaml:1:18:", "p.yaml:2:10:", "p.yaml:3:3:"]


def test_a_playbook_is_found_as_given_in_the_search_directory_and_among_those_that_ship(tmp_path: Path) -> None:
    here = tmp_path / "playbooks"
    here.mkdir()
    (here / "mine.yaml").write_text(OK)
    assert load("mine", search=here).path == here / "mine.yaml"
    assert load(here / "mine.yaml").path == here / "mine.yaml"
    assert load("deploy", search=here).path == SHIPPED / "deploy.yaml"
    (here / "deploy.yaml").write_text(OK)
    assert load("deploy.yaml", search=here).path == here / "deploy.yaml"


@pytest.mark.parametrize("name", ["weekly", "", "a\0b", "x" * 5000])
def test_a_playbook_that_is_not_there_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no such playbook"):
        load(name, search=tmp_path)


@pytest.mark.parametrize("name", ["airgap", "deploy", "nightly", "prepare"])
def test_what_ships_is_what_the_checkout_holds(name: str) -> None:
    assert (SHIPPED / f"{name}.yaml").read_text() == (ROOT / f"playbooks/{name}.yaml").read_text()
    assert load(name).plays


def test_deploy_brings_to_all_and_then_rolls_with_a_canary() -> None:
    bring, roll = load("deploy").plays
    assert [stage.name for stage in bring.stages] == ["preflight", "image", "distribute"]
    assert [stage.name for stage in roll.stages] == ["serve", "verify"]
    assert (bring.canary, roll.canary) == (0, 1)
    assert roll.min_available is None  # a percentage could never be kept by two hosts


def test_schema_and_values_know_the_same_stages_and_keys() -> None:
    stages = schema()["$defs"]["stage"]
    names = [stage.name for stage in STAGES]
    assert stages["then"]["enum"] == names
    assert list(stages["else"]["properties"]) == names
    for stage in STAGES:
        assert set(schema()["$defs"][stage.name]["properties"]) == {field.name for field in fields(stage)}
    assert set(schema()["$defs"]["play"]["properties"]) == {field.name for field in fields(Play)} - {"place"}


def test_the_page_is_the_schema() -> None:
    """Write it anew with `python -m fleet.playbook.reference > docs/playbooks.md`."""
    assert (ROOT / "docs/playbooks.md").read_text("utf-8") == reference()


def test_examples_of_the_schema_are_valid(tmp_path: Path) -> None:
    play = schema()["$defs"]["play"]["properties"]
    for key, rule in play.items():
        for example in rule["examples"]:
            stages = "" if key == "stages" else "stages: [verify], "
            text = str(example).replace("'", '"').replace("True", "true")
            assert load(written(tmp_path, f"- {{{stages}{key}: {text if key != 'hosts' else repr(text)}}}\n")).plays


def test_fixes_of_the_catalogue_need_no_reboot() -> None:
    marked = [entry for entry in catalogue().values() if entry.prepare]
    assert {entry.prepare for entry in marked} >= {
        "amdgpu",
        "numa_balancing",
        "registry_ca",
        "docker_logs",
        "user_groups",
    }
    assert not [entry.id for entry in marked if entry.needs_reboot]
