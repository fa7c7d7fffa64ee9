"""Something in front of a registry: it fails now and then, asks who is there, or lets nobody push."""

import base64
import http.client
import http.server
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Middle(http.server.BaseHTTPRequestHandler):
    """Hands requests on to `upstream`.

    Of `every` so many it answers one with `code`, or hangs up for 0. With a `login` (`user:password`) it asks for it; with
    `pull_only` it denies what would change anything. `asked` are all requests that it was let do.
    """

    upstream: str
    code = 503
    every = 0
    login = ""
    pull_only = False
    asked: list[str]
    count: Iterator[int]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self._chunked() if "chunked" in self.headers.get("Transfer-Encoding", "") else self.rfile.read(size)
        if self.every and next(self.count) % self.every == 0:
            self._refuse(self.code)
            return
        word = base64.b64encode(self.login.encode()).decode()
        if self.login and self.headers.get("Authorization") != f"Basic {word}":
            self._refuse(401)
            return
        if self.pull_only and self.command not in ("GET", "HEAD"):
            self._refuse(403)
            return
        self.asked.append(f"{self.command} {self.path}")
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

    def _refuse(self, code: int) -> None:
        if code:
            content = json.dumps(
                {"errors": [{"code": {403: "DENIED", 401: "UNAUTHORIZED"}.get(code, "UNKNOWN")}]}
            ).encode()
            self.send_response(code)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
        self.close_connection = not code

    do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815  the names that http.server asks for

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
def middle(upstream: str, **how: Any) -> Iterator[tuple[str, list[str]]]:
    """The address of a server in front of a registry, and what it was asked; `how` sets attributes of Middle."""
    asked: list[str] = []
    handler = type("Handler", (Middle,), {"upstream": upstream, "count": itertools.count(1), "asked": asked, **how})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
