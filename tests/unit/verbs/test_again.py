"""--resume and --only-failed: which hosts of which run, and with what of that run's flags."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import UsageError
from fleet.journal import Journal, RunHeader
from fleet.options import Options
from fleet.verbs.cargo import Cargo, Trust
from fleet.verbs.order import Order, from_earlier
from tests.unit.report.stories import die

INVENTORY = "all: {children: {gpu: {hosts: {'n[1:4]': {}}}, other: {hosts: {n3: {}}}}}"
HOSTS = ("n1", "n2", "n3", "n4")
OUTCOMES = {"n1": "changed", "n2": "failed"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A controller's directory with an inventory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prod.yaml").write_text(INVENTORY)
    return tmp_path


def run(
    root: Path, outcomes: dict[str, str], *, verb: str = "deploy", hosts: tuple[str, ...] = HOSTS, **flags: Any
) -> Journal:
    header = RunHeader(verb, (verb,), hosts, ("prod.yaml",), flags=flags)
    journal = Journal.open(root / ".fleet", header, redact=str)
    for name, outcome in outcomes.items():
        journal.host_done(name, outcome)
    return journal


def killed(root: Path, outcomes: dict[str, str], **more: Any) -> str:
    journal = run(root, outcomes, **more)
    die(journal)
    return journal.id


def again(order: Order, **options: Any) -> tuple[str, Order, str]:
    chosen, order, continues = from_earlier(replace(Options(), **options), order)
    assert chosen.inventory == ("prod.yaml",)
    return chosen.limit, order, continues


def test_without_either_flag_nothing_is_read_or_changed(tmp_path: Path) -> None:
    options = Options(inventory=("x",))
    assert from_earlier(options, Order()) == (options, Order(), "")


def test_resume_takes_the_hosts_that_were_not_through_from_the_runs_own_inventory(site: Path) -> None:
    name = killed(site, OUTCOMES)
    assert again(Order(resume="last")) == ("n3,n4", Order(resume="last", proved=frozenset({"n1"})), name)
    assert again(Order(resume=name))[0] == "n3,n4"


def test_only_failed_takes_the_failed_ones_too(site: Path) -> None:
    killed(site, OUTCOMES)
    assert again(Order(only_failed=True))[0] == "n2,n3,n4"


def test_a_limit_narrows_further(site: Path) -> None:
    killed(site, OUTCOMES)
    assert again(Order(resume="last"), limit="other")[0] == "n3"
    with pytest.raises(UsageError, match="left no host to go on with"):
        again(Order(resume="last"), limit="n1")


def test_the_runs_flags_hold_unless_given_again(site: Path) -> None:
    killed(site, OUTCOMES, stages=["serve"], prune=True, take_over=["old"], include_quarantined=True, playbook="deploy")
    _, order, _ = again(Order(resume="last"))
    assert (order.stages, order.prune, order.take_over) == (frozenset({"serve"}), True, frozenset({"old"}))
    assert order.include_quarantined
    _, order, _ = again(Order(resume="last", stages=frozenset({"verify"}), take_over=frozenset({"new"})))
    assert (order.stages, order.take_over) == (frozenset({"verify"}), frozenset({"new"}))


def test_a_run_from_a_bundle_goes_on_from_the_same_bundle(site: Path) -> None:
    cargo = Cargo("disk", "store", Trust("signers", False))
    killed(site, OUTCOMES, playbook="airgap", bundle=cargo.flags())
    _, order, _ = again(Order(resume="last"))
    assert (order.playbook, order.cargo) == ("airgap", cargo)
    other = replace(cargo, folder="disk2")
    _, order, _ = again(Order(playbook="airgap", resume="last", cargo=other))
    assert order.cargo == other


def test_a_run_without_a_bundle_goes_on_without_one(site: Path) -> None:
    killed(site, OUTCOMES, playbook="deploy", bundle=None)
    _, order, _ = again(Order(resume="last"))
    assert (order.playbook, order.cargo) == ("deploy", None)


def test_the_last_run_of_the_same_verb_and_playbook_is_meant(site: Path) -> None:
    name = killed(site, OUTCOMES, playbook="deploy")
    other = killed(site, {}, verb="play", playbook="prepare")
    assert again(Order(resume="last"))[2] == name
    assert again(Order("play", "prepare", only_failed=True))[2] == other
    with pytest.raises(UsageError, match="no earlier run of play night"):
        again(Order("play", "night", resume="last"))
    with pytest.raises(UsageError, match="was no run of deploy"):
        again(Order(resume=other))


def test_a_run_that_still_goes_on_is_not_gone_on_with(site: Path) -> None:
    run(site, OUTCOMES)
    with pytest.raises(UsageError, match="is still running"):
        again(Order(resume="last"))


def test_a_host_that_left_the_inventory_is_said_and_left_out(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    killed(site, {}, hosts=("n1", "gone"))
    assert again(Order(resume="last"))[0] == "n1"
    assert "gone: left out: it is not in the inventory any more" in capsys.readouterr().err
