"""Bundles whose manifests, records and documents lie, as somebody could write them who means harm: named, and nothing loaded."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet.bundle import have
from fleet.bundle.check import open_bundle
from fleet.bundle.contents import records
from fleet.bundle.have import Have
from fleet.bundle.store import SiteStore
from fleet.errors import FleetError
from fleet.image.layout import read, verify
from tests.tools.test_bundle import MIB, blob, controller, fleet, flip, signers

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    home = controller(root / "home", 1)
    signers(root)
    made = ("bundle.create", "-i", "site.yaml", "--without-tool", "--sign-key", "../key")
    fleet(home, *made, "-o", "../full")
    fleet(home, *made, "-o", "../split", "--volume-size", "6M")
    return root


@pytest.fixture
def site(ground: Path, tmp_path: Path) -> Path:
    for name in ("full", "split"):
        shutil.copytree(ground / name, tmp_path / name)
    shutil.copy(ground / "signers", tmp_path / "signers")
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


def seal(bundle: Path, edit: Edit) -> None:
    """Change the manifest and give it the id that belongs to it."""
    path = bundle / "MANIFEST.json"
    document = json.loads(path.read_text())
    edit(document)
    document["files"].sort(key=lambda one: (one["path"], one["size"], one["sha256"], one["volume"]))
    said = {name: value for name, value in document.items() if name not in {"schema", "id"}}
    document["id"] = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
    path.write_text(json.dumps(document))


def put(bundle: Path, path: str, content: bytes) -> None:
    """A file that the manifest knows."""
    target = bundle / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    entry = {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "volume": 1}

    def edit(document: dict[str, Any]) -> None:
        document["files"] = [one for one in document["files"] if one["path"] != path] + [entry]

    seal(bundle, edit)


def record(bundle: Path) -> Path:
    return next(path for path in (bundle / "releases").iterdir() if path.name != "keys.json")


def lie(bundle: Path, **fields: object) -> None:
    """A record that says something else, under its own name."""
    path = record(bundle)
    text = json.dumps({**json.loads(path.read_text()), **fields})
    put(bundle, f"releases/{path.name}", text.encode())


def another_record(bundle: Path) -> None:
    """A second one of the same image, which lies about its config."""
    document = json.loads(record(bundle).read_text())
    layers = list(reversed(document["layer_digests"]))
    put(bundle, f"releases/{'0' * 20}.json", json.dumps({**document, "layer_digests": layers}).encode())


def rename(bundle: Path, path: str) -> None:
    seal(bundle, lambda document: document["files"][0].update(path=path))


def index_of(bundle: Path, kind: str) -> None:
    document = json.loads((bundle / "images/index.json").read_text())
    document["manifests"][0]["mediaType"] = kind
    put(bundle, "images/index.json", json.dumps(document).encode())


def rewrite(path: Path, before: str, after: str) -> None:
    path.write_text(path.read_text().replace(before, after))


LIES: list[tuple[str, Callable[[Path], object], str]] = [
    ("surrogate", lambda b: rename(b, "models/\ud800x"), "is not a plain relative path"),
    ("escape-in-path", lambda b: rename(b, "models/\x9b31m"), "is not a plain relative path"),
    ("long-name", lambda b: rename(b, f"models/{'x' * 300}"), "is longer than file systems take"),
    ("long-path", lambda b: rename(b, f"models/{'/'.join(['y' * 200] * 40)}"), "is longer than file systems take"),
    ("escape-in-author", lambda b: seal(b, lambda d: d.update(by="\x1b[2J")), "is no text of one line"),
    ("deep-record", lambda b: put(b, f"releases/{record(b).name}", b"[" * 200_000), "is no JSON"),
    ("record-without-key", lambda b: put(b, "releases/evil.json", b"{}"), "evil.json has no content key for a name"),
    ("deep-keys", lambda b: put(b, "releases/keys.json", b"[" * 200_000), "keys.json is damaged"),
    ("keys-list", lambda b: put(b, "releases/keys.json", b"[1, 2]"), "keys.json is damaged"),
    ("long-key", lambda b: put(b, "releases/keys.json", b'{"' + b"a" * 3000 + b'": "k"}'), "is no content key"),
    ("name-leaves", lambda b: lie(b, name="../../../../tmp/evil"), "release record is damaged: image reference"),
    ("name-escape", lambda b: lie(b, name="evil\x1b[31m"), "release record is damaged: name is"),
    ("digest-leaves", lambda b: lie(b, manifest_digest="sha256:../../x"), "is no sha256 digest"),
    ("negative-size", lambda b: lie(b, layer_sizes=[-5, 10**30]), "release record is damaged: layer_sizes"),
    ("other-size", lambda b: lie(b, layer_sizes=[1, 1]), "tell other sizes of layer"),
    ("other-command", lambda b: lie(b, cmd=["rm", "-rf", "/"]), "differ in cmd"),
    ("second-record", another_record, "its record and its manifest"),
    ("deep-lock", lambda b: put(b, "site/inventory/site.lock.yaml", b"a: " + b"[" * 20_000), "site.lock.yaml"),
    ("odd-lock", lambda b: put(b, "site/inventory/site.lock.yaml", b"evil: 1"), "is an unknown key"),
    ("empty-index", lambda b: put(b, "images/index.json", b'{"manifests": []}'), "images/index.json and the records"),
    ("odd-index", lambda b: put(b, "images/index.json", b"5"), "cannot be read as an OCI layout"),
    (
        "nested-index",
        lambda b: index_of(b, "application/vnd.oci.image.index.v1+json"),
        "names as an image what is none",
    ),
    ("foreign-index", lambda b: index_of(b, "application/x-evil"), "names as an image what is none"),
    ("huge-size", lambda b: seal(b, lambda d: d["files"][0].update(size=10**4000)), "is no size and no count"),
    ("key-twice", lambda b: rewrite(b / "MANIFEST.json", '"by":', '"by": "me", "by":'), "'by' stands twice"),
    (
        "config-leaves",
        lambda b: put(b, "images/manifest.json", b'[{"Config": "../../etc/passwd", "RepoTags": [], "Layers": []}]'),
        "images/manifest.json and the records",
    ),
]


@pytest.mark.parametrize(("lies", "said"), [row[1:] for row in LIES], ids=[row[0] for row in LIES])
def test_a_bundle_that_lies_is_named_and_nothing_is_loaded(
    site: Path, lies: Callable[[Path], object], said: str
) -> None:
    lies(site.parent / "full")
    for verb in ("bundle.verify", "bundle.load"):
        told = fleet(site, verb, "../full", "--unsigned", code=1)
        assert said in told
        assert "mistake of ours" not in told
        assert not any(letter in told for letter in "\x1b\x9b")
    assert not (site / ".fleet").exists()


VOLUMES: list[tuple[str, Callable[[Path], object], str]] = [
    ("author", lambda b: rewrite(b / "vol-002/MANIFEST.json", '"by": "', '"by": "x'), "is not that of what it says"),
    ("space", lambda b: rewrite(b / "vol-002/MANIFEST.json", "\n}", "\n }"), "it is not the one of the other volumes"),
    ("signature", lambda b: flip(b / "vol-002/MANIFEST.json.sig"), "MANIFEST.json.sig is damaged"),
    ("unsigned", lambda b: (b / "vol-002/MANIFEST.json.sig").unlink(), "MANIFEST.json.sig is missing"),
    ("third", lambda b: shutil.copytree(b / "vol-002", b / "vol-003"), "vol-003 is not of this bundle, which has 2"),
    ("wrong", lambda b: move(blob(b), b / "vol-001"), "belongs into volume 2"),
    ("stray", lambda b: (b / "vol-001/images/.DS_Store").touch(), ".DS_Store is not in MANIFEST.json"),
]


def move(path: Path, volume: Path) -> None:
    target = volume / path.relative_to(path.parents[3])
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)


@pytest.mark.parametrize(("damage", "said"), [row[1:] for row in VOLUMES], ids=[row[0] for row in VOLUMES])
def test_every_volume_has_to_be_the_one_that_was_signed(
    site: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(site.parent / "split")
    assert said in fleet(site, "bundle.verify", "../split", "--allowed-signers", "../signers", code=1)


def test_a_stray_hides_no_damage_and_a_deep_tree_is_not_entered(site: Path) -> None:
    bundle = site.parent / "full"
    flip(blob(bundle))
    subprocess.run(("mkdir", "-p", bundle / "site" / "/".join(["d"] * 1500)), check=True)
    said = fleet(site, "bundle.verify", "../full", "--unsigned", code=1)
    assert "full/site/d is not in MANIFEST.json" in said
    assert "is damaged: its SHA-256 is not" in said
    subprocess.run(("rm", "-rf", bundle), check=True)


def test_a_strays_name_writes_no_line_of_its_own(site: Path) -> None:
    (site.parent / "full/site/a\nDAMAGED nothing").touch()
    said = fleet(site, "bundle.verify", "../full", "--unsigned", code=1)
    assert r"full/site/a\nDAMAGED nothing is not in MANIFEST.json" in said


def test_a_record_that_changed_after_it_was_checked_is_not_believed(site: Path) -> None:
    bundle = open_bundle(site.parent / "full")
    flip(record(bundle.path))
    with pytest.raises(FleetError, match="is damaged or changed"):
        records(bundle)


def test_a_key_signs_although_another_line_has_it_for_another_namespace(site: Path) -> None:
    signers = site.parent / "signers"
    line = signers.read_text()
    signers.write_text(line.replace("ops@desk", "mail@desk").replace("fleet-bundle", "mail") + line)
    assert "signed by ops@desk" in fleet(site, "bundle.verify", "../full", "--allowed-signers", "../signers")
    signers.write_text(line.replace("fleet-bundle", "mail"))
    assert "may not sign it" in fleet(site, "bundle.verify", "../full", "--allowed-signers", "../signers", code=1)


def test_a_blob_that_the_disk_spoilt_in_the_store_is_written_anew(site: Path) -> None:
    fleet(site, "bundle.load", "../full", "--unsigned")
    store = SiteStore(site / ".fleet/store")
    flip(blob(site / ".fleet/store"))
    assert "1 blobs are new" in fleet(site, "bundle.load", "../full", "--unsigned")
    assert "0 blobs are new" in fleet(site, "bundle.load", "../full", "--unsigned")
    [layout] = (site / ".fleet/layouts").iterdir()
    verify(read(layout))  # the layout shared the spoilt file
    assert len(store.digests()) == 4


def test_a_delta_is_not_completed_from_a_spoilt_blob(site: Path, tmp_path: Path) -> None:
    fleet(site, "bundle.load", "../full", "--unsigned")
    held = Have("now", "ops@site", SiteStore(site / ".fleet/store").digests())
    (site / "have.json").write_bytes(have.dumps(held))
    home = controller(tmp_path / "home2", 2)
    fleet(home, "bundle.create", "-i", "site.yaml", "--without-tool", "--since", "../site/have.json", "-o", "../delta")
    spoilt = blob(site / ".fleet/store")
    assert spoilt.stat().st_size > MIB
    flip(spoilt)
    for words in (("bundle.load", "../delta"), ("bundle.verify", "../delta", "--store", ".fleet/store")):
        said = fleet(site, *words, "--unsigned", code=1)
        assert f"{spoilt.relative_to(site)}" in said
        assert "damaged" in said
