"""What the lab asks of the machine: root, Linux, packages, control groups, a cached root filesystem."""

import os
import platform
import shutil
import threading
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from fleet.errors import FleetError, UsageError
from fleet.lab import Lab, cache, cgroups, host, processes, rootfs

V1 = """\
25 20 0:22 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
28 25 0:25 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine on which a lab may stand."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda program, **_: f"/usr/bin/{program}")
    return monkeypatch


def test_a_fit_machine_is_accepted(fit: pytest.MonkeyPatch) -> None:
    host.require()


def test_another_system_than_linux_is_one_clear_sentence(fit: pytest.MonkeyPatch) -> None:
    fit.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(FleetError, match="needs Linux namespaces, and this is Darwin"):
        Lab.up("lab")


def test_not_being_root_is_one_clear_sentence(fit: pytest.MonkeyPatch) -> None:
    fit.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FleetError, match="only root may") as raised:
        Lab.up("lab")
    assert raised.value.hint == "run it with sudo"


def test_missing_packages_come_with_the_line_that_installs_them(fit: pytest.MonkeyPatch) -> None:
    gone = {"dockerd", "htpasswd", "ssh", "ssh-keygen"}
    fit.setattr(shutil, "which", lambda program, **_: None if program in gone else program)
    with pytest.raises(FleetError, match="3 more Debian packages") as raised:
        Lab.up("lab")
    assert raised.value.hint == "apt-get install -y apache2-utils docker.io openssh-client"


@pytest.mark.parametrize("name", ["", "Lab", "a/b", "..", "a b", "x" * 21])
def test_a_name_that_cannot_be_a_directory_is_refused_before_anything_is_touched(name: str) -> None:
    for verb in (Lab.up, Lab.find, Lab.remove):
        with pytest.raises(UsageError, match="cannot be called"):
            verb(name)


def test_a_failing_tool_is_told_by_its_last_words() -> None:
    with pytest.raises(FleetError, match="failed: the last line"):
        host.run(("sh", "-c", "echo first >&2; echo the last line >&2; exit 3"))


def test_control_groups_of_version_1_are_found_beside_an_empty_version_2() -> None:
    assert [(str(root), kind) for root, kind, _ in cgroups.hierarchies(V1)] == [
        ("/sys/fs/cgroup/cpu,cpuacct", "cgroup"),
        ("/sys/fs/cgroup/systemd", "cgroup"),
        ("/sys/fs/cgroup/unified", "cgroup2"),
    ]


def test_control_groups_of_version_2_are_one_tree() -> None:
    assert cgroups.hierarchies(V2) == ((Path("/sys/fs/cgroup"), "cgroup2", "rw,nsdelegate"),)


def test_a_process_with_a_reused_number_is_not_taken_for_ours(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    processes.remember(file, os.getpid())
    assert processes.recall(file) == os.getpid()
    file.write_text(f"{os.getpid()} 1\n")
    assert processes.recall(file) == 0
    processes.end(file)  # and so it is not killed
    assert not file.exists()


def test_the_second_builder_waits_for_the_first_and_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def debootstrap(argv: tuple[str, ...]) -> CompletedProcess[str]:
        built.append(argv)
        Path(argv[-2]).mkdir()
        return CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(host, "run", debootstrap)
    (tmp_path / "trixie.new.17").mkdir()  # from a builder that was killed
    threads = [threading.Thread(target=rootfs.trixie, kwargs={"cache": tmp_path}) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"trixie.{cache.key(rootfs.PACKAGES)}", "trixie.lock"]


def test_a_build_that_fails_leaves_no_root_filesystem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def debootstrap(argv: tuple[str, ...]) -> CompletedProcess[str]:
        Path(argv[-2]).mkdir()
        raise FleetError("the lab's `debootstrap` failed: no mirror")

    monkeypatch.setattr(host, "run", debootstrap)
    with pytest.raises(FleetError, match="no mirror"):
        rootfs.trixie(cache=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["trixie.lock"]


def test_another_package_makes_another_root_and_the_old_one_goes_unless_a_node_stands_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "run", lambda argv: Path(argv[-2]).mkdir())
    first = rootfs.trixie(cache=tmp_path)
    monkeypatch.setattr(rootfs, "PACKAGES", (*rootfs.PACKAGES, "jq"))
    second = rootfs.trixie(cache=tmp_path)
    assert second.is_dir()
    assert not first.exists()
    monkeypatch.setattr(cache, "in_use", lambda path: path == second)
    monkeypatch.setattr(rootfs, "PACKAGES", (*rootfs.PACKAGES, "jq", "less"))
    assert rootfs.trixie(cache=tmp_path).is_dir()
    assert second.is_dir()


def test_a_directory_that_a_node_stands_on_is_seen_in_its_mounts(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    line = "9 1 0:5 / / rw - overlay overlay rw,lowerdir=/cache/trixie.abc,upperdir=/u,workdir=/w\n"
    (tmp_path / "7/mountinfo").write_text(line)
    assert cache.in_use(Path("/cache/trixie.abc"), tmp_path)
    assert not cache.in_use(Path("/cache/trixie"), tmp_path)


def test_a_version_2_group_hands_every_controller_down(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    cgroups.hand_down(tmp_path)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_a_version_1_group_hands_nothing_down(tmp_path: Path) -> None:
    cgroups.hand_down(tmp_path)
    assert list(tmp_path.iterdir()) == []
