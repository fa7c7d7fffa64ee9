"""Which releases of a bundle a roll takes, and what becomes of the site's lock."""

from dataclasses import replace
from pathlib import Path

from fleet.bundle.contents import Record
from fleet.bundle.manifest import Manifest, Want
from fleet.bundle.supply import moved, supply, wanted
from fleet.image.lock import Lock
from fleet.image.release import Release
from fleet.image.strategy import fingerprint
from fleet.inventory import load, select
from fleet.inventory.model import Host
from fleet.rollout.imageorders import image_of

SITE = """\
all:
  vars:
    fleet:
      delivery: sideload
      image: {name: vllm-rocm, prebuilt: "docker.io/rocm/vllm:nightly"}
      services: {chat: {model: a}, embed: {model: b, port: 8100, image: {name: small, prebuilt: "quay.io/x/small:1"}}}
  hosts: {"n[1:2]": {}}
"""
BIG = Release("vllm-rocm", "sha256:" + "1" * 64, "sha256:c", ("sha256:d",), ("sha256:l",), (5,), "prebuilt")
SMALL = replace(BIG, name="small", manifest_digest="sha256:" + "2" * 64)


def hosts(folder: Path) -> tuple[Host, ...]:
    (folder / "site.yaml").write_text(SITE)
    return select(load((str(folder / "site.yaml"),)), "all")


def manifest(found: tuple[Host, ...]) -> Manifest:
    given = {"chat": BIG.id, "embed": SMALL.id}
    wants = tuple(
        Want(host.name, service.name, fingerprint(image), given[service.name])
        for host in found
        for service in host.settings.services.values()
        for image in [image_of(host.settings, service.image, host.name, service.name)]
    )
    return Manifest("now", "ops@desk", "0", (), (), wants)


def test_every_service_gets_the_release_that_its_image_got_at_home(tmp_path: Path) -> None:
    found = hosts(tmp_path)
    records = (Record("key1", BIG), Record("key2", BIG), Record("key3", SMALL))
    stock = supply(manifest(found), records, found, tmp_path / ".fleet", say=lambda _: None, dry=False)
    assert stock.releases == {name: {"chat": BIG, "embed": SMALL} for name in ("n1", "n2")}
    assert stock.records["n2"] == {"key1": BIG, "key2": BIG, "key3": SMALL}  # for a second controller
    assert stock.changes == []
    assert stock.origins == {}  # nothing is to be fetched from anywhere
    assert not (tmp_path / ".fleet").exists()


def test_a_host_that_home_did_not_know_gets_what_its_likes_get(tmp_path: Path) -> None:
    found = hosts(tmp_path)
    carried = manifest(found[:1])
    assert wanted(carried, (Record("key1", BIG), Record("key3", SMALL)), found[1:]) == (BIG, SMALL)


def test_only_what_the_hosts_ask_for_is_wanted(tmp_path: Path) -> None:
    found = hosts(tmp_path)
    carried = manifest(found)
    kept = tuple(want for want in carried.wants if want.service == "chat")
    assert wanted(replace(carried, wants=kept), (Record("key1", BIG), Record("key3", SMALL)), found) == (BIG,)


def test_the_lock_becomes_what_the_bundle_was_made_with_and_keeps_the_rest() -> None:
    ours = Lock({"r v1": "a"}, {"x:1": "old", "y:1": "kept"}, {"n a.tar": "1"})
    theirs = Lock({}, {"x:1": "new"}, {"n b.tar": "2"})
    after = moved(ours, theirs)
    assert after == Lock({"r v1": "a"}, {"x:1": "new", "y:1": "kept"}, {"n a.tar": "1", "n b.tar": "2"})
    assert moved(after, theirs) == after
