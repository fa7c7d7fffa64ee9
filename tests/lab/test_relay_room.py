"""A relay whose disk is full, before its store is filled and while it is: the others are not left without their image."""

from collections.abc import Iterator

import pytest

from tests.lab.registry_image import registry_archive
from tests.lab.relay_story import BALLAST, DISTRIBUTE, FIRST, LIMIT, MIB, ROOTS, SECOND, SPECS, Story, UnderWay, well
from tests.lab.rolls import fleet_of

pytestmark = [pytest.mark.lab, pytest.mark.matrix]

STORE = "/var/tmp/fleet"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("room")
    with fleet_of("room", folder, *SPECS, ballast=BALLAST) as fleet:
        made = Story(fleet, registry_archive(folder / "registry.tar"))
        assert made.wants("a").run("build").returncode == 0
        yield made


@pytest.fixture
def disk(story: Story) -> Iterator[None]:
    """Where the first host stages and keeps its store lies a disk of its own, of 8 GiB, which take no memory."""
    story.take_away(*ROOTS, registry=True)
    for host in ROOTS:
        story.fleet.sh(host, f"rm -rf {STORE}*")
    story.fleet.sh(FIRST, f"mkdir -p {STORE} && mount -t tmpfs -o size=8g,mode=0755 tmpfs {STORE}")
    yield
    story.fleet.sh(FIRST, f"umount -l {STORE}; true")


def full(story: Story) -> None:
    """From now on it has a MiB more than is on it."""
    used = f"$(($(df -B1 --output=used {STORE} | tail -n 1) + {MIB}))"
    story.fleet.sh(FIRST, f"mount -o remount,size={used} {STORE}")


def ended_well(story: Story) -> None:
    well(story.wants("a"), *DISTRIBUTE, *LIMIT)
    assert story.hold(*ROOTS)
    assert story.left(*ROOTS) == []


@pytest.mark.usefixtures("disk")
def test_a_relay_without_room_is_said_before_a_byte_moves_and_another_one_serves(story: Story) -> None:
    full(story)
    done = story.wants("a").run(*DISTRIBUTE, *LIMIT, timeout=400)
    assert done.returncode == 1, done.stderr
    assert f"FAILED {FIRST}: is not fit, and was left alone: space_" in done.stderr
    assert f"{SECOND}: is the relay at" in done.stderr
    assert [story.hold(host) for host in ROOTS] == [False, True, True]
    story.fleet.sh(FIRST, f"mount -o remount,size=8g {STORE}")
    ended_well(story)


@pytest.mark.usefixtures("disk")
def test_a_relay_whose_disk_gets_full_while_its_store_is_filled_is_replaced_and_that_is_said(story: Story) -> None:
    running = UnderWay(story, "a")
    try:
        running.until(lambda: f"{FIRST}: fill the relay's store" in running.said and " %)" in running.said)
        full(story)
        code = running.process.wait(timeout=400)
    finally:
        story.mend()
    assert code == 0, running.said
    assert f"{FIRST}: could not be the relay: could not fill the relay's store" in running.said
    assert "No space left on device" in running.said
    assert f"{SECOND}: is the relay at" in running.said
    assert story.hold(*ROOTS)
    assert story.left(*ROOTS) == []
    story.fleet.sh(FIRST, f"mount -o remount,size=8g {STORE}")
    ended_well(story)
