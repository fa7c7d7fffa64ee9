"""Connects to inventory hosts, over shared bastions where there are any."""

import contextlib
import dataclasses
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import fabric
import paramiko

from fleet.errors import UnreachableError
from fleet.inventory.model import Host
from fleet.transport import dial
from fleet.transport.hostkey import HostKeyGuard
from fleet.transport.resolve import resolve, resolve_hop
from fleet.transport.session import Session
from fleet.transport.target import Hop, Target
from fleet.transport.watch import watch

MOST_JUMPS = 8  # a chain longer than this is a loop
KEPT = 60.0  # seconds that an idle session may wait to be used again; later, a firewall may have forgotten it
OPEN_PROHIBITED = 1  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED (RFC 4254, 5.1)


@dataclass
class _Bastion:
    lock: threading.Lock = field(default_factory=threading.Lock)
    connection: fabric.Connection | None = None
    error: UnreachableError | None = None


class Connector:
    """A context manager that owns every connection made through it; bastions get one connection each.

    `known_hosts` replaces the files that OpenSSH would read. `on_event(host, message)` hears of accepted host keys and
    of options that cannot be honoured; it may be called from any thread.
    """

    def __init__(
        self,
        *,
        accept_new: bool = False,
        known_hosts: Path | None = None,
        on_event: Callable[[str, str], None] | None = None,
    ) -> None:
        self._accept_new = accept_new
        self._known_hosts = known_hosts
        self._on_event = on_event or (lambda _host, _message: None)
        self._lock = threading.Lock()
        self._closed = False
        self._sessions: set[Session] = set()
        self._idle: dict[str, tuple[Session, float]] = {}  # by host, with the time (monotonic) since when
        self._bastions: dict[tuple[Any, ...], _Bastion] = {}
        self._said: set[tuple[str, str]] = set()

    def connect(self, host: Host, *, anew: bool = False) -> Session:
        """A live session, one left by `visiting` if there is. Drops by a busy sshd are tried again unseen.

        A bastion that could not be reached is not asked again for every host behind it, but with `anew` it is.
        Raises UnreachableError.
        """
        idle = self._take(host)
        if idle is not None and not anew:
            return idle
        if idle is not None:
            idle.close()
        if anew:
            with self._lock:
                self._bastions = {key: slot for key, slot in self._bastions.items() if slot.error is None}
        target = self._trusting(resolve(host))
        self._name_unsupported(target)
        connection = self._open(target)
        via = tuple(map(str, target.jumps))
        session = Session(host, connection, user=target.user, via=via, on_close=self._forget)
        with self._lock:
            if self._closed:
                session.close()
                raise UnreachableError(host.name, "interrupted while connecting")
            self._sessions.add(session)
        watch(connection.transport, session.requests, target.alive_interval, target.alive_count, session.given_up)
        return session

    @contextlib.contextmanager
    def visiting(self, host: Host) -> Iterator[Session]:
        """A session for a few questions, with which the next `connect` to the host goes on. Raises UnreachableError."""
        session = self.connect(host)
        try:
            yield session
        except BaseException:
            session.close()
            raise
        with self._lock:
            self._idle[host.name] = (session, time.monotonic())

    def _take(self, host: Host) -> Session | None:
        """The idle session to the host, if it can still be used as this host's settings say."""
        with self._lock:
            session, since = self._idle.pop(host.name, (None, 0.0))
        if session is None:
            return None
        if not session.alive or session.host.connection != host.connection or time.monotonic() - since > KEPT:
            session.close()
            return None
        session.host = host
        return session

    def close(self) -> None:
        """End every session, then the bastions. Does not wait for anything."""
        with self._lock:
            self._closed = True
            sessions, bastions = tuple(self._sessions), tuple(self._bastions.values())
        for session in sessions:
            session.close()
        for bastion in bastions:
            if bastion.connection is not None:
                dial.drop(bastion.connection.transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _forget(self, session: Session) -> None:
        with self._lock:
            self._sessions.discard(session)

    def _trusting(self, target: Target) -> Target:
        if self._known_hosts is None:
            return target
        return dataclasses.replace(target, known_hosts=(str(self._known_hosts),), global_known_hosts=())

    def _name_unsupported(self, target: Target) -> None:
        for option in target.unsupported:
            with self._lock:
                new = (target.label, option) not in self._said
                self._said.add((target.label, option))
            if new:
                self._on_event(target.label, f"the ssh option `{option}` is not supported here and was passed over")

    def _open(self, target: Target) -> fabric.Connection:
        return dial.patiently(target, lambda: self._attempt(target))

    def _attempt(self, target: Target) -> fabric.Connection:
        if self._closed:
            raise UnreachableError(target.label, "interrupted while connecting")
        guard = HostKeyGuard(target, self._accept_new, self._on_event)
        if target.jumps:
            return dial.shake_hands(target, self._through(target), guard)
        if not target.proxy_command:
            return dial.shake_hands(target, dial.tcp(target), guard)
        sock, helper = dial.proxy(target)
        try:
            return dial.shake_hands(target, sock, guard)
        except (dial.Dropped, dial.Silent) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                helper.process.wait(1)
            if not helper.process.returncode:
                raise  # the command is well; the server behind it hung up
            words = helper.last_words()
            raise UnreachableError(
                target.label,
                f"its ProxyCommand brought no connection: {words or error}",
                hint=f"try it by hand: {target.proxy_command}",
            ) from error
        finally:
            # Our end of the socket keeps the command alive; without it the command sees EOF and ends by itself.
            threading.Thread(target=helper.process.wait, name="fleet-proxy", daemon=True).start()

    def _through(self, target: Target) -> paramiko.Channel:
        """A TCP connection made by the bastion in front of `target`."""
        hop = target.jumps[-1]
        bastion = self._bastion(target)
        try:
            channel: paramiko.Channel = bastion.transport.open_channel(
                "direct-tcpip", (target.hostname, target.port), ("127.0.0.1", 0), timeout=target.connect_timeout + 5
            )
        except paramiko.ChannelException as error:
            if error.code == OPEN_PROHIBITED:
                raise UnreachableError(
                    target.label,
                    f"bastion {hop} does not let us through to {target.address}",
                    hint="AllowTcpForwarding and PermitOpen in the bastion's sshd_config",
                ) from error
            raise dial.Silent(f"bastion {hop} cannot reach it ({error.text})") from error
        except paramiko.SSHException as error:
            if bastion.transport.is_active():
                # A refusal that another channel's opener took, or none within the time.
                no_answer = "got no answer from it" if "Timeout" in str(error) else "cannot reach it"
                raise dial.Silent(f"bastion {hop} {no_answer}") from error
            raise dial.Dropped(f"the connection to bastion {hop} was lost") from error
        return channel

    def _bastion(self, target: Target) -> fabric.Connection:
        """The one connection to the nearest jump host of `target`, made by whoever comes first."""
        jump = self._trusting(resolve_hop(target.jumps[-1], target))
        earlier = target.jumps[:-1] or jump.jumps
        jump = dataclasses.replace(
            jump,
            jumps=earlier,
            proxy_command="" if target.jumps[:-1] else jump.proxy_command,
            label=_label(target, jump),
        )
        self._check_loop(target, jump)
        self._name_unsupported(jump)
        key = (jump.user, jump.hostname, jump.port, earlier, jump.proxy_command)
        with self._lock:
            slot = self._bastions.setdefault(key, _Bastion())
        with slot.lock:
            if slot.error is None and not (slot.connection and slot.connection.transport.is_active()):
                try:
                    slot.connection = self._open(jump)
                except UnreachableError as error:
                    slot.error = error
                else:
                    watch(slot.connection.transport, threading.Lock(), jump.alive_interval, jump.alive_count)
            if slot.error is not None:
                said = slot.error.message
                message = said if said.startswith("bastion ") else f"bastion {jump.user}@{jump.address}: {said}"
                raise type(slot.error)(target.label, message, hint=slot.error.hint) from slot.error
            assert slot.connection is not None  # noqa: S101  for the type checker
            return slot.connection

    def _check_loop(self, target: Target, jump: Target) -> None:
        here: Hop = target.jumps[-1]
        if target.label.count("bastion ") >= MOST_JUMPS or here in jump.jumps:
            raise UnreachableError(target.label, f"the jump hosts go in circles at {here}", hint="see ProxyJump")


def _label(target: Target, jump: Target) -> str:
    """Nested labels count the depth of a chain, and show it in messages."""
    behind = f" for {target.label}" if target.label.startswith("bastion ") else ""
    return f"bastion {jump.user}@{jump.address}{behind}"
