"""A site that is cut off gets a new version of an image and of a model by a bundle of what it lacks, and is then as by a full one.

The tests of this module are one story and run in their order.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.bundle.check import open_bundle
from fleet.lab import Lab
from fleet.lab.files import MODEL, model_files
from tests.lab.cli import Controller
from tests.lab.conftest import BASTION, MI300X, lab_name
from tests.lab.small import Site
from tests.lab.standin_image import image_text, standin_archive
from tests.lab.test_bundle import DEV, PLACES, SERVING, SIGNED, inside, packets, trap, well
from tests.tools.test_bundle import signers

pytestmark = [pytest.mark.lab, pytest.mark.matrix]

MIB = 1 << 20
KEPT = 24 * MIB  # bytes of weights that both versions have
TALK = 6 * MIB  # everything else that goes to a host meanwhile
FLEET = str(Path(sys.executable).with_name("fleet"))
# Every file of a model but our own list, with its checksum.
FILES = "cd {}/ && find . -type f ! -name '.fleet*' -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum"

__all__ = ["trap"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """As in test_bundle, without a registry: everything goes by sideload."""
    name, folder = lab_name("airm"), tmp_path_factory.mktemp("airm")
    try:
        lab = Lab.up(name, (BASTION, MI300X, DEV), inventories=folder / "home")
        settings = {"delivery": "sideload", "models_dir": PLACES[DEV.name]}
        ways = {"gpu": {"vars": {"fleet": {"delivery": "sideload"}}, "hosts": {DEV.name: {"fleet": settings}}}}
        (folder / "home/ways.yaml").write_text(json.dumps(ways))
        signers(folder)
        model = folder / "models" / MODEL
        model.mkdir(parents=True)
        for file in model_files():
            (model / Path(file.path).name).write_bytes(file.content)
        (model / "kept.safetensors").write_bytes(os.urandom(KEPT))
        (model / "new.safetensors").write_bytes(os.urandom(MIB))
        paths = (lab.inventory, folder / "home/image.yaml", folder / "home/ways.yaml")
        yield Site(lab, Controller(folder / "home", paths), folder)
    finally:
        Lab.remove(name)


def bundle(site: Site, name: str, *words: str) -> Path:
    """Made at home with the models, and its inventory brought to the site."""
    create = ("bundle.create", "-o", f"../{name}", "--models", "../models", "--sign-key", "../key", "--without-tool")
    well(site.controller, *create, *words)
    shutil.rmtree(site.folder / "site/inventories", ignore_errors=True)
    shutil.copytree(site.folder / name / "site/inventory", site.folder / "site/inventories")
    return site.folder / name


def image(site: Site, change: int) -> None:
    archive = standin_archive(site.folder / f"standin-{change}.tar", change=change)
    (site.folder / "home/image.yaml").write_text(image_text(archive, registry=False))


def fleet(site: Site, verb: str, *words: str, code: int = 0) -> str:
    """The command of somebody at the site, where no packet gets out."""
    sources = [word for path in site.controller.inventories for word in ("-i", f"inventories/{path.name}")]
    done = inside(site, BASTION.name, FLEET, verb, *(() if verb == "bundle.load" else sources), *words)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + ("" if "--json" in words else done.stderr)


def deploy(site: Site, folder: Path) -> dict[str, int]:
    document: Any = json.loads(fleet(site, "deploy", "--bundle", f"../{folder.name}", *SIGNED, "--json"))
    assert document["failed"] == {}
    return {name: host["changed"] for name, host in document["hosts"].items()}


def at_home(site: Site) -> str:
    files = sorted((site.folder / "models" / MODEL).iterdir())
    return "\n".join(f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}" for one in files)


def sent(site: Site, host: str) -> int:
    """Bytes that went to a host so far, as its cables count them."""
    links = (Path("/sys/class/net") / link.outside for link in site.lab.node(host).links)
    return sum(int((link / "statistics/tx_bytes").read_text()) for link in links)


def test_a_full_bundle_brings_the_first_version(site: Site, trap: None) -> None:
    image(site, MIB)
    assert all(deploy(site, bundle(site, "full")).values())
    for host in SERVING:
        assert site.sh(host, FILES.format(f"{PLACES[host]}/{MODEL}")) == at_home(site)


def test_a_delta_leaves_out_what_the_site_has_of_a_model_and_of_an_image_and_the_site_is_as_by_a_full_one(
    site: Site, trap: None
) -> None:
    before = packets(site)
    fleet(site, "bundle.have", "-o", "../have.json")
    image(site, 2 * MIB)
    model = site.folder / "models" / MODEL
    (model / "new.safetensors").write_bytes(os.urandom(2 * MIB))
    (model / "more.safetensors").write_bytes(os.urandom(MIB))
    (model / "README.md").unlink(missing_ok=True)
    delta = bundle(site, "delta", "--since", "../have.json")
    manifest = open_bundle(delta).manifest
    assert manifest.size < 8 * MIB
    assert manifest.base
    assert f"models/{MODEL}/kept.safetensors" in [one.path for one in manifest.base.files]
    assert "could be deployed from it" in fleet(
        site, "bundle.verify", "../delta", *SIGNED, "--store", ".fleet/store", "--have", "../have.json"
    )
    fleet(site, "bundle.load", "../delta", *SIGNED)
    wire = {host: sent(site, host) for host in SERVING}
    assert all(deploy(site, delta).values())
    for host in SERVING:
        assert sent(site, host) - wire[host] < manifest.size + TALK
        assert site.sh(host, FILES.format(f"{PLACES[host]}/{MODEL}")) == at_home(site)
    assert deploy(site, delta) == dict.fromkeys(SERVING, 0)
    assert deploy(site, bundle(site, "again")) == dict.fromkeys(SERVING, 0)  # a full one has nothing to add
    assert packets(site) == before


def test_a_host_that_has_lost_what_was_left_out_is_named_and_a_full_bundle_mends_it(site: Site, trap: None) -> None:
    host = MI300X.name
    held = site.sh(host, f"readlink -f {PLACES[host]}/{MODEL}/kept.safetensors")
    site.sh(host, f"rm -f {held}; rm -f {PLACES[host]}/{MODEL}/.fleet.sha256")
    said = fleet(site, "deploy", "--bundle", "../delta", *SIGNED, "--limit", host, code=1)
    assert "the bundle leaves out" in said
    assert "kept.safetensors" in said
    assert deploy(site, site.folder / "again")[host]
    assert site.sh(host, FILES.format(f"{PLACES[host]}/{MODEL}")) == at_home(site)
    assert deploy(site, site.folder / "again") == dict.fromkeys(SERVING, 0)


def test_a_reinstalled_host_is_brought_everything_by_a_delta_on_the_store_and_a_full_model(
    site: Site, trap: None
) -> None:
    """The site's store completes images; models lie on hosts alone."""
    host = DEV.name
    site.docker(host, "rm", "-f", *site.containers(host), "chat-0-previous", check=False)
    site.docker(host, "image", "prune", "--all", "--force")
    site.sh(host, f"rm -rf {PLACES[host]}/*")
    said = fleet(site, "deploy", "--bundle", "../delta", *SIGNED, "--limit", host, code=1)
    assert "the bundle leaves out" in said
    assert deploy(site, site.folder / "again")[host]
    assert site.sh(host, FILES.format(f"{PLACES[host]}/{MODEL}")) == at_home(site)
