"""Rolls over a simulated fleet in which hosts are lost, come back, die and fail: what goes on, what is said, what is left."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from subprocess import Popen

import pytest

from benchmarks.simulated.fleet import SimulatedFleet, simulated
from benchmarks.simulated.machine import Delays

QUICK = Delays(trip=0.001, probe=0.02, pull=0.05, stop=0.05, start=0.2, token=0.001)
Then = Callable[[Popen[str]], object]
N1, N2, N3, N4 = HOSTS = tuple(f"node-{number:03d}" for number in range(1, 5))
SHIPPED = """\
- {name: bring, hosts: all, stages: [preflight, image, distribute], max_fail: 25%}
- name: roll
  hosts: all
  canary: 1
  serial: [1, 25%, 100%]
  new_hosts_together: true
  max_fail: 0
  min_healthy_time: 1s
  stages: [serve, verify]
"""


@dataclass(frozen=True)
class Told:
    """How a command ended, and all that it said, in order."""

    code: int
    said: str

    def has(self, *words: str) -> None:
        missing = [word for word in words if word not in self.said]
        assert not missing, f"{missing} not in:\n{self.said}"

    @property
    def changed(self) -> dict[str, int]:
        found = re.findall(r"^(node-\d+) *: ok=\d+ *changed=(\d+)", self.said, re.MULTILINE)
        return {name: int(count) for name, count in found}


@dataclass(frozen=True)
class Site:
    fleet: SimulatedFleet

    def run(
        self,
        *words: str,
        release: int = -1,
        at: str = "",
        then: Then = lambda _process: None,
        last: tuple[str, ...] = (),
    ) -> Told:
        """A command; `then` is done to the fleet when the command first says `at`."""
        process = self.start(*words, release=release, last=last)
        assert process.stdout is not None
        said, done = "", not at
        for line in process.stdout:
            said += line
            if not done and at in line:
                done = True
                then(process)
        assert done, f"{at!r} was never said:\n{said}"
        return Told(process.wait(), said)

    def start(self, *words: str, release: int, folder: str = "", last: tuple[str, ...] = ()) -> Popen[str]:
        """In a folder of its own, where it knows nothing of other runs. Without a release there is no inventory."""
        return self.fleet.start(*words, release=release, folder=folder, last=last)

    def book(self, text: str, name: str = "roll") -> str:
        path = self.fleet.folder / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def settle(self, release: int) -> None:
        """All hosts on this release, whatever was before."""
        for host in HOSTS:
            self.fleet.happen(host, "mend")
        book = self.book(
            "- {name: all, hosts: all, min_available: 0, min_healthy_time: 0s, max_fail: 100%, stages: [image, distribute, serve]}\n",
            "settle",
        )
        told = self.run("play", book, "--lock-wait", "1m", "--include-quarantined", release=release)
        assert told.code == 0, told.said


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedFleet]:
    with simulated(tmp_path_factory.mktemp("fleet"), len(HOSTS), delays=QUICK) as made:
        yield made


@pytest.fixture
def site(fleet: SimulatedFleet) -> Site:
    made = Site(fleet)
    made.settle(0)
    return made


def happen(site: Site, *pairs: tuple[str, str]) -> Then:
    """What to do to hosts once a command has said something."""

    def do(_process: Popen[str]) -> None:
        for host, what in pairs:
            site.fleet.happen(host, what)

    return do


def test_a_host_that_comes_back_late_goes_through_the_plays_that_the_others_have_behind_them(
    fleet: SimulatedFleet,
) -> None:
    site = Site(fleet)  # on which there is nothing yet
    fleet.happen(N4, "away")
    told = site.run("play", site.book(SHIPPED), release=0, at="new hosts: ", then=happen(site, (N4, "back")))
    assert told.code == 0, told.said
    told.has(f"{N4}: answers now", f"bring, back again: {N4}", f"{N4}: pull")
    assert all(told.changed[host] for host in HOSTS)


def test_a_link_that_breaks_before_its_hosts_turn_is_made_anew_and_the_roll_goes_on(site: Site) -> None:
    told = site.run("play", site.book(SHIPPED), release=1, at="canary: ", then=happen(site, (N4, "cut")))
    assert told.code == 0, told.said
    told.has(f"{N4}: the connection was lost; connecting again")
    assert all(told.changed[host] for host in HOSTS)


def test_a_host_that_is_lost_before_its_turn_ends_nothing_and_every_run_says_so_until_it_is_back(site: Site) -> None:
    told = site.run("play", site.book(SHIPPED), release=1, at="canary: ", then=happen(site, (N4, "away")))
    assert told.code == 1, told.said
    lost = f"NOT REACHED {N4}: was lost before anything was done there: cannot connect to"
    told.has(lost, f"chat: 3 of 4 replicas serve; not known of {N4}")
    assert all(told.changed[host] for host in (N1, N2, N3))
    assert "DOWN" not in told.said
    assert "ENDED EARLY" not in told.said
    again = site.run("play", site.book(SHIPPED), release=1)
    assert again.code == 1, again.said
    again.has(f"NOT REACHED {N4}: in quarantine since", "chat: 3 of 4 replicas serve")
    assert re.search(rf"^{N4} *: .*unreachable=1", again.said, re.MULTILINE)
    assert site.run("play", site.book(SHIPPED), "--limit", N4, release=1).code == 1
    site.fleet.happen(N4, "back")


def test_what_serves_is_told_of_all_hosts_and_a_crashed_one_is_no_canary_beside_others(site: Site) -> None:
    for host in (N3, N4):
        site.fleet.happen(host, "die")
    site.fleet.happen(N4, "break")
    told = site.run("play", site.book(SHIPPED.replace("max_fail: 0", "max_fail: 1")), release=0)
    assert told.code == 1, told.said
    told.has(f"roll, canary: {N3}\n", f"roll, new hosts: {N4}\n", f"FAILED {N4}", "chat: 3 of 4 replicas serve\n")


def test_sigterm_says_what_was_put_back_what_serves_and_what_to_type(site: Site) -> None:
    at = f"{N1}: wait until chat-0-new is ready"
    told = site.run("play", site.book(SHIPPED), release=1, at=at, then=lambda process: process.terminate())
    assert told.code == 130, told.said
    told.has(
        f"put back, as they were: {N1}",
        "not begun, as they were: node-[002:004]",
        "chat: 4 of 4 replicas serve",
        "next: invoke",
    )
    assert told.said.count("interrupted;") == 1
    shown = site.run("runs.show", "last")
    shown.has(f"put back, as they were: {N1}", "not begun: node-[002:004]")
    assert "CUT OFF" not in shown.said


CANARY = """\
- {name: bring, hosts: all, stages: [preflight, image, distribute]}
- {name: roll, hosts: all, canary: node-001, min_available: 50%, min_healthy_time: 0s, stages: [serve, verify]}
"""


def test_a_named_canary_that_was_verified_lets_the_resumed_run_go_on(site: Site) -> None:
    book = site.book(CANARY)
    killed = site.run("play", book, release=1, at="roll, batch 2: ", then=lambda process: process.kill())
    assert killed.code == -9
    told = site.run("play", book, "--resume", "--lock-wait", "1m", release=1)
    assert told.code == 0, told.said
    told.has("the canary 'node-001' was verified by the run that this one goes on from")


def test_for_a_named_canary_outside_the_limit_another_host_stands_in(site: Site) -> None:
    told = site.run("play", site.book(CANARY), "--limit", f"{N2},{N3}", release=1)
    assert told.code == 0, told.said
    told.has(f"'node-001' does not take part; {N2} goes first in its place", f"roll, canary: {N2}\n")


def unfit(site: Site, *hosts: str) -> tuple[str, str]:
    """Hosts that promise more GPUs than they have."""
    path = site.fleet.folder / "unfit.yaml"
    gpus = "{fleet: {gpus: {model: MI300X, count: 16}}}"
    path.write_text(f"all: {{hosts: {{{', '.join(f'{host}: {gpus}' for host in hosts)}}}}}\n", encoding="utf-8")
    return "--inventory", str(path)


def test_a_named_canary_that_is_not_fit_ends_the_run_before_anything_is_touched(site: Site) -> None:
    told = site.run("play", site.book(CANARY), release=1, last=unfit(site, N1))
    assert told.code == 1, told.said
    told.has(f"ENDED EARLY: the canary {N1} is not fit", f"FAILED {N1}: is not fit", "chat: 4 of 4 replicas serve")
    assert "pull" not in told.said


def test_many_hosts_that_are_not_fit_end_the_run_before_anything_is_touched_and_a_single_one_does_not(
    site: Site,
) -> None:
    told = site.run("play", site.book(SHIPPED), release=1, last=unfit(site, N2, N3))
    assert told.code == 1, told.said
    told.has("ENDED EARLY: 2 hosts are not fit, and max_fail is 25%", f"not begun, as they were: {N1}, {N4}")
    assert not any(told.changed.values())
    told = site.run("play", site.book(SHIPPED), release=1, last=unfit(site, N3))
    assert told.code == 1, told.said
    assert [host for host in HOSTS if told.changed[host]] == [N1, N2, N4]


def both(site: Site, *limits: str) -> tuple[list[Told], int]:
    """A roll of each limit, from two controllers in the same moment; the fewest hosts that served meanwhile."""
    book = site.book(CANARY.replace("canary: node-001, min_available: 50%", "max_fail: 100%, min_available: 75%"))
    running = [
        site.start("play", book, "--limit", limit, release=1, folder=f"controller-{number}")
        for number, limit in enumerate(limits)
    ]
    lowest = len(HOSTS)
    while any(process.poll() is None for process in running):
        lowest = min(lowest, site.fleet.serving())
        time.sleep(0.02)
    return [Told(process.returncode, process.communicate()[0]) for process in running], lowest


def test_two_rolls_over_halves_of_a_fleet_do_not_each_spend_the_whole_budget(site: Site) -> None:
    told, lowest = both(site, f"{N1},{N2}", f"{N3},{N4}")
    assert lowest >= 3, told
    assert 0 in {one.code for one in told}, told  # the one that began first goes on
    for one in told:
        assert one.code == 0 or "not replaced: 2 of 4 replicas of chat serve" in one.said, one.said


def test_a_roll_that_waits_for_another_one_goes_by_what_that_one_left_behind(site: Site) -> None:
    """When it was typed three of the hosts were on its release still, so that there was nothing to do on them."""
    older = site.start("play", site.book(SHIPPED), release=1, folder="older")
    assert older.stdout is not None
    assert any(f"{N1}: rename chat-0-new to chat-0" in line for line in older.stdout)
    older.send_signal(signal.SIGSTOP)  # until the other one waits for it
    beside = site.run("play", site.book(SHIPPED), release=0)
    assert beside.code == 1, beside.said
    beside.has(f"FAILED {N1}: the host is locked by", "warning node-[002:004]: right as it was found, but locked by")
    assert not any(beside.changed.values())

    def go_on(_process: Popen[str]) -> None:
        older.send_signal(signal.SIGCONT)

    waits = ("play", site.book(SHIPPED), "--lock-wait", "5m")
    told = site.run(*waits, release=0, at="waiting up to 300 s", then=go_on)
    assert older.wait() == 0, older.stdout.read()
    assert told.code == 0, told.said
    told.has("node-[001:004]: locked by ", "every host is looked at again", f"roll, canary: {N1}")
    assert all(told.changed[host] for host in HOSTS), told.said
    again = site.run(*waits, release=0)
    assert not any(again.changed.values()), again.said
