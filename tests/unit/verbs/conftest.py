"""Nights over hosts that are pretended."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import HostError
from fleet.image import lock as locks
from fleet.image.release import Release
from fleet.nightly.nights import Book, nights
from fleet.options import Options
from fleet.rollout.stock import Found, Stock
from fleet.verbs import night, night_rolls, nightly
from fleet.verbs.drift import Strays
from fleet.verbs.night_images import Looked

INVENTORY = """
all:
  vars:
    fleet:
      image: {name: vllm, prebuilt: "r/vllm:1"}
      services: {chat: {model: m, port: 8000}}
      nightly: {hook: [sh, -c, "cat > hooked.json"]}
  hosts: {a: {}, b: {}}
"""
GOOD = Release("vllm", "old", "", (), (), (), "source", vllm_commit="1" * 40)
OLD = {"a": {"chat": "old"}, "b": {"chat": "old"}}


@dataclass
class World:
    """The hosts, upstream, and what is to go wrong, by the step's name."""

    folder: Path
    now: dict[str, dict[str, str]] = field(default_factory=lambda: {name: dict(one) for name, one in OLD.items()})
    keys: dict[str, str] = field(default_factory=lambda: {"vllm": "k2"})
    wrong: dict[str, BaseException] = field(default_factory=dict)
    stuck: bool = False  # what goes back stays where it is
    code: int = 0  # of the roll that takes it back
    rolled: list[tuple[str, ...]] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    away: dict[str, str] = field(default_factory=dict)
    silent: dict[str, HostError] = field(default_factory=dict)
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
        old = {name: one.key for name, one in self.last_good(None, inventory, None).items()}
        spared = {name: key for name, key in self.keys.items() if key in avoid}
        keys = {name: old.get(name, key) if name in spared else key for name, key in self.keys.items()}
        if lock is not None:
            locks.write(lock, locks.Lock(commits={"r main": "a" * 40}))
        return Looked(keys, spared, Stock.empty())

    def last_good(self, _o: Any, inventory: Any, _h: Any) -> dict[str, Found]:
        key = locks.read(inventory.lock_path).commit("r", "main")[:2]
        return {"vllm": Found("vllm", key or "k1", GOOD, None, "there")}

    def make(self, _o: Any, _i: Any, _h: Any, book: Book) -> None:
        self.fails("make")
        book.put(
            brought=["new"],
            images=[{"image": "vllm", "release": "vllm:new", "commit": "2" * 40, "bytes": 1, "why": "new"}],
        )
        book.put(asked={name: {"chat": "k2"} for name in OLD})

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
        return self.code


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
    for name in ("last_good", "look", "make", "tried", "promise", "catch_up"):
        monkeypatch.setattr(night, name, getattr(made, name))
    for module in (night, night_rolls):
        monkeypatch.setattr(module, "standing_of", lambda *_: {name: dict(one) for name, one in made.now.items()})
    monkeypatch.setattr(night_rolls, "roll", made.roll)
    monkeypatch.setattr(night, "strays", lambda _o: Strays(tuple(made.drift), made.away))
    monkeypatch.setattr(night, "unanswered", lambda _o: made.silent)
    monkeypatch.setattr(night, "news", nothing)
    monkeypatch.setattr(night, "retain", nothing)
    monkeypatch.setattr(night, "move_last_good", lambda *_: "")
    monkeypatch.setattr(nightly, "held", held)
    return made
