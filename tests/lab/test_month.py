"""Thirty nights of a small fleet, one after the other, with what happens in a month: `make month`, half an hour.

Everything is real but the GPUs. What happens is drawn by chance from a seed that is logged; each kind comes at least twice.
"""

import json
import logging
import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from fleet.image.registry_shelf import ShelfClient
from fleet.inventory import load
from tests.lab.nights import BUILDER, CANARY, OTHER, SLOW, Nights, night_site
from tests.lab.rolls import within

pytestmark = [pytest.mark.lab, pytest.mark.month]

log = logging.getLogger(__name__)
NIGHTS = 30
SEED = int(os.environ.get("FLEET_MONTH_SEED", "1"))
PHASES = ("build", "canary", "promote")


@dataclass
class Month:
    """The fleet over the nights. `good` is the commit that every host should run, `held`: upstream's newest is known as bad."""

    site: Nights
    chance: random.Random
    good: str = ""
    held: bool = False
    number: int = 0
    told: list[str] = field(default_factory=list)

    def commit(self, last: str = "") -> str:
        self.number += 1
        return self.site.commit(f"commit {self.number}", last=last)

    def expect(self, code: int, result: str, *running: str) -> None:
        """One night, how it ends, and what the hosts run afterwards."""
        found, report = self.site.night()
        self.told.append(f"{report['id']}: {report['result']}: {report['said']}")
        assert (found, report["result"]) == (code, result), report
        assert self.site.running() == list(running or (self.good, self.good)), self.told

    def promoted(self) -> None:
        """A new release on every host."""
        self.good, self.held = self.commit(), False
        self.expect(0, "promoted")

    def nothing(self) -> None:
        self.expect(1, "held") if self.held else self.expect(0, "kept")

    def broken(self) -> None:
        self.commit("RUN echo nothing works && false\n")
        self.expect(1, "failed")
        self.held = True

    def nonsense(self) -> None:
        self.commit("ENV STANDIN_GARBAGE=1\n")
        self.expect(1, "failed")
        self.held = True

    def slow(self) -> None:
        self.commit(SLOW)
        self.expect(1, "failed")
        self.held = True

    def registry_down(self) -> None:
        """No fault of the commit: the night after brings it."""
        node = self.site.lab.node("registry")
        new = self.commit()
        node.stop_service("registry")
        try:
            self.expect(1, "failed")
        finally:
            node.start_service("registry")
        self.good, self.held = new, False
        self.expect(0, "promoted")

    def node_down(self) -> None:
        """The others go on; the host is brought up to them by a deploy, once it is there again."""
        self._without_other("sshd-down")

    def disk_full(self) -> None:
        self._without_other("docker-disk-full")

    def _without_other(self, fault: str) -> None:
        before, new = self.good, self.commit()
        self.site.lab.break_(fault, OTHER)
        try:
            self.expect(0, "promoted", new, before)
        finally:
            self.site.lab.mend(OTHER)
        self.good, self.held = new, False
        done = self.site.controller.run("deploy", "--include-quarantined")
        assert done.returncode == 0, done.stdout + done.stderr
        assert self.site.running() == [new, new]

    def killed_twice(self) -> None:
        """In two phases of one release; the third night brings it to its end."""
        new = self.commit()
        for phase in self.chance.sample(PHASES, 2):
            self._killed(phase)
        self.good, self.held = new, False
        found, report = self.site.night()
        assert (found, report["result"] in {"promoted", "kept"}) == (0, True), (report, self.told)
        assert self.site.running() == [new, new], self.told

    def _killed(self, phase: str) -> None:
        """A night that is killed as soon as the phase has begun, or that is over before it comes there."""
        count = len(self.site.reports())
        process = self.site.controller.start("nightly")

        def ready() -> bool:
            begun = len(self.site.reports()) > count and phase in self.site.phases()
            return begun or process.poll() is not None

        try:
            assert within(250, ready)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        self.told.append(f"killed in {phase}")

    def base_changed(self) -> None:
        """The same commit on another base is another image."""
        made = f"FROM rocm/vllm-dev:base\nENV CHANGED={self.number}.{len(self.told)}\n"
        build = f"printf '{made}' | docker build --quiet --tag rocm/vllm-dev:base -"
        self.site.sh(BUILDER.name, build)
        if self.held:
            self.good, self.held = self.commit(), False
        self.expect(0, "promoted")


@pytest.fixture
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Month]:
    with night_site("month", tmp_path_factory.mktemp("month")) as site:
        month = Month(site, random.Random(SEED))  # noqa: S311  which nights come, no secret
        month.good = month.commit()
        done = site.controller.run("deploy")
        assert done.returncode == 0, done.stderr
        yield month


def test_after_a_month_the_right_release_runs_and_nothing_has_piled_up(month: Month) -> None:
    kinds: list[Callable[[], None]] = [
        month.promoted, month.nothing, month.broken, month.nonsense, month.slow, month.registry_down,
        month.node_down, month.disk_full, month.killed_twice, month.base_changed,
    ]  # fmt: skip
    order = [*kinds, *kinds, *month.chance.choices(kinds, k=NIGHTS - 2 * len(kinds))]
    month.chance.shuffle(order)
    site = month.site
    for number, kind in enumerate(order):
        log.info("night %d of %d (seed %d): %s", number + 1, NIGHTS, SEED, kind.__name__)
        kind()
    month.promoted()
    assert len(site.reports()) >= NIGHTS
    for path in (site.controller.directory / ".fleet/nights").glob("*/report.json"):
        assert path.with_name("report.html").is_file() or not json.loads(path.read_text())["result"]
    for host in (CANARY, OTHER):
        ours = set(site.docker(host, "images", "--format", "{{.Tag}}", "vllm-rocm").split())
        assert 1 <= len(ours - {"<none>"}) <= 4, ours
        assert site.docker(host, "images", "--filter", "dangling=true", "--quiet") == ""
        assert site.containers(host) == {"chat-0"}
    built = [tag for tag in site.docker(BUILDER.name, "images", "--format", "{{.Tag}}", "vllm-rocm").split() if tag]
    assert len([tag for tag in built if tag.startswith("build-")]) <= 4, built
    registry = load([str(path) for path in site.controller.inventories]).hosts[CANARY].settings.registry
    assert registry is not None
    with ShelfClient(registry) as client:
        digests = {client.digest("vllm-rocm", tag) for tag in client.tags("vllm-rocm") if not tag.startswith("fleet-")}
    assert len(digests) <= 6, digests
    code, document = site.controller.ask("prune", "--check")
    assert (code, document["failed"]) == (0, {})
    assert all(not one["planned"] for one in (*document["hosts"].values(), *document["places"].values())), document
