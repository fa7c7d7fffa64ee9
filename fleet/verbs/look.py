"""`facts` and `preflight`: look at hosts and judge them."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from fleet.errors import HostError, UnreachableError, UsageError
from fleet.facts import Facts, capture, collect, read_tree
from fleet.inventory.model import Host
from fleet.options import Options
from fleet.preflight import needs_of, verdict
from fleet.report import errors, terminal
from fleet.report import facts as facts_report
from fleet.report import preflight as preflight_report
from fleet.report.recap import HostRecap
from fleet.rollout.known import KnownReleases
from fleet.survey import Answer, each, look
from fleet.transport import Connector, Session
from fleet.verbs.common import ROOT, active, inventory_and_hosts, selected

T = TypeVar("T")


def facts_of_tree(root: str, options: Options) -> int:
    """Facts of a captured tree; needs no inventory."""
    hint = "it holds sys/ and proc/ as captured from a host"
    if not Path(root).is_dir():
        raise UsageError(f"--root {root} is not a directory", hint=hint)
    if not any((Path(root) / name).is_dir() for name in ("sys", "proc")):
        raise UsageError(f"--root {root} has neither sys/ nor proc/ in it", hint=hint)
    facts = read_tree(Path(root))
    if options.json:
        terminal.show_json(facts.to_json())
    else:
        facts_report.show({root: facts}, verbose=options.verbose)
    return 0


def facts_of_hosts(options: Options, into: str = "") -> int:
    """Facts of the selected hosts; with `into`, each host is also left there as a tree that `--root` reads back."""
    hosts = selected(options)
    if into:
        _refuse(hosts, Path(into))

    def ask(session: Session) -> Facts:
        needs = needs_of(session.host, None, time.time())
        return capture(session, needs, Path(into) / session.host.name) if into else collect(session, needs)

    answers = _ask(hosts, options, "capture" if into else "facts", ask)
    known = {name: facts for name, facts in answers.items() if isinstance(facts, Facts)}
    failed = _failures(answers)
    if options.json:
        document = {name: facts.to_json() for name, facts in known.items()}
        terminal.show_json({"hosts": document, "failed": errors.document(failed)})
    else:
        facts_report.show(known, verbose=options.verbose)
        if into and known:
            facts_report.show_captured({name: Path(into) / name for name in known})
        _close(answers, options, {name: HostRecap(name, ok=1) for name in known})
    return 1 if failed else 0


def _refuse(hosts: Sequence[Host], into: Path) -> None:
    """Name every directory that cannot take a capture, before any host is asked."""
    if into.exists() and not into.is_dir():
        raise UsageError(f"--capture {into} is not a directory")
    for host in hosts:
        if "/" in host.name or host.name in (".", ".."):
            raise UsageError(f"--capture: host {host.name} has a name that cannot be a directory's")
    full = [name for host in hosts if (name := into / host.name).exists()]
    if full:
        raise UsageError(f"--capture: there is already {', '.join(map(str, full))}", hint="choose another directory")


def preflight_hosts(options: Options, *, strict: bool) -> int:
    """Hosts to which `fleet:` gives no part (a bastion, a registry) are left alone and counted as skipped."""
    inventory, hosts = inventory_and_hosts(options)
    taking_part = active(hosts) or hosts
    releases = KnownReleases(inventory, taking_part, ROOT)
    answers = _ask(taking_part, options, "preflight", lambda session: look(session, releases.of))
    known = {name: answer for name, answer in answers.items() if isinstance(answer, Answer)}
    failed = _failures(answers)
    fit = {name: verdict(answer.findings, strict=strict) for name, answer in known.items()}
    if options.json:
        terminal.show_json(preflight_report.document(known, fit, failed, releases.notes))
    else:
        preflight_report.show(known, releases.notes, verbose=options.verbose)
        recaps = {name: HostRecap(name, ok=1 + well, failed=1 - well) for name, well in fit.items()}
        idle = {host.name: HostRecap(host.name, skipped=1) for host in hosts if host.name not in answers}
        _close(answers, options, {**recaps, **idle})
    return 0 if all(fit.values()) and not failed else 1


def _ask(
    hosts: tuple[Host, ...], options: Options, title: str, question: Callable[[Session], T]
) -> dict[str, T | HostError]:
    with (
        Connector(accept_new=options.accept_new, on_event=terminal.event) as connector,
        terminal.counting(title, len(hosts)) as done,
    ):
        return each(hosts, connector, question, forks=options.forks, on_done=done)


def _failures(answers: Mapping[str, object]) -> dict[str, HostError]:
    return {name: answer for name, answer in answers.items() if isinstance(answer, HostError)}


def _close(answers: Mapping[str, object], options: Options, recaps: Mapping[str, HostRecap]) -> None:
    failed = _failures(answers)
    terminal.show_failures(failed)
    lost = {
        name: HostRecap(
            name,
            unreachable=int(isinstance(error, UnreachableError)),
            failed=int(not isinstance(error, UnreachableError)),
        )
        for name, error in failed.items()
    }
    terminal.show_recap({**recaps, **lost}.values(), options.started)
