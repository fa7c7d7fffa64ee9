"""A sideload that is broken off in every way goes on where it stopped, counted on the wire.

The hosts are behind a bastion and pull from nobody. One has the classic image store, one containerd's. The tests of this
module are one story: each takes the image away, breaks a transfer, and ends with one that is whole; a deploy after the last
of them has nothing to bring.
"""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.lab import Lab, NodeSpec, faults
from tests.lab.cli import Controller
from tests.lab.conftest import BASTION, OFFLINE
from tests.lab.rolls import Fleet, fleet_of, within

pytestmark = pytest.mark.lab

HOST = OFFLINE.name
MODERN = NodeSpec("mi300x-off-02", profile="mi300x-8", offline=True, base="trixie", containerd_store=True)
MIB = 1 << 20
BALLAST = 40 * MIB
TWICE = 4 * MIB  # at most so much is sent again
TALK = 2 * MIB  # everything else that goes to a host in two runs: looks, keys, the frames of SSH and TCP
STAGE = "/var/tmp/fleet"
# Slow enough to be broken at a chosen byte, quick to notice; slower where little is left to go.
LIMITS = {0.3: "16MB/s", 0.5: "16MB/s", 0.6: "16MB/s", 0.99: "3MB/s"}
SHARES = (0.6, *(pytest.param(share, marks=pytest.mark.matrix) for share in (0.3, 0.99)))


def over(limit: str) -> dict[str, object]:
    return {"all": {"vars": {"fleet": {"sideload": {"limit": limit, "stall": 6}}}}}


@dataclass(frozen=True)
class Story:
    fleet: Fleet
    sizes: dict[str, int]  # release -> bytes of all its layers

    def wants(self, release: str = "a", limit: str = "16MB/s") -> Controller:
        return self.fleet.wants(release, over=over(limit))

    @property
    def lab(self) -> Lab:
        return self.fleet.lab

    def wire(self, host: str) -> int:
        """Bytes that went to the host so far, as its cable counts them."""
        links = [link.outside for link in self.lab.node(host).links]
        return sum(int((Path("/sys/class/net") / link / "statistics/tx_bytes").read_text()) for link in links)

    def staged(self, host: str) -> int:
        found = 0
        for path in (self.lab.node(host).root / f"{STAGE.lstrip('/')}/sideload/blobs").rglob("*"):
            with suppress(OSError):  # a name may change meanwhile
                found += path.stat().st_size if path.is_file() else 0
        return found

    def take_away(self, host: str) -> None:
        self.fleet.sh(
            host, "docker rm -f chat-0 chat-0-previous; docker rmi -f $(docker images -q); docker image prune -af; true"
        )

    def settled(self, host: str, release: str = "a") -> None:
        """A plain sideload ends well, the host holds the image, and nothing is staged any more."""
        code, document = self.wants(release).ask("sideload", "--limit", host)
        assert (code, document["failed"]) == (0, {})
        assert self.fleet.sh(host, f"ls -d {STAGE}* 2>/dev/null || true") == ""
        assert self.held(host, document)

    def held(self, host: str, document: Any) -> bool:
        """The image under its name, with the release's own identity, as a command told it."""
        ((name, known),) = document["images"]["releases"].items()
        found = json.loads(self.fleet.docker(host, "image", "inspect", name))[0]
        same = found["RootFS"]["Layers"] == known["diff_ids"]
        return same and found["Id"] in (known["config_digest"], known["manifest_digest"])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("resume")
    with fleet_of("resume", folder, BASTION, OFFLINE, MODERN, ballast=BALLAST) as fleet:
        made = Story(fleet, {})
        for release in "ab":
            assert made.wants(release).run("build").returncode == 0
            _, document = made.wants(release).ask("plan")
            ((_, known),) = document["images"]["releases"].items()
            made.sizes[release] = known["bytes"]
        yield made


def under_way(
    story: Story, host: str, share: float, release: str = "a", said: list[str] | None = None
) -> subprocess.Popen[str]:
    """A sideload of which so much has arrived; what it says goes into `said`."""
    process = story.wants(release, LIMITS[share]).start("sideload", "--limit", host)
    lines = [] if said is None else said
    threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True).start()
    wanted = share * story.sizes[release]
    assert within(90, lambda: process.poll() is not None or story.staged(host) >= wanted, every=0.01)
    assert process.poll() is None, "it ended before it was broken"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


@pytest.mark.parametrize("share", SHARES)
def test_a_killed_controller_leaves_what_staging_tells_and_is_gone_on_from_by_the_next_run(
    story: Story, share: float
) -> None:
    story.take_away(HOST)
    before = story.wire(HOST)
    kill(under_way(story, HOST, share))
    code, document = story.wants().ask("plan", "--limit", HOST)
    (step,) = [one for one in document["hosts"][HOST]["steps"] if one["what"].startswith("sideload")]
    assert code == 0
    assert f"are staged in {STAGE}" in step["why"]
    assert step["size"] <= (1 - share) * story.sizes["a"]
    code, document = story.wants().ask("staging", "--limit", "mi300x-off-*")
    assert code == 0
    (image,) = document["hosts"][HOST]["images"]
    assert image["name"].startswith("vllm-rocm:")
    assert share * image["size"] <= image["bytes"] <= image["size"]
    assert image["age"] < 60
    assert document["hosts"][MODERN.name]["images"] == []
    story.settled(HOST)
    assert story.wire(HOST) - before <= story.sizes["a"] * 1.02 + TWICE + TALK


@pytest.mark.parametrize("megabytes", [33, *(pytest.param(size, marks=pytest.mark.matrix) for size in (16, 52))])
def test_a_cut_link_that_comes_back_is_gone_on_over_by_the_same_command(story: Story, megabytes: int) -> None:
    story.take_away(HOST)
    before = story.wire(HOST)
    faults.inject(story.lab, f"link-cut:after={megabytes}MB", HOST)
    process = story.wants().start("sideload", "--limit", HOST)
    links = [link.outside for link in story.lab.node(HOST).links]
    try:
        assert within(60, lambda: all(map(down, links)))
        time.sleep(8)
    finally:
        faults.mend(story.lab, HOST)
    _, said = process.communicate(timeout=150)
    assert process.returncode == 0, said
    assert "going on over a new connection" in said
    assert "OpenSSH's client" not in said  # it was let in, through the bastion too, and carried the bytes
    assert story.wire(HOST) - before <= story.sizes["a"] * 1.02 + TWICE + TALK
    story.settled(HOST)


DROPS = {
    "nothing comes in": ("iptables -I INPUT -p tcp --dport 22 -j DROP", "iptables -D INPUT -p tcp --dport 22 -j DROP"),
    "nothing goes out": (
        "iptables -I OUTPUT -p tcp --sport 22 -j DROP",
        "iptables -D OUTPUT -p tcp --sport 22 -j DROP",
    ),
}


@pytest.mark.matrix
@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("how", DROPS)
def test_a_link_that_goes_silent_is_noticed_by_lack_of_progress_and_gone_on_over(
    story: Story, how: str, share: float
) -> None:
    """No connection is reset: packets go nowhere for a while."""
    begin, end = DROPS[how]
    story.take_away(HOST)
    before, said = story.wire(HOST), list[str]()
    process = under_way(story, HOST, share, said=said)
    story.fleet.sh(HOST, begin)
    try:
        assert within(60, lambda: "going on over a new connection" in "".join(said))
        time.sleep(5)
    finally:
        story.fleet.sh(HOST, end)
    assert process.wait(timeout=200) == 0, "".join(said)
    assert "nothing moved for" in "".join(said)
    sent = story.wire(HOST) - before
    assert sent <= story.sizes["a"] * 1.02 + TWICE + TALK
    story.settled(HOST)


@pytest.mark.parametrize("percent", [3, *(pytest.param(percent, marks=pytest.mark.matrix) for percent in (1, 5))])
def test_a_link_that_loses_packets_both_ways_is_only_slower(story: Story, percent: int) -> None:
    story.take_away(HOST)
    before = story.wire(HOST)
    lose = f"-m statistic --mode random --probability {percent / 100} -j DROP"
    story.fleet.sh(HOST, f"iptables -I INPUT {lose}; iptables -I OUTPUT {lose}")
    try:
        done = story.wants().run("sideload", "--limit", HOST)
        counted = story.fleet.sh(HOST, "iptables -nvxL INPUT 1")
    finally:
        story.fleet.sh(HOST, f"iptables -D INPUT {lose}; iptables -D OUTPUT {lose}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(counted.split()[0]) > 0  # packets were lost
    # What is lost is sent again by TCP, now and then with what came after it.
    assert story.wire(HOST) - before <= story.sizes["a"] * (1.02 + 3 * percent / 100) + TWICE + TALK
    story.settled(HOST)


def down(link: str) -> bool:
    return not int((Path("/sys/class/net") / link / "flags").read_text(), 16) & 1


def test_a_restart_of_sshd_is_survived_by_the_same_command(story: Story) -> None:
    story.take_away(HOST)
    before = story.wire(HOST)
    process = under_way(story, HOST, 0.5)
    node = story.lab.node(HOST)
    node.stop_sshd()
    time.sleep(3)
    node.start_sshd()
    assert process.wait(timeout=120) == 0
    assert story.wire(HOST) - before <= story.sizes["a"] * 1.02 + TWICE + TALK
    story.settled(HOST)


@pytest.mark.parametrize("share", SHARES)
def test_a_reboot_of_the_host_is_survived_by_the_same_command(story: Story, share: float) -> None:
    story.take_away(HOST)
    process = under_way(story, HOST, share)
    staged = story.staged(HOST)
    story.lab.node(HOST).reboot()  # its cables are new ones, and so are their counters
    assert process.wait(timeout=200) == 0
    assert story.wire(HOST) <= (story.sizes["a"] - staged) * 1.02 + TWICE + TALK
    story.settled(HOST)


@pytest.mark.parametrize("host", [HOST, MODERN.name])
def test_only_the_layers_that_a_store_lacks_are_sent(story: Story, host: str) -> None:
    story.take_away(host)
    story.settled(host, "a")
    before = story.wire(host)
    _, document = story.wants("b").ask("plan", "--limit", host)
    (step,) = [one for one in document["hosts"][host]["steps"] if one["what"].startswith("sideload")]
    store = "classic" if host == HOST else "containerd"
    assert f"its {store} store has 1 of 2 layers" in step["why"]
    story.settled(host, "b")
    assert story.wire(host) - before <= BALLAST * 1.02 + TALK
    assert story.sizes["b"] > BALLAST + 4 * TALK  # else this shows nothing
    whole = story.fleet.sh(host, "docker save $(docker images -q | head -n 1) | wc -c")
    assert int(whole) > BALLAST


def test_what_is_old_goes_by_itself(story: Story) -> None:
    story.take_away(HOST)
    kill(under_way(story, HOST, 0.3, "b"))
    story.fleet.sh(HOST, f"touch -d '9 days ago' {STAGE}/sideload/images/*/name")
    story.settled(HOST, "a")


def test_a_deploy_serves_it(story: Story) -> None:
    before = story.wire(HOST)
    code, document = story.wants("a").ask("deploy")
    assert (code, document["failed"]) == (0, {})
    assert story.wire(HOST) - before < TALK
    code, again = story.wants("a").ask("deploy")
    assert changed(again) == {HOST: 0, MODERN.name: 0}
    assert story.fleet.serving(HOST)


def changed(document: Any) -> dict[str, int]:
    return {name: host["changed"] for name, host in document["hosts"].items()}
