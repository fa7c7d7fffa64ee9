"""The hosts' audit as a table and for machines."""

import pytest

from fleet.journal.audit import Audit, AuditEntry, document, merge, understand
from fleet.report import audit as report

DIGEST = "sha256:" + "1e22d20b" * 8
SERVED = AuditEntry(
    "20261123-034719-482-9f3a", "deploy", "serve", "done", service="chat", replica="chat-0", release="0.11.0-1",
    spec="4bf5122f3445", message="env ROUND: 1 -> 2", ssh_user="ops", local_user="alice", controller="desk",
    at=1_795_405_639.0, host="mi300x-01", host_at=1_795_405_639.0, address="192.0.2.7",
)  # fmt: skip


def table(*entries: AuditEntry, capsys: pytest.CaptureFixture[str], left_out: int = 0, verbose: bool = False) -> str:
    report.show(entries, left_out=left_out, verbose=verbose)
    return capsys.readouterr().out


def changed(**changes: object) -> AuditEntry:
    return AuditEntry(**{**vars(SERVED), **changes})


def test_a_line_says_when_where_what_who_and_from_where(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = table(SERVED, capsys=capsys).splitlines()[1:]
    for word in ("2026-11-23 03:47:19", "mi300x-01", "deploy: serve chat-0", "done", "alice@desk as ops", "192.0.2.7"):
        assert word in row
    assert "ROUND" not in row


def test_an_image_is_told_by_its_step_with_a_short_digest(capsys: pytest.CaptureFixture[str]) -> None:
    brought = changed(action="bring", service="", replica="", message=f"pull r:5000/vllm@{DIGEST}")
    assert "deploy: pull r:5000/vllm@sha256:1e22d20b…" in " ".join(table(brought, capsys=capsys).split())


def test_failures_give_their_reason_and_verbose_gives_all(capsys: pytest.CaptureFixture[str]) -> None:
    failed = changed(outcome="failed", message="No GPUs. Devices were not passed [b]")
    assert "No GPUs" in table(failed, SERVED, capsys=capsys)
    assert "4bf5122f3445" in table(SERVED, capsys=capsys, verbose=True)


def test_a_hosts_clock_that_is_off_is_said_and_spoils_no_order(capsys: pytest.CaptureFixture[str]) -> None:
    late = changed(host="mi300x-02", at=SERVED.at + 5, host_at=SERVED.at - 86_400)
    assert "host's clock -24 h" in " ".join(table(late, capsys=capsys).split())
    assert merge({"mi300x-02": Audit((late,)), "mi300x-01": Audit((SERVED,))}) == (SERVED, late)


def test_what_is_left_out_is_counted_and_nothing_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "7 older ones are left out" in table(SERVED, capsys=capsys, left_out=7)
    assert "no change was written down" in table(capsys=capsys)


def test_torn_and_foreign_lines_are_counted() -> None:
    found = understand("a", ['{"schema": 1, "run": "x", "verb": "deploy"}', '{"schema": 1, "ru', "[]", ""])
    assert (len(found.entries), found.torn, found.entries[0].host) == (1, 2, "a")


def test_the_document_has_iso_times_and_a_schema() -> None:
    found = document(SERVED)
    assert (found["schema"], found["at"]) == (1, "2026-11-23T03:47:19.000Z")
