"""Nights over hosts that are pretended: what is written, who goes back to what, and what the next night makes of it."""

import json
from pathlib import Path

import pytest

from fleet.errors import FleetError, HostError, UsageError
from fleet.image.build import BuildError
from fleet.nightly.nights import Book, failed, nights
from fleet.options import Options
from fleet.verbs import nightly
from fleet.verbs.night_rolls import FailedError
from tests.unit.verbs.conftest import INVENTORY, OLD, World


def broken(key: str) -> BuildError:
    error = BuildError("it does not build", hint="", step="", tail=("gcc: fatal",), log=Path("build.log"))
    error.key = key
    return error


def test_a_good_night_moves_the_lock_and_a_bad_one_nothing(world: World) -> None:
    world.wrong["tried"] = FailedError("the canary failed", blame=["k2"])
    with pytest.raises(FailedError):
        world.night()
    assert (world.now, world.report["result"]) == (OLD, "failed")
    assert not Path("prod.lock.yaml").exists()
    assert set(failed(Path(".fleet/nights"))) == {"k2"}
    assert world.night() == 1
    assert world.report["result"] == "held"
    world.keys = {"vllm": "k3"}
    assert world.night() == 0
    assert world.report["result"] == "promoted"
    assert world.now["b"] == {"chat": "new"}
    assert Path("prod.lock.yaml").exists()


def test_the_report_says_which_release_the_fleet_goes_on_with(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    goes_on = "the fleet goes on with vllm:old (vLLM 111111111)"
    world.wrong["look"] = FleetError("patch a.patch does not fit main")
    with pytest.raises(FleetError):
        world.night()
    assert world.report["serves"] == goes_on
    world.wrong["tried"] = FailedError("the canary failed", blame=["k2"])
    with pytest.raises(FailedError):
        world.night()
    assert goes_on in capsys.readouterr().out
    assert json.loads(Path("hooked.json").read_text())["serves"] == goes_on
    assert world.page.index(goes_on[1:]) < world.page.index("<h2>")
    world.keys = {"vllm": "k3"}
    assert world.night() == 0
    promoted = world.report
    assert promoted["serves"] == f"the fleet runs vllm:new (vLLM 222222222, of night {promoted['id']})"
    world.wrong["held"] = FleetError("another night has a")
    with pytest.raises(FleetError):
        world.night()
    assert world.report["good"] == promoted["good"]


def test_only_the_image_that_does_not_build_is_blamed(world: World) -> None:
    world.keys = {"vllm": "k2", "other": "o2"}
    world.wrong["make"] = broken("o2")
    with pytest.raises(BuildError):
        world.night()
    assert set(failed(Path(".fleet/nights"))) == {"o2"}
    assert world.report["logs"] == [{"path": "build.log", "lines": ["gcc: fatal"]}]
    assert "gcc: fatal" in world.page


def test_the_fix_of_one_image_does_not_wait_for_another_that_is_broken(world: World) -> None:
    world.keys = {"vllm": "k2", "other": "o2"}
    world.wrong["make"] = broken("k2")
    with pytest.raises(BuildError):
        world.night()
    assert world.night() == 0
    assert world.report["result"] == "promoted"
    assert "vllm stays as it was" in world.report["said"]


def test_a_host_that_is_not_back_is_said_first_and_the_next_night_goes_on_with_it(world: World) -> None:
    world.stuck, world.wrong["tried"] = True, FailedError("the canary failed", blame=["k2"])
    with pytest.raises(FailedError):
        world.night()
    assert world.report["said"].startswith("chat of a is not back on old; the canary failed")
    assert [one["ok"] for one in world.report["phases"] if one["name"] == "restore"] == [False]
    assert world.page.index("chat of a is not back on old") < world.page.index("<h2>")
    world.stuck = False
    assert world.night() == 1  # held
    assert world.now == OLD


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a mistake")])
def test_whatever_ends_a_night_the_canary_goes_back_and_the_report_says_why(world: World, error: BaseException) -> None:
    world.wrong["tried"] = error
    with pytest.raises(type(error)):
        world.night()
    assert world.now == OLD
    assert world.report["result"] == ("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
    assert world.report["said"]
    assert failed(Path(".fleet/nights")) == {}


def test_a_second_interruption_leaves_the_rest_to_the_next_night_and_says_so(world: World) -> None:
    world.wrong["tried"], world.stuck, world.code = KeyboardInterrupt(), True, 130
    with pytest.raises(KeyboardInterrupt):
        world.night()
    assert world.report["result"] == "interrupted"
    assert world.report["said"].startswith("the way back was interrupted")
    world.stuck, world.code = False, 0
    assert world.night() == 0
    assert (world.report["continues"], world.report["before"]) == (nights(Path(".fleet/nights"))[0].id, OLD)


def test_a_night_that_waits_can_still_be_promoted_after_a_look_that_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    manual = INVENTORY.replace("nightly: {", "nightly: {promote: manual, ")
    Path("prod.yaml").write_text(manual)
    assert world.night() == 0
    waits = world.report["id"]
    assert world.now == {"a": {"chat": "new"}, "b": {"chat": "old"}}
    world.wrong["look"] = FleetError("patch a.patch does not fit main")
    with pytest.raises(
        FleetError, match=f"does not fit main; night {waits} still waits for invoke promote, and a runs"
    ):
        world.night()
    assert world.now["a"] == {"chat": "new"}
    monkeypatch.setattr(nightly, "foreign", lambda *_: False)
    assert nightly.promote(Options(inventory=("prod.yaml",))) == 0
    assert world.now["b"] == {"chat": "new"}
    with pytest.raises(UsageError, match="no night waits"):
        nightly.promote(Options(inventory=("prod.yaml",)))


def test_a_look_that_fails_puts_back_what_a_killed_night_has_left(world: World) -> None:
    world.wrong["tried"] = SystemExit()  # as good as a kill: nothing is put back
    world.stuck = True
    with pytest.raises(SystemExit):
        world.night()
    assert world.now["a"] == {"chat": "new"}
    world.stuck, world.wrong["look"] = False, FleetError("the registry does not answer")
    with pytest.raises(FleetError, match="does not answer"):
        world.night()
    assert world.now == OLD


def test_a_killed_night_gets_its_page_from_the_next_one(world: World) -> None:
    killed = Book.begin(Path(".fleet/nights"), str(Path("prod.yaml").resolve()), 1.0)
    world.night()
    assert "not ended" in (killed.path / "report.html").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("canary: elsewhere, ", "elsewhere"),
        ('canary: "!all:c", ', "c"),
    ],
)
def test_a_night_that_cannot_begin_has_a_report_and_tells_the_hook(world: World, more: str, message: str) -> None:
    Path("prod.yaml").write_text(INVENTORY.replace("nightly: {", f"nightly: {{{more}"))
    with pytest.raises(FleetError, match=message):
        world.night()
    assert world.report["result"] == "failed"
    assert json.loads(Path("hooked.json").read_text())["id"] == world.report["id"]
    assert world.page


def test_another_controllers_night_is_not_disturbed(world: World) -> None:
    world.wrong["held"] = FleetError("another night has a: ann on desk")
    with pytest.raises(FleetError, match="another night has a"):
        world.night()
    assert [one["name"] for one in world.report["phases"]] == []
    world.wrong |= {"tried": FailedError("slow", blame=["k2"])}
    checks = iter([None, HostError("a", "another night has a")])

    def check(step: str) -> None:
        if step == "check" and (error := next(checks)) is not None:
            raise error
        if step in world.wrong and step != "check":
            raise world.wrong.pop(step)

    world.fails = check  # type: ignore[method-assign]
    with pytest.raises(FailedError):
        world.night()
    assert world.now["a"] == {"chat": "new"}  # it is not this night's any more
    assert "another night has a" in world.report["said"]
