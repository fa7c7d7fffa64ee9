"""What happens to a fleet at night: an event is one night, or those of a release that is killed, and what they come to."""

import logging
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.lab.nights import BUILDER, OTHER, SLOW, Nights
from tests.lab.rolls import within

log = logging.getLogger(__name__)
PHASES = ("build", "canary", "promote")


@dataclass
class Story:
    """The fleet over the nights, the first of them `days` ago.

    `good` is the commit that every host should run, `behind` what the second one may run instead, `news` a commit that
    upstream has and no night has judged; `held`: upstream's newest is known as bad.
    """

    site: Nights
    days: int
    chance: random.Random
    good: str = ""
    behind: str = ""
    news: str = ""
    held: bool = False
    number: int = 0
    told: list[str] = field(default_factory=list)
    disk: list[dict[str, int]] = field(default_factory=list)

    def play(self, event: "Event") -> None:
        """One event, a day later than the one before."""
        self.site.day(self.days)
        began = time.monotonic()
        event(self)
        self.disk.append(self.site.disk())
        sizes = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in self.disk[-1].items())
        log.info("%d days ago, %s: %.0f s; %s", self.days, event.__name__, time.monotonic() - began, sizes)
        self.days -= 1

    def commit(self, last: str = "") -> str:
        self.number += 1
        return self.site.commit(f"commit {self.number}", last=last)

    def something_new(self) -> None:
        """Upstream has a commit that is as good as any."""
        self.good, self.news, self.held = self.news or self.commit(), "", False

    def expect(self, code: int, result: str, *words: str, away: bool = False) -> dict[str, Any]:
        """One night, how it ends, and what the hosts run then; `away`: nobody can bring anything to the second one."""
        found, _ = self.site.night(*words)
        return self.ended(found, code, result, away=away)

    def ended(self, found: int, code: int, result: str, *, away: bool = False) -> dict[str, Any]:
        """The same of a night that is over."""
        report = self.site.reports()[-1]
        self.told.append(f"{report['id']}: {report['result']}: {report['said']}")
        assert (found, report["result"]) == (code, result), report
        self.settled(behind=away or code != 0)
        return report

    def settled(self, *, behind: bool) -> None:
        """A good night brings up a host that was left behind, and a bad one may."""
        first, second = self.site.running()
        assert first == self.good, self.told
        assert second == self.good or (behind and second == self.behind), self.told
        self.behind = second


Event = Callable[[Story], None]


def new_commit(story: Story) -> None:
    story.something_new()
    story.expect(0, "promoted")


def no_commit(story: Story) -> None:
    if story.news:
        new_commit(story)
    else:
        story.expect(*((1, "held") if story.held else (0, "kept")))


def base_changed(story: Story) -> None:
    """The same commit on another base is another image."""
    change_base(story)
    if story.held or story.news:
        story.something_new()
    story.expect(0, "promoted")


def change_base(story: Story) -> None:
    made = f"FROM rocm/vllm-dev:base\nENV CHANGED={story.days}\n"
    story.site.sh(BUILDER.name, f"printf '{made}' | docker build --quiet --tag rocm/vllm-dev:base -")


def broken_build(story: Story) -> None:
    _fails(story, "RUN echo nothing works && false\n")


def garbage(story: Story) -> None:
    _fails(story, "ENV STANDIN_GARBAGE=1\n")


def slow(story: Story) -> None:
    _fails(story, SLOW)


def _fails(story: Story, last: str) -> None:
    story.commit(last)
    story.news, story.held = "", True
    story.expect(1, "failed")


def registry_down(story: Story) -> None:
    """No fault of the commit: the next night may bring it."""
    node = story.site.lab.node("registry")
    story.news, story.held = story.commit(), False
    node.stop_service("registry")
    try:
        story.expect(1, "failed")
    finally:
        node.start_service("registry")


def registry_dies(story: Story) -> None:
    """In the middle of the push: no fault of the commit either, and what came in part is in nobody's way."""
    site, node = story.site, story.site.lab.node("registry")
    story.news, story.held = story.commit(), False
    with site.slow_registry():
        process = site.controller.start("nightly")
        try:
            assert within(250, lambda: site.uploads() or process.poll() is not None, every=0.05)
            assert process.poll() is None, site.reports()[-1]
            node.stop_service("registry")
            process.communicate(timeout=300)
        finally:
            node.start_service("registry")
    assert story.ended(process.returncode, 1, "failed")["phases"][1]["name"] == "build"


def node_down(story: Story) -> None:
    """In a night that brings something, and in one in which nothing is new."""
    _without_other(story, "sshd-down", ("promoted", "kept"))
    assert OTHER in story.site.reports()[-1]["away"]


def disk_full(story: Story) -> None:
    _without_other(story, "docker-disk-full", ("promoted",))


def _without_other(story: Story, fault: str, results: Sequence[str]) -> None:
    """The others go on; the host is brought up to them by a later night, once it is well again."""
    story.something_new()
    story.site.lab.break_(fault, OTHER)
    try:
        for result in results:
            story.expect(0, result, away=True)
    finally:
        story.site.lab.mend(OTHER)


def killed_twice(story: Story) -> None:
    """In two phases of one release; the third night brings it to its end."""
    new = story.commit()
    for phase in story.chance.sample(PHASES, 2):
        killed(story, phase)
    story.good, story.news, story.held = new, "", False
    code, report = story.site.night()
    assert (code, report["result"] in {"promoted", "kept"}) == (0, True), (report, story.told)
    story.settled(behind=False)


def killed(story: Story, phase: str, ready: Callable[[], bool] = lambda: True) -> None:
    """A night that is killed in the phase, when it is ready for that; or that is over before it comes there."""
    count = len(story.site.nights)
    process = story.site.controller.start("nightly")

    def there() -> bool:
        begun = len(story.site.nights) > count and phase in story.site.phases()
        return (begun and ready()) or process.poll() is not None

    try:
        assert within(250, there)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    story.told.append(f"killed in {phase}")


EVENTS: Sequence[Event] = (
    new_commit, no_commit, base_changed, broken_build, garbage, slow, registry_down, registry_dies, disk_full, node_down,
    killed_twice,
)  # fmt: skip
