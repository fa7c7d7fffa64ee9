"""The canary of a night: what it has to give before the release may go on, and whose fault it is when it does not."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import HostError, UnreachableError, UsageError
from fleet.inventory.model import Connection, Host
from fleet.inventory.settings import Nightly, Service, Settings
from fleet.journal import RunHeader, RunStory
from fleet.journal.story import HostStory, StepStory
from fleet.nightly.nights import Book
from fleet.options import Options
from fleet.playbook import Playbook
from fleet.rollout.run import Outcome
from fleet.serving.verify import Proof
from fleet.verbs import night_rolls
from fleet.verbs.night_rolls import FailedError, plays, tried
from fleet.verbs.order import Order

CHAT = Service("chat", "m", 8000)
SETTINGS = Settings(services={"chat": CHAT, "embed": replace(CHAT, name="embed", port=8001)}, nightly=Nightly())
HOSTS = tuple(Host(name, ("all",), Connection(address=name), SETTINGS) for name in ("a", "b"))


@dataclass
class World:
    """What the canaries give before and after the roll: tokens/s by replica, or an error by host."""

    before: dict[str, Mapping[str, float] | HostError]
    after: dict[str, Mapping[str, float] | HostError]
    story: dict[str, HostStory] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)
    code: int = 0  # of the roll

    def measured(self, options: Options, *, load: float) -> dict[str, Outcome]:
        assert load == SETTINGS.nightly.load
        given = self.after if self.orders else self.before
        return {
            name: Outcome(name, error=one)
            if isinstance(one, HostError)
            else Outcome(name, proofs={key: Proof("m", "chat", "", tokens_per_s=pace) for key, pace in one.items()})
            for name, one in given.items()
            if name in options.limit.split(",")
        }

    def roll(self, _options: Options, order: Order) -> int:
        self.orders.append(order)
        return self.code

    def latest(self, *_: Any) -> RunStory:
        header = RunHeader("deploy", (), tuple(self.story))
        return RunStory("r1", Path(), header, 0.0, 1.0, "finished", self.story)


def well(*names: str) -> dict[str, HostStory]:
    return {name: HostStory(name, outcome="changed") for name in names}


@pytest.fixture
def book(tmp_path: Path) -> Book:
    made = Book.begin(tmp_path, "/prod.yaml", 1.0)
    asked = {name: {"chat": "k1", "embed": "k2"} for name in "ab"}
    images = [{"key": "k1", "release": "vllm:aaa"}, {"key": "k2", "release": "vllm:bbb"}]
    made.put(keys={"chat": "k1", "embed": "k2"}, before_keys={}, asked=asked, images=images)
    made.put(before={name: {"chat": "old", "embed": "old"} for name in "ab"})
    return made


def attempt(
    monkeypatch: pytest.MonkeyPatch, book: Book, world: World, canaries: tuple[str, ...] = ("a",), good: float = 0.0
) -> None:
    monkeypatch.setattr(night_rolls, "measured", world.measured)
    monkeypatch.setattr(night_rolls, "roll", world.roll)
    monkeypatch.setattr(night_rolls, "latest", world.latest)
    now = {name: {"chat": "old", "embed": "old"} for name in canaries}
    tried(Options(), HOSTS, canaries, book, {}, now, {}, {"a chat-0": (good, "n7")} if good else {})


FULL = {"chat-0": 100.0, "embed-0": 0.0}


def test_a_canary_that_answers_as_fast_as_before_goes_on(monkeypatch: pytest.MonkeyPatch, book: Book) -> None:
    world = World({"a": FULL}, {"a": {"chat-0": 95.0, "embed-0": 0.0}}, well("a"))
    attempt(monkeypatch, book, world)
    (pace,) = book.document["paces"]
    assert (pace["replica"], pace["before"], pace["after"], pace["change"]) == ("chat-0", 100.0, 95.0, -5.0)
    (order,) = world.orders
    assert (order.playbook, [play.name for play in (order.plays or Playbook(Path(), ())).plays]) == (
        "nightly",
        ["canary"],
    )


def test_an_image_that_dies_under_the_load_is_not_promoted(monkeypatch: pytest.MonkeyPatch, book: Book) -> None:
    died = HostError("a", "chat-0 answered none of 40 requests under load: 500")
    with pytest.raises(FailedError, match="answered none of 40 requests") as caught:
        attempt(monkeypatch, book, World({"a": FULL}, {"a": died}, well("a")))
    assert "k1" in caught.value.blame


def test_a_replica_without_a_figure_is_named_and_its_image_alone_is_blamed(
    monkeypatch: pytest.MonkeyPatch, book: Book
) -> None:
    with pytest.raises(FailedError, match="no figure under the load: a: gave no answer") as caught:
        attempt(monkeypatch, book, World({"a": FULL}, {"a": {"chat-0": 100.0}}, well("a")))
    assert caught.value.blame == ("k2",)


def test_a_canary_that_cannot_be_reached_after_the_roll_is_no_fault_of_the_image(
    monkeypatch: pytest.MonkeyPatch, book: Book
) -> None:
    with pytest.raises(FailedError) as caught:
        attempt(monkeypatch, book, World({"a": FULL}, {"a": UnreachableError("a", "no route")}, well("a")))
    assert caught.value.blame == ()


def test_a_slow_replica_fails_with_both_figures_and_its_image_alone_is_blamed(
    monkeypatch: pytest.MonkeyPatch, book: Book
) -> None:
    world = World({"a": FULL}, {"a": {"chat-0": 50.0, "embed-0": 0.0}}, well("a"))
    with pytest.raises(FailedError, match=r"chat-0 on a 50.0 tokens/s, before 100.0 \(-50 %\)") as caught:
        attempt(monkeypatch, book, world)
    assert caught.value.blame == ("k1",)


def test_without_a_figure_before_the_last_good_nights_counts_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, book: Book
) -> None:
    before: HostError = HostError("a", "chat-0 does not run")
    with pytest.raises(FailedError, match=r"before 100\.0"):
        attempt(
            monkeypatch,
            book,
            World({"a": before}, {"a": {**FULL, "chat-0": 50.0}}, well("a")),
            good=100.0,
        )
    assert [one["from"] for one in book.document["paces"]] == ["n7"]
    attempt(monkeypatch, book, World({"a": before}, {"a": FULL}, well("a")))
    assert book.document["paces"] == []
    assert book.document["first_paces"][0] == "a chat-0 gave no figure with an earlier release: 100.0 tokens/s now"


def test_a_canary_that_the_roll_left_out_proves_nothing_and_another_is_enough(
    monkeypatch: pytest.MonkeyPatch, book: Book
) -> None:
    story = {**well("a"), "b": HostStory("b")}  # in quarantine, and still silent
    attempt(monkeypatch, book, World({"a": FULL}, {"a": FULL}, story), ("a", "b"))
    with pytest.raises(FailedError, match="no canary could be tried") as caught:
        attempt(monkeypatch, book, World({}, {}, {"b": HostStory("b")}), ("b",))
    assert caught.value.blame == ()


def test_a_failed_roll_blames_what_had_begun_and_shows_the_containers_last_lines(
    monkeypatch: pytest.MonkeyPatch, book: Book, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    log = Path(".fleet/logs/a-embed-0.log")
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {number}\n" for number in range(30)))
    step = StepStory(1, "a", "Start", "start embed-0-new", "", 0.0, 0.0, ok=False, error="it stopped")
    failed = HostStory("a", (step,), outcome="failed", message="it stopped", hint=f"read its log: {log}")
    with pytest.raises(FailedError, match="the canary failed: a: it stopped") as caught:
        attempt(monkeypatch, book, World({"a": FULL}, {}, {"a": failed}))
    assert caught.value.blame == ("k2",)
    (tail,) = book.document["logs"]
    assert (tail["path"], tail["lines"][-1], len(tail["lines"])) == (str(log), "line 29", 20)
    never = HostStory("a", outcome="failed", message="preflight says no")
    with pytest.raises(FailedError) as caught:
        attempt(monkeypatch, book, World({"a": FULL}, {}, {"a": never}))
    assert caught.value.blame == ()


def test_a_night_needs_a_play_for_the_canaries_and_one_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert [play.name for play in plays(canary=True).plays] == ["canary"]
    assert [play.name for play in plays(canary=False).plays] == ["bring", "promote"]
    monkeypatch.chdir(tmp_path)
    Path("playbooks").mkdir()
    Path("playbooks/nightly.yaml").write_text("- {name: canary, hosts: all, stages: [serve]}\n")
    with pytest.raises(UsageError, match=r"playbooks/nightly.yaml has no play beside canary"):
        plays(canary=False)


def test_a_roll_that_was_interrupted_is_nobodys_failure(monkeypatch: pytest.MonkeyPatch, book: Book) -> None:
    """It has put back what it was replacing; what is left to do is the night's, which was interrupted as well."""
    broken = {"a": HostStory("a", outcome="failed", message="chat-0 interrupted")}
    with pytest.raises(KeyboardInterrupt):
        attempt(monkeypatch, book, World({"a": FULL}, {"a": FULL}, broken, code=130))
