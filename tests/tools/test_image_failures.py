"""What goes wrong while an image is had, each said in words: real skopeo, a real registry that asks and one that is TLS."""

import http.server
import json
import socket
import ssl
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import FleetError, UsageError
from fleet.image import source as sources
from fleet.image.lock import Lock
from fleet.image.machine import Here
from fleet.image.produce import produce
from fleet.image.store import Store
from fleet.image.workshop import Workshop
from fleet.inventory.settings import Image, Registry, Source
from fleet.secret import Secret
from tests.proc import command_lines
from tests.tools.test_convert import docker_save, quiet
from tests.tools.test_source import git
from tests.unit.image import layouts


class Refusing(http.server.BaseHTTPRequestHandler):
    """Asks everybody for credentials and takes none; looks whether a password shows in any command line meanwhile."""

    shown: list[bytes]

    def do_GET(self) -> None:
        self.shown.extend(words for _, words in command_lines() if b"s3cret" in words)
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815  the name that http.server asks for

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(certificate: Path) -> Iterator[tuple[str, type[Refusing]]]:
    """An HTTPS server with a certificate of its own; yields its address."""
    handler = type("Handler", (Refusing,), {"shown": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    command = (
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", f"{path}.crt"),
    )
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def workshop(root: Path, registry: Registry | None = None) -> Workshop:
    return Workshop(Store(root), Here(), registry, quiet)


def test_a_registry_that_refuses_and_one_that_is_not_trusted(certificate: Path, tmp_path: Path) -> None:
    with serving(certificate) as (address, _):
        image = Image("vllm-rocm", prebuilt=f"{address}/vendor/vllm:v1")
        trusted = Registry(address, ca_file=str(certificate))
        given = replace(trusted, username=Secret("u", literal="bob"), password=Secret("p", literal="s3cret"))
        for registry, words in (
            (None, "is not trusted: .*set registry.ca_file"),
            (trusted, r"asks for credentials \(401\)"),
            (given, r"refuses our credentials \(401\)"),
        ):
            with pytest.raises(FleetError, match=words) as caught:
                produce(image, workshop(tmp_path, registry), Lock(), gfx=())
            assert "s3cret" not in str(caught.value)


def test_credentials_for_git_show_in_no_command_line_while_it_asks(certificate: Path) -> None:
    with serving(certificate) as (address, handler):
        source = Source(
            ref="main",
            repository=f"https://{address}/x.git",
            ca_file=str(certificate),
            git_username=Secret("u", literal="bob"),
            git_password=Secret("p", literal="s3cret"),
        )
        with pytest.raises(FleetError, match="asking https") as caught:
            sources.resolve(source)
        assert "Authentication failed" in caught.value.message
        assert "git_username" in caught.value.hint
        assert "s3cret" not in str(caught.value)
        assert handler.shown == []
        with pytest.raises(FleetError, match="certificate") as caught:
            sources.resolve(replace(source, ca_file=""))
        assert "source.ca_file" in caught.value.hint


@pytest.mark.parametrize("url", ["https://token@git.corp/x.git", "https://bob:pw@git.corp/x.git"])
def test_credentials_in_a_url_are_refused_also_when_the_commit_is_known(url: str, tmp_path: Path) -> None:
    source = Source(ref="a" * 40, repository=url)
    with (
        pytest.raises(FleetError, match="carries credentials in its URL"),
        sources.checkout(source, "a" * 40, tmp_path),
    ):
        pass


def test_a_repository_that_cannot_be_reached_is_said() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(FleetError, match=rf"asking http://127\.0\.0\.1:{port}/x.git for its refs"):
        sources.resolve(Source(ref="main", repository=f"http://127.0.0.1:{port}/x.git"))


def test_a_ref_that_is_not_there_names_what_is_near(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "--quiet")
    git(origin, "commit", "--quiet", "--allow-empty", "-m", "one")
    git(origin, "tag", "v0.11.0")
    image = Image("vllm-rocm", source=Source(ref="v0.11.1", repository=str(origin)))
    with pytest.raises(UsageError, match=r"has no ref 'v0\.11\.1'") as caught:
        produce(image, workshop(tmp_path / "fleet"), Lock(), gfx=())
    assert "v0.11.0" in caught.value.hint


def test_an_archive_for_another_architecture_is_refused(tmp_path: Path) -> None:
    path = docker_save(tmp_path / "arm.tar")
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "open")  # noqa: S202  our own archive; Debian 12 has no filter
    config = tmp_path / "open/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "architecture": "arm64"}))
    with tarfile.open(path, "w") as tar:
        for member in sorted((tmp_path / "open").rglob("*")):
            tar.add(member, arcname=str(member.relative_to(tmp_path / "open")), recursive=False)
    with pytest.raises(FleetError, match="no image for linux/amd64, only linux/arm64") as caught:
        produce(Image("v", archive=str(path)), workshop(tmp_path / "fleet"), Lock(), gfx=())
    assert "linux/amd64" in caught.value.hint
    assert not list((tmp_path / "fleet/layouts").glob("[!.]*"))


def test_an_oci_archive_of_other_architectures_alone_is_refused(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layouts.write_index(layout, [layouts.add_image(layout, [{"a": "b"}], architecture="arm64")])
    path = tmp_path / "arm.tar"
    with tarfile.open(path, "w") as tar:
        for member in sorted(layout.rglob("*")):
            tar.add(member, arcname=str(member.relative_to(layout)), recursive=False)
    with pytest.raises(FleetError, match=r"arm64|no image found|no linux/amd64") as caught:
        produce(Image("v", archive=str(path)), workshop(tmp_path / "fleet"), Lock(), gfx=())
    assert "linux/amd64" in str(caught.value)


def test_an_archive_of_zstd_layers_is_packed_anew_and_told(tmp_path: Path) -> None:
    source = docker_save(tmp_path / "a.tar")
    packed = tmp_path / "zstd.tar"
    command = ("skopeo", "copy", "--dest-compress-format", "zstd", f"docker-archive:{source}", f"oci-archive:{packed}")
    subprocess.run(command, check=True, capture_output=True)
    said: list[str] = []
    shop = replace(workshop(tmp_path / "fleet"), on_line=said.append)
    made = produce(Image("v", archive=str(packed)), shop, Lock(), gfx=())
    assert made.release.diff_ids == tuple(
        layouts.digest_of(layouts.tar_of(files))
        for files in ({"app/versions.txt": "ROCM_SDK_VERSION: 7.14.0\n"}, {"b": "two"})
    )
    assert any("zstd" in line for line in said)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "is not there"), (b"", "damaged or no tar"), (b"hello" * 300, "damaged or no tar")]
)
def test_an_archive_that_is_none_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "x.tar"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FleetError, match=words):
        produce(Image("v", archive=str(path)), workshop(tmp_path / "fleet"), Lock(), gfx=())


def test_an_archive_that_was_locked_need_not_be_here_where_its_release_is_known(tmp_path: Path) -> None:
    path = docker_save(tmp_path / "a.tar")
    shop = workshop(tmp_path / "fleet")
    first = produce(Image("v", archive=str(path)), shop, Lock(), gfx=())
    path.unlink()
    again = produce(Image("v", archive=str(path)), shop, first.lock, gfx=())
    assert (again.changes, again.release) == (False, first.release)
    with pytest.raises(FleetError, match="is not there"):
        produce(Image("v", archive=str(path)), workshop(tmp_path / "other"), first.lock, gfx=())
