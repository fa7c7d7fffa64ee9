"""A registry behind something that fails one request in nine: whatever is asked of it arrives all the same."""

import http.client
import http.server
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import pytest

from fleet.delivery.push import push as push_layout
from fleet.image.lock import Lock
from fleet.image.produce import produce
from fleet.image.workshop import publish
from fleet.inventory.settings import Image, Registry
from tests.tools.test_convert import docker_save, quiet
from tests.tools.test_produce import Docker, registry, workshop

__all__ = ["registry"]  # a fixture


class Middle(http.server.BaseHTTPRequestHandler):
    """Hands requests on to `upstream`; of `every` so many it answers one with `code`, or hangs up for 0."""

    upstream: str
    code: int
    every: int
    count: Iterator[int]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self._chunked() if "chunked" in self.headers.get("Transfer-Encoding", "") else self.rfile.read(size)
        if next(self.count) % self.every == 0:
            if self.code:
                self.send_response(self.code)
                self.send_header("Content-Length", "0")
                self.end_headers()
            self.close_connection = not self.code
            return
        connection = http.client.HTTPConnection(self.upstream)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("transfer-encoding", "content-length"):
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        told = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", told or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_PUT = do_POST = do_PATCH = do_GET  # noqa: N815  the names that http.server asks for

    def _chunked(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def flaky(upstream: str, code: int) -> Iterator[tuple[str, Iterator[int]]]:
    count = itertools.count(1)
    handler = type("Handler", (Middle,), {"upstream": upstream, "code": code, "every": 9, "count": count})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", count
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("code", [503, 0], ids=["503", "hangs up"])
def test_a_fetch_a_push_and_a_record_arrive(
    code: int, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.image.again.PAUSE", 0.05)
    monkeypatch.setattr("fleet.image.skopeo.PAUSE", 0.05)
    shop = workshop(tmp_path / "one", Docker())
    spec = Image("vllm", archive=str(docker_save(tmp_path / "a.tar")))
    made = produce(spec, shop, Lock(), gfx=())
    layout = shop.store.layout(made.release)
    assert layout is not None
    with flaky(registry.host, code) as (host, count):
        site = Registry(host, insecure=True)
        push_layout(layout, site, "vllm", made.release.id, on_line=quiet)
        assert publish(made.release, made.key, site)
        other = Image("vllm", prebuilt=f"{urlparse(f'//{host}').netloc}/vllm:{made.release.id}")
        fetched = produce(other, workshop(tmp_path / "two", Docker(), site), Lock(), gfx=())
        assert next(count) > 3 * 9
    assert fetched.release.manifest_digest == made.release.manifest_digest
