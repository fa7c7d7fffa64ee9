"""Against OpenSSH's own sshd on loopback: jumps by name, MaxStartups, forwards, a stopped server."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
import pytest
from paramiko.common import cMSG_CHANNEL_DATA, cMSG_CHANNEL_EOF

from fleet.errors import HostError
from fleet.inventory.model import Connection, Host
from fleet.inventory.settings import Settings
from fleet.transport import Connector, fan_out
from tests.ssh.conftest import Keys

pytestmark = pytest.mark.lab  # needs root and openssh-server


@dataclass
class OpenSsh:
    """A real sshd. Its log (LogLevel VERBOSE) counts connections."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def connections(self) -> int:
        return (self.folder / "log").read_text().count("Connection from ")

    def refusals(self) -> int:
        return (self.folder / "log").read_text().count("past MaxStartups")


@contextlib.contextmanager
def openssh(folder: Path, keys: Keys, *options: str) -> Iterator[OpenSsh]:
    folder.mkdir()
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation directory
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host"), check=True)
    lines = (
        f"ListenAddress 127.0.0.1:{port}",
        f"HostKey {folder}/host",
        f"AuthorizedKeysFile {keys.user}.pub",
        "StrictModes no",
        "UsePAM no",
        "PidFile none",
        "PermitRootLogin prohibit-password",
        "LogLevel VERBOSE",
        *options,
    )
    (folder / "config").write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(
        ("/usr/sbin/sshd", "-D", "-f", folder / "config", "-E", folder / "log"),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
    )
    try:
        log = folder / "log"
        while not (log.exists() and "Server listening" in log.read_text()):
            assert process.poll() is None
            time.sleep(0.02)
        yield OpenSsh(folder, port, process)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def config(tmp_path: Path, keys: Keys) -> Path:
    """An ssh_config of the test's own, so that root's is left alone."""
    path = tmp_path / "ssh_config"
    path.write_text(f"Host *\n  User root\n  IdentityFile {keys.user}\n  UserKnownHostsFile {tmp_path}/known\n")
    return path


def host(name: str, config: Path, **changes: object) -> Host:
    values = {"address": name, "common_args": ("-F", str(config))} | changes
    return Host(name, ("all",), Connection(**values), Settings())  # type: ignore[arg-type]


def test_names_ports_and_jumps_come_from_ssh_config_with_its_includes(tmp_path: Path, keys: Keys, config: Path) -> None:
    with openssh(tmp_path / "b", keys) as bastion, openssh(tmp_path / "n", keys) as node:
        (tmp_path / "more").write_text(
            f"Host inner-*\n  HostName 127.0.0.1\n  Port {node.port}\n  ProxyJump gate\n"
            f"Host gate\n  HostName 127.0.0.1\n  Port {bastion.port}\n"
        )
        config.write_text(f"Include {tmp_path}/more\n" + config.read_text())
        hosts = [host(f"inner-{number}", config) for number in range(4)]
        with Connector(accept_new=True) as connector:
            results = fan_out(hosts, lambda one: connector.connect(one).run(("true",)).ok, forks=4)
        assert set(results.values()) == {True}
        assert (bastion.connections(), node.connections()) == (1, 4)
        assert len((tmp_path / "known").read_text().splitlines()) == 2


def test_a_chain_of_jumps_is_followed_with_one_connection_each(tmp_path: Path, keys: Keys, config: Path) -> None:
    with (
        openssh(tmp_path / "a", keys) as first,
        openssh(tmp_path / "b", keys) as second,
        openssh(tmp_path / "n", keys) as node,
    ):
        chain = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
        hosts = [
            host(f"n{n}", config, address="127.0.0.1", port=node.port, common_args=("-F", str(config), "-J", chain))
            for n in range(3)
        ]
        with Connector(accept_new=True) as connector:
            results = fan_out(hosts, lambda one: connector.connect(one).run(("true",)).ok, forks=3)
        assert set(results.values()) == {True}
        assert (first.connections(), second.connections(), node.connections()) == (1, 1, 3)


def test_refusals_by_max_startups_are_retried_and_never_reported(tmp_path: Path, keys: Keys, config: Path) -> None:
    events: list[str] = []
    with openssh(tmp_path / "n", keys, "MaxStartups 2:100:5") as node:
        hosts = [host(f"n{n}", config, address="127.0.0.1", port=node.port) for n in range(20)]
        with Connector(accept_new=True, on_event=lambda _host, message: events.append(message)) as connector:
            results = fan_out(hosts, lambda one: connector.connect(one).run(("true",)).ok, forks=20)
        assert set(results.values()) == {True}
        assert [event for event in events if "accepted" not in event] == []
        assert node.refusals() > 0


def test_ports_are_forwarded_both_ways(tmp_path: Path, keys: Keys, config: Path) -> None:
    with openssh(tmp_path / "n", keys) as node, Connector(accept_new=True) as connector:
        session = connector.connect(host("n", config, address="127.0.0.1", port=node.port))
        with session.forward_local(node.port) as (address, port), socket.create_connection((address, port)) as wire:
            assert wire.recv(8) == b"SSH-2.0-"
        with (
            session.forward_remote(0, "127.0.0.1", node.port) as one,
            session.forward_remote(0, "127.0.0.1", 1) as nowhere,
        ):
            with socket.create_connection(("127.0.0.1", one)) as wire:
                assert wire.recv(8) == b"SSH-2.0-"
            with socket.create_connection(("127.0.0.1", nowhere)) as wire:
                assert wire.recv(8) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", one))
        with pytest.raises(HostError, match="cannot connect to 127.0.0.1:1"):  # noqa: RUF043  dots that match dots
            session.connect_tcp("127.0.0.1", 1)


def test_a_server_that_stops_answering_is_noticed(tmp_path: Path, keys: Keys, config: Path) -> None:
    alive = ("-F", str(config), "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1")
    with openssh(tmp_path / "n", keys) as node, Connector(accept_new=True) as connector:
        session = connector.connect(host("n", config, address="127.0.0.1", port=node.port, common_args=alive))
        # The parent is the sshd of this connection, or a login shell that stayed in between.
        parent, grandparent = session.run(("sh", "-c", "echo $PPID; ps -o ppid= -p $PPID")).stdout.split()
        server = int(parent) if _is_sshd(int(parent)) else int(grandparent)
        os.kill(server, signal.SIGSTOP)
        try:
            with pytest.raises(HostError, match="lost during `sleep 60`: no answer for 1 s"):
                session.run(("sleep", "60"))
        finally:
            os.kill(server, signal.SIGCONT)


@pytest.mark.parametrize("kind", ["end of file", "data"])
def test_what_a_thread_says_too_late_on_a_closed_channel_does_not_end_the_connection(
    tmp_path: Path, keys: Keys, config: Path, kind: str
) -> None:
    with openssh(tmp_path / "n", keys) as node, Connector(accept_new=True) as connector:
        session = connector.connect(host("n", config, address="127.0.0.1", port=node.port))
        late = paramiko.Message()
        with session.open_process(("true",)) as channel:
            assert channel.exit_code(30) == 0
            while not channel.closed:
                time.sleep(0.01)
            number = channel.raw.remote_chanid
        late.add_byte(cMSG_CHANNEL_EOF if kind == "end of file" else cMSG_CHANNEL_DATA)
        late.add_int(number)
        if kind == "data":
            late.add_string(b"x")
        # What paramiko does when a thread was suspended between building a message and sending it.
        way_out: Any = channel.raw.transport
        way_out._send_user_message(late)
        assert session.run(("echo", "still here")).stdout == "still here\n"


def _is_sshd(pid: int) -> bool:
    return "sshd" in Path(f"/proc/{pid}/comm").read_text()


def test_an_ipv6_address_works(tmp_path: Path, keys: Keys, config: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
        port = probe.getsockname()[1]
    with openssh(tmp_path / "n6", keys, f"ListenAddress [::1]:{port}"), Connector(accept_new=True) as connector:
        assert connector.connect(host("n", config, address="::1", port=port)).run(("true",)).ok
