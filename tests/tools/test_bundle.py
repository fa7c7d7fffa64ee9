"""Bundles by the command itself, with real skopeo and ssh-keygen: made, damaged, verified, loaded, completed."""

import contextlib
import copy
import errno
import io
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from invoke.program import Program

from fleet.bundle import have
from fleet.bundle.have import Have
from fleet.bundle.store import SiteStore
from fleet.delivery.holdings import HeldImage, Holdings
from fleet.image.layout import read, verify
from fleet.image.store import Store
from fleet.tasks import namespace
from tests.unit.image.layouts import make

INVENTORY = """
all:
  vars:
    fleet:
      delivery: sideload
      image: {name: vllm-rocm, archive: ARCHIVE, gfx: [gfx942]}
      services: {chat: {model: tiny}, embed: {model: /app/models/org/small, port: 8100}}
  children:
    vault:
      hosts: {"n-[1:2].vault": {}}
      vars: {fleet: {gpus: {model: MI300X, count: 8}}}
"""
MIB = 1 << 20
SIGNED = ("--allowed-signers", "../signers")


def text_of(size: int, seed: int) -> str:
    """Text that gzip cannot make much smaller than half."""
    return random.Random(seed).randbytes(size // 2).hex()  # noqa: S311  the same bytes every time, no secret


def fleet(folder: Path, *words: str, code: int = 0) -> str:
    """What the command prints in `folder`, in this process: starting Python for each would take most of the time."""
    said = io.StringIO()
    fresh = copy.deepcopy(namespace)  # Invoke takes the help texts out of the tasks that it parses for
    with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            Program(name="fleet", namespace=fresh, version="test").run(["fleet", *words])
            ended: object = 0
        except SystemExit as error:
            ended = error.code or 0
    assert ended == code, (words, said.getvalue())
    return said.getvalue()


def controller(folder: Path, seed: int) -> Path:
    """A connected side whose image has a layer of 8 MiB of text that stays and one of 1 MiB that goes by `seed`."""
    folder.mkdir(exist_ok=True)
    layout = folder / "layout"
    shutil.rmtree(layout, ignore_errors=True)
    make(layout, ({"base": text_of(8 * MIB, 0)}, {"app": text_of(MIB, seed)}), {"Cmd": ["serve"]})
    archive = folder / f"vllm-{seed}.tar"
    subprocess.run(("tar", "-C", layout, "-cf", archive, "."), check=True)
    (folder / "site.yaml").write_text(INVENTORY.replace("ARCHIVE", archive.name))
    return folder


def key(path: Path, name: str) -> Path:
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path), check=True)
    return path


def signers(root: Path) -> None:
    """A key, `key`, and the file `signers` that names it."""
    public = key(root / "key", "ops").with_suffix(".pub").read_text()
    (root / "signers").write_text(f'ops@desk namespaces="fleet-bundle" {public}')


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles, in one piece and in volumes, signed by a key that `signers` names; models, but no tool."""
    root = tmp_path_factory.mktemp("bundle")
    signers(root)
    key(root / "foreign", "foreign")
    home = controller(root / "home", 1)
    (home / "models/tiny").mkdir(parents=True)
    (home / "models/tiny/weights").write_bytes(b"w" * MIB)
    cached = home / "models/models--org--small"
    (cached / "blobs").mkdir(parents=True)
    (cached / "blobs/0123").write_bytes(b"{}")
    (cached / "snapshots/abc").mkdir(parents=True)
    (cached / "snapshots/abc/config.json").symlink_to("../../blobs/0123")
    fleet(home, "maintenance", "-i", "site.yaml", "--host", "n-2.vault", "--reason", "HBM")
    assert (home / "site.maintenance.yaml").is_file()
    made = ("bundle.create", "-i", "site.yaml", "--without-tool", "--sign-key", "../key")
    fleet(home, *made, "-o", "../full", "--models", "models")
    fleet(home, *made, "-o", "../split", "--volume-size", "6M", "--models", "models")
    (root / "site").mkdir()
    return root


@pytest.fixture
def site(ground: Path, tmp_path: Path) -> Path:
    """A fresh site with copies of its own of both bundles beside it."""
    for name in ("full", "split"):
        shutil.copytree(ground / name, tmp_path / name)
    shutil.copy(ground / "signers", tmp_path / "signers")
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


def blob(bundle: Path) -> Path:
    """The biggest blob, wherever it lies."""
    return max(bundle.rglob("blobs/sha256/*"), key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def test_a_full_bundle_is_verified_loaded_and_found_by_a_deploy(site: Path) -> None:
    said = fleet(site, "bundle.verify", "../full", "-i", "../full/site/inventory/site.yaml", *SIGNED)
    assert "signed by ops@desk" in said
    assert "this site could be deployed from it" in said
    fleet(site, "bundle.load", "../full", *SIGNED)
    assert "0 blobs are new" in fleet(site, "bundle.load", "../full", *SIGNED)
    store = SiteStore(site / ".fleet/store")
    assert len(store.digests()) == 4
    [layout] = (site / ".fleet/layouts").iterdir()
    verify(read(layout))
    shutil.copytree(site.parent / "full/site/inventory", site / "inventories")
    assert "has not changed" in fleet(site, "build", "-i", "site", "--check")  # without the archive, and offline


def test_a_store_is_loaded_into_by_one_at_a_time(site: Path) -> None:
    fleet(site, "bundle.load", "../full", *SIGNED)
    with SiteStore(site / ".fleet/store").alone():
        assert "somebody is loading into it just now" in fleet(site, "bundle.load", "../full", *SIGNED, code=1)


def test_skopeo_opens_a_bundle_and_the_store(site: Path) -> None:
    fleet(site, "bundle.load", "../full", *SIGNED)
    name = json.loads((site.parent / "full/images/manifest.json").read_text())[0]["RepoTags"][0]
    for folder in (site.parent / "full/images", site / ".fleet/store"):
        inspected = subprocess.run(("skopeo", "inspect", f"oci:{folder}:{name}"), capture_output=True, check=True)
        assert len(json.loads(inspected.stdout)["Layers"]) == 2
    target = f"oci:{site}/joined:x"
    (site / "all").mkdir()
    for volume in sorted((site.parent / "split").iterdir()):
        shutil.copytree(volume / "images", site / "all", dirs_exist_ok=True)
    subprocess.run(("skopeo", "copy", "-q", f"oci:{site}/all:{name}", target), check=True)


def test_a_tar_of_the_images_is_what_docker_save_writes(site: Path, tmp_path: Path) -> None:
    images = site.parent / "full/images"
    [entry] = json.loads((images / "manifest.json").read_text())
    assert all((images / path).is_file() for path in (entry["Config"], *entry["Layers"]))
    subprocess.run(("tar", "-C", images, "-cf", tmp_path / "x.tar", "oci-layout", "manifest.json", "blobs"), check=True)
    subprocess.run(("skopeo", "inspect", f"docker-archive:{tmp_path}/x.tar"), check=True, capture_output=True)


def test_maintenance_stays_at_home_and_models_travel_from_directories_and_from_hugging_faces_cache(site: Path) -> None:
    said = fleet(site, "bundle.list", "../full")
    assert "model tiny" in said
    assert "model org/small" in said
    assert (site.parent / "full/models/org/small/config.json").read_bytes() == b"{}"
    assert "has to be on the hosts" not in fleet(
        site, "bundle.verify", "../full", *SIGNED, "-i", "../full/site/inventory"
    )
    names = {path.name for path in (site.parent / "full/site").rglob("*")}
    assert "site.lock.yaml" in names
    assert "site.maintenance.yaml" not in names


def test_volumes_hold_no_more_than_was_asked_and_tell_about_all(site: Path) -> None:
    volumes = sorted((site.parent / "split").iterdir())
    assert [volume.name for volume in volumes] == ["vol-001", "vol-002"]
    for volume in volumes:
        assert sum(path.stat().st_size for path in volume.rglob("*") if path.is_file()) <= 6 * MIB
        assert json.loads((volume / "MANIFEST.json").read_text())["volumes"] == 2
    fleet(site, "bundle.load", "../split", *SIGNED)
    assert len(SiteStore(site / ".fleet/store").digests()) == 4


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def link(path: Path) -> None:
    real = path.rename(path.parents[4] / "elsewhere")
    path.symlink_to(real)


def escape(bundle: Path) -> None:
    path = bundle / "MANIFEST.json"
    path.write_text(path.read_text().replace("models/tiny/weights", "models/../../weights"))


def swap(bundle: Path) -> None:
    (bundle / "vol-001").rename(bundle / "x")
    (bundle / "vol-002").rename(bundle / "vol-001")
    (bundle / "x").rename(bundle / "vol-002")


def other_bundle(bundle: Path) -> None:
    manifest = bundle / "vol-002/MANIFEST.json"
    document = json.loads(manifest.read_text())
    shutil.copy(bundle.parent / "full/MANIFEST.json", manifest)
    assert document["volumes"] == 2


DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("full", lambda bundle: flip(blob(bundle)), "is damaged: its SHA-256 is not"),
    ("full", lambda bundle: flip(bundle / "models/tiny/weights"), "models/tiny/weights is damaged"),
    ("full", lambda bundle: flip(bundle / "MANIFEST.json"), "does not match its signature"),
    ("full", lambda bundle: flip(bundle / "MANIFEST.json.sig"), "MANIFEST.json"),
    ("full", lambda bundle: (bundle / "MANIFEST.json.sig").unlink(), "is not signed"),
    ("full", lambda bundle: (bundle / "MANIFEST.json").unlink(), "is no bundle"),
    ("full", lambda bundle: truncate(blob(bundle)), "is truncated"),
    ("full", lambda bundle: blob(bundle).unlink(), "is missing"),
    ("full", lambda bundle: link(blob(bundle)), "is a link to"),
    ("full", lambda bundle: (bundle / "tool").symlink_to("/etc"), "tool is a link to /etc"),
    ("full", lambda bundle: (bundle / "site/extra.yaml").write_text("x"), "extra.yaml is not in MANIFEST.json"),
    ("full", lambda bundle: os.mkfifo(bundle / "site/pipe"), "pipe is no regular file"),
    ("full", escape, "does not match its signature"),
    ("split", lambda bundle: shutil.rmtree(bundle / "vol-001"), "volume 1 of 2 is missing"),
    ("split", lambda bundle: shutil.rmtree(bundle / "vol-002"), "volume 2 of 2 is missing"),
    ("split", swap, "vol-001 is volume 2 and not 1"),
    ("split", other_bundle, "vol-002 belongs to another bundle"),
    ("split", lambda bundle: flip(blob(bundle)), "is damaged: its SHA-256 is not"),
]


@pytest.mark.parametrize(("name", "damage", "said"), DAMAGE, ids=[f"{at}-{row[2]}" for at, row in enumerate(DAMAGE)])
def test_what_is_damaged_is_named_and_nothing_is_loaded(
    site: Path, name: str, damage: Callable[[Path], object], said: str
) -> None:
    bundle = site.parent / name
    damage(bundle)
    assert said in fleet(site, "bundle.verify", f"../{name}", *SIGNED, code=1)
    assert said in fleet(site, "bundle.load", f"../{name}", *SIGNED, code=1)
    deployed = fleet(site, "deploy", "-i", str(site_file(site)), "--bundle", f"../{name}", *SIGNED, code=2)
    assert said in deployed
    assert "nothing was touched" in deployed
    assert not (site / ".fleet").exists()


def site_file(site: Path, archive: str = "vllm-1.tar") -> Path:
    path = site / "site.yaml"
    path.write_text(INVENTORY.replace("ARCHIVE", archive))
    return path


def test_a_deploy_names_all_that_a_bundle_lacks_and_touches_nothing(site: Path, tmp_path: Path) -> None:
    deploy = ("deploy", "-i", "site.yaml", "--bundle")
    site_file(site, "other.tar")
    said = fleet(site, *deploy, "../full", *SIGNED, code=2)
    for host in ("n-1.vault", "n-2.vault"):
        assert f"{host}: the image of service chat (vllm-rocm) is not in the bundle" in said
    fleet(site, "bundle.load", "../full", *SIGNED, "--store", "store")
    (site / "have.json").write_bytes(have.dumps(Have("now", "ops@site", SiteStore(site / "store").digests())))
    shutil.rmtree(site / ".fleet")
    home = controller(tmp_path / "home2", 2)
    fleet(home, "bundle.create", "-i", "site.yaml", "--without-tool", "--since", "../site/have.json", "-o", "../delta")
    site_file(site, "vllm-2.tar")
    said = fleet(site, *deploy, "../delta", "--unsigned", code=2)
    assert "which store held when the base was written" in said
    assert "a bundle.have of .fleet/store" in said
    assert not (site / ".fleet").exists()


def test_flags_of_a_bundle_and_a_playbook_for_one_want_a_bundle(site: Path) -> None:
    site_file(site)
    assert "--bundle DIR" in fleet(site, "deploy", "-i", "site.yaml", "--unsigned", code=2)
    assert "takes its images from a bundle alone" in fleet(site, "play", "airgap", "-i", "site.yaml", code=2)
    assert "whose signature counts?" in fleet(site, "deploy", "-i", "site.yaml", "--bundle", "../full", code=2)


def test_a_path_that_escapes_is_named_without_a_signature_too(site: Path) -> None:
    escape(site.parent / "full")
    assert "leaves the bundle" in fleet(site, "bundle.load", "../full", "--unsigned", code=1)


def test_volumes_without_end_are_named_at_once(site: Path) -> None:
    path = site.parent / "full/MANIFEST.json"
    path.write_text(path.read_text().replace('"volumes": 1', '"volumes": 1000000000'))
    assert "1000000000 volumes cannot be" in fleet(site, "bundle.load", "../full", "--unsigned", code=1)


def test_a_key_that_nobody_allowed_is_refused(site: Path, ground: Path) -> None:
    (site.parent / "signers").write_text(f"ops@desk {(ground / 'foreign.pub').read_text()}")
    said = fleet(site, "bundle.load", "../full", *SIGNED, code=1)
    assert "no valid line of ../signers names the key that signed it, SHA256:" in said


def test_nobody_loads_without_saying_whose_signature_counts(site: Path) -> None:
    assert "whose signature counts?" in fleet(site, "bundle.load", "../full", code=2)
    fleet(site, "bundle.load", "../full", "--unsigned")


def test_another_sites_inventory_is_told_what_is_not_in_it(site: Path) -> None:
    other = site / "other.yaml"
    other.write_text(INVENTORY.replace("ARCHIVE", "other.tar"))
    said = fleet(site, "bundle.verify", "../full", "-i", "other.yaml", *SIGNED, code=1)
    assert "n-1.vault: the image of service chat (vllm-rocm) is not in the bundle" in said


def test_creation_goes_on_after_a_break(ground: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "again"
    shutil.copytree(ground / "full", bundle)
    flip(blob(bundle))
    (bundle / "models/tiny/weights").unlink()
    (bundle / "MANIFEST.json").unlink()
    (bundle / "models/tiny/weights.part").write_bytes(b"w")
    kept = {path: path.stat().st_ino for path in bundle.rglob("images/index.json")}
    words = ("bundle.create", "-i", "site.yaml", "--without-tool", "--models", "models", "-o", str(bundle))
    assert "2 of" in fleet(ground / "home", *words)
    assert {path: path.stat().st_ino for path in kept} == kept
    fleet(ground / "site", "bundle.verify", str(bundle), "--unsigned")
    assert "added 0 files" in fleet(ground / "site", "bundle.diff", "../full", str(bundle))


def test_a_disk_that_only_reads_is_said(ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ground / "full", tmp_path / "full")

    def unlink(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", unlink)
    words = ("bundle.create", "-i", "site.yaml", "--without-tool", "--models", "models", "-o", str(tmp_path / "full"))
    assert "MANIFEST.json cannot be removed: Read-only" in fleet(ground / "home", *words, code=1)


def test_a_directory_of_something_else_is_left_alone(ground: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    words = ("bundle.create", "-i", "site.yaml", "--without-tool", "-o", str(tmp_path))
    assert "holds thesis.txt" in fleet(ground / "home", *words, code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_bundle_before_stays_whole_when_the_next_one_is_refused_its_directory(site: Path, tmp_path: Path) -> None:
    home = controller(tmp_path / "home2", 2)
    for name in ("full", "split"):
        words = ("bundle.create", "-i", "site.yaml", "--without-tool", "-o", f"../{name}")
        assert "which is not of this bundle" in fleet(home, *words, code=2)
        fleet(site, "bundle.verify", f"../{name}", *SIGNED)


def test_a_delta_carries_what_changed_and_the_store_completes_it(site: Path, tmp_path: Path) -> None:
    fleet(site, "bundle.load", "../full", *SIGNED)
    store = SiteStore(site / ".fleet/store")
    (site / "have.json").write_bytes(have.dumps(Have("now", "ops@site", store.digests())))
    home = controller(tmp_path / "home2", 2)
    words = ("bundle.create", "-i", "site.yaml", "--without-tool", "--since", str(site / "have.json"))
    assert "1 layers" in fleet(home, *words, "-o", "../delta")
    delta = tmp_path / "delta"
    assert sum(path.stat().st_size for path in delta.rglob("*") if path.is_file()) < MIB
    said = fleet(site, "bundle.verify", "../delta", "--unsigned", "--store", "nowhere", code=1)
    assert "which store held when the base was written" in said
    assert "nothing was loaded" in fleet(site, "bundle.load", "../delta", "--unsigned", "--store", "empty", code=1)
    assert not (site / "empty").exists()
    fleet(site, "bundle.verify", "../delta", "--unsigned", "--store", ".fleet/store")
    assert "is complete here" in fleet(site, "bundle.load", "../delta", "--unsigned")
    layouts = [path for path in (site / ".fleet/layouts").iterdir() if not path.name.startswith("new-")]
    assert len(layouts) == 2
    for layout in layouts:
        verify(read(layout))


def test_a_delta_on_what_nodes_hold_says_which_node_lacks_it(site: Path, ground: Path, tmp_path: Path) -> None:
    base = read(next((ground / "home/.fleet/layouts").iterdir())).diff_ids
    held = Holdings((HeldImage("sha256:x", (), (), base),))
    before = Have("now", "ops@site", hosts={"n-1.vault": held, "n-2.vault": held})
    (site / "have.json").write_bytes(have.dumps(before))
    home = controller(tmp_path / "home2", 2)
    fleet(home, "bundle.create", "-i", "site.yaml", "--without-tool", "--since", "../site/have.json", "-o", "../delta")
    check = ("bundle.verify", "../delta", "--unsigned", "--have", "have.json")
    fleet(site, *check)
    (site / "have.json").write_bytes(have.dumps(Have("now", "ops@site", hosts={"n-1.vault": held})))
    assert "n-2.vault lacks layer" in fleet(site, *check, code=1)
    assert "is not complete here" in fleet(site, "bundle.load", "../delta", "--unsigned")
    assert Store(site / ".fleet").root.is_dir()


def test_what_is_had_is_written_down_although_a_node_does_not_answer(site: Path) -> None:
    fleet(site, "bundle.load", "../full", *SIGNED)
    (site / "site.yaml").write_text(
        INVENTORY.replace('n-[1:2].vault": {}', 'n-1.vault": {ansible_host: 127.0.0.1, ansible_port: 9}')
    )
    said = fleet(site, "bundle.have", "-i", "site.yaml", "-o", "have.json", code=1)
    assert "n-1.vault" in said
    found, _ = have.read(site / "have.json")
    assert found.blobs == SiteStore(site / ".fleet/store").digests()
    assert list(found.failed) == ["n-1.vault"]


def test_the_install_script_refuses_another_python_and_is_plain_sh(tmp_path: Path) -> None:
    from fleet.bundle.tool import INSTALL

    script = tmp_path / "install.sh"
    script.write_text(INSTALL.replace("@PYTHON@", "3.99"))
    done = subprocess.run(("sh", script, tmp_path / "venv"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "these wheels are for Python 3.99" in done.stderr
