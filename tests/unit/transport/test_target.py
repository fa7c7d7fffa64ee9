"""What `ssh -G` prints, and what becomes of it. No process is started."""

from pathlib import Path

import pytest

from fleet.inventory.model import Connection
from fleet.transport.target import Hop, Target, behind, config_file_of, hop_query, hops, jump_of, parse, query

PRINTED = """host gpu
user ops
hostname 10.0.0.5
port 2222
identitiesonly yes
stricthostkeychecking ask
hashknownhosts no
proxyjump none
identityfile ~/.ssh/id_rsa
identityfile ~/.ssh/id_ed25519
globalknownhostsfile /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2
userknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2
connecttimeout none
serveraliveinterval 0
serveralivecountmax 3
"""
TOKENS = {"%": "%", "h": "10.0.0.5", "n": "gpu", "p": "22", "r": "ops", "u": "me", "d": "/home/me"}


def parsed(*more: str) -> Target:
    return parse("gpu", "gpu", "\n".join(more) + "\n" + PRINTED)


def test_the_inventory_leads_and_common_args_follow() -> None:
    connection = Connection("fe80::1", 2200, "ops", "k", common_args=("-o", "User=x", "-J", "b"))
    assert query(connection) == (
        *("ssh", "-G", "-p", "2200", "-l", "ops", "-i", "k"),
        *("-o", "User=x", "-J", "b", "--", "fe80::1"),
    )
    assert query(Connection("[::1]"))[-1] == "::1"


def test_plain_values_are_read_and_silence_gets_our_defaults() -> None:
    target = parsed()
    assert (target.hostname, target.port, target.user) == ("10.0.0.5", 2222, "ops")
    assert (target.connect_timeout, target.alive_interval, target.alive_count) == (10.0, 15.0, 3)
    assert target.known_name == "[10.0.0.5]:2222"
    assert target.known_hosts == tuple(str(Path.home() / ".ssh" / name) for name in ("known_hosts", "known_hosts2"))
    assert target.identities_only
    assert target.unsupported == ()


def test_default_identities_come_after_those_that_were_asked_for() -> None:
    target = parsed("identityfile %d/keys/%r-%h")
    assert target.identities == (f"{Path.home()}/keys/ops-10.0.0.5",)
    assert target.fallback_identities == tuple(str(Path.home() / ".ssh" / name) for name in ("id_rsa", "id_ed25519"))


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("connecttimeout 3", "connect_timeout", 3.0),
        ("serveraliveinterval 5", "alive_interval", 5.0),
        ("stricthostkeychecking false", "strict", "no"),
        ("stricthostkeychecking accept-new", "strict", "accept-new"),
        ("hostkeyalias one", "known_name", "one"),
        ("identityagent none", "agent", ""),
        ("identityagent /run/agent", "agent", "/run/agent"),
        ("passwordauthentication no", "password_allowed", False),
        ("proxycommand nc %h %p", "proxy_command", "nc 10.0.0.5 2222"),
        ("userknownhostsfile /dev/null", "known_hosts", ("/dev/null",)),
        ("bindaddress 10.0.0.1", "bind_address", "10.0.0.1"),
        ("verifyhostkeydns true", "unsupported", ("verifyhostkeydns true",)),
    ],
)
def test_options_are_honoured_or_named(line: str, field: str, value: object) -> None:
    assert getattr(parsed(line), field) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("bastion", (Hop("bastion"),)),
        ("ops@b:2222,c", (Hop("ops@b", 2222), Hop("c"))),
        ("ops@[fe80::1]:22, ssh://d:1", (Hop("ops@fe80::1", 22), Hop("d", 1))),
        ("::1", (Hop("::1"),)),
    ],
)
def test_jumps_are_read_in_all_their_forms(text: str, expected: tuple[Hop, ...]) -> None:
    assert hops(text) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("ssh -W %h:%p -q ops@b", Hop("ops@b")),
        ("/usr/bin/ssh -q -p 2222 -i ~/.ssh/k ops@b -W %h:%p", Hop("ops@b", None, ("-p", "2222", "-i", "~/.ssh/k"))),
        ("ssh -oUserKnownHostsFile=/k -W [%h]:%p b", Hop("b", None, ("-o", "UserKnownHostsFile=/k"))),
        ("ssh -W 10.0.0.5:22 b", Hop("b")),
        ("ssh -W elsewhere:22 b", None),
        ("ssh b nc %h %p", None),
        ("ssh -W %h:%p -D 1080 b", None),
        ("nc -X connect -x proxy:3128 %h %p", None),
        ("ssh -W %h:%p 'b;rm -rf /'", None),
        ("ssh -W %h:%p 'unbalanced", None),
    ],
)
def test_ansibles_habit_of_a_jump_is_recognised_and_nothing_else(command: str, expected: Hop | None) -> None:
    assert jump_of(command, TOKENS) == expected


def test_a_jump_host_inherits_the_configuration_file_only() -> None:
    assert config_file_of(("-o", "X=1", "-F", "/c")) == config_file_of(("-F/c",)) == "/c"
    hop = Hop("ops@fe80::1", 2222)
    assert hop_query(hop, "/c") == ("ssh", "-G", "-p", "2222", "-l", "ops", "-F", "/c", "--", "fe80::1")


def test_a_bastion_looks_into_the_hosts_files_after_its_own() -> None:
    host = Target("gpu", "h", 22, "ops", identities=("/key",), known_hosts=("/lab",))
    bastion = Target("bastion b", "b", 22, "ops", fallback_identities=("/default",), known_hosts=("/mine",))
    assert behind(bastion, host).fallback_identities == ("/default", "/key")
    assert behind(bastion, host).known_hosts == ("/mine", "/lab")
