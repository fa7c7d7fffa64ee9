"""Blobs that a host gets by its own curl from the server of a builder, which is the real one here, and what follows where it cannot.

The server runs on this machine as it would in its container; the host's side goes over real SSH, as in test_staging.
"""

import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleet.delivery import depot_server, download
from fleet.delivery.depot import Depot
from fleet.delivery.download import Address
from fleet.delivery.execute import carry_out
from fleet.delivery.from_builder import FromBuilder
from fleet.delivery.send import Sender
from fleet.delivery.site_ca import SiteCa
from fleet.delivery.way import Way
from fleet.image import layout
from fleet.image.release import Release
from tests.ssh.sshd import Sshd
from tests.ssh.test_staging import (
    LARGE,
    MIB,
    Connect,
    bin_,
    connect,
    cut_at,
    ended_at,
    image,
    place,
    way_of,
    whole,
)

__all__ = ["bin_", "connect", "image", "place"]

TEXT = Path(depot_server.__file__).read_text("utf-8")
PASSWORD = "right"
RELEASE = "0123456789ab"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.01)


@dataclass
class Builder:
    """The layouts of a builder below `root`, and the server over them. It gives a host addresses as a Depot does."""

    root: Path
    port: int
    ca: Path
    process: subprocess.Popen[str]
    asked: list[str] = field(default_factory=list)
    name: str = "builder"

    def blob(self, release: Release, digest: str) -> Address:
        self.asked.append(digest)
        url = f"https://127.0.0.1:{self.port}/{RELEASE}/{digest[7:]}"
        return Address(url, settings=f'user = "fleet:{PASSWORD}"\n', ca=self.ca.read_text(), tries=2)

    def get(self, path: str, password: str = PASSWORD, **headers: str) -> tuple[int, bytes]:
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=10)
        from requests.auth import _basic_auth_str

        connection.request("GET", path, headers={"Authorization": _basic_auth_str("fleet", password), **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.fixture
def builder(tmp_path: Path, image: layout.LayoutImage) -> Iterator[Builder]:
    root = tmp_path / "depot"
    (root / RELEASE).mkdir(parents=True)
    subprocess.run(("cp", "-r", str(image.path), str(root / RELEASE / "layout")), check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ca = SiteCa(tmp_path / "ca")
    ca.ensure(datetime.now(UTC))
    certificate, key = ca.server("127.0.0.1", datetime.now(UTC))
    told = {"address": "127.0.0.1", "port": port, "user": "fleet", "password": PASSWORD, "limit": 0}
    told |= {"certificate": certificate.decode(), "key": key.decode()}
    argv = (sys.executable, "-c", TEXT, str(root))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == depot_server.READY + "\n"
        yield Builder(root, port, ca.certificate, process)
        process.stdin.close()
        assert process.wait(timeout=10) in (0, -signal.SIGKILL)  # it ends with its standard input


@dataclass
class Host:
    """A host that gets the image from the builder. `brought`: how often the layout was wanted on the controller."""

    builder: Builder
    way: Way
    image: layout.LayoutImage
    said: list[str]
    brought: int = 0

    def deliver(self) -> int:
        thin = replace(self.image, path=self.builder.root.parent / "thin")
        subprocess.run(("cp", "-r", str(self.image.path), str(thin.path)), check=True)
        for layer in thin.layers:
            thin.blob_path(layer).unlink()

        def here() -> layout.LayoutImage:
            self.brought += 1
            return self.image

        depot: Any = self.builder
        release: Any = Release("vllm", f"sha256:{RELEASE}", "", (), (), (), "source")
        carrier = FromBuilder(depot, release, here)
        step = replace(whole(self.image), straight=True, way="straight from builder")
        return carry_out((step,), replace(self.way, straight=lambda _name: (thin, carrier)))


@pytest.fixture
def host(builder: Builder, connect: Connect, bin_: Path, place: Path, image: layout.LayoutImage) -> Host:
    said: list[str] = []
    way = way_of(connect, bin_, place, image, [], say=said.append)
    return Host(builder, replace(way, renew=lambda: replace(way, session=connect())), image, said)


def loaded(bin_: Path, image: layout.LayoutImage) -> bool:
    """Has the engine every layer, to the byte?"""
    blobs = bin_ / "loaded/blobs/sha256"
    return all((blobs / one.digest[7:]).read_bytes() == image.blob_path(one).read_bytes() for one in image.layers)


def test_the_server_gives_blobs_to_who_has_the_password_and_nothing_else(
    builder: Builder, image: layout.LayoutImage
) -> None:
    layer = image.layers[0]
    content = image.blob_path(layer).read_bytes()
    path = f"/{RELEASE}/{layer.digest[7:]}"
    assert builder.get("/") == (204, b"")
    assert builder.get(path) == (200, content)
    assert builder.get(path, Range=f"bytes={MIB - 10}-") == (206, content[-10:])
    assert builder.get(path, Range=f"bytes={MIB}-")[0] == 416
    assert builder.get(path, password="wrong")[0] == 401
    for other in (
        f"/{RELEASE}/" + "0" * 64,
        f"/{RELEASE}/../layout/index.json",
        "/etc/passwd",
        f"/..{path}",
        f"{path}/",
    ):
        assert builder.get(other)[0] == 404


def test_a_host_gets_all_layers_from_the_builder_and_none_from_here(
    host: Host, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    assert host.deliver() == 1
    assert loaded(bin_, image)
    assert (host.brought, host.said) == (0, [])
    assert host.builder.asked == [one.digest for one in image.layers]
    assert not place.exists()
    assert ended_at(place)


def test_what_came_before_the_link_was_cut_stays(
    host: Host, sshd: Sshd, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    watcher = cut_at(sshd, place, 0.3, LARGE)
    assert host.deliver() == 1
    watcher.join()
    assert loaded(bin_, image)
    assert host.brought == 0
    assert not place.exists()


def test_a_builder_that_goes_leaves_the_rest_to_the_controller(
    host: Host, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    host.builder.process.send_signal(signal.SIGKILL)
    host.builder.process.wait()
    assert host.deliver() == 1
    assert loaded(bin_, image)
    assert host.brought > 0
    assert any("it does not come from builder" in line for line in host.said)
    assert not place.exists()


def test_a_layer_that_is_damaged_there_is_replaced_from_here(
    host: Host, bin_: Path, place: Path, image: layout.LayoutImage
) -> None:
    wrong = host.builder.root / RELEASE / "layout/blobs/sha256" / image.layers[1].digest[7:]
    with wrong.open("r+b") as file:
        file.seek(LARGE // 2)
        file.write(b"other")
    assert host.deliver() == 1
    assert loaded(bin_, image)
    assert any("a blob arrived damaged; this controller brings" in line for line in host.said)
    assert not place.exists()


def test_a_host_is_asked_once_whether_it_reaches_the_builder(connect: Connect, builder: Builder) -> None:
    depot = Depot(_Machine(), "/nowhere", ("127.0.0.1", builder.port), 0, lambda _line: None)  # type: ignore[arg-type]
    release = Release("vllm", f"sha256:{RELEASE}", "", ("sha256:a",), (), (), "source")
    assert depot.reach(Sender.of(connect()), release) == "builder cannot hand it out: no container"
    gone = replace(release, manifest_digest="sha256:f", diff_ids=("sha256:b",))
    assert depot.reach(Sender.of(connect()), gone) == "builder does not have it any more"


class _Machine:
    name = "builder"

    def run(self, argv: tuple[str, ...], **_: Any) -> Any:
        from fleet.transport import Output

        return Output(0, '["sha256:a"]\n', "") if argv[0] == "docker" else Output(1, "", "")

    def start(self, argv: tuple[str, ...]) -> Any:
        raise OSError("no container")
