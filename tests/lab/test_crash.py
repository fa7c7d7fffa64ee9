"""A controller killed or cut off at every step of a roll: the host serves again by itself, and a plain deploy ends it.

The steps are those that came through the seam in a roll, so whatever is added to a roll is covered here without another test.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cli import Controller
from tests.lab.conftest import MI250, MI300X, REGISTRY
from tests.lab.crash_driver import REACHED, mend
from tests.lab.rolls import Fleet, fleet_of, within
from tests.proc import working_in

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
SIDELOADED = MI250.name  # behind sudo, and its image comes over SSH
LEASE = 60.0  # seconds: what a roll really takes
SHORT = 8.0  # for cut links in the quick selection; a killed controller's host waits for no lease
STEPS, MOMENTS = "steps", ("before", "after", "during")
ROUTED = "/run/router"  # a file that is there while the replica gets requests
HOOKS = {"out": ["rm", "-f", ROUTED], "back": ["touch", ROUTED], "where": "host", "limit": 1}
# The sideloaded one knows no registry, so it keeps its releases' records itself.
OVER = {
    "gpu": {"vars": {"fleet": {"drain": HOOKS}}},
    "mi250": {"vars": {"fleet": {"delivery": "sideload", "registry": None}}},
}
RECORDS = "/var/lib/fleet/releases/*.json"
KEY = {"secrets": {"VLLM_API_KEY": {"env": "CRASH_KEY"}}}
BROKEN = {"STANDIN_FAIL": "no_hip_gpus"}


@dataclass
class Story:
    """The fleet, the release that its hosts serve, and what they look like when all is well."""

    fleet: Fleet
    plans: dict[tuple[str, str], list[str]]  # (host, to which release) -> the steps
    well: dict[tuple[str, str], list[str]]  # (host, serving which release) -> its state
    clean: dict[str, list[str]]
    serves: dict[str, str]

    def wants(self, release: str, **chat: Any) -> Controller:
        return self.fleet.wants(release, over=OVER, **KEY, **chat)

    def next(self, host: str) -> str:
        return "b" if self.serves[host] == "a" else "a"

    def prune(self, host: str) -> None:
        """So that the next roll has everything to do again."""
        self.fleet.prune(host)
        self.fleet.sh(host, f"rm -f {RECORDS}")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with (
        pytest.MonkeyPatch.context() as patch,
        fleet_of("crash", tmp_path_factory.mktemp("crash"), REGISTRY, MI300X, MI250) as fleet,
    ):
        patch.setenv("CRASH_KEY", "sk-of-the-crash-test")
        hosts = (MI300X.name, MI250.name)
        made = Story(fleet, {}, {}, {}, dict.fromkeys(hosts, "b"))
        for release in "ab":  # else a plan cannot know yet what they would be
            assert made.wants(release).run("push").returncode == 0
        assert made.wants("a").run("deploy").returncode == 0
        for release in "ba":
            controller = made.wants(release)
            _, planned = controller.ask("plan")
            code, document = controller.ask("deploy")
            assert (code, document["failed"]) == (0, {})
            done = fleet.journal()["hosts"]
            for host in hosts:
                steps = [step["what"] for step in done[host]["steps"]]
                missing = {one["what"] for one in planned["hosts"][host]["steps"] if one["changes"]} - set(steps)
                assert not missing, f"past the seam: {missing}"
                made.plans[host, release] = steps
                made.prune(host)
                made.well[host, release] = fleet.state(host)
                made.clean[host] = fleet.left(host)
                made.serves[host] = release
        yield made


def begin(
    story: Story, controller: Controller, moment: str, host: str, what: str, lease: float
) -> subprocess.Popen[str]:
    lab = story.fleet.lab.name
    words = controller.argv("deploy", "--limit", host)[1:]
    argv = (sys.executable, "-m", "tests.lab.crash_driver", moment, host, what, str(lease), lab, *words)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        argv, cwd=controller.directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def crash(story: Story, controller: Controller, moment: str, host: str, what: str, lease: float) -> None:
    """Begin a roll, break it at the step, and see that the host serves again by itself."""
    fleet = story.fleet
    process = begin(story, controller, moment, host, what, lease)
    said = ""
    try:
        if moment == "during":
            assert process.stderr is not None
            while REACHED not in said and (line := process.stderr.readline()):
                said += line
        else:
            said = process.communicate(timeout=120)[1]
        assert REACHED in said, f"{what!r} never came through the seam: {said}"
        began = time.monotonic()
        assert within(lease + 15, lambda: fleet.answers(host)), f"{host} does not serve after {lease:.0f} s"
        # Its holder may still be about to put the old container back: what counts is what serves then.
        assert within(lease + 15, lambda: not fleet.locked(host)), f"{host} is locked for ever"
        assert within(10, lambda: fleet.answers(host)), f"{host} stopped serving when its lock ended"
        assert time.monotonic() - began < lease + 15
    finally:
        mend(fleet.lab.node(host))
        if moment == "during":
            finish(process)


def finish(process: subprocess.Popen[str]) -> None:
    """The cut off controller meets its host again, whose lock it has lost: it ends by itself, in words."""
    try:
        _, said = process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert "Traceback" not in said, said


def settle(story: Story, host: str, release: str) -> None:
    """A plain deploy, and everything as if nothing had been."""
    fleet = story.fleet
    code, document = story.wants(release).ask("deploy", "--limit", host)
    assert (code, document["failed"]) == (0, {})
    story.serves[host] = release
    story.prune(host)
    assert fleet.state(host) == story.well[host, release]
    assert fleet.left(host) == story.clean[host]
    assert fleet.sh(host, f"ls {ROUTED}") == ROUTED
    assert not fleet.locked(host)
    assert not [path for path in fleet.controller.directory.rglob("*") if path.name.endswith((".new", ".part"))]
    assert working_in(fleet.controller.directory) == []
    assert fleet.finished()


def rolled(story: Story, host: str, number: int, moment: str, lease: float) -> None:
    """The whole of it for one step: a roll that breaks there, and a plain deploy behind it."""
    release = story.next(host)
    crash(story, story.wants(release), moment, host, story.plans[host, release][number], lease)
    settle(story, host, release)


def count(story: Story, host: str) -> int:
    there, back = (len(story.plans[host, release]) for release in "ab")
    assert there == back
    return back


def test_each_step_broken_off_once_ends_as_if_nothing_had_been(story: Story, subtests: pytest.Subtests) -> None:
    host = MI300X.name
    for number in range(count(story, host)):
        moment, what = MOMENTS[number % 2], story.plans[host, story.next(host)][number]
        with subtests.test(step=what, moment=moment):
            rolled(story, host, number, moment, LEASE)
    code, told = story.fleet.here.ask("runs")
    assert (code, {"killed", "finished"} <= {one["state"] for one in told}) == (0, True)


def test_the_steps_of_a_sideload_broken_off_end_as_if_nothing_had_been(story: Story, subtests: pytest.Subtests) -> None:
    steps = story.plans[SIDELOADED, story.next(SIDELOADED)]
    record = next(number for number, what in enumerate(steps) if what.startswith("leave the record of "))
    for number, moment in ((0, "during"), (record, "after")):
        with subtests.test(step=story.plans[SIDELOADED, story.next(SIDELOADED)][number], moment=moment):
            rolled(story, SIDELOADED, number, moment, SHORT)


@pytest.mark.parametrize("verb", ["stop", "verify"])
def test_a_link_cut_during_a_step_ends_as_if_nothing_had_been(story: Story, verb: str) -> None:
    host = MI300X.name
    number = next(n for n, what in enumerate(story.plans[host, story.next(host)]) if what.startswith(verb))
    rolled(story, host, number, "during", SHORT)


def undone(story: Story, host: str) -> list[str]:
    """The steps that put the old container back, in the words of a roll whose new one does not start."""
    assert story.wants(story.next(host), env=BROKEN).run("deploy", "--limit", host).returncode == 1
    steps = [step["what"] for step in story.fleet.journal()["hosts"][host]["steps"]]
    failed = next(number for number, what in enumerate(steps) if what.startswith("wait until chat-0-new is ready"))
    settle(story, host, story.serves[host])
    return steps[failed + 1 :]


@pytest.mark.parametrize("which", [slice(1, None, 3), pytest.param(slice(None), marks=pytest.mark.matrix)], ids=str)
def test_a_controller_killed_while_it_puts_back_leaves_that_to_the_host(
    story: Story, which: slice, subtests: pytest.Subtests
) -> None:
    host = MI300X.name
    steps = undone(story, host)
    assert len(steps) > 3
    for number, what in list(enumerate(steps))[which]:
        moment = MOMENTS[number % 2]
        with subtests.test(step=what, moment=moment):
            crash(story, story.wants(story.next(host), env=BROKEN), moment, host, what, LEASE)
            settle(story, host, story.serves[host])


@pytest.mark.matrix
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("host", [MI300X.name, SIDELOADED])
def test_every_step_broken_off_in_every_way_ends_as_if_nothing_had_been(
    story: Story, host: str, moment: str, subtests: pytest.Subtests
) -> None:
    for number in range(count(story, host)):
        with subtests.test(step=story.plans[host, story.next(host)][number], host=host, moment=moment):
            rolled(story, host, number, moment, LEASE)
