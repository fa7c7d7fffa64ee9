"""HTTP over channels of an SSH connection, as requests and docker-py want it: a channel for each connection.

A channel runs `docker system dial-stdio` on the host, under sudo where become is set.
"""

import contextlib
import io
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from fleet.errors import HostError
from fleet.transport import Channel, Session
from fleet.transport.channel import ChannelReader

DIAL = ("docker", "system", "dial-stdio")
BLOCK = 1 << 18  # bytes per write of a streamed body
IDLE = 1  # channels kept open between calls; sshd allows few

# Why dial-stdio brought no engine, told by exit codes; DOCKER_HOST may name another socket.
EXAMINE = """
command -v docker >/dev/null || exit 3
socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
case $socket in unix://*) socket=${socket#unix://} ;; *) exit 6 ;; esac
[ -S "$socket" ] || exit 4
[ -w "$socket" ] || exit 5
exit 6
"""
REASONS: Mapping[int, tuple[str, str]] = {
    3: (
        "there is no docker command on the host",
        "install the docker CLI: apt-get install docker.io, or docker-ce-cli",
    ),
    4: ("the Docker engine is not running: its socket is missing", "systemctl enable --now docker"),
    5: (
        "the Docker socket may not be used by this user",
        "usermod -aG docker USER and log in anew, or set ansible_become: true",
    ),
    6: ("the Docker engine does not answer on its socket", "systemctl status docker; journalctl -u docker -n 50"),
}

NOT_FOUND = 127  # POSIX sh, "command not found"


class Adapter(HTTPAdapter):
    """requests' adapter whose every pool leads through the session."""

    def __init__(self, session: Session) -> None:
        self._pool = _Pool(session)
        super().__init__()

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def request_url(self, request: requests.PreparedRequest, _proxies: Any) -> str:
        return request.path_url

    def close(self) -> None:
        self._pool.close()
        super().close()


class _Pool(HTTPConnectionPool):
    def __init__(self, session: Session) -> None:
        super().__init__("localhost", maxsize=IDLE)
        self._session = session

    def _new_conn(self) -> "_Connection":
        return _Connection(self._session)

    def _get_conn(self, timeout: float | None = None) -> "_Connection":  # noqa: ARG002
        """An idle channel that still lives, or a new one. urllib3's own check would want a file descriptor."""
        while self.pool is not None:
            try:
                idle = self.pool.get(block=False)
            except queue.Empty:
                break
            if isinstance(idle, _Connection) and idle.usable:
                return idle
            if idle is not None:
                idle.close()
        return self._new_conn()

    def _put_conn(self, conn: Any) -> None:
        if conn is None or self.pool is None:
            return
        try:
            self.pool.put(conn, block=False)
        except queue.Full:
            conn.close()


class _Connection(HTTPConnection):
    """One dial-stdio channel, opened at the first request."""

    def __init__(self, session: Session) -> None:
        super().__init__("localhost", blocksize=BLOCK)
        self._session = session
        self._upgrades = False

    @property
    def usable(self) -> bool:
        wire = self.sock
        return isinstance(wire, _Wire) and not wire.channel.ended

    def connect(self) -> None:
        self.sock = _Wire(self._session.open_process(DIAL, sudo=True), self.timeout, lambda: self._upgrades)

    def putheader(self, header: Any, *values: Any) -> None:
        if str(header).lower() == "upgrade":
            self._upgrades = True
        super().putheader(header, *values)

    def putrequest(self, *args: Any, **options: Any) -> None:
        self._upgrades = False
        super().putrequest(*args, **options)

    def getresponse(self) -> Any:
        wire = self.sock
        try:
            return super().getresponse()
        except TimeoutError:
            raise
        except (OSError, EOFError) as error:  # http.client's RemoteDisconnected is a ConnectionResetError
            if isinstance(wire, _Wire):
                _explain(self._session, wire.channel, error)
            raise


class _Wire:
    """What http.client takes for a socket."""

    def __init__(self, channel: Channel, timeout: Any, upgrades: Callable[[], bool]) -> None:
        self.channel = channel
        self._upgrades = upgrades
        self._files = 0
        self._closing = False
        self._lock = threading.Lock()
        self.settimeout(timeout)

    def settimeout(self, seconds: Any) -> None:
        self.channel.settimeout(float(seconds) if isinstance(seconds, int | float) else None)

    def gettimeout(self) -> float | None:
        return self.channel.gettimeout()

    def sendall(self, data: Any) -> None:
        self.channel.sendall(data)

    def makefile(self, _mode: str = "rb", *_: Any, **__: Any) -> "_Reader":
        with self._lock:
            self._files += 1
        return _Reader(self, step_by_step=self._upgrades())

    def fileno(self) -> int:
        return self.channel.fileno()

    def close(self) -> None:
        """Like a socket: the channel closes when the last file made of it has closed, too."""
        with self._lock:
            self._closing = True
            last = not self._files
        if last:
            self.channel.close()

    def file_closed(self) -> None:
        with self._lock:
            self._files -= 1
            last = self._closing and not self._files
        if last:
            self.channel.close()


class _Reader(io.BufferedReader):
    """The response's bytes. `.channel` is where docker-py takes over an upgraded (attach, exec) stream."""

    def __init__(self, wire: _Wire, *, step_by_step: bool) -> None:
        raw = _CarefulReader(wire.channel) if step_by_step else ChannelReader(wire.channel)
        super().__init__(raw, 1 << 16)
        self.channel = wire.channel
        self._wire = wire

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._wire.file_closed()


class _CarefulReader(ChannelReader):
    """Reads an upgraded response's head byte by byte, as what follows it belongs to whoever takes the stream over."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._head = b""

    def readinto(self, buffer: Any) -> int:
        if self._head.endswith(b"\r\n\r\n"):
            return super().readinto(buffer)
        byte = self.channel.recv(1)
        self._head = (self._head + byte)[-4:]
        buffer[: len(byte)] = byte
        return len(byte)


def _examine(session: Session) -> int:
    return session.run(("sh", "-c", EXAMINE), sudo=True, check=False, timeout=30).exit_code


def _explain(session: Session, channel: Channel, error: BaseException) -> None:
    """Raise the HostError that says why dial-stdio ended without an answer; return where it still runs."""
    code = channel.exit_code(5)
    if code is None:
        return
    words = b""
    channel.settimeout(2)
    with contextlib.suppress(OSError):
        while piece := channel.recv_stderr(4096):
            words += piece
    channel.close()
    reason = 3 if code == NOT_FOUND else _examine(session)
    message, hint = REASONS.get(reason, REASONS[6])
    lines = words.decode(errors="replace").strip().splitlines()
    raise HostError(
        session.host.name, message, hint=hint.replace("USER", session.user), tail=tuple(lines[-4:])
    ) from error
