"""The probe itself, run by every shell it may meet, against captured trees and against this machine. No SSH, no root."""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.facts import PROBE, parse, read_tree

DATA = Path(__file__).parents[1] / "data"
TREES = sorted(path for path in (DATA / "kfd").iterdir() if path.is_dir())
SHELLS = (("dash",), ("bash", "--posix"), ("bash",), ("busybox", "sh"))


def probe(
    shell: Sequence[str], root: Path | str, models: str = "/srv/models", environment: dict[str, str] | None = None
) -> str:
    """The probe's answer, the script by standard input as over SSH."""
    argv = [*shell, "-s", "--", "TOK", str(root), models, "/var/tmp/fleet"]
    done = subprocess.run(argv, input=PROBE.encode(), capture_output=True, timeout=60, check=False, env=environment)
    assert done.stderr == b""
    assert done.returncode == 0
    return done.stdout.decode()


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("tree", TREES, ids=lambda path: path.name)
def test_every_shell_reads_every_tree_as_recorded(shell: Sequence[str], tree: Path) -> None:
    assert probe(shell, tree) == (DATA / f"probe/{tree.name}.txt").read_text("utf-8")


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_every_shell_reads_this_machine(shell: Sequence[str]) -> None:
    facts = parse(probe(shell, ""))
    assert facts.source == "live"
    assert facts.system.kernel == os.uname().release
    assert facts.system.epoch_s == pytest.approx(time.time(), abs=30)
    assert facts.user.uid == os.getuid()
    assert facts.docker.state is not None
    assert facts.space["slash"].free_bytes > 0
    assert facts.tuning.nofile is not None
    assert facts.system.flock == bool(shutil.which("flock"))


@pytest.mark.parametrize("tree", TREES, ids=lambda path: path.name)
def test_read_tree_and_the_recording_say_the_same(tree: Path) -> None:
    assert read_tree(tree) == parse((DATA / f"probe/{tree.name}.txt").read_text("utf-8"))


def test_a_machine_without_tools_still_answers(tmp_path: Path) -> None:
    """No docker, ss, modinfo, timeout, stat, dmesg: only what POSIX has."""
    for tool in ("grep", "date", "id", "tr", "tail"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    lean = PROBE.replace(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "")
    argv = ["/bin/sh", "-s", "--", "TOK", "", "/srv/models", "/var/tmp/fleet"]
    done = subprocess.run(
        argv, input=lean.encode(), capture_output=True, timeout=60, check=False, env={"PATH": str(tmp_path)}
    )
    facts = parse(done.stdout.decode())
    assert facts.docker.state == "no-cli"
    assert facts.system.flock is False
    assert facts.driver.disk_version is None
    assert facts.kernel_log.lines is None
    assert facts.space == {}


def test_a_docker_that_hangs_is_cut_off(tmp_path: Path) -> None:
    slow = tmp_path / "docker"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    quick = PROBE.replace("limit 10 docker", "limit 1 docker").replace("limit 15 docker", "limit 1 docker")
    argv = ["sh", "-s", "--", "TOK", "", "", ""]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    began = time.monotonic()
    done = subprocess.run(argv, input=quick.encode(), capture_output=True, timeout=50, check=False, env=environment)
    assert time.monotonic() - began < 40
    assert parse(done.stdout.decode()).docker.state in ("stopped", "forbidden")


def test_the_probe_changes_nothing_in_a_tree(tmp_path: Path) -> None:
    tree = tmp_path / "node"
    shutil.copytree(TREES[0], tree)
    before = {path: path.lstat().st_mtime_ns for path in tree.rglob("*")}
    probe(("sh",), tree)
    assert {path: path.lstat().st_mtime_ns for path in tree.rglob("*")} == before


def test_xgmi_error_is_never_read_because_reading_clears_it(tmp_path: Path) -> None:
    device = tmp_path / "sys/class/drm/renderD128/device"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    (device / "xgmi_error").write_text("7\n")
    assert "xgmi_error" not in probe(("sh",), tmp_path)


def test_models_with_spaces_and_two_levels_are_found(tmp_path: Path) -> None:
    for name in ("org/Big Model", "plain"):
        model = tmp_path / "srv/models" / name
        model.mkdir(parents=True)
        (model / "config.json").write_text('{"num_attention_heads": 16}')
        (model / "model-00001-of-2.safetensors").write_text("")
    (tmp_path / "srv/models/lost+found").mkdir()
    models = read_tree(tmp_path).models
    assert models is not None
    assert {(model.name, model.weights, model.attention_heads) for model in models} == {
        ("org/Big Model", True, 16),
        ("plain", True, 16),
    }


def test_a_tree_whose_kfd_lies_under_devices_virtual_is_read(tmp_path: Path) -> None:
    source = DATA / "kfd/mi210x8-xgmi-pcie/sys/class/kfd/kfd"
    shutil.copytree(source, tmp_path / "sys/devices/virtual/kfd/kfd")
    assert len(read_tree(tmp_path).gpus) == 8


def test_an_empty_tree_has_no_gpus_and_no_guesses(tmp_path: Path) -> None:
    facts = read_tree(tmp_path)
    assert facts.gpus == ()
    assert facts.driver.state is None
    assert facts.docker.state is None


def test_a_missing_tree_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(FleetError):
        read_tree(tmp_path / "nowhere")


def elsewhere(tmp_path: Path, place: str) -> tuple[Path, Path]:
    """A node's tree in which `place` is a link to where a chroot would find it, and that place under its own name."""
    tree = tmp_path / "node"
    shutil.copytree(DATA / "kfd/mi250x4-synthetic", tree)
    real = tree / "captured" / place
    real.parent.mkdir(parents=True)
    (tree / place).rename(real)
    (tree / place).symlink_to(f"/captured/{place}")
    return tree, real


@pytest.mark.parametrize("place", ["sys", "sys/class/kfd/kfd", "sys/class/drm", "sys/class/drm/card1/device", "srv"])
def test_a_link_from_the_top_leads_to_the_top_of_the_tree_and_not_to_this_machine(tmp_path: Path, place: str) -> None:
    tree, _ = elsewhere(tmp_path, place)
    assert read_tree(tree) == read_tree(DATA / "kfd/mi250x4-synthetic")


def test_a_link_that_climbs_out_of_the_tree_ends_at_its_top(tmp_path: Path) -> None:
    tree, _ = elsewhere(tmp_path, "sys/class/kfd/kfd")
    link = tree / "sys/class/kfd/kfd"
    link.unlink()
    link.symlink_to("../" * 60 + "captured/sys/class/kfd/kfd")
    assert len(read_tree(tree).gpus) == 8


def test_what_a_link_out_of_the_tree_does_not_find_inside_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/os-release").write_text("ID=this-machine\n")
    tree = tmp_path / "node"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/os-release").symlink_to(tmp_path / "secret/os-release")
    (tree / "sys").symlink_to("/sys")
    facts = read_tree(tree)
    assert (facts.system.os, facts.driver.state, facts.topology.kfd) == (None, None, False)


def test_links_inside_a_tree_that_go_in_circles_end(tmp_path: Path) -> None:
    tree, real = elsewhere(tmp_path, "sys/class/kfd/kfd")
    (real / "again").symlink_to("/sys/class/kfd")
    (real / "loop").symlink_to("loop")
    (tree / "etc/whole").symlink_to("/")
    assert len(read_tree(tree).gpus) == 8
