"""What a Docker engine says of itself over its own socket: enough to show and to wait for, without a client."""

import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Engine:
    """An engine's version and where it keeps images: `overlay2` (its own store) or `containerd`."""

    version: str
    store: str


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(socket_path: Path) -> Engine | None:
    """The engine behind a socket, None when nobody answers."""
    try:
        version, info = _get(socket_path, "/version"), _get(socket_path, "/info")
        containerd = any("io.containerd.snapshotter" in str(value) for _, value in info.get("DriverStatus") or ())
        return Engine(version["Version"], "containerd" if containerd else info["Driver"])
    except (OSError, http.client.HTTPException, ValueError, KeyError):  # KeyError: it answers, with an error
        return None


def _get(socket_path: Path, path: str) -> Any:
    connection = _UnixConnection(socket_path)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()
