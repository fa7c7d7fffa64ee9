"""A controller that is killed or interrupted while it makes an image: nothing of it goes on or stays, and a plain push ends it.

Before the last byte is in the registry an image is built on the builder, becomes an OCI layout there or here, and is pushed
from there or from here. The points are the functions that do this, so a new way to do it needs a new point.
"""

import itertools
import subprocess
from collections.abc import Iterator

import pytest

from fleet.lab import Lab
from tests.lab.conftest import MI300X, REGISTRY, lab_name
from tests.lab.kill_driver import Point
from tests.lab.killed import BUILDER, Site, git, goes_on, signed

pytestmark = [pytest.mark.lab, pytest.mark.matrix]

FINISHED: tuple[Point, ...] = (
    ("fleet.image.store:Store.keep", 1, "before"),
    ("fleet.image.store:Store.keep", 1, "after"),
    ("fleet.rollout.publish:publish_record", 1, "before"),
    ("fleet.rollout.publish:publish_record", 1, "after"),
    ("fleet.image.lock:write", 1, "before"),
    ("fleet.image.lock:write", 1, "after"),
    *(("os:fsync", number, "before") for number in (1, 2, 3)),
)
STRAIGHT: tuple[Point, ...] = (
    ("fleet.image.source:_mirror", 1, "0.02"),
    ("fleet.image.source:_work_tree", 1, "0.02"),
    ("fleet.image.source:_work_tree", 1, "after"),
    ("fleet.image.machine:There._unpack", 1, "before"),
    ("fleet.image.machine:There._unpack", 1, "0.1"),
    ("fleet.image.machine:There._unpack", 1, "after"),
    ("fleet.image.build:build", 1, "1.0"),
    ("fleet.image.build:build", 1, "2.5"),
    ("fleet.image.build:build", 1, "after"),
    ("fleet.delivery.straight:Straight.bring", 1, "0.4"),
    ("fleet.delivery.straight:Straight.bring", 1, "0.8"),
    ("fleet.delivery.straight:Straight.bring", 1, "1.5"),
    ("fleet.delivery.straight:release_there", 1, "before"),
    ("fleet.delivery.straight:release_there", 1, "after"),
    ("fleet.delivery.straight:push", 1, "0.1"),
    ("fleet.delivery.straight:push", 1, "0.4"),
    ("fleet.delivery.straight:push", 1, "after"),
    *FINISHED,
)
PACKED: tuple[Point, ...] = (
    ("fleet.image.skopeo:copy", 1, "before"),
    ("fleet.image.skopeo:copy", 1, "0.1"),
    ("fleet.image.skopeo:copy", 1, "0.5"),
    ("fleet.image.skopeo:copy", 1, "after"),
    ("fleet.image.convert:to_layout", 1, "after"),
    ("fleet.image.store:Store.adopt", 1, "before"),
    ("fleet.image.store:Store.adopt", 1, "after"),
    ("fleet.rollout.publish:push", 1, "before"),
    ("fleet.rollout.publish:push", 1, "0.1"),
    ("fleet.rollout.publish:push", 1, "0.4"),
    ("fleet.rollout.publish:push", 1, "after"),
)
THROUGH: tuple[Point, ...] = (
    ("fleet.image.machine:There.fetch", 1, "before"),
    ("fleet.image.machine:There.fetch", 1, "0.1"),
    ("fleet.image.machine:There.fetch", 1, "after"),
    *PACKED,
)
BALLAST = 96 << 20  # bytes
STORE = "/var/lib/registry/docker/registry/v2"
# Names of blobs that have other bytes, of those that are new.
DAMAGED = f"""cd {STORE}/blobs/sha256 2>/dev/null || exit 0
find . -name data -mmin -2 | while IFS= read -r file; do
  found=$(sha256sum < "$file") hex=${{file%/data}}
  [ "${{found%% *}}" = "${{hex##*/}}" ] || echo "$file"
done"""
READ: tuple[Point, ...] = (
    ("fleet.image.archive:inspect", 1, "before"),
    ("fleet.image.archive:inspect", 1, "0.05"),
    ("fleet.image.archive:inspect", 1, "after"),
)
IMPORTED: dict[str, tuple[Point, ...]] = {
    "docker": (*READ, *PACKED, *FINISHED),
    "gz": (*READ, ("shutil:copyfileobj", 1, "0.05"), ("shutil:copyfileobj", 1, "after"), *PACKED),
    "oci": (
        *READ,
        ("fleet.image.archive:_lay_out", 1, "0.05"),
        ("fleet.image.archive:_lay_out", 1, "after"),
        *PACKED,
    ),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, name = tmp_path_factory.mktemp("killed"), lab_name("killed")
    try:
        lab = Lab.up(name, (BUILDER, REGISTRY, MI300X), inventories=folder)
        repository = folder / "vllm"
        subprocess.run(("git", "clone", "--quiet", str(lab.paths.source), str(repository)), check=True)
        git(repository, "checkout", "--quiet", "-b", "ours", "v0.11.0")
        made = Site(lab, repository, folder)
        made.temporary.mkdir()
        made.directory.mkdir()
        made.on(BUILDER.name, "mkdir -p /var/tmp/fleet")
        yield made
    finally:
        Lab.remove(name)


@pytest.mark.parametrize("straight", [True, False])
def test_every_point_of_a_build(site: Site, subtests: pytest.Subtests, straight: bool) -> None:
    for point, sign in signed(STRAIGHT if straight else THROUGH):
        with subtests.test(point=point, sign=sign):
            controller = site.source(straight=straight)
            site.ended(controller, ("push",), *point, sign)
            goes_on(site, controller)


@pytest.mark.parametrize("kind", IMPORTED)
def test_every_point_of_an_import(site: Site, subtests: pytest.Subtests, kind: str) -> None:
    for point, sign in signed(IMPORTED[kind]):
        with subtests.test(point=point, sign=sign):
            controller = site.archive(kind)
            site.ended(controller, ("push",), *point, sign)
            goes_on(site, controller)


@pytest.mark.parametrize("straight", [True, False])
def test_every_moment_of_a_push_of_layers_that_take_a_while(
    site: Site, subtests: pytest.Subtests, straight: bool
) -> None:
    """A registry keeps what came whole under its digest, and what did not as an upload, which it purges itself."""
    point = "fleet.delivery.straight:push" if straight else "fleet.rollout.publish:push"
    for moment, sign in itertools.product(("0.2", "0.5", "0.8", "1.2"), ("KILL", "INT")):
        with subtests.test(moment=moment, sign=sign):
            controller = (
                site.source(straight=True, ballast=BALLAST) if straight else site.archive("docker", ballast=BALLAST)
            )
            site.ended(controller, ("push",), point, 1, moment, sign)
            assert site.on(REGISTRY.name, DAMAGED) == ""
            goes_on(site, controller)
            assert site.on(REGISTRY.name, DAMAGED) == ""


def test_what_was_pushed_after_a_kill_serves(site: Site) -> None:
    controller = site.archive("docker")
    site.ended(controller, ("push",), "fleet.rollout.publish:push", 1, "0.2", "KILL")
    for expected in (None, {0}):
        document = site.ask(controller, "deploy")
        assert document["failed"] == {}
        assert expected in (None, {host["changed"] for host in document["hosts"].values()})
    assert document["images"]["changed"] == []
