"""What a run did: releases made or found, answers that proved a replica, per host."""

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from fleet.preflight import Finding
from fleet.report import errors, findings, terminal
from fleet.report.hosts import fold
from fleet.rollout.run import Outcome, failures
from fleet.rollout.stock import Stock
from fleet.serving.load import CLIENTS, MAX_TOKENS


def show_stock(stock: Stock) -> None:
    console = terminal.out()
    for line in stock.changes:
        console.print(f"[yellow]image[/] {escape(line)}", soft_wrap=True)
    for line in stock.notes:
        console.print(f"[dim]image {escape(line)}[/]", soft_wrap=True)


def stock_document(stock: Stock) -> dict[str, object]:
    """`{changed, notes, releases: {name: {...}}}`."""
    releases = {release.local_name: release for of_host in stock.releases.values() for release in of_host.values()}
    return {
        "changed": list(stock.changes),
        "notes": list(stock.notes),
        "releases": {
            name: {
                "manifest_digest": release.manifest_digest,
                "config_digest": release.config_digest,
                "diff_ids": list(release.diff_ids),
                "gfx": list(release.gfx),
                "rocm": release.rocm,
                "vllm_version": release.vllm_version,
                "vllm_commit": release.vllm_commit,
                "content_key": release.content_key,
                "bytes": release.size,
            }
            for name, release in releases.items()
        },
    }


def show_proofs(outcomes: Mapping[str, Outcome]) -> None:
    """One line for each replica that answered in this run."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("host", "replica", "model", "tokens/s", "first token", "answer"):
        table.add_column(title, overflow="fold")
    for outcome in outcomes.values():
        for name, proof in outcome.proofs.items():
            speed, first = f"{proof.tokens_per_s:.0f}", f"{proof.first_token_s * 1000:.0f} ms"
            answer = proof.answer.strip().replace("\n", " ")
            table.add_row(outcome.host, name, escape(proof.model), speed, first, escape(answer[:60]))
    if table.row_count:
        terminal.out().print(table)
    show_speeds(outcomes)
    told: dict[str, list[str]] = {}
    for outcome in outcomes.values():
        for warning in outcome.warnings:
            told.setdefault(warning, []).append(outcome.host)
    for warning, hosts in told.items():
        terminal.out().print(f"[yellow]warning[/] {escape(fold(hosts))}: {escape(warning)}", soft_wrap=True)


def show_speeds(outcomes: Mapping[str, Outcome]) -> None:
    """One line for each replica that was measured under load."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("host", overflow="fold")
    table.add_column("replica", overflow="fold")
    table.add_column("GPU", overflow="fold")
    for title in ("tokens/s", "p5", "all", "first token", "p95", "requests", "errors"):
        table.add_column(title, justify="right")
    for outcome in outcomes.values():
        for name, proof in outcome.proofs.items():
            if speed := proof.speed:
                rates = (f"{speed.tokens_per_s:.1f}", f"{speed.tokens_per_s_p5:.1f}", f"{speed.total:.0f}")
                times = (f"{speed.first_token_s * 1000:.0f} ms", f"{speed.first_token_s_p95 * 1000:.0f} ms")
                kind = escape(proof.kin.gpu) if proof.kin else ""
                table.add_row(outcome.host, name, kind, *rates, *times, str(speed.requests), str(speed.errors))
    if table.row_count:
        console = terminal.out()
        console.print(f"\n[bold]load[/], {CLIENTS} requests at a time of {MAX_TOKENS} tokens; the SSH tunnel is in it")
        console.print(table)


def show_warnings(outcomes: Mapping[str, Outcome]) -> None:
    """One line for each warning of preflight, with the hosts that have it: it stops nobody, and is not forgotten."""
    for item in findings.share({name: _warnings(outcome) for name, outcome in outcomes.items()}):
        for evidence, hosts in item.evidence.items():
            told = f"{item.finding.id} on {fold(hosts)}: {evidence}"
            terminal.out().print(f"[yellow]warning[/] {escape(told)}", soft_wrap=True)
    show_findings(outcomes)


def show_findings(outcomes: Mapping[str, Outcome]) -> None:
    """What the changes themselves found out about the hosts, with the fix. What failed a host stands with its failure."""
    told = {name: [found for found in one.findings if found.severity == "warn"] for name, one in outcomes.items()}
    findings.show(terminal.out(), told, verbose=False)


def warnings_document(outcomes: Mapping[str, Outcome]) -> dict[str, list[dict[str, object]]]:
    """`{host: [finding, …]}` of the hosts that have any."""
    return {
        name: [finding.to_json() for finding in warned]
        for name, outcome in outcomes.items()
        if (warned := _warnings(outcome))
    }


def _warnings(outcome: Outcome) -> list[Finding]:
    found = outcome.site.findings if outcome.site else ()
    return [finding for finding in found if finding.severity == "warn" and not finding.accepted]


def document(outcomes: Mapping[str, Outcome], stock: Stock) -> dict[str, object]:
    """`{images, hosts: {name: {changed, verification, findings, proofs}}, warnings, failed}`."""
    hosts = {
        name: {
            "changed": outcome.changed,
            "verification": outcome.warnings,
            "findings": [finding.to_json() for finding in outcome.findings],
            "proofs": {replica: proof.to_json() for replica, proof in outcome.proofs.items()},
        }
        for name, outcome in outcomes.items()
    }
    return {
        "images": stock_document(stock),
        "hosts": hosts,
        "warnings": warnings_document(outcomes),
        "failed": errors.document(failures(outcomes)),
    }
