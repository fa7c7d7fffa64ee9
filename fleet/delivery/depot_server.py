"""Hands out blobs of layouts on a builder. Its text runs there as `python3 -c TEXT DIRECTORY`, in a container of a built image.

GET /RELEASE/HEX is a blob of DIRECTORY/RELEASE/layout, whole or from a byte on, for whoever has the password. The first line
of standard input says how, in JSON; the key is never in a file. It ends with standard input, which is the controller's
connection. It knows nothing of the rest of this package, and needs Python 3.8.
"""

import base64
import hmac
import http.server
import json
import os
import re
import socket
import socketserver
import ssl
import sys
import threading
import time
from typing import Any, Dict, Optional  # noqa: UP035  of the image's own Python, which may be older than ours

READY = "fleet-depot ready"
BLOB = re.compile(r"/([0-9a-f]+)/([0-9a-f]{64})")
RANGE = re.compile(r"bytes=([0-9]+)-")
PIECE = 1 << 17  # bytes
SILENT = 120.0  # seconds in which a client takes nothing
AHEAD = 0.25  # seconds that a pause may be saved up for


class Server(http.server.ThreadingHTTPServer):
    """`told` has address, port, user, password, certificate, key (PEM), and limit in bytes a second, 0 = none."""

    request_queue_size = 128

    def __init__(self, told: Dict[str, Any], root: str) -> None:  # noqa: UP006
        self.root = root
        self.login = b"Basic " + base64.b64encode(f"{told['user']}:{told['password']}".encode())
        self._rate, self._next, self._guard = float(told["limit"]), time.monotonic(), threading.Lock()
        if ":" in told["address"]:
            self.address_family = socket.AF_INET6
        super().__init__((told["address"], told["port"]), Handler)
        # The handshake is made by the thread of its client, so that a silent one holds up nobody.
        self.socket = _context(told).wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def server_bind(self) -> None:
        """Without asking a name server who we are."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, _request: Any, _client: Any) -> None:
        """Whoever goes away in the middle comes again."""

    def pace(self, count: int) -> None:
        """Wait until so many bytes may go; one limit for all clients."""
        if not self._rate:
            return
        with self._guard:
            now = time.monotonic()
            self._next = max(self._next, now - AHEAD) + count / self._rate
            wait = self._next - now
        if wait > 0:
            time.sleep(wait)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SILENT
    server: Server

    def do_GET(self) -> None:
        given = (self.headers.get("Authorization") or "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, self.server.login):
            self._short(401)
        elif self.path == "/":
            self._short(204)
        else:
            self._blob()

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""

    def _blob(self) -> None:
        found = BLOB.fullmatch(self.path)
        path = f"{self.server.root}/{found[1]}/layout/blobs/sha256/{found[2]}" if found else ""
        try:
            file = open(path, "rb")  # noqa: PTH123, SIM115
        except OSError:
            self._short(404)
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            asked = RANGE.fullmatch(self.headers.get("Range") or "")
            start = int(asked[1]) if asked else 0
            if asked and start >= size:
                self._short(416)
                return
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(size - start))
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.end_headers()
            file.seek(start)
            while True:
                piece = file.read(PIECE)
                if not piece:
                    return
                self.server.pace(len(piece))
                self.wfile.write(piece)

    def _short(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()


def _context(told: Dict[str, Any]) -> ssl.SSLContext:  # noqa: UP006
    """The library takes certificate and key from files alone, so they are in one that has no name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with os.fdopen(os.memfd_create("depot"), "wb") as file:
        file.write((told["certificate"] + told["key"]).encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


def main(root: str) -> Optional[str]:  # noqa: UP045
    """Serve until standard input ends; why it cannot, where it cannot."""
    told = json.loads(sys.stdin.readline())
    if not os.access(root, os.R_OK | os.X_OK):
        return f"{root} cannot be read in the container"
    try:
        server = Server(told, root)
    except OSError as error:
        return f"cannot listen at {told['address'] or '*'}:{told['port']}: {error.strerror}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()
    while sys.stdin.readline():
        pass
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
