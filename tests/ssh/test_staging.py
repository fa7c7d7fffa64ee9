"""Blobs into a staging directory over real connections that are cut: what is sent twice, what stays, what is said.

The server runs real commands of this machine; a `docker` in front of PATH stands in for the engine's side of a load.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.delivery import scripts
from fleet.delivery.execute import carry_out
from fleet.delivery.plan import Load, Sweep
from fleet.delivery.send import LinkError, Parcel, Sender
from fleet.delivery.staging import BLOCK
from fleet.delivery.throttle import Throttle
from fleet.delivery.way import Way
from fleet.errors import HostError
from fleet.image import layout
from fleet.inventory.model import Connection, Host
from fleet.inventory.settings import Settings, Sideload
from fleet.transport import Connector, Session
from fleet.transport.openssh import Bulk, bulk
from tests.ssh.conftest import Keys
from tests.ssh.sshd import Sshd
from tests.ssh.test_openssh import openssh

MIB = 1 << 20
TWICE = 4 * MIB  # at most so much is sent again for each cut
LARGE = 24 * MIB

FAKE_DOCKER = """#!/bin/sh
# Stands in for the docker CLI: `docker load` unpacks what it gets beside itself, and may be told to fail.
here=$(dirname "$0")
[ "$1" = load ] || { echo "docker: what is $1?" >&2; exit 9; }
[ ! -f "$here/restarting" ] || { rm "$here/restarting"; echo "the daemon went away" >&2; exit 1; }
rm -rf "$here/loaded"; mkdir "$here/loaded"
tar -x -f - -C "$here/loaded" || exit 1
[ ! -f "$here/refuse" ] || { cat "$here/refuse" >&2; rm "$here/refuse"; exit 1; }
echo "$(cd "$here/loaded" && ls blobs/sha256 | wc -l)" >> "$here/loads"
"""


@pytest.fixture
def bin_(tmp_path: Path, sshd: Sshd) -> Path:
    folder = tmp_path / "bin"
    (folder / "docker").write_text(FAKE_DOCKER)
    (folder / "docker").chmod(0o755)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "staging"


@pytest.fixture
def image(tmp_path: Path) -> layout.LayoutImage:
    return make_image(tmp_path / "layout", noise(1, MIB), noise(2, LARGE))


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311  only bytes that do not compress


def make_image(folder: Path, *layers: bytes) -> layout.LayoutImage:
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    made = [blob(one, "application/vnd.oci.image.layer.v1.tar") for one in layers]
    config = {"rootfs": {"type": "layers", "diff_ids": [one["digest"] for one in made]}}
    manifest = {"config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"), "layers": made}
    entry = blob(json.dumps(manifest).encode(), layout.OCI_MANIFEST)
    (folder / "index.json").write_text(json.dumps({"manifests": [entry]}), encoding="utf-8")
    return layout.read(folder)


class Engine:
    """Lists what the fake docker was given; `incomplete` keeps that to itself, as a containerd store without a blob does."""

    def __init__(self, bin_: Path, image: layout.LayoutImage, name: str, needs: int = 0) -> None:
        self._bin, self._image, self._name, self._needs = bin_, image, name, needs
        self.api = self

    def images(self) -> list[dict[str, Any]]:
        loads = self._bin / "loads"
        blobs = int(loads.read_text().split()[-1]) if loads.exists() else 0
        if blobs < max(self._needs, 1):
            return []
        return [{"Id": self._image.config.digest, "RepoTags": [self._name]}]


@contextmanager
def counting(seen: list[int]) -> Iterator[Callable[[int], None]]:
    yield seen.append


NAME = "vllm:r1"
Connect = Callable[[], Session]


@pytest.fixture
def connect(connector: Connector, sshd: Sshd, keys: Keys) -> Connect:
    return lambda: connector.connect(sshd.host(key_file=str(keys.user)))


def way_of(connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage, seen: list[int], **more: Any) -> Way:
    session = connect()
    engine: Any = Engine(bin_, image, NAME, more.pop("needs", 0))
    return Way(
        "node",
        session,
        engine,
        layout=lambda _name: image,
        moving=lambda _host, _what, _total: counting(seen),
        staging_dir=str(place),
        **more,
    )


def whole(image: layout.LayoutImage) -> Load:
    layers = tuple(range(len(image.layers)))
    return Load(NAME, layers, sum(layer.size for layer in image.layers), "")


def staged(place: Path) -> int:
    """Bytes that lie there."""
    total = 0
    for file in place.rglob("blobs/*"):
        with contextlib.suppress(FileNotFoundError):  # a part that is whole by now has another name
            total += file.stat().st_size
    return total


def cut_at(sshd: Sshd, place: Path, share: float, total: int) -> threading.Thread:
    """Cut every connection as soon as so much has arrived."""

    def watch() -> None:
        until = time.monotonic() + 30
        while staged(place) < share * total and time.monotonic() < until:
            time.sleep(0.001)
        sshd.cut()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_an_image_is_staged_loaded_and_nothing_is_left(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    seen: list[int] = []
    assert carry_out((whole(image),), way_of(connect, bin_, place, image, seen)) == 1
    assert seen[-1] == whole(image).size
    blobs = bin_ / "loaded/blobs/sha256"
    for layer in image.layers:
        assert (blobs / layer.digest[7:]).read_bytes() == image.blob_path(layer).read_bytes()
    assert {file.name for file in (bin_ / "loaded").iterdir()} == {"blobs", "oci-layout", "index.json", "manifest.json"}
    assert not place.exists()


def test_the_engine_reads_what_is_there_while_the_rest_arrives(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    first = bin_ / "loaded/blobs/sha256" / image.layers[0].digest[7:]
    ahead: list[bool] = []

    class Watching(Throttle):
        def take(self, count: int) -> None:
            """Hold the last layer back until the engine has the one before."""
            super().take(count)
            if seen and seen[-1] > 2 * MIB and not ahead:
                until = time.monotonic() + 30
                while not first.exists() and time.monotonic() < until:
                    time.sleep(0.01)
                ahead.append(first.exists())

    seen: list[int] = []
    carry_out((whole(image),), way_of(connect, bin_, place, image, seen, throttle=Watching(0)))
    assert ahead == [True]
    assert (bin_ / "loads").read_text().split() == ["4"]


def test_an_engine_that_goes_away_while_layers_arrive_is_asked_again(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    (bin_ / "restarting").touch()
    seen: list[int] = []
    carry_out((whole(image),), way_of(connect, bin_, place, image, seen, throttle=Throttle(20 * MIB)))
    assert seen[-1] == whole(image).size
    assert (bin_ / "loads").read_text().split() == ["4"]
    assert not place.exists()


def test_a_transfer_that_fails_leaves_no_engine_waiting(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    os.truncate(image.blob_path(image.layers[1]), 1)
    with pytest.raises(HostError, match="the layout here is damaged"):
        carry_out((whole(image),), way_of(connect, bin_, place, image, []))
    assert ended_at(place)
    assert not (bin_ / "loads").exists()


def ended_at(place: Path) -> bool:
    """Does every process end that works in this directory?"""
    until = time.monotonic() + 30
    while (busy := processes_at(place)) and time.monotonic() < until:
        time.sleep(0.05)
    return not busy


def processes_at(place: Path) -> list[str]:
    """Command lines with this directory in them."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = file.read_bytes().split(b"\0")
            if str(place).encode() in words:
                found.append(str(words))
    return found


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_cut_link_goes_on_in_the_same_command(
    share: float, connect: Connect, sshd: Sshd, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    seen: list[int] = []
    said: list[str] = []
    way = way_of(connect, bin_, place, image, seen, say=said.append, throttle=Throttle(60 * MIB))
    way = replace(way, renew=lambda: replace(way, session=connect()))
    watcher = cut_at(sshd, place, share, whole(image).size)
    carry_out((whole(image),), way)
    watcher.join()
    assert whole(image).size <= seen[-1] <= whole(image).size + TWICE
    assert any("going on over a new connection" in line for line in said)
    assert not place.exists()
    assert ended_at(place)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_what_arrived_is_not_sent_again_by_the_next_run(
    share: float, connect: Connect, sshd: Sshd, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    first: list[int] = []
    watcher = cut_at(sshd, place, share, whole(image).size)
    way = way_of(connect, bin_, place, image, first, throttle=Throttle(60 * MIB))
    with pytest.raises(HostError, match=r"could not sideload vllm:r1 .* the host keeps what arrived") as caught:
        carry_out((whole(image),), way)
    watcher.join()
    assert "goes on from there" in caught.value.hint
    second: list[int] = []
    carry_out((whole(image),), way_of(connect, bin_, place, image, second))
    assert first[-1] + sum(second[-1:]) <= whole(image).size + TWICE
    assert not place.exists()


@pytest.mark.lab
@pytest.mark.parametrize("carrier", ["paramiko", "openssh"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_openssh_whose_sessions_are_killed_is_sent_little_twice(
    share: float,
    carrier: str,
    tmp_path: Path,
    keys: Keys,
    bin_: Path,
    place: Path,
    image: layout.LayoutImage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole server is ended with everything under it, and another one started, as a restart of sshd by force does."""
    monkeypatch.setattr("fleet.delivery.send.LARGE", MIB // 2)
    seen: list[int] = []
    said: list[str] = []
    config = tmp_path / "ssh_config"
    config.write_text(f"Host *\n  User root\n  IdentityFile {keys.user}\n  UserKnownHostsFile {tmp_path}/known\n")
    path = f"SetEnv PATH={bin_}:{os.environ['PATH']}"
    with openssh(tmp_path / "sshd", keys, path) as server, Connector(accept_new=True) as connector:
        host = Host("node", ("all",), Connection("127.0.0.1", server.port, common_args=("-F", str(config))), Settings())

        def cut() -> None:
            until = time.monotonic() + 30
            while staged(place) < share * whole(image).size and time.monotonic() < until:
                time.sleep(0.001)
            for pid in sessions_of(server.process.pid):
                with contextlib.suppress(ProcessLookupError):  # one that ended between the look and the blow
                    os.kill(pid, signal.SIGKILL)

        way = way_of(lambda: connector.connect(host), bin_, place, image, seen, throttle=Throttle(60 * MIB))
        found = bulk(host.connection, "root")
        assert isinstance(found, Bulk)
        way = replace(way, say=said.append, bulk=found if carrier == "openssh" else None)
        way = replace(way, renew=lambda: replace(way, session=connector.connect(host, anew=True)))
        watcher = threading.Thread(target=cut)
        watcher.start()
        carry_out((whole(image),), way)
        watcher.join()
        assert server.connections() >= (2 if carrier == "openssh" else 1)
    assert not any("was not let in" in line for line in said)
    assert whole(image).size <= seen[-1] <= whole(image).size + TWICE
    assert not place.exists()


def test_a_client_that_is_not_let_in_leaves_the_bytes_to_the_first_connection(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.delivery.send.LARGE", MIB)
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    found = bulk(Connection("127.0.0.1", port, common_args=("-F", "none")), "root")
    assert isinstance(found, Bulk)
    seen: list[int] = []
    carry_out((whole(image),), way_of(connect, bin_, place, image, seen, bulk=found, say=said.append))
    assert seen[-1] == whole(image).size
    assert any("was not let in" in line and "refused" in line for line in said)


def sessions_of(server: int) -> list[int]:
    """The processes of sshd below the listening one, which have the connections."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, _, rest = status.read_text().partition(" (")
            name, _, more = rest.rpartition(") ")
            if name == "sshd":
                parents[int(pid)] = int(more.split()[1])
    below = {pid for pid, parent in parents.items() if parent == server}
    return sorted(below | {pid for pid, parent in parents.items() if parent in below})


def test_what_is_damaged_on_the_host_is_sent_again_from_there(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    layer = image.layers[1]
    part = place / f"sideload/blobs/{layer.digest[7:]}.part"
    part.parent.mkdir(parents=True)
    for folder in (place, place / "sideload", part.parent):
        folder.chmod(0o700)
    good = image.blob_path(layer).read_bytes()
    part.write_bytes(good[: 16 * MIB] + bytes(4 * MIB))
    image_dir = place / "sideload/images" / image.config.digest[7:]
    image_dir.mkdir(parents=True)
    (image_dir / "name").write_text("vllm:r1\n")
    (image_dir / "needs").write_text(f"{layer.digest[7:]} {layer.size}\n")
    seen: list[int] = []
    carry_out((whole(image),), way_of(connect, bin_, place, image, seen))
    assert seen[-1] == MIB + LARGE - 16 * MIB
    assert (bin_ / "loaded/blobs/sha256" / layer.digest[7:]).read_bytes() == good


def test_a_damaged_layout_is_said_and_never_loaded(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    image.blob_path(image.layers[0]).write_bytes(bytes(MIB))
    with pytest.raises(HostError, match="the layout here is damaged: blob sha256:") as caught:
        carry_out((whole(image),), way_of(connect, bin_, place, image, []))
    assert f"remove {image.path}" in caught.value.hint


def test_a_whole_blob_that_rotted_on_the_host_is_sent_again_from_there(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    (bin_ / "refuse").write_text("write /x: no space left on device\n")
    with pytest.raises(HostError, match="no space left"):
        carry_out((whole(image),), way_of(connect, bin_, place, image, []))
    blob = place / "sideload/blobs" / image.layers[1].digest[7:]
    with blob.open("r+b") as file:
        file.seek(20 * MIB + 5)
        file.write(b"rot")
    seen: list[int] = []
    said: list[str] = []
    carry_out((whole(image),), way_of(connect, bin_, place, image, seen, say=said.append))
    assert seen[-1] == LARGE - 20 * MIB
    assert any("damaged on the host" in line for line in said)
    assert (bin_ / "loaded/blobs/sha256" / blob.name).read_bytes() == image.blob_path(image.layers[1]).read_bytes()


def test_layers_that_the_engine_lacks_after_all_are_sent_too(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    seen: list[int] = []
    said: list[str] = []
    way = way_of(connect, bin_, place, image, seen, needs=4, say=said.append)
    carry_out((Load(NAME, (0,), MIB, ""),), way)
    assert (bin_ / "loads").read_text().split() == ["3", "4"]
    assert seen[-1] == whole(image).size
    assert any("sending those too" in line for line in said)


def test_an_engine_without_room_keeps_what_was_staged(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    (bin_ / "refuse").write_text("write /x: no space left on device\n")
    with pytest.raises(HostError, match="no space left") as caught:
        carry_out((whole(image),), way_of(connect, bin_, place, image, []))
    assert "free space under Docker's root" in caught.value.hint
    seen: list[int] = []
    carry_out((whole(image),), way_of(connect, bin_, place, image, seen))
    assert not seen


def test_releases_share_the_layers_that_they_have_in_common(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage, tmp_path: Path
) -> None:
    shared = image.blob_path(image.layers[1]).read_bytes()
    other = make_image(tmp_path / "other", noise(3, MIB), shared)
    images = {"vllm:r1": image, "vllm:r2": other}
    seen: list[int] = []
    way = way_of(connect, bin_, place, image, seen)

    class Both:
        def images(self) -> list[dict[str, Any]]:
            return [{"Id": one.config.digest, "RepoTags": [name]} for name, one in images.items()]

    engine: Any = Both()
    engine.api = engine
    way = replace(way, client=engine, layout=images.__getitem__)
    carry_out((whole(image), replace(whole(other), name="vllm:r2")), way)
    assert seen[-1] == MIB  # of the second one only its own layer
    assert not place.exists()


def test_a_stalled_link_is_noticed_by_lack_of_progress(
    connect: Connect, place: Path, image: layout.LayoutImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "RECEIVE", "exec sleep 30 </dev/null")
    sender = Sender("node", connect(), 0.5, Throttle(0))
    layer = image.layers[1]
    with pytest.raises(LinkError, match="nothing moved for 0"):
        sender.send(
            str(place), Parcel(layer.digest, layer.size, image.blob_path(layer)), sender.look(str(place)), print
        )


def test_a_stall_is_retried_a_few_times_and_then_said(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "LOOK", "exec sleep 30 </dev/null")
    monkeypatch.setattr("fleet.delivery.send.ANSWER", 0.1)
    monkeypatch.setattr(Sender.command, "__kwdefaults__", {"stdin": None, "timeout": 0.1})
    said: list[str] = []
    way = way_of(connect, bin_, place, image, [], say=said.append, sideload=Sideload(stall=0.3))
    way = replace(way, renew=lambda: replace(way, session=connect()))
    with pytest.raises(HostError, match="nothing moved for 0 s after 0 B"):
        carry_out((whole(image),), way)
    assert len(said) == 4


def test_a_place_that_somebody_else_can_write_is_not_used(connect: Connect, tmp_path: Path) -> None:
    open_to_all = tmp_path / "shared"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    sender = Sender("node", connect(), 5, Throttle(0))
    for bad in (open_to_all, link):
        assert sender.look(str(bad)).directory == f"{bad}-{os.getuid()}"


def test_what_nobody_went_on_with_goes_when_it_is_old(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    sender = Sender("node", connect(), 5, Throttle(0))
    for name, age in (("old:r0", 9), ("young:r0", 1)):
        digest = hashlib.sha256(name.encode()).hexdigest()
        sender.command(scripts.BEGIN, str(place), "14400", digest, name, stdin=io.BytesIO(f"{digest} 5\n".encode()))
        (place / "sideload/blobs" / digest).write_text("bytes")
        then = time.time() - age * 86400
        os.utime(place / "sideload/images" / digest / "name", (then, then))
    (place / "not-ours").write_text("stays")
    look = sender.look(str(place))
    assert [
        (one.name, look.held(one), round(one.age / 86400)) for one in sorted(look.images, key=lambda one: one.name)
    ] == [
        ("old:r0", 5, 9),
        ("young:r0", 5, 1),
    ]
    carry_out((whole(image),), way_of(connect, bin_, place, image, []))
    assert [one.name for one in sender.look(str(place)).images] == ["young:r0"]
    assert len(list((place / "sideload/blobs").iterdir())) == 1
    (left,) = sender.look(str(place)).images
    sweep = Sweep(str(place), left.name, left.config, "the host holds it")
    assert carry_out((sweep,), way_of(connect, bin_, place, image, [])) == 1
    assert [file.name for file in place.iterdir()] == ["not-ours"]


def test_no_room_is_said_before_the_first_byte(
    connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.delivery.persist.SPARE", 1 << 60)
    seen: list[int] = []
    with pytest.raises(HostError, match=r"free, and .* are needed"):
        carry_out((whole(image),), way_of(connect, bin_, place, image, seen))
    assert not seen
    assert not place.exists()


def test_a_part_is_resumed_at_a_block(connect: Connect, place: Path, image: layout.LayoutImage) -> None:
    assert LARGE % BLOCK == 0
    sender = Sender("node", connect(), 5, Throttle(0))
    (place / "sideload/blobs").mkdir(parents=True)
    layer = image.layers[1]
    part = place / f"sideload/blobs/{layer.digest[7:]}.part"
    part.write_bytes(image.blob_path(layer).read_bytes()[: 5 * BLOCK + 17])
    sent: list[int] = []
    place.chmod(0o700)
    sender.send(
        str(place), Parcel(layer.digest, layer.size, image.blob_path(layer)), sender.look(str(place)), sent.append
    )
    assert sum(sent) == LARGE - 5 * BLOCK


@pytest.mark.parametrize(("arrives", "stays"), [(b"whole", True), (b"wh", False), (b"", False)])
def test_a_ca_is_placed_whole_or_not_even_its_directory_is_left(tmp_path: Path, arrives: bytes, stays: bool) -> None:
    target = tmp_path / "certs.d/10.0.0.1:5443/ca.crt"
    target.parent.parent.mkdir()
    script = ("sh", "-c", scripts.PLACE, "sh", str(target), str(len(b"whole")))
    done = subprocess.run(script, input=arrives, capture_output=True, check=False)
    assert (done.returncode == 0) == stays
    assert [path.name for path in target.parent.parent.rglob("*")] == (["10.0.0.1:5443", "ca.crt"] if stays else [])


def test_a_ca_that_is_cut_off_with_nobody_left_to_hear_of_it_leaves_nothing_either(tmp_path: Path) -> None:
    target = tmp_path / "certs.d/10.0.0.1:5443/ca.crt"
    target.parent.parent.mkdir()
    nobody, ear = os.pipe()
    os.close(nobody)
    with os.fdopen(ear, "wb") as gone:
        script = ("sh", "-c", scripts.PLACE, "sh", str(target), "5")
        done = subprocess.run(script, stdin=subprocess.DEVNULL, stdout=gone, stderr=gone, check=False)
    assert done.returncode == 1
    assert list(target.parent.parent.iterdir()) == []
