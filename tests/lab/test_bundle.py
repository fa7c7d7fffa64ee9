"""A bundle over the real thing: made on the connected side, opened without us, and a site that is cut off deployed from it.

The tests of this module are one story and run in their order.
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.image.release import Release, loads
from fleet.lab import Lab, NodeSpec
from fleet.lab.files import MODEL, model_files
from tests.lab.cli import Controller
from tests.lab.conftest import BASTION, MI300X, REGISTRY, lab_name
from tests.lab.small import Site
from tests.lab.standin_image import image_text, standin_archive

pytestmark = pytest.mark.lab

DEV = NodeSpec("mi300x-cpx-01", base="trixie", profile="mi300x-8-cpx", user="dev", containerd_store=True)
SERVING = (MI300X.name, DEV.name)  # an engine of 20.10 that pulls, and one of 26.1 that is sideloaded
# A way out of a node's network namespace that leads nowhere and counts what is sent on it.
TRAP = """
set -e
ip link add outside type veth peer name nowhere
ip link set outside up addrgenmode none arp off
ip link set nowhere up addrgenmode none arp off
ip route add default dev outside
"""
PLACES = {MI300X.name: "/srv/models", DEV.name: "/home/dev/models"}  # the second one is not there yet
SIGNED = ("--allowed-signers", "../signers")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A lab whose inventories, keys and bundle lie in one folder; `controller` is the connected side."""
    name, folder = lab_name("air"), tmp_path_factory.mktemp("air")
    try:
        lab = Lab.up(name, (REGISTRY, BASTION, MI300X, DEV), inventories=folder / "home")
        image, ways = folder / "home/image.yaml", folder / "home/ways.yaml"
        image.write_text(image_text(standin_archive(folder / "standin.tar"), registry=True))
        ways.write_text(
            json.dumps(
                {"gpu": {"hosts": {DEV.name: {"fleet": {"delivery": "sideload", "models_dir": PLACES[DEV.name]}}}}}
            )
        )
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
    model = site.folder / "models" / MODEL
    model.mkdir(parents=True)
    for file in model_files():
        (model / Path(file.path).name).write_bytes(file.content)
    (model / "generation_config.json").write_text("{}")
    well(site.controller, "bundle.create", "-o", "../disk", "--sign-key", "../key", "--models", "../models")
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


@pytest.fixture(scope="module")
def trap(site: Site) -> None:
    """From here on every namespace of the lab has a route to outside, on which a packet is seen."""
    for node in site.lab.nodes:
        assert inside(site, node.name, "sh", "-c", TRAP).returncode == 0
    before = packets(site)
    inside(site, BASTION.name, "busybox", "nc", "-w", "1", "192.0.2.1", "53")
    assert packets(site)[BASTION.name] > before[BASTION.name]  # the trap catches


def inside(site: Site, node: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """A command of this machine in the network of one of the lab's nodes, as the operator at the site."""
    folder = site.folder / "site"
    folder.mkdir(exist_ok=True)
    network = ("nsenter", "-t", str(site.lab.node(node).pid), "-n")
    environment = {**os.environ, "PIP_CONFIG_FILE": "/dev/null"}
    return subprocess.run((*network, *argv), capture_output=True, text=True, check=False, cwd=folder, env=environment)


def packets(site: Site) -> dict[str, int]:
    """How many were sent towards outside, by node."""
    shown = {node.name: inside(site, node.name, "ip", "-j", "-s", "link", "show", "outside") for node in site.lab.nodes}
    return {name: json.loads(one.stdout)[0]["stats64"]["tx"]["packets"] for name, one in shown.items()}


def fleet(site: Site, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command that was installed from the bundle, with the inventory that came in it."""
    sources = [word for path in site.controller.inventories for word in ("-i", f"inventories/{path.name}")]
    return inside(site, BASTION.name, "../venv/bin/fleet", verb, *sources, *words)


def test_a_site_that_is_cut_off_is_deployed_from_the_bundle_alone(site: Site, trap: None) -> None:
    before = packets(site)
    installed = inside(site, BASTION.name, "sh", "../disk/tool/install.sh", "../venv")
    assert installed.returncode == 0, installed.stderr
    shutil.copytree(site.folder / "disk/site/inventory", site.folder / "site/inventories")
    deploy = ("deploy", "--bundle", "../disk", "--allowed-signers", "../signers")

    blob = max((site.folder / "disk/images/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused = fleet(site, *deploy)
    assert refused.returncode == 2
    assert f"{blob.name} is damaged" in refused.stderr
    blob.write_bytes(content)
    planned = fleet(site, *deploy, "--check")
    assert planned.returncode == 0, planned.stderr
    assert "3 blobs of ../disk would be loaded into .fleet/store" in planned.stdout
    assert not (site.folder / "site/.fleet/store").exists()
    assert not (site.folder / "site/.fleet/runs").exists()
    assert all(site.docker(host, "images", "-q") == "" for host in SERVING)

    done = fleet(site, *deploy, "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["failed"]) == (0, {})
    assert all("Paris" in document["hosts"][host]["proofs"]["chat-0"]["answer"] for host in SERVING)
    release = release_of(site.folder / "disk")
    for host in SERVING:
        found = json.loads(site.docker(host, "image", "inspect", release.local_name))[0]
        assert found["RootFS"]["Layers"] == list(release.diff_ids)
        assert "generation_config.json" in site.sh(host, f"ls {PLACES[host]}/{MODEL}/")  # of the bundle's model

    again = json.loads(fleet(site, *deploy, "--json").stdout)
    assert {name: host["changed"] for name, host in again["hosts"].items()} == dict.fromkeys(SERVING, 0)
    assert again["images"]["changed"] == []
    plain = json.loads(fleet(site, "deploy", "--json").stdout)  # the site knows its releases by now
    assert {name: host["changed"] for name, host in plain["hosts"].items()} == dict.fromkeys(SERVING, 0)
    assert packets(site) == before


@dataclass(frozen=True)
class Registry:
    """Of the connected side alone, over plain HTTP, with a log-in of its own."""

    place: str  # address and port
    user: str
    password: Path

    @property
    def access(self) -> dict[str, Any]:
        """As an inventory says it."""
        return {
            "insecure": True,
            "username": {"command": ["echo", self.user]},
            "password": {"file": str(self.password)},
        }

    def push(self, archive: Path, name: str) -> str:
        """The name under which it has the image."""
        words = ("skopeo", "copy", "-q", "--retry-times", "5", "--dest-tls-verify=false")
        login = ("--dest-creds", f"{self.user}:{self.password.read_text()}")
        reference = f"{self.place}/{name}"
        subprocess.run((*words, *login, f"docker-archive:{archive}", f"docker://{reference}"), check=True)
        return reference


@contextmanager
def registries(folder: Path, address: str, *names: str) -> Iterator[tuple[Registry, ...]]:
    with ExitStack() as stack:
        found = []
        for name in names:
            with socket.create_server((address, 0)) as free:
                place = f"{address}:{free.getsockname()[1]}"
            password, table = folder / f"{name}.password", folder / f"{name}.htpasswd"
            password.write_text(f"only-for-{name}")
            made = subprocess.run(
                ("htpasswd", "-niBC", "5", name), input=password.read_bytes(), check=True, capture_output=True
            )
            table.write_bytes(made.stdout)
            config = {
                "version": 0.1,
                "storage": {"filesystem": {"rootdirectory": str(folder / name)}},
                "http": {"addr": place},
                "auth": {"htpasswd": {"realm": name, "path": str(table)}},
            }
            (folder / f"{name}.yml").write_text(json.dumps(config))
            words = ("docker-registry", "serve", str(folder / f"{name}.yml"))
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            found.append(Registry(place, name, password))
        yield tuple(found)


def test_a_site_whose_images_come_from_several_registries_is_deployed_from_one_bundle(site: Site, trap: None) -> None:
    """Three, with a log-in each; one of the hosts runs two of the images."""
    folder, before = site.folder, packets(site)
    marks = (*SERVING, "embed")
    with registries(folder, site.lab.topology.controller, "first", "second", "third") as found:
        known = {"source": None, "archive": None, "gfx": ["gfx90a", "gfx942"], "rocm": "6.4.3"}
        images = {
            mark: {
                **known,
                "name": f"vllm-{number}",
                "prebuilt": one.push(standin_archive(folder / f"{mark}.tar", mark=mark), f"team/vllm:{mark}"),
            }
            for number, (one, mark) in enumerate(zip(found, marks, strict=True))
        }
        embed = {"model": MODEL, "port": 8001, "gpus": 4, "ulimits": {}, "image": images["embed"]}
        hosts: dict[str, Any] = {host: {"fleet": {"image": images[host]}} for host in SERVING}
        hosts[MI300X.name]["fleet"]["services"] = {"chat": {"gpus": 4}, "embed": embed}
        everywhere = {"registries": {one.place: one.access for one in found}}
        path = folder / "home/several.yaml"
        path.write_text(json.dumps({"all": {"vars": {"fleet": everywhere}}, "gpu": {"hosts": hosts}}))
        home = Controller(site.controller.directory, (*site.controller.inventories, path))
        well(home, "bundle.create", "-o", "../several", "--sign-key", "../key", "--without-tool")
    assert "this site could be deployed from it" in well(home, "bundle.verify", "../several", *SIGNED)
    shutil.rmtree(folder / "site/inventories")
    shutil.copytree(folder / "several/site/inventory", folder / "site/inventories")
    for one in found:  # the site has none of the connected side's passwords
        one.password.unlink()
    sources = [word for one in home.inventories for word in ("-i", f"inventories/{one.name}")]

    def ask(*words: str) -> dict[str, Any]:
        done = inside(site, BASTION.name, "../venv/bin/fleet", words[0], *sources, *words[1:], "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    deploy = ("deploy", "--bundle", "../several", *SIGNED)
    done = ask(*deploy)
    serving = {(host, "chat-0"): host for host in SERVING} | {(MI300X.name, "embed-0"): "embed"}
    for (host, container), mark in serving.items():
        assert "Paris" in done["hosts"][host]["proofs"][container]["answer"]
        assert f"vllm-{marks.index(mark)}:" in site.docker(host, "inspect", "-f", "{{.Config.Image}}", container)
        assert f"MARK={mark}" in site.docker(host, "inspect", "-f", "{{.Config.Env}}", container)
    assert {name: host["changed"] for name, host in ask(*deploy)["hosts"].items()} == dict.fromkeys(SERVING, 0)
    assert packets(site) == before
    site.docker(MI300X.name, "rm", "-f", "embed-0")
    files = (path for path in (folder / "several").rglob("*") if path.is_file())
    assert not any(b"only-for-" in path.read_bytes() for path in files)


def test_a_delta_counts_on_layers_that_only_the_nodes_hold(site: Site) -> None:
    """A site without a store: what its node holds does not travel, and a node that holds it no longer is told."""
    image, ways, host = site.folder / "home/changed.yaml", site.folder / "home/sideload.yaml", MI300X.name
    image.write_text(image_text(standin_archive(site.folder / "changed.tar", change=1 << 20), registry=False))
    ways.write_text(json.dumps({"all": {"hosts": {host: {"fleet": {"delivery": "sideload"}}}}}))
    bare = Controller(site.folder / "bare", (*site.controller.inventories, image, ways))
    bare.directory.mkdir()
    well(bare, "bundle.have", "-o", "../have.json", "--limit", host)
    delta = ("bundle.create", "-o", "../delta", "--without-tool", "--since", "../have.json", "--limit", host)
    well(Controller(site.controller.directory, bare.inventories), *delta)
    assert sum(path.stat().st_size for path in (site.folder / "delta").rglob("*") if path.is_file()) < 3 << 20
    assert "could be deployed from it" in well(bare, "bundle.verify", "../delta", "--unsigned", "--limit", host)
    deploy = ("deploy", "--bundle", "../delta", "--unsigned", "--limit", host)
    for changed in (True, False):
        code, document = bare.ask(*deploy)
        assert (code, bool(document["hosts"][host]["changed"])) == (0, changed), document
    site.docker(host, "rm", "-f", *site.containers(host), "chat-0-previous")
    site.docker(host, "image", "prune", "--all", "--force")
    refused = bare.run(*deploy)
    assert refused.returncode == 1
    assert "the bundle leaves out sha256:" in refused.stderr
    assert site.docker(host, "ps", "-aq") == ""
