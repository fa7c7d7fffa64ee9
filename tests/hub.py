"""A stand-in for Hugging Face, in the test's own process: the API of a repository, and its files with ranges."""

import hashlib
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

NAME = "org/tiny"
LARGE = 1 << 12  # bytes from which a file is one of Git LFS
PIECE = 1 << 16


def oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """`cut` ends an answer after so many bytes, once for each number in it; `rate` is in bytes a second.

    `lies` are bytes that a file is sent with instead of its own; `asked` are paths with their range.
    """

    files: dict[str, bytes]
    commit: str = "c" * 40
    token: str = ""
    gated: bool = False
    ranges: bool = True
    cut: list[int] = field(default_factory=list)
    rate: int = 0
    lies: dict[str, list[bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0
    url: str = ""

    def info(self) -> bytes:
        siblings: list[Mapping[str, object]] = []
        for path, content in {**self.files, ".gitattributes": b"*"}.items():
            about: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": oid(content)}
            if len(content) >= LARGE:
                sha256 = hashlib.sha256(content).hexdigest()
                about |= {"blobId": "0" * 40, "lfs": {"sha256": sha256, "size": len(content), "pointerSize": 134}}
            siblings.append(about)
        return json.dumps({"id": NAME, "sha": self.commit, "siblings": siblings}).encode()


@contextmanager
def hub(files: Mapping[str, bytes], certificate: Path | None = None, address: str = "127.0.0.1") -> Iterator[Hub]:
    """With a `certificate` (and its key in one file) it speaks TLS."""
    made = Hub(dict(files))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

        def do_GET(self) -> None:
            path, span = unquote(self.path.partition("?")[0]), self.headers.get("Range", "")
            made.asked.append((path, span))
            if made.token and self.headers.get("Authorization") != f"Bearer {made.token}":
                self._answer(401, b"")
            elif path.startswith(f"/api/models/{NAME}/revision/") and "blobs=true" in self.path:
                known = path.rpartition("/")[2] in ("main", "v1", made.commit)
                self._answer(200 if known else 404, made.info())
            elif made.gated:
                self._answer(403, b"")
            elif path.startswith(f"/{NAME}/resolve/{made.commit}/"):
                self.send_response(302)
                self.send_header("Location", f"/blobs/{self.path.partition('/resolve/')[2]}")
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif path.startswith("/blobs/"):
                self._file(path.split("/", 3)[3], span)
            else:
                self._answer(404, b"")

        def _file(self, name: str, span: str) -> None:
            content = made.files[name]
            if made.lies.get(name):
                content = made.lies[name].pop()
            start = int(span.removeprefix("bytes=").partition("-")[0]) if span and made.ranges else 0
            body, cut = content[start:], made.cut.pop() if made.cut and len(content) >= LARGE else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self._send(body[: cut or None])
            self.close_connection = bool(cut)

        def _send(self, body: bytes) -> None:
            for at in range(0, len(body), PIECE):
                try:
                    self.wfile.write(body[at : at + PIECE])
                except OSError:
                    self.close_connection = True
                    return
                made.sent += min(PIECE, len(body) - at)
                if made.rate:
                    time.sleep(PIECE / made.rate)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    made.url = f"http{'s' if certificate else ''}://{address}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
