"""A small Docker engine: HTTP on a unix socket, and the `docker` command that leads to it."""

import hashlib
import http.server
import json
import os
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = """#!{python}
# docker system dial-stdio, and nothing else of the docker CLI.
import os, socket, sys, threading
if sys.argv[1:] != ["system", "dial-stdio"]:
    sys.exit("unknown docker command: " + str(sys.argv[1:]))
far = socket.socket(socket.AF_UNIX)
try:
    far.connect({socket!r})
except OSError as error:
    sys.exit("cannot connect to the engine: " + str(error))
def up():
    while data := os.read(0, 65536):
        far.sendall(data)
    far.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := far.recv(65536):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view):]
os._exit(0)
"""


class Engine(socketserver.ThreadingUnixStreamServer):
    """`loaded` holds (bytes, sha256) of every image tar; `lost` is how many answers to `/lost/json` never come."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Answer)
        self.loaded: list[tuple[int, str]] = []
        self.requests: list[str] = []
        self.lost = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not wait for a slow answer is none of the engine's business."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as the base class has them


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "local"

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        path = self.path.partition("?")[0]
        if path == "/version":
            self._json({"ApiVersion": "1.41", "Version": "20.10.24"})
        elif path.endswith("/slow/json"):
            time.sleep(3)
            self._json({})
        elif path.endswith("/lost/json"):
            if self.server.lost:
                self.server.lost -= 1
                time.sleep(3)
            self._json({"Id": "lost", "Config": {}})
        elif path.endswith("/logs"):
            self._chunks(_frame(1, f"line {number}\n".encode()) for number in range(5))
        elif path.endswith("/exec/e1/json"):
            self._json({"ExitCode": 0, "Running": False})
        elif path.endswith(("/containers/c/json", "/containers/c1/json")):
            self._json({"Id": "c1", "Name": "/c", "Config": {"Tty": False}, "State": {"Status": "running"}})
        else:
            self._json({"message": f"no such thing: {path}"}, 404)

    def do_POST(self) -> None:
        self.server.requests.append(self.path)
        path = self.path.partition("?")[0]
        if path.endswith("/images/load"):
            self._load()
        elif path.endswith("/exec/e1/start"):
            self._exec()
        elif path.endswith("/slow/start"):
            time.sleep(3)
            self._json({})
        elif path.endswith("/exec"):
            self._read_body()
            self._json({"Id": "e1"})
        else:
            self._read_body()
            self._json({"message": f"no such thing: {path}"}, 404)

    def _load(self) -> None:
        digest, size = hashlib.sha256(), 0
        for piece in self._body():
            digest.update(piece)
            size += len(piece)
        self.server.loaded.append((size, digest.hexdigest()))
        self._chunks(iter([b'{"stream":"Loaded image: demo:1\\n"}\r\n']))

    def _exec(self) -> None:
        self._read_body()
        self.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        # In one packet with the head's end, so that reading too far would lose it.
        self.wfile.write(_frame(1, b"out\n") + _frame(2, b"err\n"))
        self.wfile.flush()
        self.close_connection = True

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.rfile.read(min(left, 1 << 16))
            left -= len(piece)
            yield piece

    def _read_body(self) -> bytes:
        return b"".join(self._body())

    def _json(self, value: object, code: int = 200) -> None:
        text = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _chunks(self, pieces: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(0.01)
        self.wfile.write(b"0\r\n\r\n")


def _frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


@contextmanager
def running_engine(folder: Path, bin_: Path) -> Iterator[Engine]:
    """The engine, and a `docker` in `bin_` that dials it."""
    path = folder / "docker.sock"
    command = bin_ / "docker"
    command.write_text(COMMAND.format(python=sys.executable, socket=str(path)))
    command.chmod(0o755)
    os.environ["DOCKER_HOST"] = f"unix://{path}"
    engine = Engine(path)
    threading.Thread(target=engine.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield engine
    finally:
        del os.environ["DOCKER_HOST"]
        engine.shutdown()
        engine.server_close()
