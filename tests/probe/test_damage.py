"""Captured trees that somebody's disk, archive or editor has damaged: facts or a plain error, and never a silent pass."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.facts import Facts, read_tree
from fleet.inventory.settings import Gpus
from fleet.preflight import Needs, check

TREES = sorted(path for path in (Path(__file__).parents[1] / "data/kfd").iterdir() if path.is_dir())
SMALL = ("mi100x1-old-kernel-synthetic", "mi300x-x8-spx-semisynthetic")
NODES = "sys/class/kfd/kfd/topology/nodes"
NUMBERS = ("-1", "99999999999999999999999999", "9" * 5000, "0x10", "²", "1e9", "", "NaN")
HOWS = ("empty", "cut", "noise", "nul", "gone", "directory", "dangling", "loop", "number", "crlf")


def damage(path: Path, how: str, number: int) -> None:
    data = path.read_bytes() if path.is_file() else b""
    path.unlink(missing_ok=True) if not path.is_dir() else shutil.rmtree(path)
    if how == "directory":
        path.mkdir()
    elif how in ("dangling", "loop"):
        path.symlink_to(path.name if how == "loop" else "nowhere")
    elif how == "number":
        lines = data.decode(errors="replace").split("\n")
        at = number % len(lines)
        lines[at] = f"{lines[at].partition(' ')[0]} {NUMBERS[number % len(NUMBERS)]}"
        path.write_text("\n".join(lines), "utf-8")
    elif how != "gone":
        changed = {"empty": b"", "cut": data[: number % (len(data) + 1)], "noise": bytes(range(1, 256)) + data}
        path.write_bytes(changed.get(how, data + b"\0\xff" if how == "nul" else data.replace(b"\n", b"\r\n")))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tree=st.sampled_from([path for path in TREES if path.name in SMALL]),
    edits=st.lists(st.tuples(st.integers(0, 500), st.sampled_from(HOWS), st.integers(0, 5000)), min_size=1, max_size=8),
)
def test_a_damaged_tree_loses_no_gpu_in_silence(tree: Path, edits: list[tuple[int, str, int]]) -> None:
    whole = read_tree(tree)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "node"
        shutil.copytree(tree, copy)
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        for place, how, number in edits:
            damage(files[place % len(files)], how, number)
        facts = read_tree(copy)
    assert json.loads(json.dumps(facts.to_json(), allow_nan=False))
    findings = {finding.id for finding in check(facts, Needs(gpus=Gpus(count=len(whole.gpus))))}
    if len(facts.gpus) < len(whole.gpus):
        assert findings & {"gpu_count", "gpu_nodes_readable"}
    for gpu in facts.gpus:
        assert gpu.cus is None or gpu.cus >= 0
        assert gpu.vram_bytes is None or gpu.vram_bytes > 0


def changed(tmp_path: Path, name: str, path: str, text: str | None) -> Facts:
    """A shipped tree with one file written anew, or taken away."""
    copy = tmp_path / "node"
    shutil.copytree(TREES[0].parent / name, copy)
    if text is None:
        (copy / path).unlink()
    else:
        (copy / path).write_text(text, "utf-8")
    return read_tree(copy)


@pytest.mark.parametrize("value", ["-1", "9" * 5000, "many"])
def test_a_number_that_is_none_is_null_and_said(tmp_path: Path, value: str) -> None:
    name, path = "mi300x-x8-spx-semisynthetic", f"{NODES}/2/properties"
    text = (TREES[0].parent / name / path).read_text("utf-8")
    line = next(line for line in text.split("\n") if line.startswith("simd_count "))
    facts = changed(tmp_path, name, path, text.replace(line, f"simd_count {value}"))
    assert facts.gpus[0].cus is None
    assert (path, "EINVAL") in [(entry.path, entry.error) for entry in facts.unread]
    assert "unread" in {finding.id for finding in check(facts, Needs())}


def test_a_gpu_that_has_lost_what_makes_it_one_is_hidden_and_not_forgotten(tmp_path: Path) -> None:
    facts = changed(tmp_path, "mi100x1-old-kernel-synthetic", f"{NODES}/1/properties", "cpu_cores_count 0\n")
    assert facts.gpus == ()
    assert facts.topology.hidden_nodes == (1,)
    assert "gpu_nodes_readable" in {finding.id for finding in check(facts, Needs(gpus=Gpus(count=1)))}


def test_a_file_with_nul_bytes_is_named(tmp_path: Path) -> None:
    facts = changed(tmp_path, "mi100x1-old-kernel-synthetic", f"{NODES}/1/properties", "simd_count 4\0\n")
    assert facts.topology.hidden_nodes == (1,)
    assert (f"{NODES}/1/properties", "EILSEQ") in [(entry.path, entry.error) for entry in facts.unread]


def test_trees_linked_as_sysfs_links_them_are_read(tmp_path: Path) -> None:
    """/sys/class holds links into /sys/devices; archives keep them so."""
    devices = tmp_path / "sys/devices/virtual/kfd"
    shutil.copytree(TREES[0].parent / "mi210x8-xgmi-pcie/sys/class/kfd/kfd", devices / "kfd")
    (tmp_path / "sys/class/kfd").mkdir(parents=True)
    (tmp_path / "sys/class/kfd/kfd").symlink_to("../../devices/virtual/kfd/kfd")
    assert len(read_tree(tmp_path).gpus) == 8


def test_two_kinds_of_cards_on_one_host_are_told_apart(tmp_path: Path) -> None:
    shutil.copytree(TREES[0].parent / "mi300x-x8-spx-semisynthetic", tmp_path / "node")
    mixed = tmp_path / "node" / NODES
    nodes = [
        node for node in (TREES[0].parent / "mi250x4-synthetic" / NODES).iterdir() if (node / "properties").exists()
    ]
    gpus = [node for node in nodes if "gfx_target_version 90010" in (node / "properties").read_text("utf-8")]
    for number, node in enumerate(gpus, start=100):
        shutil.copytree(node, mixed / str(number))
    facts = read_tree(tmp_path / "node")
    assert {gpu.gfx for gpu in facts.gpus} == {"gfx942", "gfx90a"}
    assert "gpu_gfx" in {finding.id for finding in check(facts, Needs())}
