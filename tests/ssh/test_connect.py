"""Connecting: host keys, credentials, retries, bastions. Against the server in this process."""

import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fabric
import paramiko
import pytest

from fleet.errors import HostError, UnreachableError
from fleet.inventory.model import Become
from fleet.transport import Connector, dial, fan_out
from fleet.transport.known_hosts import fingerprint
from tests.ssh.conftest import Keys
from tests.ssh.sshd import Behaviour, Sshd, known_line, new_key, running


def test_an_unknown_host_key_is_refused_with_its_fingerprint(sshd: Sshd, keys: Keys, tmp_path: Path) -> None:
    with Connector(known_hosts=tmp_path / "none") as connector, pytest.raises(UnreachableError) as caught:
        connector.connect(sshd.host(key_file=str(keys.user)))
    assert fingerprint(keys.host_key.asbytes()) in caught.value.message
    assert "--accept-new" in caught.value.hint
    assert "ssh-keyscan -p" in caught.value.hint
    assert sshd.logins == 0


def test_accept_new_writes_the_key_says_so_once_and_knows_it_afterwards(
    sshd: Sshd, keys: Keys, tmp_path: Path, events: list[tuple[str, str]]
) -> None:
    file = tmp_path / "deep" / "known_hosts"
    host = sshd.host(key_file=str(keys.user))
    for accept in (True, False):
        with Connector(
            accept_new=accept, known_hosts=file, on_event=lambda name, message: events.append((name, message))
        ) as connector:
            assert connector.connect(host).run(("echo", "x")).stdout == "x\n"
    assert file.read_text() == known_line(sshd.port, keys.host_key)
    assert [name for name, _ in events] == ["node"]
    assert fingerprint(keys.host_key.asbytes()) in events[0][1]


def test_many_hosts_accepted_at_once_are_written_once_each(sshd: Sshd, keys: Keys, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    hosts = [sshd.host(f"n{number}", key_file=str(keys.user)) for number in range(6)]
    with Connector(accept_new=True, known_hosts=file) as connector:
        results = fan_out(hosts, lambda host: connector.connect(host).run(("true",)).ok, forks=6)
    assert set(results.values()) == {True}
    assert file.read_text().count("\n") == 1


def test_connections_that_are_made_at_once_share_nothing_that_one_of_them_writes(
    sshd: Sshd, keys: Keys, known_hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[fabric.Config] = []

    class Noted(fabric.Config):  # type: ignore[misc]  # fabric has no types
        def __init__(self, **options: Any) -> None:
            made.append(self)
            super().__init__(**options)

    monkeypatch.setattr(fabric, "Config", Noted)
    hosts = [sshd.host(f"n{number}", key_file=str(keys.user)) for number in range(4)]
    with Connector(known_hosts=known_hosts) as connector:
        assert set(fan_out(hosts, lambda host: connector.connect(host).alive, forks=4).values()) == {True}
    assert len(made) == 4


@pytest.mark.parametrize("accept_new", [False, True])
def test_a_changed_host_key_is_refused_with_both_fingerprints_and_the_line(
    accept_new: bool, sshd: Sshd, keys: Keys, tmp_path: Path, known_hosts: Path
) -> None:
    _, other = new_key(tmp_path, "other")
    sshd.behaviour.host_keys = [other]
    with (
        Connector(accept_new=accept_new, known_hosts=known_hosts) as connector,
        pytest.raises(UnreachableError) as caught,
    ):
        connector.connect(sshd.host(key_file=str(keys.user)))
    for part in ("changed", fingerprint(other.asbytes()), fingerprint(keys.host_key.asbytes()), f"{known_hosts}:1"):
        assert part in caught.value.message


def test_a_known_key_of_a_less_liked_type_is_the_one_that_is_asked_for(
    sshd: Sshd, keys: Keys, tmp_path: Path, known_hosts: Path
) -> None:
    _, rsa = new_key(tmp_path, "rsa", "rsa")
    sshd.behaviour.host_keys = [keys.host_key, rsa]
    known_hosts.write_text(known_line(sshd.port, rsa))
    with Connector(known_hosts=known_hosts) as connector:
        assert connector.connect(sshd.host(key_file=str(keys.user))).alive


def test_a_revoked_key_is_refused(sshd: Sshd, keys: Keys, known_hosts: Path) -> None:
    known_hosts.write_text(known_hosts.read_text() + "@revoked * " + known_hosts.read_text().split(" ", 1)[1])
    with Connector(known_hosts=known_hosts) as connector, pytest.raises(UnreachableError, match="revoked"):
        connector.connect(sshd.host(key_file=str(keys.user)))


@pytest.mark.parametrize("interactive", [False, True])
def test_a_password_logs_in_by_either_method(interactive: bool, sshd: Sshd, connector: Connector) -> None:
    sshd.behaviour.password = "pa ss"
    sshd.behaviour.interactive_only = interactive
    assert connector.connect(sshd.host(password="pa ss")).run(("true",)).ok


def test_a_wrong_password_says_what_the_server_allows_and_never_itself(sshd: Sshd, connector: Connector) -> None:
    sshd.behaviour.password = "right"
    with pytest.raises(UnreachableError, match="allows publickey, password") as caught:
        connector.connect(sshd.host(password="wr0ng"))
    assert "wr0ng" not in str(caught.value)
    assert "ansible_password" in caught.value.hint


def test_a_wrong_key_is_named(sshd: Sshd, connector: Connector, tmp_path: Path) -> None:
    path, _ = new_key(tmp_path, "stranger")
    with pytest.raises(UnreachableError, match=f"tried .*{path}"):
        connector.connect(sshd.host(key_file=str(path), common_args=("-F", "none", "-o", "IdentitiesOnly=yes")))


def test_an_encrypted_key_without_an_agent_gets_a_hint(sshd: Sshd, connector: Connector, tmp_path: Path) -> None:
    path, key = new_key(tmp_path, "locked", passphrase="secret")
    sshd.behaviour.user_keys.append(key.asbytes())
    with pytest.raises(UnreachableError) as caught:
        connector.connect(sshd.host(key_file=str(path)))
    assert caught.value.hint == f"{path} wants a passphrase: ssh-add {path}"


def test_an_agent_opens_an_encrypted_key(
    sshd: Sshd, connector: Connector, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket_path = tmp_path / "agent"
    agent = subprocess.Popen(("ssh-agent", "-D", "-a", socket_path), stdout=subprocess.DEVNULL)
    try:
        while not socket_path.exists():
            assert agent.poll() is None
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_path))
        subprocess.run(("ssh-add", "-q", keys.user), check=True)
        locked = tmp_path / "locked"
        locked.write_bytes(keys.user.read_bytes())
        locked.chmod(0o600)
        subprocess.run(("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", locked), check=True)
        host = sshd.host(key_file=str(locked), common_args=("-F", "none", "-o", "IdentitiesOnly=yes"))
        assert connector.connect(host).run(("true",)).ok
    finally:
        agent.terminate()
        agent.wait()


def test_drops_before_the_banner_are_tried_again_unseen(
    sshd: Sshd, connector: Connector, keys: Keys, events: list[tuple[str, str]]
) -> None:
    sshd.behaviour.drop_first = 3
    assert connector.connect(sshd.host(key_file=str(keys.user))).alive
    assert events == []
    assert sshd.accepted == 4


def test_a_server_that_always_hangs_up_is_given_up(
    sshd: Sshd, connector: Connector, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "DROPS", 2)
    sshd.behaviour.drop_first = 99
    with pytest.raises(UnreachableError, match="hangs up before the key exchange") as caught:
        connector.connect(sshd.host(key_file=str(keys.user)))
    assert "MaxStartups" in caught.value.hint


def test_a_closed_port_is_said(connector: Connector, sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UnreachableError, match=rf"cannot connect to \[127.0.0.1\]:{port}: Connection refused"):
        connector.connect(sshd.host(port=port))


def test_a_name_without_address_is_said(connector: Connector, sshd: Sshd) -> None:
    with pytest.raises(UnreachableError, match=r"cannot resolve no-such-host\.invalid"):
        connector.connect(sshd.host(address="no-such-host.invalid"))


def test_bad_ssh_options_are_said_in_sshs_words(connector: Connector, sshd: Sshd) -> None:
    with pytest.raises(UnreachableError, match="Bad configuration option: frobnicate"):
        connector.connect(sshd.host(common_args=("-o", "Frobnicate=1")))


def test_options_that_cannot_be_honoured_are_named(
    connector: Connector, sshd: Sshd, keys: Keys, events: list[tuple[str, str]]
) -> None:
    args = ("-F", "none", "-o", "VerifyHostKeyDNS=yes")
    connector.connect(sshd.host(key_file=str(keys.user), common_args=args))
    assert [message for _, message in events if "verifyhostkeydns" in message]


def test_a_proxy_command_is_run(connector: Connector, sshd: Sshd, keys: Keys) -> None:
    script = sshd.behaviour.path + "/relay.py"
    Path(script).write_text(
        "import os, socket, sys, threading\n"
        "far = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while data := os.read(0, 65536): far.sendall(data)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := far.recv(65536): os.write(1, data)\n"
    )
    command = f"ProxyCommand=python3 {script} %h %p"
    host = sshd.host(key_file=str(keys.user), common_args=("-F", "none", "-o", command))
    assert connector.connect(host).run(("echo", "hi")).stdout == "hi\n"


def test_a_failing_proxy_command_shows_its_words(connector: Connector, sshd: Sshd) -> None:
    args = ("-F", "none", "-o", "ProxyCommand=sh -c 'echo no way >&2; exit 1'")
    with pytest.raises(UnreachableError, match="no way"):
        connector.connect(sshd.host(common_args=args))


class Site:
    """A bastion and hosts behind it."""

    def __init__(self, bastion: Sshd, node: Sshd, keys: Keys, form: str) -> None:
        self.bastion, self.node, self.keys = bastion, node, keys
        if form == "jump":
            self.args: tuple[str, ...] = ("-F", "none", "-o", f"ProxyJump=ops@127.0.0.1:{bastion.port}")
        else:
            way = f"ssh -W %h:%p -q -p {bastion.port} -i {keys.user} ops@127.0.0.1"
            self.args = ("-F", "none", "-o", f"ProxyCommand={way}")

    def hosts(self, count: int) -> list[Any]:
        return [
            self.node.host(f"n{number}", key_file=str(self.keys.user), common_args=self.args) for number in range(count)
        ]


@pytest.fixture(params=["jump", "command"])
def site(request: pytest.FixtureRequest, sshd: Sshd, keys: Keys, known_hosts: Path) -> Any:
    with running(Behaviour([keys.host_key], [keys.user_key.asbytes()])) as bastion:
        known_hosts.write_text(known_hosts.read_text() + known_line(bastion.port, keys.host_key))
        yield Site(bastion, sshd, keys, request.param)


def test_hosts_behind_a_bastion_share_one_connection(site: Site, connector: Connector) -> None:
    results = fan_out(site.hosts(6), lambda host: connector.connect(host).run(("echo", host.name)).stdout, forks=6)
    assert results == {f"n{number}": f"n{number}\n" for number in range(6)}
    assert site.bastion.accepted == 1
    assert site.node.accepted == 6


def test_drops_behind_a_bastion_are_tried_again_too(site: Site, connector: Connector) -> None:
    site.node.behaviour.drop_first = 2
    assert connector.connect(site.hosts(1)[0]).alive
    assert site.bastion.accepted == 1


def test_a_drop_that_is_over_before_the_opener_wakes_is_a_drop_too(
    site: Site, connector: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Drowsy(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            happened = super().wait(timeout)
            time.sleep(0.3)  # a busy controller; the server has opened the channel and closed it meanwhile
            return happened

    assert connector.connect(site.hosts(1)[0]).alive
    site.node.behaviour.drop_first = 3  # more often than an address that does not answer is asked
    with monkeypatch.context() as patch:
        patch.setattr(paramiko.transport, "threading", SimpleNamespace(**vars(threading) | {"Event": Drowsy}))
        assert connector.connect(site.hosts(1)[0]).alive
    assert site.node.behaviour.drop_first == 0


def test_a_failing_bastion_fails_each_host_in_the_same_words(site: Site, connector: Connector) -> None:
    site.bastion.behaviour.user_keys.clear()
    results = fan_out(site.hosts(4), connector.connect, forks=4)
    messages = {result.message for result in results.values() if isinstance(result, HostError)}
    assert len(messages) == 1
    assert next(iter(messages)).startswith(f"bastion ops@[127.0.0.1]:{site.bastion.port}: cannot log in")
    assert site.bastion.accepted == 1


def test_a_bastion_that_forbids_forwarding_is_said(site: Site, connector: Connector) -> None:
    site.bastion.behaviour.forwarding = False
    with pytest.raises(UnreachableError, match="does not let us through") as caught:
        connector.connect(site.hosts(1)[0])
    assert "AllowTcpForwarding" in caught.value.hint


def test_a_bastion_with_an_unknown_key_is_refused(site: Site, connector: Connector, known_hosts: Path) -> None:
    known_hosts.write_text(known_hosts.read_text().splitlines(keepends=True)[0])
    with pytest.raises(UnreachableError, match=f"bastion .*host key of .*{site.bastion.port} is not known"):
        connector.connect(site.hosts(1)[0])


def test_a_visit_leaves_its_connection_to_the_next_who_wants_the_host(
    sshd: Sshd, keys: Keys, connector: Connector
) -> None:
    host = sshd.host(key_file=str(keys.user))
    with connector.visiting(host) as first:
        assert first.run(("true",)).exit_code == 0
    later = replace(host, variables={"of": "another day"})
    second = connector.connect(later)
    assert second is first
    assert second.host is later
    assert connector.connect(host) is not first  # it is in use now
    assert sshd.accepted == 2


def test_a_visits_connection_that_was_lost_or_belongs_to_another_login_is_not_used(
    sshd: Sshd, keys: Keys, connector: Connector
) -> None:
    host = sshd.host(key_file=str(keys.user))
    with connector.visiting(host) as lost:
        pass
    lost.close()
    with connector.visiting(host) as other:
        assert other is not lost
    assert connector.connect(host, anew=True) is not other
    with connector.visiting(host) as plain:
        pass
    become = replace(host, connection=replace(host.connection, become=Become(True)))
    assert connector.connect(become) is not plain
    assert not plain.alive


def test_closing_the_connector_ends_commands_at_once(sshd: Sshd, keys: Keys, known_hosts: Path) -> None:
    ended: list[HostError] = []
    with Connector(known_hosts=known_hosts) as connector:
        session = connector.connect(sshd.host(key_file=str(keys.user)))

        def work() -> None:
            try:
                session.run(("sleep", "300"))
            except HostError as error:
                ended.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while not sshd.commands:
            thread.join(0.01)
    thread.join(60)
    assert not thread.is_alive()
    assert "lost during `sleep 300`: we closed it" in ended[0].message
