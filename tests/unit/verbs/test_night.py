"""Nights over hosts that are pretended: what is written, who goes back to what, and what the next night makes of it."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleet.cli import Options
from fleet.errors import FleetError, HostError, UsageError
from fleet.image import lock as locks
from fleet.image.build import BuildError
from fleet.nightly.nights import Book, failed, nights
from fleet.rollout.releases import Stock
from fleet.verbs import night, night_rolls, nightly
from fleet.verbs.night_images import Looked
from fleet.verbs.night_rolls import FailedError

INVENTORY = """
all:
  vars:
    fleet:
      image: {name: vllm, prebuilt: "r/vllm:1"}
      services: {chat: {model: m, port: 8000}}
      nightly: {hook: [sh, -c, "cat > hooked.json"]}
  hosts: {a: {}, b: {}}
"""
OLD = {"a": {"chat": "old"}, "b": {"chat": "old"}}


@dataclass
class World:
    """The hosts, upstream, and what is to go wrong, by the step's name."""

    folder: Path
    now: dict[str, dict[str, str]] = field(default_factory=lambda: {name: dict(one) for name, one in OLD.items()})
    keys: dict[str, str] = field(default_factory=lambda: {"vllm": "k2"})
    wrong: dict[str, BaseException] = field(default_factory=dict)
    stuck: bool = False  # what goes back stays where it is
    rolled: list[tuple[str, ...]] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    behind: tuple[str, ...] = ()

    def night(self, **over: Any) -> int:
        return nightly.nightly(Options(inventory=("prod.yaml",), **over), force=False)

    @property
    def report(self) -> dict[str, Any]:
        return dict(nights(Path(".fleet/nights"))[-1].document)

    @property
    def page(self) -> str:
        return Path(f".fleet/nights/{self.report['id']}/report.html").read_text()

    def fails(self, step: str) -> None:
        if step in self.wrong:
            raise self.wrong.pop(step)

    # What stands in the place of the real steps

    def look(self, _o: Any, inventory: Any, _h: Any, lock: Path | None, avoid: Collection[str]) -> Looked:
        self.fails("look")
        old = {"vllm": locks.read(inventory.lock_path).commit("r", "main")[:2] or "k1"}
        spared = {name: key for name, key in self.keys.items() if key in avoid}
        keys = {name: old.get(name, key) if name in spared else key for name, key in self.keys.items()}
        if lock is not None:
            locks.write(lock, locks.Lock(commits={"r main": "a" * 40}))
        return Looked(old, keys, spared, {}, Stock.empty())

    def make(self, _o: Any, _i: Any, _h: Any, book: Book) -> None:
        self.fails("make")
        book.put(brought=["new"], images=[], asked={name: {"chat": "k2"} for name in OLD})

    def tried(self, _o: Any, _h: Any, canaries: Sequence[str], *_: Any) -> None:
        self.now |= {name: {"chat": "new"} for name in canaries}
        self.fails("tried")

    def promise(self, _o: Any, hosts: Sequence[Any], *_: Any) -> tuple[str, ...]:
        self.now |= {host.name: {"chat": "new"} for host in hosts if host.name not in self.behind}
        self.fails("promise")
        return self.behind

    def catch_up(self, _o: Any, names: Sequence[str], *_: Any) -> tuple[str, ...]:
        self.rolled.append(tuple(names))
        return ()

    def roll(self, options: Options, order: Any) -> int:
        assert order.verb == "rollback"
        if not self.stuck:
            self.now |= {name: {"chat": order.back.to} for name in options.limit.split(",")}
        return 0


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prod.yaml").write_text(INVENTORY)
    made = World(tmp_path)

    @contextmanager
    def held(*_: Any) -> Iterator[Any]:
        made.fails("held")
        yield type("Hold", (), {"check": staticmethod(lambda: made.fails("check"))})()

    nothing: Callable[..., Any] = lambda *_: {}  # noqa: E731
    for name in ("look", "make", "tried", "promise", "catch_up"):
        monkeypatch.setattr(night, name, getattr(made, name))
    for module in (night, night_rolls):
        monkeypatch.setattr(module, "standing_of", lambda *_: {name: dict(one) for name, one in made.now.items()})
    monkeypatch.setattr(night_rolls, "roll", made.roll)
    monkeypatch.setattr(night, "strays", lambda _o: made.drift)
    monkeypatch.setattr(night, "unanswered", nothing)
    monkeypatch.setattr(night, "news", nothing)
    monkeypatch.setattr(night, "retain", nothing)
    monkeypatch.setattr(night, "move_last_good", lambda *_: "")
    monkeypatch.setattr(nightly, "held", held)
    return made


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


def test_a_host_that_was_away_gets_the_last_good_release_when_nothing_is_new(world: World) -> None:
    world.behind = ("b",)
    assert world.night() == 0
    assert world.report["owed"] == ["b"]
    world.keys = {"vllm": "aa"}  # what the lock means now
    assert world.night() == 0
    assert world.rolled == [("b",)]
    assert (world.report["result"], world.report["owed"]) == ("kept", [])
    assert "b took up the last good release" in world.report["said"]
    world.drift = ["b: image: vllm:1: is missing"]
    assert world.night() == 1
    assert world.rolled == [("b",)]
    assert world.report["drift"] == world.drift
    assert "b: image: vllm:1: is missing" in world.page
