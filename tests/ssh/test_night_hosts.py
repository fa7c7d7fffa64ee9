"""The hosts of a night, over OpenSSH's own sshd: held once, kept through a lost connection, given back at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.errors import FleetError, HostError
from fleet.inventory.model import Connection, Host
from fleet.inventory.settings import Settings
from fleet.locks import Owner
from fleet.rollout.claims import Claims
from fleet.transport import Connector
from fleet.verbs.night_hosts import Held
from tests.ssh.conftest import Keys
from tests.ssh.test_locks import free, within
from tests.ssh.test_openssh import OpenSsh, openssh

pytestmark = pytest.mark.lab  # needs root and openssh-server


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "lock"
    path.mkdir()
    return path


@pytest.fixture
def node(tmp_path: Path, keys: Keys) -> Iterator[OpenSsh]:
    with openssh(tmp_path / "node", keys) as running:
        yield running


@contextmanager
def controller(name: str, node: OpenSsh, keys: Keys, place: Path) -> Iterator[tuple[Held, Connector]]:
    options = ("-F", "none")

    def host(called: str, port: int) -> Host:
        key = str(keys.user)
        return Host(
            called,
            ("all",),
            Connection(address="127.0.0.1", port=port, user="root", key_file=key, common_args=options),
            Settings(),
        )

    with (
        Connector(known_hosts=place.with_name(f"known-{name}"), accept_new=True) as connector,
        Claims(Owner(name, "night n", f"{name}s-desk", 1_795_400_000), place=str(place)) as claims,
    ):
        yield Held((host("up", node.port), host("down", 1)), connector, claims, 4), connector


def test_a_second_controllers_night_is_refused_by_name_until_the_first_has_ended(
    node: OpenSsh, keys: Keys, place: Path
) -> None:
    with controller("bob", node, keys, place) as (second, _):
        with controller("ann", node, keys, place) as (first, _):
            first.take(first.hosts)
            assert not free(place)
            with pytest.raises(FleetError, match="another night has up: ann on anns-desk, run night n"):
                second.take(second.hosts)
        second.take(second.hosts)
    assert within(10, lambda: free(place))


def test_a_connection_that_was_lost_is_made_anew_unless_another_night_was_there_first(
    node: OpenSsh, keys: Keys, place: Path
) -> None:
    with controller("ann", node, keys, place) as (first, connector):
        first.take(first.hosts)
        first.check()

        def lose() -> None:
            for session in tuple(connector._sessions):
                session.close()
            assert within(10, lambda: free(place) and gone())

        def gone() -> bool:
            try:
                first.claims.check("up")
            except HostError:
                return True
            return False

        lose()
        first.check()
        assert not free(place)
        lose()
        with controller("bob", node, keys, place) as (second, _):
            second.take(second.hosts)
            with pytest.raises(FleetError, match="another night has up: bob"):
                first.check()
