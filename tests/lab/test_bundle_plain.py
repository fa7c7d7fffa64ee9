"""A site of no relay: every host is sideloaded from a bundle."""

import json
from pathlib import Path

import pytest

from fleet.lab.files import MODEL, model_files
from tests.lab import test_bundle
from tests.lab.cli import Controller
from tests.lab.small import Site
from tests.lab.test_bundle import SERVING, SIGNED

pytestmark = [pytest.mark.lab, pytest.mark.matrix]

site = test_bundle.site


def test_a_site_of_no_relay_sideloads_every_host_from_the_bundle_and_then_moves_nothing(site: Site) -> None:
    model = site.folder / "models" / MODEL
    model.mkdir(parents=True)
    for file in model_files():
        (model / Path(file.path).name).write_bytes(file.content)
    made = ("bundle.create", "-o", "../disk", "--sign-key", "../key", "--models", "../models", "--without-tool")
    test_bundle.well(site.controller, *made)
    (site.folder / "standin.tar").unlink()  # what follows is of the bundle alone
    ways = site.folder / "home/plain.yaml"
    ways.write_text(json.dumps({"all": {"hosts": {host: {"fleet": {"delivery": "sideload"}} for host in SERVING}}}))
    plain = Controller(site.folder / "plain", (*site.controller.inventories, ways))
    plain.directory.mkdir()
    release = test_bundle.release_of(site.folder / "disk")
    certificates = {
        host: site.sh(host, "ls -A /etc/docker/certs.d 2>/dev/null || true") for host in SERVING
    }  # of the lab's own registry
    for first in (True, False):
        before = {host: received(site, host) for host in SERVING}
        code, document = plain.ask("deploy", "--bundle", "../disk", *SIGNED)
        assert code == 0, document
        assert [bool(document["hosts"][host]["changed"]) for host in SERVING] == [first, first]
        for host in SERVING:
            came = received(site, host) - before[host]
            assert came >= release.size if first else came < 1 << 20, (host, came)
            assert "registry" not in site.docker(host, "ps", "-a", "--format", "{{.Names}} {{.Image}}")
            assert site.sh(host, "ls -A /etc/docker/certs.d 2>/dev/null || true") == certificates[host]


def received(site: Site, host: str) -> int:
    """Bytes that came to a host from elsewhere."""
    script = "cat /sys/class/net/e*/statistics/rx_bytes"
    return sum(int(line) for line in site.sh(host, script).splitlines())
