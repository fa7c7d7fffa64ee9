"""Ten nights of a small fleet, a day apart, with all that happens to one: a real git repository, real builds of the stand-in,
a registry and two hosts; the calendar alone is pretended.

The tests of this module are one story and run in their order.
"""

import json
import random
from collections.abc import Iterator

import pytest

from tests.lab import night_events as events
from tests.lab.night_events import Story, killed
from tests.lab.night_promise import assert_bounded, assert_kept, assert_told
from tests.lab.nights import CANARY, NIGHTLY, OTHER, night_site

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with night_site("night", tmp_path_factory.mktemp("nights")) as site:
        yield Story(site, 10, random.Random(1))  # noqa: S311  nothing is drawn


def test_night_1_a_new_commit_is_built_proved_and_promoted(story: Story) -> None:
    """On hosts that serve nothing yet."""
    story.play(events.new_commit)
    (report,) = story.site.reports()
    assert report["canaries"] == [CANARY]
    (image,) = report["images"]
    assert image["tag"] == f"{report['id'][:8]}-{story.good[:9]}-{image['key']}"
    assert story.good in story.site.lock
    assert [one["rocm"] for one in report["smoke"]] == ["6.4.3-128"]
    assert {one["image"] for one in report["stages"]} == {"vllm-rocm"}
    assert "build_vllm" in {one["stage"] for one in report["stages"]}
    assert report["pruned"]["failed"] == {}
    assert [phase["name"] for phase in report["phases"]][-1] == "prune"


def test_night_2_a_new_base_is_a_new_image_and_waits_for_promote_where_the_inventory_says_so(story: Story) -> None:
    """The commit is the same, so what hosts run is told by their images."""

    def waits(story: Story) -> None:
        site = story.site
        manual = site.over(json.dumps({"all": {"vars": {"fleet": {"nightly": {"promote": "manual"}}}}}))
        before, lock = site.images(OTHER), site.lock
        events.change_base(story)
        done = manual.run("nightly")
        assert done.returncode == 0, done.stderr
        assert (site.images(OTHER), site.lock, site.phases()[-1]) == (before, lock, "prune")
        assert before < site.images(CANARY)
        done = manual.run("promote")
        assert done.returncode == 0, done.stderr
        assert site.images(OTHER) == site.images(CANARY)
        assert manual.run("promote").returncode == 2

    story.play(waits)
    first, report = story.site.reports()
    assert report["result"] == "promoted"
    assert [one["replica"] for one in report["paces"]] == ["chat-0"]
    assert (report["images"][0]["commit"], report["upstream"]) == (first["images"][0]["commit"], [])
    assert story.site.running() == [story.good, story.good]


def test_night_3_a_broken_build_touches_no_host_and_is_not_tried_again(story: Story) -> None:
    site = story.site
    before, lock = [site.state_of(host) for host in (CANARY, OTHER)], site.lock

    def breaks(story: Story) -> None:
        events.broken_build(story)
        assert "build" in site.reports()[-1]["said"]
        assert site.phases()[-2:] == ["restore", "prune"]
        report = story.expect(1, "held")
        assert "build" not in site.phases()
        assert (site.phases()[-1], report["pruned"]["failed"]) == ("prune", {})
        story.expect(1, "failed", "--force")

    story.play(breaks)
    assert [site.state_of(host) for host in (CANARY, OTHER)] == before
    assert site.lock == lock


def test_night_4_an_image_that_fails_on_the_canary_goes_no_further_and_the_canary_goes_back(story: Story) -> None:
    other, lock = story.site.state_of(OTHER), story.site.lock
    story.play(events.garbage)
    report = story.site.reports()[-1]
    assert "the canary failed" in report["said"]
    assert (story.site.phases()[-1], report["pruned"]["failed"]) == ("prune", {})
    assert story.site.answers_on(CANARY)
    assert (story.site.state_of(OTHER), story.site.lock) == (other, lock)


def test_night_5_a_slow_image_goes_back_too_and_both_figures_are_told(story: Story) -> None:
    other, lock = story.site.state_of(OTHER), story.site.lock
    story.play(events.slow)
    report = story.site.reports()[-1]
    assert "slower by more than 85%" in report["said"]
    assert "tokens/s, before" in report["said"]
    assert story.site.answers_on(CANARY)
    assert (story.site.state_of(OTHER), story.site.lock) == (other, lock)


def test_night_6_a_registry_that_is_down_is_no_fault_of_the_commit(story: Story) -> None:
    before, lock = [story.site.state_of(host) for host in (CANARY, OTHER)], story.site.lock
    story.play(events.registry_down)
    assert [story.site.state_of(host) for host in (CANARY, OTHER)] == before
    assert story.site.lock == lock


def test_night_7_a_host_whose_disk_is_full_is_left_behind_by_the_commit_of_the_night_before(story: Story) -> None:
    waits = story.news
    story.play(events.disk_full)
    report = story.site.reports()[-1]
    assert story.site.running()[0] == waits
    assert OTHER in report["said"]
    assert [one["subject"] for one in report["upstream"]] == [f"commit {number}" for number in (5, 4, 3, 2)]
    assert "commit 5" in (story.site.nights[-1] / "report.html").read_text()


def test_night_8_a_host_that_is_down_is_left_behind(story: Story) -> None:
    story.play(events.node_down)
    promoted, kept = story.site.reports()[-2:]
    assert OTHER in promoted["said"]
    assert (kept["drift"], kept["owed"]) == ([], [OTHER])


def test_night_9_without_a_commit_nothing_changes_but_on_the_host_that_was_left_behind(story: Story) -> None:
    before, lock = story.site.state_of(CANARY), story.site.lock
    story.play(events.no_commit)
    assert (story.site.state_of(CANARY), story.site.lock) == (before, lock)


def test_night_10_is_killed_twice_and_begun_again_and_two_at_once_are_refused(story: Story) -> None:
    site = story.site
    old, lock, playbook = story.good, site.lock, site.controller.directory / "playbooks/nightly.yaml"

    def half() -> bool:
        return site.running() == [new, old]

    def refused() -> bool:
        if not half():
            return False
        second = site.controller.run("nightly")
        assert second.returncode == 1
        assert "another night is running here" in second.stderr
        return True

    def twice(story: Story) -> None:
        killed(story, "canary")
        assert site.lock == lock
        # Its first batch is the second host, which lacks the image; and there it stands, before anything is replaced.
        playbook.write_text(
            NIGHTLY.replace("distribute], max_fail: 100%", "distribute], max_fail: 100%, serial: 1, pause: 10m")
        )
        killed(story, "promote", refused)
        playbook.write_text(NIGHTLY)
        assert (site.lock, half()) == (lock, True)
        first, second = site.reports()[-2:]
        story.good = new
        report = story.expect(0, "promoted")
        assert [second["continues"], report["continues"]] == [first["id"], second["id"]]
        assert report["before"] == first["before"]

    new = story.commit()
    story.play(twice)
    assert new in site.lock


def test_after_ten_nights_hosts_builder_and_registry_have_what_retention_promises(story: Story) -> None:
    assert_kept(story.site)


def test_after_ten_nights_there_is_a_report_of_every_one_and_a_page(story: Story) -> None:
    ended = [report["result"] for report in story.site.reports() if report["result"]]
    assert ended == [
        "promoted", "promoted", "failed", "held", "failed", "failed", "failed", "failed",
        "promoted", "promoted", "kept", "kept", "promoted",
    ]  # fmt: skip
    assert_told(story.site, 10)


def test_after_ten_nights_disks_hold_no_more_than_after_five(story: Story) -> None:
    assert_bounded(story, 5)
