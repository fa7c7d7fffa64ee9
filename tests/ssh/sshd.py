"""An SSH server inside the test process. It runs real local commands and misbehaves on request."""

import base64
import contextlib
import io
import os
import shlex
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from paramiko import common
from paramiko.server import InteractiveQuery

from fleet.inventory.model import Become, Connection, Host
from fleet.inventory.settings import Settings
from fleet.secret import Secret
from fleet.transport.loginshell import BEGIN, DECODE

USER = "ops"
SH = "/bin/sh"


@dataclass
class Behaviour:
    """What the server does; may be changed while it runs."""

    host_keys: list[paramiko.PKey]
    user_keys: list[bytes] = field(default_factory=list)
    password: str = ""
    interactive_only: bool = False  # the password by keyboard-interactive
    drop_first: int = 0  # so many connections are closed before the banner, as MaxStartups does
    max_sessions: int = 10
    forwarding: bool = True
    path: str = ""  # a directory in front of PATH: fake sudo, fake docker
    shell: str = SH  # the login's
    home: str = ""  # where its start files are; "" = none are read


@dataclass
class Sshd:
    """`accepted` counts TCP connections, `logins` successful authentications, `most_sessions` channels at once."""

    behaviour: Behaviour
    listener: socket.socket
    accepted: int = 0
    logins: int = 0
    sessions: int = 0
    most_sessions: int = 0
    commands: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    transports: list[paramiko.Transport] = field(default_factory=list)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.accepted += 1
                dropped = self.behaviour.drop_first > 0
                self.behaviour.drop_first -= dropped
            if dropped:
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._greet, args=(client,), daemon=True).start()

    def _greet(self, client: socket.socket) -> None:
        transport = paramiko.Transport(client)
        for key in self.behaviour.host_keys:
            transport.add_server_key(key)
        self.transports.append(transport)
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            transport.start_server(server=_Server(self))

    def cut(self) -> None:
        """The link dies: every connection is closed without a word."""
        for transport in self.transports:
            transport.sock.close()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for transport in self.transports:
            transport.active = False  # type: ignore[attr-defined]
            transport.packetizer.close()
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()

    def host(self, name: str = "node", **changes: Any) -> Host:
        """An inventory host that leads here; `become_password` and Connection's fields can be set."""
        become = Become()
        if "become_password" in changes:
            text = changes.pop("become_password")
            become = Become(True, "root", Secret("ansible_become_password", literal=text) if text else None)
        if isinstance(changes.get("password"), str):
            changes["password"] = Secret("ansible_password", literal=changes["password"])
        values: dict[str, Any] = {
            "address": "127.0.0.1",
            "port": self.port,
            "user": USER,
            "become": become,
            "common_args": ("-F", "none"),
        } | changes
        return Host(name, ("all",), Connection(**values), Settings())


class _Server(paramiko.ServerInterface):
    def __init__(self, sshd: Sshd) -> None:
        self.sshd = sshd
        self.behaviour = sshd.behaviour
        self.far: dict[int, socket.socket] = {}
        self.opened: list[paramiko.Channel] = []  # paramiko forgets a channel that nobody else refers to
        self.accepting = threading.Lock()  # paramiko's accept() is not made for two at once

    def _bridge(self, transport: paramiko.Transport) -> None:
        while True:
            with self.accepting:
                channel = transport.accept(5)
            if channel is None:
                return
            self.opened.append(channel)
            if far := self.far.pop(channel.get_id(), None):  # else a session, served where it asks for a command
                break
        _join(channel, far)

    def get_allowed_auths(self, username: str) -> str:
        if not self.behaviour.password:
            return "publickey"
        return "publickey,keyboard-interactive" if self.behaviour.interactive_only else "publickey,password"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return self._welcome(username == USER and key.asbytes() in self.behaviour.user_keys)

    def check_auth_password(self, username: str, password: str) -> int:
        right = bool(self.behaviour.password) and password == self.behaviour.password
        return self._welcome(right and not self.behaviour.interactive_only)

    def check_auth_interactive(self, username: str, submethods: str) -> Any:
        return InteractiveQuery("", "", ("Password: ", False))

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        return self._welcome(responses == [self.behaviour.password])

    def _welcome(self, right: bool) -> int:
        self.sshd.logins += right
        return common.AUTH_SUCCESSFUL if right else common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        with self.sshd.lock:
            if kind != "session" or self.sshd.sessions >= self.behaviour.max_sessions:
                return common.OPEN_FAILED_CONNECT_FAILED
            self.sshd.sessions += 1
            self.sshd.most_sessions = max(self.sshd.most_sessions, self.sshd.sessions)
        return common.OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        if not self.behaviour.forwarding:
            return common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        try:
            far = socket.create_connection(destination, timeout=5)
        except OSError:
            return common.OPEN_FAILED_CONNECT_FAILED
        far.settimeout(None)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = self.sshd.transports[-1]
        for candidate in self.sshd.transports:
            if candidate.server_object is self:
                transport = candidate
        self.far[chanid] = far
        threading.Thread(target=self._bridge, args=(transport,), daemon=True).start()
        return common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.sshd.commands.append(asked_for(command.decode()))
        # paramiko answers the request after this returns; a command that ends sooner would close the channel first.
        threading.Timer(0.01, self._execute, (channel, command.decode())).start()
        return True

    def _execute(self, channel: paramiko.Channel, command: str) -> None:
        shell = self.behaviour.shell
        environment = {**os.environ, "SHELL": shell, "PATH": f"{self.behaviour.path}:{os.environ['PATH']}"}
        if self.behaviour.home:  # bash takes the word of these two that sshd has started it
            environment |= {"HOME": self.behaviour.home, "SSH_CLIENT": "127.0.0.1 9 22", "SHLVL": "0"}
        child = subprocess.Popen(
            (shell, "-c", f"exec {command}" if shell == SH else command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            bufsize=0,
        )
        self.sshd.children.append(child)
        assert child.stdin
        assert child.stdout
        assert child.stderr
        readers = [
            threading.Thread(target=_pump, args=(child.stdout, channel.sendall), daemon=True),
            threading.Thread(target=_pump, args=(child.stderr, channel.sendall_stderr), daemon=True),
        ]
        threading.Thread(target=_feed, args=(channel, child.stdin), daemon=True).start()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        code = child.wait()
        with self.sshd.lock:
            self.sshd.sessions -= 1
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            if code >= 0:
                channel.send_exit_status(code)
            elif code == -signal.SIGKILL:
                channel.shutdown_write()  # exit-signal: paramiko's server has no such message, silence is close to it
            channel.close()


def asked_for(line: str) -> str:
    """A command without the words by which it tells where it begins (fleet.transport.loginshell)."""
    match shlex.split(line):
        case ["sh", "-c", program, "sh", *letters] if program == DECODE:
            return asked_for(base64.b64decode("".join(letters)).decode().removeprefix("exec "))
        case ["sh", "-c", program, _mark, *words] if program == BEGIN:
            return shlex.join(words)
    return line


def _pump(source: Any, send: Any) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := source.read(1 << 15):
            send(data)


def _feed(channel: paramiko.Channel, stdin: Any) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := channel.recv(1 << 15):
            view = memoryview(data)
            while view:
                view = view[stdin.write(view) :]
    with contextlib.suppress(OSError):
        stdin.close()


def _join(channel: paramiko.Channel, far: socket.socket) -> None:
    def back() -> None:
        with contextlib.suppress(OSError, EOFError):
            while data := far.recv(1 << 15):
                channel.sendall(data)
        with contextlib.suppress(OSError, EOFError):
            channel.close()

    threading.Thread(target=back, daemon=True).start()
    with contextlib.suppress(OSError, EOFError):
        while data := channel.recv(1 << 15):
            far.sendall(data)
    with contextlib.suppress(OSError):
        far.shutdown(socket.SHUT_RDWR)
    far.close()


@contextlib.contextmanager
def running(behaviour: Behaviour) -> Iterator[Sshd]:
    sshd = Sshd(behaviour, socket.create_server(("127.0.0.1", 0), backlog=128))
    threading.Thread(target=sshd.serve, daemon=True).start()
    try:
        yield sshd
    finally:
        sshd.stop()


def new_key(folder: Path, name: str, kind: str = "ed25519", passphrase: str = "") -> tuple[Path, paramiko.PKey]:
    """A key pair on disk, and its private half."""
    path = folder / name
    bits = ("-b", "2048") if kind == "rsa" else ()
    subprocess.run(("ssh-keygen", "-q", "-t", kind, *bits, "-N", passphrase, "-f", path), check=True)
    key: paramiko.PKey = paramiko.PKey.from_path(path, passphrase.encode() if passphrase else None)  # type: ignore[arg-type]
    return path, key


def known_line(port: int, key: paramiko.PKey) -> str:
    return f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n"


def blob(text: str) -> io.BytesIO:
    return io.BytesIO(text.encode())
