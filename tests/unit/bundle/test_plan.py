"""What travels, in which volume, and what a manifest may say."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.bundle import have, manifest, plan
from fleet.bundle.have import Have
from fleet.bundle.manifest import Absent, Base, Entry, Manifest, Want
from fleet.bundle.tool import locked, requirements
from fleet.delivery.holdings import HeldImage, Holdings
from fleet.errors import FleetError, UsageError
from fleet.image.layout import read
from fleet.image.strategy import fingerprint
from fleet.inventory.settings import Image, Source
from tests.unit.image.layouts import make

MIB = 1 << 20


def entry(path: str, size: int = 1, letter: str = "a") -> Entry:
    return Entry(path, size, letter * 64)


def whole(*files: Entry, **more: Any) -> Manifest:
    wants = (Want("n1", "chat", "f", "r"),)
    return Manifest("2026-11-23T05:00:00Z", "ops@desk", "0.1.0", ("site.yaml",), files, wants, **more)


def carried(tmp_path: Path) -> plan.Carried:
    return plan.Carried("vllm:r1", read(make(tmp_path / "layout")), ("n1", "n2"))


def holding(diff_ids: tuple[str, ...], *, containerd: bool = False) -> Holdings:
    return Holdings((HeldImage("sha256:x", (), (), diff_ids),), containerd)


def test_a_manifest_comes_back_as_it_was_written() -> None:
    base = Base("c" * 64, "2026", "ops@site", (Absent("sha256:" + "d" * 64, 7, "sha256:e", ("store",)),))
    one = whole(entry("releases/a.json"), entry("images/index.json", 2), base=base, models=("m",))
    assert manifest.loads(manifest.dumps(one), "x") == replace(one, files=tuple(sorted(one.files)))


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../evil", "leaves the bundle"),
        ("images/../../evil", "leaves the bundle"),
        ("/etc/passwd", "leaves the bundle"),
        ("images//x", "not a plain"),
        ("images/./x", "not a plain"),
        ("images\\x", "not a plain"),
        ("images/a\nb", "not a plain"),
        ("other/x", "in no folder"),
        ("images", "in no folder"),
    ],
)
def test_a_path_that_is_no_bundles_is_named(path: str, why: str) -> None:
    with pytest.raises(FleetError, match=why):
        manifest.loads(manifest.dumps(whole(entry(path))), "x")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schema": 2}, "schema 2"),
        ({"files": [{"path": "site/a", "size": True, "sha256": "a" * 64, "volume": 1}]}, "no number"),
        ({"files": [{"path": "site/a", "size": -1, "sha256": "a" * 64, "volume": 1}]}, "cannot be"),
        ({"files": [{"path": "site/a", "size": 1, "sha256": "a" * 64, "volume": 2}]}, "volume 2 of 1"),
        ({"files": [{"path": "site/a", "size": 1, "sha256": "zz", "volume": 1}]}, "no SHA-256"),
        ({"files": [{"path": "site/a", "size": 1, "sha256": "a" * 64, "volume": 1}] * 2}, "named twice"),
        ({"files": [{"path": f"images/blobs/sha256/{'b' * 64}", "size": 1, "sha256": "a" * 64, "volume": 1}]}, "blob"),
        ({"files": []}, "id"),
        ({"wants": "x"}, "damaged"),
        ({"volumes": "1"}, "no number"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(change: dict[str, Any], why: str) -> None:
    document = json.loads(manifest.dumps(whole(entry("site/a"))))
    with pytest.raises(FleetError, match=why):
        manifest.loads(json.dumps({**document, **change}).encode(), "x")


def test_what_is_no_json_is_said() -> None:
    with pytest.raises(FleetError, match="no JSON"):
        manifest.loads(b"[" * 100_000, "x")


def test_small_files_come_first_and_no_volume_is_too_full() -> None:
    blobs = [entry(f"images/blobs/sha256/{letter * 64}", 2 * MIB, letter) for letter in "abcd"]
    placed = plan.split([*blobs, entry("site/inventory/site.yaml", 100)], 6 * MIB)
    assert {one.path: one.volume for one in placed}["site/inventory/site.yaml"] == 1
    assert max(one.volume for one in placed) == 2
    for number in (1, 2):
        assert sum(one.size for one in placed if one.volume == number) <= 5 * MIB
    assert {one.volume for one in plan.split(blobs, 0)} == {1}


def test_the_tool_lies_in_one_volume_whatever_the_weights_weigh() -> None:
    weights = [entry(f"models/tiny/{number}", 3 * MIB) for number in range(3)]
    tool = [entry("tool/install.sh", 100), entry("tool/wheels/a.whl", MIB), entry("tool/wheels/b.whl", 2 * MIB)]
    placed = plan.split([*weights, *tool], 6 * MIB)
    assert {one.volume for one in placed if one.path.startswith("tool/")} == {1}


def test_a_file_bigger_than_a_volume_is_named_with_the_least_size() -> None:
    with pytest.raises(UsageError, match=r"images/blobs/sha256/a+ alone has 10 MB") as caught:
        plan.split([entry(f"images/blobs/sha256/{'a' * 64}", 10 * MIB)], 4 * MIB)
    least = caught.value.hint.rpartition(" ")[2]
    plan.split([entry(f"images/blobs/sha256/{'a' * 64}", 10 * MIB)], plan.volume_bytes(least))


@pytest.mark.parametrize(("text", "count"), [("", 0), ("700M", 700 * MIB), ("32g", 32 << 30), ("5", 5)])
def test_sizes_are_read(text: str, count: int) -> None:
    assert plan.volume_bytes(text) == count


@pytest.mark.parametrize("text", ["x", "0G", "-1", "1.5G", "G"])
def test_what_is_no_size_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="no size"):
        plan.volume_bytes(text)


def test_a_full_bundle_carries_every_blob(tmp_path: Path) -> None:
    one = carried(tmp_path)
    found = plan.travel([one], None)
    assert {blob.digest for blob, _ in found.blobs} == {blob.digest for blob in one.image.blobs}
    assert found.absent == ()


def test_a_delta_leaves_out_what_the_store_has_but_no_config(tmp_path: Path) -> None:
    one = carried(tmp_path)
    found = plan.travel([one], Have("now", "me", frozenset(blob.digest for blob in one.image.blobs)))
    assert {blob.digest for blob, _ in found.blobs} == {one.image.manifest.digest, one.image.config.digest}
    assert {(one.digest, one.held_by) for one in found.absent} == {
        (layer.digest, ("store",)) for layer in one.image.layers
    }


def test_a_layer_stays_away_only_when_every_node_holds_it(tmp_path: Path) -> None:
    one = carried(tmp_path)
    first = one.image.diff_ids[:1]
    both = plan.travel([one], Have("now", "me", hosts={"n1": holding(first), "n2": holding(first)}))
    assert [(out.digest, out.held_by) for out in both.absent] == [(one.image.layers[0].digest, ("n1", "n2"))]
    assert plan.travel([one], Have("now", "me", hosts={"n1": holding(first)})).absent == ()


def test_a_containerd_store_counts_only_with_the_whole_image(tmp_path: Path) -> None:
    one = replace(carried(tmp_path), hosts=("n1",))
    part = Have("now", "me", hosts={"n1": holding(one.image.diff_ids[:1], containerd=True)})
    full = Have("now", "me", hosts={"n1": holding(one.image.diff_ids, containerd=True)})
    assert plan.travel([one], part).absent == ()
    assert len(plan.travel([one], full).absent) == 2


ENDLESS = {"n1": {"tiny": [["weights", float("inf"), ""]]}}


def haves(**said: object) -> str:
    return json.dumps({**json.loads(have.dumps(Have("now", "me"))), **said})


def test_a_have_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    one = Have("now", "me", frozenset({"sha256:a"}), {"n1": holding(("x", "y"), containerd=True)}, {"n2": "gone"})
    (tmp_path / "have.json").write_bytes(have.dumps(one))
    assert have.read(tmp_path / "have.json")[0] == one


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 9}', '{"schema": 1}', haves(by="a\nb"), haves(models=ENDLESS)])
def test_what_is_no_have_file_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "have.json").write_text(text)
    with pytest.raises(FleetError, match=r"have\.json"):
        have.read(tmp_path / "have.json")


def test_an_image_is_the_same_on_both_sides_wherever_its_archive_lay() -> None:
    assert fingerprint(Image("v", archive="/a/x.tar")) == fingerprint(Image("v", archive="/b/x.tar"))
    assert fingerprint(Image("v", archive="/a/x.tar")) != fingerprint(Image("v", archive="/a/y.tar"))
    assert fingerprint(Image("v", Source("v1"))) != fingerprint(Image("v", Source("v2")))


def test_wheels_must_have_a_checksum_of_the_lock(tmp_path: Path) -> None:
    wheel, own = tmp_path / "Py_Yaml-6.0-py3-none-any.whl", tmp_path / "amd_fleet-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"x")
    own.write_bytes(b"y")
    good = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    pins = locked(f"# made by uv\npy-yaml==6.0 ; python_version < '4' \\\n    --hash=sha256:{good}\n    # via x\n")
    assert requirements([own, wheel], own, pins).splitlines()[1] == f"py-yaml==6.0 --hash=sha256:{good}"
    wheel.write_bytes(b"z")
    with pytest.raises(FleetError, match="no checksum"):
        requirements([own, wheel], own, pins)
