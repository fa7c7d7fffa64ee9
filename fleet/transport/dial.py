"""Opens one connection: socket, key exchange, host key, log-in. Knows which failures are worth another try."""

import contextlib
import logging
import os
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fabric
import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from fleet.errors import UnreachableError
from fleet.transport.hostkey import HostKeyGuard
from fleet.transport.login import Login
from fleet.transport.orderly import OrderlyTransport
from fleet.transport.target import Target

BANNER_TIMEOUT = 20.0  # seconds
LOGIN_TIMEOUT = 60.0  # seconds; PAM may ask a directory service
TOTAL_TIMEOUT = 60.0  # seconds for all tries to one server
DROPS = 9  # tries against a server that hangs up before its banner: MaxStartups, penalties (sshd_config(5))
IDLE = 5.0  # seconds; how long paramiko's reader sleeps between looks at whether the connection was closed
REFUSALS = 2  # tries against a closed port or a silent address

# AES-GCM is one pass in OpenSSL; the others are AES plus an HMAC in two.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")

# paramiko logs what it also raises; without a handler Python would print it on stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Dropped(Exception):  # noqa: N818
    """The server hung up before the key exchange was done."""


class Silent(Exception):  # noqa: N818
    """Nobody answered, or the port is closed."""


@dataclass
class Proxy:
    """A ProxyCommand and our end of its pipe."""

    process: subprocess.Popen[bytes]
    complaints: Any

    def last_words(self) -> str:
        self.complaints.seek(0)
        return str(self.complaints.read()[-500:].decode(errors="replace").strip().replace("\n", "; "))


def patiently(target: Target, attempt: Callable[[], fabric.Connection]) -> fabric.Connection:
    """Try again, with jitter, what sshd drops under load; say only what stays broken. Raises UnreachableError."""
    deadline = time.monotonic() + TOTAL_TIMEOUT
    drops = refusals = 0
    while True:
        try:
            return attempt()
        except Dropped as error:
            drops += 1
            message = f"{target.address} hangs up before the key exchange ({error}), {drops} times"
            hint = "MaxStartups or PerSourcePenalties of its sshd? is it an SSH server at all?"
            last = drops >= DROPS
            delay = min(0.1 * 2**drops, 6.0)
        except Silent as error:
            refusals += 1
            message, hint = f"cannot connect to {target.address}: {error}", "is the host up, is sshd running?"
            last = refusals >= REFUSALS
            delay = 1.0
        if last or time.monotonic() + delay > deadline:
            raise UnreachableError(target.label, message, hint=hint)
        time.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  jitter, not a secret


def tcp(target: Target) -> socket.socket:
    """A connected TCP socket. Raises UnreachableError for a name that does not resolve, Silent otherwise."""
    source = (target.bind_address, 0) if target.bind_address else None
    try:
        connection = socket.create_connection((target.hostname, target.port), target.connect_timeout, source)
    except socket.gaierror as error:
        raise UnreachableError(
            target.label, f"cannot resolve {target.hostname}: {error.strerror}", hint="check ansible_host and DNS"
        ) from error
    except TimeoutError as error:
        raise Silent(f"no answer within {target.connect_timeout:g} s") from error
    except OSError as error:
        raise Silent(error.strerror or str(error)) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    unanswered = int(target.alive_interval * target.alive_count * 1000)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unanswered)
    return connection


def proxy(target: Target) -> tuple[socket.socket, Proxy]:
    """A ProxyCommand run as OpenSSH runs it, behind a real socket."""
    ours, theirs = socket.socketpair()
    complaints = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
    shell = os.environ.get("SHELL") or "/bin/sh"
    with theirs:
        process = subprocess.Popen(
            (shell, "-c", f"exec {target.proxy_command}"),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=complaints,
            start_new_session=True,
        )
    return ours, Proxy(process, complaints)


def shake_hands(target: Target, sock: Any, guard: HostKeyGuard) -> fabric.Connection:
    """Key exchange, host key and log-in over a connected socket. Raises Dropped, Silent or UnreachableError."""

    def factory(sock: Any, **options: Any) -> paramiko.Transport:
        transport = OrderlyTransport(sock, **options)
        security = transport.get_security_options()
        available = set(security.ciphers)
        security.ciphers = tuple(cipher for cipher in CIPHERS if cipher in available)
        security.key_types = guard.algorithms(tuple(security.key_types))
        transport.daemon = True
        transports.append(transport)
        return transport

    transports: list[paramiko.Transport] = []
    connection = fabric.Connection(
        host=target.hostname,
        user=target.user,
        port=target.port,
        config=_config(),
        gateway=False,  # the way is ours: bastions are shared
        connect_timeout=BANNER_TIMEOUT + target.connect_timeout,
        connect_kwargs={
            "sock": sock,
            "transport_factory": factory,
            "auth_strategy": Login(target),
            "banner_timeout": BANNER_TIMEOUT,
            "auth_timeout": LOGIN_TIMEOUT,
        },
    )
    connection.client.set_missing_host_key_policy(guard)
    started = time.monotonic()
    try:
        connection.open()
    except BaseException as error:
        for transport in transports:
            drop(transport)
        sock.close()
        better = _classified(target, guard, error, time.monotonic() - started)
        if better is error:
            raise
        raise better from error
    if isinstance(sock, socket.socket):
        sock.settimeout(IDLE)  # paramiko's tenth of a second wakes us ten times a second for every idle host
    return connection


def drop(transport: paramiko.Transport) -> None:
    """Close at once. paramiko's own close() waits for its thread, a tenth of a second each."""
    transport.active = False  # type: ignore[attr-defined]  # a public attribute that the stubs lack
    if isinstance(transport.sock, socket.socket):
        with contextlib.suppress(OSError):
            transport.sock.shutdown(socket.SHUT_RDWR)  # wakes its reader at once
    transport.packetizer.close()


def _classified(target: Target, guard: HostKeyGuard, error: BaseException, seconds: float) -> BaseException:
    if isinstance(error, UnreachableError):
        return type(error)(error.host, error.message, hint=error.hint)
    if isinstance(error, IncompatiblePeer):
        message = f"{target.address} and we have no algorithm in common: {error}"
        return UnreachableError(target.label, message, hint="its sshd may be very old: SHA-1 is not spoken here")
    if not isinstance(error, (EOFError, OSError, paramiko.SSHException)):
        return error
    said = str(error) or type(error).__name__
    if guard.reached.is_set():
        return UnreachableError(target.label, f"the connection to {target.address} was lost while logging in: {said}")
    if seconds >= BANNER_TIMEOUT:
        return Silent(f"it took the connection but said nothing for {seconds:.0f} s")
    return Dropped(said)


def _config() -> fabric.Config:
    """Only fabric's defaults: no fabric.yaml, and no second reader of ~/.ssh/config.

    One for each connection: a Connection writes into its Config, which merges itself anew, and whoever looks into a
    shared one meanwhile finds it half empty.
    """
    return fabric.Config(ssh_config=paramiko.SSHConfig(), lazy=True)
