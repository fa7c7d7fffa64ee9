"""A bundle over the real thing: made on the connected side, opened without us, and a site that is cut off deployed from it.

The tests of this module are one story and run in their order.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.image.release import Release, loads
from fleet.lab import Lab, NodeSpec
from tests.lab.cli import Controller
from tests.lab.conftest import BASTION, MI300X, REGISTRY, lab_name
from tests.lab.small import Site
from tests.lab.standin_image import image_text, standin_archive

pytestmark = pytest.mark.lab

DEV = NodeSpec("mi300x-cpx-01", base="trixie", profile="mi300x-8-cpx", user="dev", containerd_store=True)
SERVING = (MI300X.name, DEV.name)  # an engine of 20.10 that pulls, and one of 26.1 that is sideloaded
SIGNED = ("--allowed-signers", "../signers")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A lab whose inventories, keys and bundle lie in one folder; `controller` is the connected side."""
    name, folder = lab_name("air"), tmp_path_factory.mktemp("air")
    try:
        lab = Lab.up(name, (REGISTRY, BASTION, MI300X, DEV), inventories=folder / "home")
        image, ways = folder / "home/image.yaml", folder / "home/ways.yaml"
        image.write_text(image_text(standin_archive(folder / "standin.tar"), registry=True))
        ways.write_text(json.dumps({"gpu": {"hosts": {DEV.name: {"fleet": {"delivery": "sideload"}}}}}))
        key = folder / "key"
        subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ops", "-f", key), check=True)
        signer = f'ops@desk namespaces="fleet-bundle" {key.with_suffix(".pub").read_text()}'
        (folder / "signers").write_text(signer)
        yield Site(lab, Controller(folder / "home", (lab.inventory, image, ways)), folder)
    finally:
        Lab.remove(name)


def well(controller: Controller, *words: str) -> str:
    done = controller.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def release_of(bundle: Path) -> Release:
    record = next(path for path in (bundle / "releases").glob("*.json") if path.name != "keys.json")
    return loads(record.read_text(), str(record))


def test_a_bundle_is_made_verified_and_loaded(site: Site) -> None:
    well(site.controller, "bundle.create", "-o", "../disk", "--sign-key", "../key")
    (site.folder / "standin.tar").unlink()  # what follows is of the bundle alone
    assert "this site could be deployed from it" in well(site.controller, "bundle.verify", "../disk", *SIGNED)
    elsewhere = Controller(site.folder, ())
    well(elsewhere, "bundle.load", "disk", "--store", "store", "--allowed-signers", "signers")


def test_skopeo_and_docker_load_open_it_without_us(site: Site) -> None:
    bundle = site.folder / "disk"
    release = release_of(bundle)
    for folder in (bundle / "images", site.folder / "store"):
        source = f"oci:{folder}:{release.local_name}"
        inspected = subprocess.run(("skopeo", "inspect", source), check=True, capture_output=True)
        assert json.loads(inspected.stdout)["Layers"] == list(release.layer_digests)
        subprocess.run(("skopeo", "copy", "-q", source, f"oci:{site.folder}/copied:x"), check=True)
    for host in SERVING:
        with (bundle.parent / "images.tar").open("wb") as tar:
            subprocess.run(("tar", "-C", bundle / "images", "-c", "."), check=True, stdout=tar)
        (site.lab.node(host).root / "tmp/images.tar").write_bytes((bundle.parent / "images.tar").read_bytes())
        assert release.local_name in site.docker(host, "load", "-i", "/tmp/images.tar")
        found = json.loads(site.docker(host, "image", "inspect", release.local_name))[0]
        assert found["Id"] == (release.manifest_digest if host == DEV.name else release.config_digest)
        assert found["RootFS"]["Layers"] == list(release.diff_ids)
        site.sh(host, f"rm /tmp/images.tar; docker rmi {release.local_name}")
