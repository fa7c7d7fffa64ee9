"""TCP through a session: local listeners to a host's ports, and a host's ports back to us."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import paramiko

from fleet.errors import HostError
from fleet.transport.channel import PIECE, Channel


@contextlib.contextmanager
def listening(connect: Callable[[], Channel]) -> Iterator[tuple[str, int]]:
    """A listener on 127.0.0.1 whose every connection becomes a channel from `connect`; yields (address, port)."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        channels: set[Channel] = set()

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=join, args=(client,), name="fleet-tunnel", daemon=True).start()

        def join(client: socket.socket) -> None:
            with client:
                try:
                    channel = connect()
                except HostError:
                    return  # the client sees the connection close, as with ssh -L
                channels.add(channel)
                with channel:
                    splice(client, channel)
                channels.discard(channel)

        threading.Thread(target=serve, name="fleet-listen", daemon=True).start()
        try:
            yield "127.0.0.1", server.getsockname()[1]
        finally:
            # close() alone does not wake a thread in accept().
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            for channel in tuple(channels):
                channel.close()


def splice(client: socket.socket, channel: Channel) -> None:
    """Copy both ways until both have said EOF, or one is gone."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def upward() -> None:
        try:
            while data := client.recv(PIECE):
                channel.sendall(data)
        except OSError:
            channel.close()
        else:
            channel.shutdown_write()

    thread = threading.Thread(target=upward, name="fleet-splice", daemon=True)
    thread.start()
    try:
        while data := channel.recv(PIECE):
            client.sendall(data)
    except OSError:
        channel.close()
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_WR)
    if channel.closed:
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
    thread.join()


class RemoteForwards:
    """Ports of the host that lead back to us. paramiko has one handler for a connection, so it is told apart here."""

    def __init__(self, host: str, transport: paramiko.Transport, requests: threading.Lock) -> None:
        self._host = host
        self._transport = transport
        self._requests = requests
        self._local: dict[int, tuple[str, int]] = {}

    @contextlib.contextmanager
    def open(self, host_port: int, local: tuple[str, int]) -> Iterator[int]:
        """`host_port` 0 lets the host choose; yields the port. Listens on the host's loopback only."""
        try:
            with self._requests:
                port = self._transport.request_port_forward("127.0.0.1", host_port, self._arrived)
        except paramiko.SSHException as error:
            wanted = f"port {host_port}" if host_port else "a port"
            raise HostError(
                self._host,
                f"sshd refused to forward {wanted} of the host back to us",
                hint="is the port taken? AllowTcpForwarding in its sshd_config",
            ) from error
        self._local[port] = local
        try:
            yield port
        finally:
            del self._local[port]
            # cancel_port_forward() would take the handler from every other forward, too.
            with self._requests, contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self._transport.global_request("cancel-tcpip-forward", ("127.0.0.1", port), wait=True)

    def _arrived(self, raw: paramiko.Channel, _origin: tuple[str, int], server: tuple[str, int]) -> None:
        """Called in paramiko's own thread, which must not wait."""
        local = self._local.get(server[1])
        threading.Thread(target=_lead, args=(Channel(raw), local), name="fleet-reverse", daemon=True).start()


def _lead(channel: Channel, local: tuple[str, int] | None) -> None:
    with channel:
        if local is None:
            return
        try:
            client = socket.create_connection(local, timeout=10)
        except OSError:
            return
        client.settimeout(None)
        with client:
            splice(client, channel)
