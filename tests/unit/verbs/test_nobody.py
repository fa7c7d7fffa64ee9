"""A selection that has nothing to serve: the answer is empty, and it is said why."""

from pathlib import Path

import pytest

from fleet.inventory import load
from fleet.verbs.common import active, serving, some


def test_hosts_that_fleet_gives_nothing_are_told_of_and_others_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "i.yaml"
    source.write_text(
        "all: {hosts: {bare: {}, gpus: {fleet: {gpus: {model: MI300X, count: 8}}}, "
        "chat: {fleet: {image: {name: v, prebuilt: 'r/v:1'}, services: {chat: {model: m}}}}}}\n"
    )
    hosts = tuple(load([str(source)]).hosts.values())
    assert [host.name for host in some(active(hosts))] == ["gpus", "chat"]
    assert [host.name for host in some(serving(hosts))] == ["chat"]
    assert capsys.readouterr().err == ""
    assert some(serving(hosts[:2])) == ()
    assert capsys.readouterr().err.startswith("note: no host has a part in this")
