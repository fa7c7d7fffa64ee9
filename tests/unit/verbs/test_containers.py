"""Which containers `logs` and `shell` mean, and what is refused before any host is asked."""

from pathlib import Path

import pytest

from fleet.errors import UsageError
from fleet.inventory import load
from fleet.inventory.model import Host
from fleet.verbs.containers import _check_number, _having, _names

INVENTORY = """\
all:
  vars:
    fleet:
      services:
        chat: {model: m, replicas: 2}
        chat-1: {model: e, port: 9000, hosts: n2}
  hosts: {n1: , n2: , n3: {fleet: {services: {chat: null, many: {model: m, port: 7000, replicas: 9}}}}}
"""


@pytest.fixture
def hosts(tmp_path: Path) -> dict[str, Host]:
    (tmp_path / "i.yaml").write_text(INVENTORY)
    return dict(load([str(tmp_path / "i.yaml")]).hosts)


def test_a_word_is_a_service_or_one_container_and_each_is_shown_once(hosts: dict[str, Host]) -> None:
    assert _names(hosts["n1"], ("chat",)) == ("chat-0", "chat-1")
    assert _names(hosts["n1"], ("chat-1", "chat")) == ("chat-1", "chat-0")
    assert _names(hosts["n2"], ("chat-1",)) == ("chat-1", "chat-1-0")
    assert _names(hosts["n3"], ("chat",)) == ()


def test_only_hosts_that_have_one_of_them_are_asked(hosts: dict[str, Host]) -> None:
    assert [host.name for host in _having(hosts.values(), ("chat-0", "many-8"))] == ["n1", "n2", "n3"]
    assert [host.name for host in _having(hosts.values(), ("chat-1-0",))] == ["n2"]


@pytest.mark.parametrize("words", [("embed",), ("chat", "chat-2"), ("",)])
def test_a_word_that_means_nothing_is_refused_with_the_services_there_are(
    hosts: dict[str, Host], words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match=f"no selected host has a service '{words[-1]}'") as caught:
        _having(hosts.values(), words)
    assert caught.value.hint == "services: chat, chat-1, many"


def test_more_containers_than_a_connection_has_channels_are_not_followed_at_once(hosts: dict[str, Host]) -> None:
    _check_number([hosts["n1"], hosts["n2"]], ("chat",))
    with pytest.raises(UsageError, match="n3 has 9 such containers, and 8 can be followed at once") as caught:
        _check_number(list(hosts.values()), ("chat", "many"))
    assert caught.value.hint == "name some: invoke logs many-0,many-1 --follow"
