"""What there has to be after the nights of a Story whose last two releases came to every host."""

import time

from fleet.prune.controller import NEWEST
from fleet.report.units import bytes_of
from tests.lab.night_events import Story
from tests.lab.nights import BUILDER, CACHE, CANARY, DAY, LOGS, OTHER, WEIGHT, Nights

BOOKS = 48e6  # bytes: of databases of 16 MB, and of fifty builds
OURS = ("remove image vllm-rocm:", "remove volume fleet-cache-", "remove container chat-0-previous")


def assert_kept(site: Nights) -> None:
    """Two releases on hosts, builder and registry: the one that runs, and the one that a roll-back takes."""
    good = [one["images"][0] for one in site.reports() if one["result"] == "promoted"][-2:]
    promised = {one["release"] for one in good}
    assert len(promised) == 2
    for host in (CANARY, OTHER):
        assert site.images(host) == promised
        assert site.docker(host, "inspect", "-f", "{{.Config.Image}}", "chat-0") == good[-1]["release"]
        assert site.containers(host) == {"chat-0"}
    built = site.docker(BUILDER.name, "images", "--format", "{{.Tag}}", "vllm-rocm").split()
    assert {tag for tag in built if tag.startswith("build-")} == {f"build-{one['key']}" for one in good}
    assert {f"vllm-rocm:{digest.removeprefix('sha256:')[:12]}" for digest in site.shelved()} == promised
    pruned = [host for one in site.reports() for host in one.get("pruned", {}).get("hosts", {}).values()]
    removed = {step["what"] for host in pruned for step in host["removed"]}
    assert removed
    assert all(what.startswith(OURS) for what in removed), removed
    code, document = site.controller.ask("prune", "--check")
    assert (code, document["failed"]) == (0, {})
    assert all(not one["planned"] for one in (*document["hosts"].values(), *document["places"].values())), document


def assert_told(site: Nights, nights: int) -> None:
    """A report and a page of every night, on as many days."""
    assert len({path.name[:8] for path in site.nights}) == nights
    for path in site.nights:
        assert f"Night {path.name}" in (path / "report.html").read_text(), path


def assert_bounded(story: Story, early: int) -> None:
    """Disks hold no more than after the night `early`, but for less than what one build has of its own; and old files went.

    How much of its limit a builder's cache fills is chance, for it goes layer by layer. So the cache has to be within the
    limit, and without it the builder has to hold no more than after the first night, but for one image: the one to go back to.
    """
    first, then, now = story.disk[0], story.disk[early - 1], story.disk[-1]
    grown = {name: size - then[name] for name, size in now.items() if size > then[name] + WEIGHT * 1e6 / 2}
    assert not {name: size for name, size in grown.items() if name not in (BUILDER.name, "books")}, story.disk
    assert now["books"] < BOOKS
    assert story.site.build_cache() <= bytes_of(CACHE)
    story.site.docker(BUILDER.name, "builder", "prune", "--all", "--force")
    images = story.site.disk()[BUILDER.name]
    assert images < first[BUILDER.name] + 1.5 * WEIGHT * 1e6, (images, story.disk)
    story.site.day(0)
    root = story.site.controller.directory / ".fleet"
    files = (*sorted((root / "runs").iterdir())[:-NEWEST], *(root / "logs").iterdir())
    ages = {path.name: (time.time() - path.stat().st_mtime) / DAY - story.days - 1 for path in files}
    assert {name: age for name, age in ages.items() if age > LOGS + 0.1} == {}  # days before the last night
