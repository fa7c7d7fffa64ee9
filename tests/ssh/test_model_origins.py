"""Models that a host brings itself: from a disk of its own, and from Hugging Face (a stand-in for it) by its curl."""

import datetime as dt
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.delivery import download
from fleet.delivery.site_ca import SiteCa
from fleet.errors import HostError
from fleet.inventory.settings import Sideload
from fleet.models import look
from fleet.models.disk import OnHost
from fleet.models.held import Ground
from fleet.models.hub import Hub, Remote, repository
from fleet.models.plan import Bring, Keep, Plan, Switch, plan_models
from fleet.models.resolve import lacking
from fleet.transport import Connector
from tests.hub import Hub as Server
from tests.hub import hub
from tests.ssh.conftest import Keys
from tests.ssh.model_site import MIB, NAME, Connect, Site, cut_under_way, kinds, noise, shards
from tests.ssh.sshd import Sshd

TOKEN = "hf_abcDEF123"


@pytest.fixture
def connect(connector: Connector, sshd: Sshd, keys: Keys) -> Connect:
    return lambda: connector.connect(sshd.host(key_file=str(keys.user)))


@pytest.fixture
def site(connect: Connect, tmp_path: Path) -> Site:
    return Site(connect, tmp_path, tmp_path / "srv/models")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.01)
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def on_disk(site: Site, files: Mapping[str, bytes], folder: str = NAME) -> OnHost:
    for path, content in files.items():
        at = site.folder / "disk" / folder / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(content)
    return OnHost(str(site.folder / "disk"), asked=True)


def cached(site: Site, revision: str, content: bytes, *refs: str) -> OnHost:
    """In Hugging Face's cache on the host's disk."""
    repository = site.folder / "disk/models--org--tiny"
    blob = hashlib.sha256(content).hexdigest()
    for place in ("blobs", "refs", f"snapshots/{revision}"):
        (repository / place).mkdir(parents=True, exist_ok=True)
    (repository / "blobs" / blob).write_bytes(content)
    (repository / f"snapshots/{revision}/model.safetensors").symlink_to(f"../../blobs/{blob}")
    for ref in refs:
        (repository / "refs" / ref).write_text(revision)
    return OnHost(str(site.folder / "disk"), asked=True)


def read_on_host(sshd: Sshd) -> int:
    """Looks that read whole files, as the server was asked for them."""
    return sum('found=$(sha256sum < "$file")' in command for command in sshd.commands)


def test_a_model_comes_from_a_disk_of_the_host_and_the_second_time_nothing_is_read(site: Site, sshd: Sshd) -> None:
    files = shards(1)
    disk = on_disk(site, files)
    plan = site.bring(disk)
    assert kinds(plan) == [Bring, Switch]
    assert plan.steps[0].way == f"from {site.folder}/disk on the host"
    assert site.seen[-1] == plan.steps[0].size == sum(map(len, files.values()))
    assert site.holds(files)
    sshd.commands.clear()
    assert kinds(site.bring(disk)) == [Keep]
    assert read_on_host(sshd) == 0
    assert kinds(site.bring(disk, everything=True)) == [Keep]
    assert read_on_host(sshd) == 2  # the disk and the model
    on_disk(site, {"model-1.safetensors": noise(7, MIB)})
    assert site.bring(disk).steps[0].size == MIB
    assert site.holds({**files, "model-1.safetensors": noise(7, MIB)})


def test_a_cache_on_the_hosts_disk_is_understood_by_its_revision(site: Site, sshd: Sshd) -> None:
    disk = cached(site, "a" * 40, noise(1, MIB), "main")
    cached(site, "b" * 40, noise(2, MIB), "v2")
    site.bring(disk)
    assert read_on_host(sshd) == 0  # a large blob is called by its checksum, and what arrives is checked
    assert site.holds({"model.safetensors": noise(1, MIB)})
    for revision in ("v2", "b" * 40, "bbbbbbb"):
        site.bring(replace(disk, revision=revision))
        assert site.holds({"model.safetensors": noise(2, MIB)})
    (problem,) = site.resolve(replace(disk, revision="v3")).problems
    assert "has no snapshot of v3" in problem
    assert "v2 (bbbbbbbbbbbb)" in problem


def test_what_cannot_be_a_source_on_the_host_is_told(site: Site) -> None:
    nowhere = OnHost(str(site.folder / "nowhere"), asked=True)
    assert "is the disk mounted?" in site.resolve(nowhere).problems[0]
    disk = on_disk(site, {"config.json": b"{}"}, "other")
    assert "is not in" in site.resolve(disk).problems[0]
    assert "it has to be there already" in site.resolve(replace(disk, asked=False)).notes[0]
    cached(site, "a" * 40, noise(1, 64), "main")
    next((site.folder / "disk/models--org--tiny/blobs").iterdir()).unlink()
    assert "its download did not end" in site.resolve(disk).problems[0]
    shutil.rmtree(site.folder / "disk/models--org--tiny")
    on_disk(site, {"a b": b""})
    assert "no plain relative path" in site.resolve(disk).problems[0]


def test_a_copy_goes_on_in_a_file_and_a_damaged_one_is_made_again(site: Site) -> None:
    files = {"model.safetensors": noise(3, 4 * MIB)}
    disk = on_disk(site, files)
    blobs = site.models / ".fleet/blobs"
    blobs.mkdir(parents=True, mode=0o700)
    blobs.parent.chmod(0o700)
    part = blobs / f"{hashlib.sha256(files['model.safetensors']).hexdigest()}.part"
    part.write_bytes(files["model.safetensors"][: 3 * MIB + 5])
    plan = site.bring(disk)
    assert "goes on at 3.1 MB" in plan.steps[0].what
    assert site.seen[-1] <= MIB + (1 << 16)
    assert site.holds(files)
    files = {"model.safetensors": noise(4, 4 * MIB)}
    on_disk(site, files)
    blobs.mkdir(parents=True, mode=0o700)
    blobs.parent.chmod(0o700)
    (blobs / f"{hashlib.sha256(files['model.safetensors']).hexdigest()}.part").write_bytes(b"x" * 3 * MIB)
    site.bring(disk)
    assert any("copying it again" in line for line in site.said)
    assert site.holds(files)


def test_a_disk_whose_blob_is_not_what_its_name_says_is_named_and_nothing_is_switched(site: Site) -> None:
    disk = cached(site, "a" * 40, noise(1, MIB), "main")
    (blob,) = (site.folder / "disk/models--org--tiny/blobs").iterdir()
    blob.write_bytes(noise(2, MIB))
    with pytest.raises(HostError, match="has other bytes than it should"):
        site.bring(disk)
    assert not site.at.exists()


@pytest.fixture
def server() -> Iterator[Server]:
    with hub({"config.json": b"{}", "model.safetensors": noise(5, 8 * MIB), "extra/tokenizer.json": b"{1}"}) as made:
        yield made


def source(site: Site, server: Server, *, revision: str = "", token_file: str = "", pinned: str = "") -> Hub:
    return Hub(repository(NAME, revision, server.url, token_file), pinned, site.folder / "memory")


def test_a_model_of_hugging_face_comes_by_the_hosts_own_curl_and_only_what_differs_moves(
    site: Site, server: Server
) -> None:
    plan = site.bring(source(site, server))
    assert plan.steps[0].way == f"from {server.url}"
    assert site.holds(server.files)
    assert site.seen[-1] == plan.steps[0].size
    server.asked.clear()
    again = source(site, server, pinned=server.commit)
    assert kinds(site.bring(again)) == [Keep]
    assert server.asked == []  # a commit never changes, and this one was read
    server.files["config.json"] = b"{2}"
    server.commit = "d" * 40
    server.sent = 0
    moved = source(site, server)
    assert site.bring(moved).steps[0].size == 3
    assert moved.commit == server.commit
    assert site.holds(server.files)
    assert server.sent < MIB


def test_a_download_that_breaks_goes_on_within_the_file(site: Site, server: Server) -> None:
    server.cut = [3 * MIB, 2 * MIB]
    site.bring(source(site, server))
    assert site.holds(server.files)
    spans = [span for path, span in server.asked if path.startswith("/blobs/") and span]
    assert spans == [f"bytes={2 * MIB}-", f"bytes={5 * MIB}-"]
    assert server.sent < 8 * MIB + (1 << 16)
    assert any("going on" in line for line in site.said)


def test_a_server_that_never_gets_further_is_given_up_and_the_next_run_goes_on(site: Site, server: Server) -> None:
    server.cut = [*[1] * download.TRIES, 5 * MIB]
    with pytest.raises(HostError, match="could not stage") as caught:
        site.bring(source(site, server))
    assert "the host keeps what came" in caught.value.hint
    assert not site.at.exists()
    server.sent = 0
    site.bring(source(site, server))
    assert server.sent < 3.2 * MIB
    assert site.holds(server.files)


def test_a_server_without_ranges_sends_the_file_anew(site: Site, server: Server) -> None:
    server.ranges = False
    server.cut = [2 * MIB]
    site.bring(source(site, server))
    assert site.holds(server.files)


def test_bytes_that_are_wrong_are_got_again_and_twice_wrong_is_said(site: Site, server: Server) -> None:
    wrong = noise(9, 8 * MIB)
    server.lies = {"model.safetensors": [wrong]}
    site.bring(source(site, server))
    assert any("has other bytes than it should; getting it again" in line for line in site.said)
    assert site.holds(server.files)
    server.commit, server.files["model.safetensors"] = "d" * 40, noise(6, 8 * MIB)
    server.lies = {"model.safetensors": [wrong, wrong]}
    with pytest.raises(HostError, match="damaged twice"):
        site.bring(source(site, server))
    server.commit, server.lies = "e" * 40, {"config.json": [b"[]"]}
    assert "other bytes than its commit says" in site.resolve(source(site, server)).problems[0]


def test_a_link_to_the_host_that_is_cut_ends_its_curl_and_the_download_goes_on(site: Site, sshd: Sshd) -> None:
    with hub({"config.json": b"{}", "model.safetensors": noise(5, 8 * MIB)}) as server:
        server.rate = 4 * MIB
        way = site.way(sideload=Sideload(stall=5))
        way = replace(way, renew=lambda: replace(way, session=site.connect()))
        with cut_under_way(site, sshd):
            site.bring(source(site, server), way=way)
        assert any("going on over a new connection" in line for line in site.said)
        assert site.holds(server.files)
        assert server.sent < 10 * MIB


def test_a_token_is_read_on_the_host_and_is_in_no_command_line(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sshd: Sshd
) -> None:
    ca = SiteCa(tmp_path / "ca")
    now = dt.datetime.now(dt.UTC)
    ca.ensure(now)
    pem = tmp_path / "server.pem"
    pem.write_bytes(b"".join(ca.server("127.0.0.1", now)))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(ca.certificate))
    log = tmp_path / "argv"
    curl = Path(sshd.behaviour.path) / "curl"
    curl.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {log}\nexec {shutil.which("curl")} "$@"\n')
    curl.chmod(0o755)
    file = tmp_path / "token"
    with hub({"config.json": b"{}", "model.safetensors": noise(5, MIB)}, pem) as server:
        server.token = TOKEN
        assert "token_file names a file on the host" in site.resolve(source(site, server)).problems[0]
        asked = source(site, server, token_file=str(file))
        assert "a path on the host" in site.resolve(asked).problems[0]
        file.write_text("hf_other\n")
        assert "that still holds?" in site.resolve(asked).problems[0]
        file.write_text(f"{TOKEN}\n")
        server.gated = True
        assert "accepted the terms of" in site.resolve(asked).problems[0]
        server.gated = False
        site.bring(source(site, server, token_file=str(file)))
        assert site.holds(server.files)
        assert log.read_text().count("--config -") > 3
        assert TOKEN not in log.read_text()
        assert not [command for command in sshd.commands if TOKEN in command]


def test_the_hosts_proxy_is_used_and_no_answer_is_told_with_a_hint(
    site: Site, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    (problem,) = site.resolve(source(site, server)).problems
    assert "A proxy may stand in its /etc/environment" in problem
    assert "127.0.0.1" in problem
    assert server.asked == []


def test_hosts_that_cannot_tell_are_asked_three_times_and_not_once_each(site: Site, server: Server) -> None:
    one = source(site, server, revision="v9")
    for _ in range(6):
        assert "a revision v9?" in site.resolve(one).problems[0]
    assert len(server.asked) == 3


def test_a_host_without_curl_is_told_only_where_something_has_to_come(site: Site, server: Server) -> None:
    found = site.resolve(source(site, server)).sources
    ground = Ground(str(site.models), there=True, writable=True, free=1 << 40)
    plan = plan_models(ground, found)
    assert isinstance(found[NAME], Remote)
    assert "there is no curl on the host" in lacking(plan, found, ground)[0]
    assert lacking(plan, found, replace(ground, curl=True)) == ()
    assert lacking(Plan(plan.steps[1:]), found, ground) == ()
    assert look.look(site.way().sender, str(site.models)).curl
