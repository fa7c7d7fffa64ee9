"""The audit on a host: lines of several controllers stay whole, say who and from where, and are read back merged."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import FleetError, HostError
from fleet.journal import audit
from fleet.journal.audit import AuditEntry
from fleet.transport import Connector, Session
from tests.ssh.conftest import Keys
from tests.ssh.sshd import Sshd

ENTRY = AuditEntry(
    run="20261123-034719-482-9f3a",
    verb="deploy",
    action="replace",
    outcome="done",
    service="chat",
    replica="chat-0",
    release="vllm-rocm:0.11.0-1",
    spec="4bf5122f344554c53bde2ebb8cd2b7e3",
    at=1_795_405_639.0,
)


@pytest.fixture
def place(state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `state/fleet` is the login's own directory and `var` the common one."""
    # The test may run as root, for whom every file is writable.
    monkeypatch.setattr(audit, "PLACE", audit.PLACE.replace("/var/lib/fleet", str(tmp_path / "var")))
    for name in ("APPEND", "READ_ALL"):
        monkeypatch.setattr(audit, name, getattr(audit, name).replace("/var/lib/fleet", str(tmp_path / "var")))
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 50022 192.0.2.1 22")
    return tmp_path


def test_a_line_says_who_from_where_when_and_what(session: Session, place: Path) -> None:
    written = audit.append(session, [audit.signed(ENTRY, "ops")])
    assert written == str(place / "state/fleet/audit.jsonl")
    line = json.loads(Path(written).read_text())
    assert line["schema"] == 1
    assert (line["ssh_user"], line["address"], line["host"]) == ("ops", "192.0.2.7", "node")
    assert line["local_user"]
    assert line["controller"]
    assert line["host_at"].endswith("Z")
    (entry,) = audit.read_all(session).entries
    assert replace(entry, host_at=0.0) == replace(audit.signed(ENTRY, "ops"), host="node", address="192.0.2.7")
    assert entry.host_at > 0


def test_the_common_file_is_used_where_root_made_it_writable(session: Session, place: Path) -> None:
    (place / "var").mkdir()
    (place / "var/audit.jsonl").touch()
    assert audit.append(session, [ENTRY]) == str(place / "var/audit.jsonl")


def test_appending_takes_one_round_trip(session: Session, sshd: Sshd, place: Path) -> None:
    audit.append(session, [ENTRY, replace(ENTRY, replica="chat-1")])
    assert len(sshd.commands) == 1
    assert len(audit.read_all(session).entries) == 2


def test_lines_of_many_at_once_stay_whole(session: Session, place: Path) -> None:
    long = "x" * 4000
    threads = [
        threading.Thread(
            target=audit.append, args=(session, [replace(ENTRY, replica=f"r-{number}", message=long)] * 3), daemon=True
        )
        for number in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    found = audit.read_all(session)
    assert found.torn == 0
    assert sorted({entry.replica for entry in found.entries}) == sorted(f"r-{number}" for number in range(16))
    assert len(found.entries) == 48


def test_a_torn_line_swallows_neither_its_neighbours_nor_the_reader(session: Session, place: Path) -> None:
    path = Path(audit.append(session, [ENTRY]))
    with path.open("a") as file:
        file.write('{"schema": 1, "run": "torn')
    audit.append(session, [replace(ENTRY, replica="chat-1")])
    found = audit.read_all(session)
    assert [entry.replica for entry in found.entries] == ["chat-0", "chat-1"]
    assert found.torn == 1


def test_a_full_file_gives_way_and_is_still_read(
    session: Session, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "ROTATE", 600)
    for number in range(4):
        path = Path(audit.append(session, [replace(ENTRY, replica=f"chat-{number}")]))
    assert (path.parent / "audit.jsonl.1").exists()
    assert [entry.replica for entry in audit.read_all(session).entries][-2:] == ["chat-2", "chat-3"]
    assert not (path.parent / "audit.jsonl.rotating").exists()


def test_a_newer_fleets_line_stops_an_older_reader(session: Session, place: Path) -> None:
    path = Path(audit.append(session, [ENTRY]))
    with path.open("a") as file:
        file.write('{"schema": 2, "run": "x"}\n')
    with pytest.raises(FleetError, match="newer fleet"):
        audit.read_all(session)


def test_a_directory_that_cannot_be_made_is_an_error(session: Session, place: Path) -> None:
    (place / "state").write_text("a file")
    with pytest.raises(HostError):
        audit.append(session, [ENTRY])


def test_the_address_is_found_above_sudo(
    connector: Connector, sshd: Sshd, keys: Keys, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our stand-in for sudo execs; the real one clears the environment, so here it is cleared for the script only."""
    sudo = place / "bin/sudo"
    sudo.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift\nenv -u SSH_CONNECTION "$@"\nexit $?\n')
    session = connector.connect(sshd.host(key_file=str(keys.user), become_password=""))
    path = Path(audit.append(session, [ENTRY]))
    assert json.loads(path.read_text())["address"] == "192.0.2.7"
