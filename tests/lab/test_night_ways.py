"""Ways to an image that the ten nights do not take, and nights that are stopped: by SIGTERM, as `systemctl stop` does it,
and by kill -9.

The tests of this module are one story and run in their order.
"""

import json
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.image.registry_api import RegistryClient
from fleet.inventory import load
from fleet.inventory.settings import Registry
from tests.lab import night_events as events
from tests.lab.night_events import Story
from tests.lab.nights import BUILDER, CANARY, NIGHTLY, OTHER, Nights, night_site
from tests.lab.rolls import within
from tests.proc import command_lines, working_in

pytestmark = pytest.mark.lab

# Where a new container has to stay well for ten minutes, the roll is caught in the middle: on the canary, or on the other host.
CANARY_FIRST = NIGHTLY.replace("min_healthy_time: 1s", "min_healthy_time: 10m", 1)
PLAYBOOKS = {
    "canary": CANARY_FIRST,
    "promote": NIGHTLY.replace("100%, min_healthy_time: 1s", "100%, min_healthy_time: 10m"),
}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with night_site("ways", tmp_path_factory.mktemp("ways")) as site:
        made = Story(site, 10, random.Random(1))  # noqa: S311  nothing is drawn
        made.play(events.new_commit)
        yield made


def registry_of(site: Nights) -> Registry:
    found = load([str(path) for path in site.controller.inventories]).hosts[CANARY].settings.registry
    assert found is not None
    return found


def last_good(site: Nights) -> str:
    with RegistryClient(registry_of(site)) as client:
        return client.digest("vllm-rocm", "last-good")


def busy(site: Nights) -> str:
    """What a night has left running on the builder."""
    return site.sh(BUILDER.name, "grep -lasE 'skope[o]|docker.buil[d]' /proc/[0-9]*/cmdline || true")


def slow_fetch(folder: Path) -> str:
    """A directory of configurations, with one of git by which a repository's packs take for ever."""
    hook, config = folder / "pack-nothing", folder / "config/git/config"
    config.parent.mkdir(parents=True, exist_ok=True)
    hook.write_text("#!/bin/sh\nwhile echo counting >&2; do sleep 0.5; done\n")
    hook.chmod(0o755)
    config.write_text(f"[uploadpack]\n\tpackObjectsHook = {hook}\n")
    return str(folder / "config")


def fetching() -> list[bytes]:
    """What such a fetch has left running here."""
    return [words for _, words in command_lines() if b"pack-nothing\x00" in words]


def begun(site: Nights, host: str) -> bool:
    return "chat-0-new" in site.docker(host, "ps", "--format", "{{.Names}}").split()


READY: dict[str, Callable[[Nights], bool]] = {
    "fetch": lambda _: bool(fetching()),
    "build": lambda site: "build" in site.phases() and bool(busy(site)),
    "push": lambda site: site.uploads(),
    "canary": lambda site: begun(site, CANARY),
    "promote": lambda site: begun(site, OTHER),
}
TERM, KILL = signal.SIGTERM, signal.SIGKILL
STOPS = [
    ("promote", TERM),
    *((moment, sign) for sign in (TERM, KILL) for moment in ("fetch", "build", "push", "canary")),
]


@pytest.mark.matrix
@pytest.mark.parametrize(("moment", "sign"), STOPS)
def test_a_night_that_is_stopped_leaves_all_as_it_was_and_the_next_one_begins_cleanly(
    story: Story, moment: str, sign: signal.Signals
) -> None:
    site, count = story.site, len(story.site.nights)
    before, lock, good = [site.state_of(host) for host in (CANARY, OTHER)], site.lock, last_good(site)
    new = story.commit("RUN sleep 5\n" if moment == "build" else "")
    playbook = site.controller.directory / "playbooks/nightly.yaml"
    playbook.write_text(PLAYBOOKS.get(moment, NIGHTLY))
    with site.slow_registry(slow=moment == "push"):
        slow = {"XDG_CONFIG_HOME": slow_fetch(site.folder)} if moment == "fetch" else {}
        process = site.controller.start("nightly", **slow)

        def there() -> bool:
            return (len(site.nights) > count and READY[moment](site)) or process.poll() is not None

        try:
            assert within(250, there, every=0.05)
            process.send_signal(sign)
            said = "".join(process.communicate(timeout=250))
        finally:
            process.kill()
    playbook.write_text(NIGHTLY)

    report = site.reports()[-1]
    assert "Traceback" not in said
    assert within(20, lambda: not (busy(site) or fetching())), (busy(site), fetching())
    assert within(20, lambda: working_in(site.controller.directory) == [])
    if sign == KILL:
        assert (process.returncode, report["result"]) == (-KILL, ""), said
    else:
        assert (process.returncode, report["result"], report.get("not_back", [])) == (130, "interrupted", []), said
        assert "interrupted" in (site.nights[-1] / "report.html").read_text()
    assert (site.lock, last_good(site)) == (lock, good)
    if (moment, sign) == ("canary", KILL):  # the host itself puts its container back
        assert within(100, lambda: site.running()[0] == story.good and site.answers_on(CANARY))
    assert site.running() == [story.good, story.good]
    assert [site.answers_on(host) for host in (CANARY, OTHER)] == [True, True]
    first, second = (site.state_of(host) for host in (CANARY, OTHER))
    assert second == before[1] or moment == "promote"
    assert first == before[0] or moment == "promote" or (moment, sign) == ("canary", KILL)
    story.good = new
    assert (story.expect(0, "promoted")["continues"] == "") == (sign == TERM or moment == "fetch")  # is there anything?


@pytest.mark.matrix
def test_a_registry_that_dies_in_the_middle_of_the_push_fails_the_night_and_the_next_one_brings_the_commit(
    story: Story,
) -> None:
    story.play(events.registry_dies)
    story.play(events.new_commit)


def test_a_new_digest_behind_a_prebuilt_tag_is_a_new_release(story: Story) -> None:
    site = story.site
    site.day(0)
    first, registry = story.good, registry_of(site)
    second, served = story.commit(), last_good(site)
    assert site.controller.run("build", "--update").returncode == 0
    code, told = site.controller.ask("push")
    assert code == 0
    ((_, release),) = told["releases"].items()
    with RegistryClient(registry) as client:
        client.tag("vllm-rocm", served, "team")
    image = {"source": None, "prebuilt": f"{registry.host}/vllm-rocm:team"}
    brought = site.over(json.dumps({"all": {"vars": {"fleet": {"image": image}}}}))
    done = brought.run("deploy")
    assert done.returncode == 0, done.stderr
    assert site.running() == [first, first]
    with RegistryClient(registry) as client:
        client.tag("vllm-rocm", release["manifest_digest"], "team", move=True)
    assert brought.run("deploy").returncode == 0
    assert site.running() == [first, first]  # what runs is what the lock says
    for result, tried in (("promoted", ["6.4.3-128"]), ("kept", [])):
        done = brought.run("nightly")
        report = site.reports()[-1]
        assert (done.returncode, report["result"]) == (0, result), done.stderr
        assert [one["rocm"] for one in report.get("smoke", [])] == tried
        assert "vllm-rocm:smoke-" not in site.docker("builder", "images", "--format", "{{.Repository}}:{{.Tag}}")
        assert site.running() == [second, second]


@pytest.mark.matrix
def test_an_own_base_goes_into_the_registry_once_and_serves_the_next_commit(story: Story) -> None:
    site = story.site
    site.day(0)
    base = {"args": {"BASE_IMAGE": "rocm/vllm-dev:base"}}
    own = site.over(json.dumps({"all": {"vars": {"fleet": {"image": {"source": {"base": base}}}}}}))
    _, told = own.ask("build", "--check")
    assert "build vllm-rocm-base:build-" in str(told["notes"]), told
    assert not site.docker("builder", "images", "--quiet", "vllm-rocm-base")
    code, told = own.ask("push")
    assert code == 0, told
    (pushed,) = [line for line in told["changed"] if line.startswith("pushed vllm-rocm-base:build-")]
    assert own.ask("push")[1]["changed"] == []

    site.commit("with no part in the base")
    site.docker("builder", "image", "rm", "--force", pushed.split()[1])
    second = replace(own, directory=site.folder / "second")
    second.directory.mkdir()
    _, told = second.ask("build", "--update", "--check")
    assert "its base is unchanged" in str(told["notes"]), told
    code, told = second.ask("build", "--update")
    assert (code, len(told["changed"])) == (0, 1), told
    assert not site.docker("builder", "images", "--quiet", "vllm-rocm-base")
