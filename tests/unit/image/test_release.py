"""A release knows what the image says of itself, and survives JSON."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import FleetError
from fleet.image.describe import Made, dropped_by_conversion, parse_versions, release_of, told_by_config
from fleet.image.image_files import find
from fleet.image.layout import read
from fleet.image.release import Release, dumps, from_json, loads, to_json
from tests.unit.image import layouts

MADE = Made("prebuilt", "docker.io/vllm/vllm-openai-rocm:v0.11.0")
THEROCK = """ROCM_SDK_VERSION: 7.14.0
PYTORCH_ROCM_ARCH: gfx90a;gfx942;gfx950
BASE_IMAGE: ubuntu:22.04
VLLM_BASE_IMAGE=rocm/vllm-dev:base
"""
LEGACY = "BASE_IMAGE: rocm/dev-ubuntu-22.04:7.2.1-complete\nPYTORCH_BRANCH: abc\n"


def release(
    tmp_path: Path, files: Sequence[Mapping[str, str]], config: Mapping[str, Any], made: Made = MADE
) -> Release:
    return release_of(read(layouts.make(tmp_path, files, config)), "vllm-rocm", made)


def test_reads_a_therock_image_from_its_versions_file(tmp_path: Path) -> None:
    found = release(tmp_path, [{"app/versions.txt": THEROCK}, {"x": ""}], {"Entrypoint": ["vllm", "serve"]})
    assert found.rocm == "7.14.0"
    assert found.gfx == ("gfx90a", "gfx942", "gfx950")
    assert found.base == "rocm/vllm-dev:base"
    assert found.entrypoint == ("vllm", "serve")
    assert found.cmd == ()


def test_reads_a_legacy_image_from_env_and_opt_rocm(tmp_path: Path) -> None:
    env = ["PATH=/bin", "PYTORCH_ROCM_ARCH=gfx90a:xnack-;gfx942"]
    files = [{"opt/rocm-7.2.3/.info/version": "7.2.3-66\n"}, {"app/versions.txt": LEGACY}]
    found = release(tmp_path, files, {"Env": env, "Cmd": ["/bin/bash"]})
    assert found.rocm == "7.2.3"
    assert found.gfx == ("gfx90a", "gfx942")
    assert found.env["PATH"] == "/bin"


def test_a_config_alone_tells_by_its_labels_its_environment_and_the_arguments_of_its_history() -> None:
    run = "RUN |2 BASE_IMAGE=rocm/dev-ubuntu-22.04:7.2.3-complete PYTORCH_ROCM_ARCH=gfx90a;gfx942 /bin/sh -c true"
    history = [{"created_by": run}, {"empty_layer": True}]
    assert told_by_config({"history": history}) == (("gfx90a", "gfx942"), "7.2.3")
    config: dict[str, Any] = {"Env": ["PYTORCH_ROCM_ARCH=gfx950"]}
    assert told_by_config({"history": history, "config": config}) == (("gfx950",), "7.2.3")
    config["Labels"] = {"io.fleet.gfx": "gfx942", "io.fleet.rocm": "7.14"}
    assert told_by_config({"history": history, "config": config}) == (("gfx942",), "7.14")
    assert told_by_config({}) == ((), "")


def test_the_base_tag_is_the_last_resort(tmp_path: Path) -> None:
    assert release(tmp_path, [{"app/versions.txt": LEGACY}], {}).rocm == "7.2.1"


def test_our_own_labels_win_and_the_versions_of_its_packages_are_kept(tmp_path: Path) -> None:
    labels = {"io.fleet.rocm": "7.2", "io.fleet.gfx": "gfx942", "io.fleet.vllm.version": "0.11.0", "x": "y"}
    found = release(tmp_path, [{"app/versions.txt": THEROCK}], {"Labels": labels})
    assert (found.rocm, found.gfx, found.vllm_version) == ("7.2", ("gfx942",), "0.11.0")
    assert found.versions["ROCM_SDK_VERSION"] == "7.14.0"
    assert found.versions["VLLM_BASE_IMAGE"] == "rocm/vllm-dev:base"


def test_the_inventory_speaks_for_an_image_that_says_nothing(tmp_path: Path) -> None:
    found = release(tmp_path, [{"a": ""}], {}, replace(MADE, gfx=("gfx942",), rocm="6.4"))
    assert (found.gfx, found.rocm) == (("gfx942",), "6.4")
    assert release(tmp_path / "b", [{"a": ""}], {}).gfx == ()


def test_finds_vllms_version_in_its_wheel(tmp_path: Path) -> None:
    path = "usr/local/lib/python3.12/dist-packages/vllm-0.11.0+rocm72.dist-info/METADATA"
    assert release(tmp_path, [{path: "Name: vllm"}], {}).vllm_version == "0.11.0+rocm72"


def test_an_upper_layer_wins_and_whiteouts_hide(tmp_path: Path) -> None:
    wanted = {"v": re.compile(r"app/versions\.txt"), "g": re.compile("gone/x"), "o": re.compile("opaque/x")}
    below = {"app/versions.txt": "old", "gone/x": "1", "opaque/x": "1"}
    above = {"./app/versions.txt": "new", ".wh.gone": "", "opaque/.wh..wh..opq": ""}
    found = find(read(layouts.make(tmp_path, [below, above])), wanted)
    assert {key: value.content for key, value in found.items()} == {"v": b"new"}


def test_a_whiteout_does_not_hide_its_own_layer(tmp_path: Path) -> None:
    found = find(
        read(layouts.make(tmp_path, [{"a/x": "old"}, {"a/.wh..wh..opq": "", "a/x": "new"}])), {"x": re.compile("a/x")}
    )
    assert found["x"].content == b"new"


def test_a_damaged_layer_is_named(tmp_path: Path) -> None:
    image = read(layouts.make(tmp_path))
    path = image.blob_path(image.layers[1])
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(FleetError, match=image.layers[1].digest):
        release_of(image, "vllm-rocm", MADE)


def test_reads_both_kinds_of_lines_in_versions_txt() -> None:
    assert parse_versions("A: 1\nB=2\n# C: 3\nD:  x y \n\nnot this\n") == {"A": "1", "B": "2", "D": "x y"}


def test_names_what_oci_has_no_word_for() -> None:
    docker = {"config": {"Healthcheck": {"Test": ["CMD", "true"]}, "Cmd": ["a"]}}
    assert dropped_by_conversion(docker, {"config": {"Cmd": ["a"]}}) == ("HEALTHCHECK",)
    assert dropped_by_conversion(docker, docker) == ()


def test_a_record_survives_json(tmp_path: Path) -> None:
    first = release(tmp_path, [{"app/versions.txt": THEROCK}], {"Env": ["A=1"], "Labels": {"l": "m"}})
    assert loads(dumps(first), "record") == first
    assert to_json(first)["schema"] == 1


def test_a_record_from_before_there_were_versions_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    old = release(tmp_path, [{"a": ""}], {})
    assert not {"args", "versions"} & set(to_json(old))
    assert dumps(loads(dumps(old), "record")) == dumps(old)
    new = replace(old, args={"MAX_JOBS": "8"}, versions={"PYTORCH_BRANCH": "abc"})
    assert loads(dumps(new), "record") == new
    with pytest.raises(FleetError, match="versions is"):
        from_json({**to_json(old), "versions": ["x"]}, "record")


def test_a_record_of_a_later_fleet_may_hold_more(tmp_path: Path) -> None:
    first = release(tmp_path, [{"a": ""}], {})
    assert from_json({**to_json(first), "mood": "good"}, "record") == first


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"gfx": "gfx942"},
        {"layer_sizes": ["1"]},
        {"name": None},
        {"env": []},
        {"diff_ids": []},
        {"labels": {"a": 1}},
    ],
)
def test_a_damaged_record_is_said(tmp_path: Path, change: dict[str, Any]) -> None:
    data = to_json(release(tmp_path, [{"a": ""}], {}))
    with pytest.raises(FleetError, match=r"somewhere: (?:release )?"):
        from_json({**data, **change}, "somewhere")


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"schema": 1}'])
def test_text_that_is_no_record_is_said(text: str) -> None:
    with pytest.raises(FleetError, match="somewhere"):
        loads(text, "somewhere")


def test_names_follow_from_the_manifest(tmp_path: Path) -> None:
    found = release(tmp_path, [{"a": ""}], {})
    short = found.manifest_digest[7:19]
    assert found.local_name == f"vllm-rocm:{short}"
    assert str(found.in_registry("registry.corp:5000")) == f"registry.corp:5000/vllm-rocm@{found.manifest_digest}"
    assert found.size == sum(found.layer_sizes)


def test_a_prebuilt_image_is_pulled_from_where_it_lies_if_it_lies_there_as_it_is() -> None:
    digest = "sha256:" + "a" * 64
    reference = "registry.corp:5000/team/vllm:prod"
    found = Release("ours", digest, digest, (), (), (), "prebuilt", source_reference=reference, source_digest=digest)
    assert str(found.in_registry("registry.corp:5000")) == f"registry.corp:5000/team/vllm@{digest}"
    assert not found.is_ours_in("registry.corp:5000")
    assert str(found.in_registry("other.corp")) == f"other.corp/ours@{digest}"
    converted = replace(found, source_digest="sha256:" + "b" * 64)
    assert str(converted.in_registry("registry.corp:5000")) == f"registry.corp:5000/ours@{digest}"
    assert converted.is_ours_in("registry.corp:5000")
