"""A few nights of a small fleet: a real git repository, real builds of the stand-in, a registry and two hosts.

The tests of this module are one story and run in their order.
"""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from fleet.image.registry_api import RegistryClient
from fleet.inventory import load
from tests.lab.cli import Controller
from tests.lab.nights import BUILDER, CANARY, NIGHTLY, OTHER, SLOW, Nights, night_site
from tests.lab.rolls import within

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    with night_site("night", tmp_path_factory.mktemp("nights")) as made:
        yield made


def test_a_new_commit_is_built_proved_and_promoted(site: Nights) -> None:
    first = site.commit("as it was")
    assert site.controller.run("deploy").returncode == 0
    assert site.running() == [first, first]
    new = site.commit("one thing more")
    code, report = site.night()
    assert (code, report["result"]) == (0, "promoted"), report
    assert site.running() == [new, new]
    assert new in site.lock
    assert report["canaries"] == [CANARY]
    assert [one["replica"] for one in report["paces"]] == ["chat-0"]
    (image,) = report["images"]
    assert image["tag"].endswith(f"-{new[:9]}-{image['key']}")
    assert [one["subject"] for one in report["upstream"]] == ["one thing more"]
    assert "one thing more" in (site.controller.directory / ".fleet/nights" / report["id"] / "report.html").read_text()
    assert [one["rocm"] for one in report["smoke"]] == ["6.4.3-128"]
    assert {one["image"] for one in report["stages"]} == {"vllm-rocm"}
    assert "build_vllm" in {one["stage"] for one in report["stages"]}
    assert report["pruned"]["failed"] == {}
    assert [phase["name"] for phase in report["phases"]][-1] == "prune"


def test_a_night_without_a_commit_changes_nothing(site: Nights) -> None:
    before, lock = [site.state_of(host) for host in (CANARY, OTHER)], site.lock
    code, report = site.night()
    assert (code, report["result"]) == (0, "kept"), report
    assert [site.state_of(host) for host in (CANARY, OTHER)] == before
    assert site.lock == lock


def test_a_broken_build_touches_no_host_and_is_not_tried_again(site: Nights) -> None:
    good, before, lock = site.running(), [site.state_of(host) for host in (CANARY, OTHER)], site.lock
    site.commit("does not build", last="RUN echo nothing works && false\n")
    code, report = site.night()
    assert (code, report["result"]) == (1, "failed")
    assert "nothing works" in report["said"] or "build" in report["said"]
    assert site.phases()[-2:] == ["restore", "prune"]
    code, report = site.night()
    assert (code, report["result"]) == (1, "held")
    assert "build" not in site.phases()
    assert (site.phases()[-1], report["pruned"]["failed"]) == ("prune", {})
    code, report = site.night("--force")
    assert (code, report["result"]) == (1, "failed")
    assert site.running() == good
    assert [site.state_of(host) for host in (CANARY, OTHER)] == before
    assert site.lock == lock


def test_an_image_that_fails_on_the_canary_goes_no_further_and_the_canary_goes_back(site: Nights) -> None:
    good, other, lock = site.running(), site.state_of(OTHER), site.lock
    site.commit("answers nonsense", last="ENV STANDIN_GARBAGE=1\n")
    code, report = site.night()
    assert (code, report["result"]) == (1, "failed")
    assert "the canary failed" in report["said"]
    assert (site.phases()[-1], report["pruned"]["failed"]) == ("prune", {})
    assert site.running() == good
    site.commit("is slow", last=SLOW)
    code, report = site.night()
    assert (code, report["result"]) == (1, "failed")
    assert "slower by more than 75%" in report["said"], report
    assert site.running() == good
    assert site.answers_on(CANARY)
    assert site.state_of(OTHER) == other
    assert site.lock == lock


def test_a_killed_night_is_begun_again_and_two_at_once_are_refused(site: Nights) -> None:
    (good, _), lock = site.running(), site.lock
    new = site.commit("well again")
    playbook = site.controller.directory / "playbooks/nightly.yaml"
    playbook.write_text(NIGHTLY.replace("max_fail: 100%, min", "max_fail: 100%, serial: 1, pause: 10m, min"))
    process = site.controller.start("nightly")
    try:
        assert within(250, lambda: "promote" in site.phases())  # and there it stands, before the second host
        second = site.controller.run("nightly")
        assert second.returncode == 1
        assert "another night is running here" in second.stderr
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        playbook.write_text(NIGHTLY)
    assert site.lock == lock
    killed = site.reports()[-1]
    assert (killed["result"], site.running()) == ("", [new, good])
    code, report = site.night()
    assert (code, report["result"], report["continues"]) == (0, "promoted", killed["id"]), report
    assert report["before"][CANARY] == killed["before"][CANARY]
    assert site.running() == [new, new] != [good, good]
    assert new in site.lock


def test_a_canary_waits_for_promote_where_the_inventory_says_so(site: Nights) -> None:
    (good, _), lock = site.running(), site.lock
    manual = site.over(json.dumps({"all": {"vars": {"fleet": {"nightly": {"promote": "manual"}}}}}))
    new = site.commit("waits")
    done = manual.run("nightly")
    assert done.returncode == 0, done.stderr
    assert (site.running(), site.lock, site.phases()[-1]) == ([new, good], lock, "prune")
    done = manual.run("promote")
    assert done.returncode == 0, done.stderr
    assert site.running() == [new, new]
    assert new in site.lock
    assert manual.run("promote").returncode == 2
    assert site.reports()[-1]["result"] == "promoted"


def test_after_all_these_nights_there_is_only_what_retention_promises(site: Nights) -> None:
    """Nine images were built; two were never well, and hosts, builder, registry and controller keep few."""
    report = site.reports()[-1]
    assert report["pruned"]["failed"] == {}
    pruned = [one["pruned"]["places"].values() for one in site.reports() if "pruned" in one]
    assert any(place["removed"] for places in pruned for place in places)
    for host in (CANARY, OTHER):
        releases = {
            one for one in site.docker(host, "images", "--format", "{{.Repository}}:{{.Tag}}").split() if ":" in one
        }
        ours = {one for one in releases if one.startswith("vllm-rocm:")}
        assert site.docker(host, "inspect", "-f", "{{.Config.Image}}", "chat-0") in ours
        assert len(ours) <= 4
        removed = [step["what"] for step in report["pruned"]["hosts"][host]["removed"]]
        assert all(words.startswith(("remove image vllm-rocm:", "remove volume fleet-cache-")) for words in removed)
    built = site.docker(BUILDER.name, "images", "--format", "{{.Tag}}", "vllm-rocm").split()
    assert 1 <= len([tag for tag in built if tag.startswith("build-")]) <= 4
    code, document = site.controller.ask("prune", "--check")
    assert (code, document["failed"]) == (0, {})
    assert [place["planned"] for place in (*document["hosts"].values(), *document["places"].values())] == [
        [] for _ in (*document["hosts"], *document["places"])
    ]


def test_a_new_digest_behind_a_prebuilt_tag_is_a_new_release(site: Nights) -> None:
    made = [one["images"][0] for one in site.reports() if one["result"] == "promoted"]
    first, second = made[-2:]  # earlier ones are pruned
    registry = load([str(path) for path in site.controller.inventories]).hosts[CANARY].settings.registry
    assert registry is not None
    with RegistryClient(registry) as client:
        client.tag("vllm-rocm", client.digest("vllm-rocm", first["tag"]), "team")
    image = {"source": None, "prebuilt": f"{registry.host}/vllm-rocm:team"}
    brought = site.over(json.dumps({"all": {"vars": {"fleet": {"image": image}}}}))
    done = brought.run("deploy")
    assert done.returncode == 0, done.stderr
    assert site.running() == [first["commit"], first["commit"]]
    with RegistryClient(registry) as client:
        client.tag("vllm-rocm", client.digest("vllm-rocm", second["tag"]), "team", move=True)
    assert brought.run("deploy").returncode == 0
    assert site.running() == [first["commit"], first["commit"]]  # what runs is what the lock says
    for result, tried in (("promoted", ["6.4.3-128"]), ("kept", [])):
        done = brought.run("nightly")
        report = site.reports()[-1]
        assert (done.returncode, report["result"]) == (0, result), done.stderr
        assert [one["rocm"] for one in report.get("smoke", [])] == tried
        assert "vllm-rocm:smoke-" not in site.docker("builder", "images", "--format", "{{.Repository}}:{{.Tag}}")
        assert site.running() == [second["commit"], second["commit"]]


def test_an_own_base_goes_into_the_registry_once_and_serves_the_next_commit(site: Nights) -> None:
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
    second = Controller(site.folder / "second", own.inventories)
    second.directory.mkdir()
    _, told = second.ask("build", "--update", "--check")
    assert "its base is unchanged" in str(told["notes"]), told
    code, told = second.ask("build", "--update")
    assert (code, len(told["changed"])) == (0, 1), told
    assert not site.docker("builder", "images", "--quiet", "vllm-rocm-base")
