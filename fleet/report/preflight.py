"""`invoke preflight`: a table of hosts, then every finding once; or one JSON document."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from fleet.errors import HostError
from fleet.report import errors, findings, terminal
from fleet.report.facts import docker_words, driver_words, gpu_words
from fleet.survey import Answer


def show(answers: Mapping[str, Answer], notes: Sequence[str], *, verbose: bool) -> None:
    console = terminal.out()
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("host", "GPUs", "driver", "docker", "verdict"):
        table.add_column(title, overflow="fold")
    for name, answer in answers.items():
        words = (name, gpu_words(answer.facts), driver_words(answer.facts), docker_words(answer.facts))
        table.add_row(*(escape(word) for word in words), findings.counts(answer.findings))
    if answers:
        console.print(table)
        console.print()
    findings.show(console, {name: answer.findings for name, answer in answers.items()}, verbose=verbose)
    for note in notes:
        console.print(f"[dim]note[/] {escape(note)}")


def document(
    answers: Mapping[str, Answer], fit: Mapping[str, bool], failed: Mapping[str, HostError], notes: Sequence[str]
) -> dict[str, Any]:
    """`{hosts: {name: {ready, findings: [...]}}, failed: {name: {...}}, notes: [...]}`."""
    hosts = {
        name: {"ready": fit[name], "findings": [finding.to_json() for finding in answer.findings]}
        for name, answer in answers.items()
    }
    return {"hosts": hosts, "failed": errors.document(failed), "notes": list(notes)}
