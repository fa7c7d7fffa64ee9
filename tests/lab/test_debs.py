"""Debian packages in a bundle: made from an archive of our own, installed on a machine that has no network."""

import os
import subprocess
from pathlib import Path

import pytest

from fleet.bundle.debs import deb_files, plain_name, stanza
from fleet.errors import FleetError
from fleet.lab import Lab, NodeSpec
from tests.lab.conftest import lab_name

pytestmark = pytest.mark.lab


def deb(folder: Path, name: str, depends: str = "") -> Path:
    """A package with one file, /usr/share/NAME."""
    tree = folder / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/share").mkdir(parents=True)
    (tree / f"usr/share/{name}").write_text("here\n")
    lines = [f"Package: {name}", "Version: 1:2.0+b1", "Architecture: all", "Maintainer: t <t@localhost>"]
    lines += [f"Depends: {depends}"] if depends else []
    (tree / "DEBIAN/control").write_text("\n".join((*lines, "Description: of a test", "")))
    target = folder / f"{name}_2.0+b1_all.deb"
    subprocess.run(("dpkg-deb", "--root-owner-group", "--build", tree, target), check=True, stdout=subprocess.DEVNULL)
    return target


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive that is the only one apt knows of here."""
    folder = tmp_path / "archive"
    folder.mkdir()
    made = [deb(folder, "fleet-hello", "fleet-world (>= 1:2)"), deb(folder, "fleet-world"), deb(folder, "fleet-other")]
    (folder / "Packages").write_text("\n".join(stanza(path, path.name) for path in made))
    (folder / "sources.list").write_text(f"deb [trusted=yes] copy:{folder} ./\n")  # apt reads `file:` in place
    for name in ("lists/partial", "cache"):
        (folder / name).mkdir(parents=True)
    (folder / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{folder}/sources.list";\nDir::Etc::SourceParts "-";\n'
        f'Dir::State::Lists "{folder}/lists";\nDir::Cache "{folder}/cache";\nAPT::Sandbox::User "root";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(folder / "apt.conf"))
    subprocess.run(("apt-get", "update", "-qq"), check=True)
    return folder


def test_packages_travel_with_what_they_need_and_are_installed_without_a_network(archive: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk with a blank"
    with deb_files(("fleet-hello",), lambda _line: None) as files:
        for path, content in files.items():
            target = disk / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    assert sorted(path.name.partition("_")[0] for path in disk.rglob("*.deb")) == ["fleet-hello", "fleet-world"]
    name = lab_name("debs")
    try:
        node = Lab.up(name, (NodeSpec("desk", role="builder"),), inventories=tmp_path).node("desk")
        there = node.root / "media/my disk"
        there.parent.mkdir(exist_ok=True)
        subprocess.run(("cp", "-r", disk, there), check=True)
        for _ in range(2):  # the second one has nothing to do
            node.exec(("sh", "/media/my disk/tool/install-debs.sh"))
        assert (node.root / "usr/share/fleet-hello").read_text() == "here\n"
        assert (node.root / "usr/share/fleet-world").read_text() == "here\n"
        assert not (node.root / "usr/share/fleet-other").exists()
    finally:
        Lab.remove(name)


def test_a_package_that_nobody_has_is_said(archive: Path) -> None:
    assert os.environ["APT_CONFIG"].startswith(str(archive))
    with pytest.raises(FleetError, match="Unable to locate package fleet-nothing") as caught:
        deb_files(("fleet-nothing",), lambda _line: None).__enter__()
    assert "--debs" in caught.value.hint


def test_an_epoch_is_no_trouble_for_a_disk() -> None:
    assert plain_name("git_1%3a2.39.5-0+deb12u2_amd64.deb") == "git_1_3a2.39.5-0+deb12u2_amd64.deb"
