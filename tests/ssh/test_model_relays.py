"""A model through a relay without an engine: its store filled over a real connection, a real registry over that, real curl."""

import datetime as dt
import hashlib
import io
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleet.delivery import download, relay_scripts
from fleet.delivery.relay import FillModel, packed, stored
from fleet.delivery.relay_effects import fill_model
from fleet.delivery.site_ca import SiteCa
from fleet.delivery.way import Way
from fleet.errors import HostError
from fleet.inventory.settings import Registry
from fleet.models import courier
from fleet.models.carry import FromStore, from_relay, parcel
from fleet.models.content import File
from fleet.models.courier import FromHub
from fleet.models.execute import Work, carry_out
from fleet.models.hub import Hub, Remote, repository
from fleet.models.local import Local
from fleet.models.source import Here
from fleet.rollout.relaycircle import admit
from fleet.rollout.relays import Post
from fleet.transport import Connector
from tests.hub import Hub as Server
from tests.hub import hub
from tests.ssh.conftest import Keys
from tests.ssh.model_site import MIB, NAME, Connect, Site, shards
from tests.ssh.sshd import Sshd

FILES = {**shards(1), "big/model.safetensors": os.urandom(8 * MIB)}


@pytest.fixture
def connect(connector: Connector, sshd: Sshd, keys: Keys) -> Connect:
    return lambda: connector.connect(sshd.host(key_file=str(keys.user)))


@pytest.fixture
def site(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")  # a relay is asked without it
    return Site(connect, tmp_path, tmp_path / "srv/models")


@dataclass(frozen=True)
class Relay:
    registry: Registry
    directory: Path
    way: Way


@contextmanager
def serving(site: Site) -> Iterator[Relay]:
    """Distribution as a relay runs it, over a store in the host's staging directory."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ca = SiteCa(site.folder / "ca")
    now = dt.datetime.now(dt.UTC)
    ca.ensure(now)
    up = admit(Post("r", f"127.0.0.1:{port}", "127.0.0.1", port, False, ca.fingerprint), ca, now)
    directory = site.folder / "staging"
    way = replace(site.way(), staging_dir=str(directory))
    run, store = directory / "relay/run", directory / "relay/store"
    config = json.loads(up.access.files["config.yml"])
    config["storage"]["filesystem"]["rootdirectory"] = str(store)
    config["http"]["tls"] = {"certificate": str(run / "server.crt"), "key": str(run / "server.key")}
    config["auth"]["htpasswd"]["path"] = str(run / "htpasswd")
    files = {**up.access.files, "config.yml": json.dumps(config).encode()}
    way.sender.command(relay_scripts.PREPARE, str(directory), stdin=io.BytesIO(packed(files)))
    with (site.folder / "registry.log").open("wb") as log:
        words = ("docker-registry", "serve", str(run / "config.yml"))
        process = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "OTEL_TRACES_EXPORTER": "none"})
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield Relay(up.registry, directory, way)
    finally:
        process.terminate()
        process.wait()


def fill_of(here: Here) -> FillModel:
    parcels = tuple(parcel(here, file) for file in here.content.files)
    return FillModel(NAME, here.content.digest, parcels, here.content.size, "", "")


def blob_of(relay: Relay, file: File) -> Path:
    return Path(stored(str(relay.directory), file.sha256))


def test_a_neighbour_gets_its_model_from_the_relay_and_goes_on_within_a_file(site: Site) -> None:
    here = site.source(FILES)
    with serving(site) as relay:
        fill_model(fill_of(here), relay.way)
        assert site.seen[-1] == here.content.size
        assert not (relay.directory / "sideload").exists()
        site.seen.clear()
        fill_model(fill_of(here), relay.way)
        assert site.seen == []
        big = next(file for file in here.content.files if file.path.startswith("big/"))
        blobs = site.models / ".fleet/blobs"
        blobs.mkdir(parents=True, mode=0o700)
        blobs.parent.chmod(0o700)
        (blobs / f"{big.sha256}.part").write_bytes(FILES["big/model.safetensors"][: 6 * MIB])
        plan = site.look(here)[1]
        assert plan.steps[0].size == here.content.size - 6 * MIB
        carry_out(plan.steps, Work(str(site.models), {NAME: here}, through=from_relay(relay.registry)), site.way())
        assert site.seen[-1] == here.content.size - 6 * MIB
    assert site.holds(FILES)
    assert site.settled(here)
    assert not (site.models / ".fleet").exists()


def test_a_blob_that_the_stores_disk_damaged_is_told_and_nothing_is_switched(site: Site) -> None:
    here = site.source({"model.safetensors": FILES["big/model.safetensors"]})
    with serving(site) as relay:
        fill_model(fill_of(here), relay.way)
        blob = blob_of(relay, here.content.files[0])
        with blob.open("r+b") as file:
            file.write(b"damaged")
        work = Work(str(site.models), {NAME: here}, through=from_relay(relay.registry))
        with pytest.raises(HostError, match="damaged twice"):
            carry_out(site.look(here)[1].steps, work, site.way())
    assert not site.at.exists()
    assert any("from the relay has other bytes than it should" in line for line in site.said)


def test_a_relay_that_is_not_ours_or_not_there_is_told_and_its_password_is_in_no_command_line(
    site: Site, sshd: Sshd
) -> None:
    here = site.source({"config.json": b"{}"})
    other = SiteCa(site.folder / "other")
    other.ensure(dt.datetime.now(dt.UTC))
    with serving(site) as relay:
        fill_model(fill_of(here), relay.way)
        foreign = from_relay(replace(relay.registry, ca_file=str(other.certificate)))
        with pytest.raises(HostError, match="certificate"):
            carry_out(site.look(here)[1].steps, Work(str(site.models), {NAME: here}, through=foreign), site.way())
        password = relay.registry.password.reveal() if relay.registry.password else ""
        assert password
        assert not [command for command in sshd.commands if password in command]
    with pytest.raises(HostError, match="could not stage"):
        carry_out(
            site.look(here)[1].steps,
            Work(str(site.models), {NAME: here}, through=from_relay(relay.registry)),
            site.way(),
        )


def remote_of(site: Site, server: Server) -> Remote:
    source = Hub(repository(NAME, "", server.url, ""), "", site.folder / "hub")
    return source.read(site.way().sender, NAME)


def filled_by_hub(relay: Relay, remote: Remote, way: Way) -> None:
    parcels = tuple(courier.parcel(remote, file) for file in remote.content.files)
    step = FillModel(NAME, remote.content.digest, parcels, remote.content.size, "", "", FromHub(remote))
    fill_model(step, way)
    for file in remote.content.files:
        assert hashlib.sha256(blob_of(relay, file).read_bytes()).hexdigest() == file.sha256


def test_a_relay_gets_a_model_of_hugging_face_itself_goes_on_where_it_broke_and_forgets_wrong_bytes(site: Site) -> None:
    with serving(site) as relay, hub(FILES) as server:
        remote = remote_of(site, server)
        server.sent, server.cut = 0, [3 * MIB]
        server.lies = {"model-1.safetensors": [os.urandom(MIB)]}
        filled_by_hub(relay, remote, relay.way)
        assert server.sent < remote.content.size + 1.1 * MIB
        assert any("is damaged on the host" in line for line in site.said)
        assert not remote.folder.exists()


def test_where_a_relay_has_no_way_to_hugging_face_this_controller_gets_the_model_once_and_keeps_nothing(
    site: Site, sshd: Sshd
) -> None:
    curl = Path(sshd.behaviour.path) / "curl"
    curl.write_text("#!/bin/sh\necho 'curl: (6) Could not resolve host' >&2\nexit 6\n")
    curl.chmod(0o755)
    with serving(site) as relay, hub(FILES) as server:
        source = Hub(repository(NAME, "", server.url, ""), "", site.folder / "hub")
        with pytest.raises(HostError, match="Could not resolve"):
            source.read(site.way().sender, NAME)
        remote = source.read(site.way().sender, NAME, Local())
        server.sent, server.cut = 0, [3 * MIB]
        filled_by_hub(relay, remote, relay.way)
        assert server.sent < remote.content.size + 1.1 * MIB
        assert len([line for line in site.said if "this controller gets it and sends it" in line]) == 1
        assert list(remote.folder.iterdir()) == []
        server.token = "hf_other"
        other = Hub(repository(NAME, "", server.url, ""), "", site.folder / "nowhere")
        with pytest.raises(HostError, match=r"Could not resolve .* nor could this controller tell: .* answers 401"):
            other.read(site.way().sender, NAME, Local())


def test_the_relay_itself_copies_out_of_its_store_and_a_source_that_changed_is_told(site: Site) -> None:
    here = site.source(FILES)
    with serving(site) as relay:
        fill_model(fill_of(here), relay.way)
    work = Work(str(site.models), {NAME: here}, through=FromStore(str(relay.directory)))
    carry_out(site.look(here)[1].steps, work, site.way())
    assert site.holds(FILES)
    (site.folder / "source" / NAME / "config.json").write_bytes(b"other")
    blob_of(relay, next(file for file in here.content.files if file.path == "config.json")).unlink()
    with pytest.raises(HostError, match="is not any more what it was"):
        fill_model(fill_of(here), relay.way)
