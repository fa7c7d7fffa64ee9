"""`facts` and `preflight`: look at hosts and judge them."""

from collections.abc import Mapping
from pathlib import Path

from fleet.cli import Options
from fleet.errors import HostError, UnreachableError, UsageError
from fleet.facts import read_tree
from fleet.inventory.model import Host
from fleet.preflight import verdict
from fleet.report import errors, terminal
from fleet.report import facts as facts_report
from fleet.report import preflight as preflight_report
from fleet.report.recap import HostRecap
from fleet.survey import Answer, survey
from fleet.transport import Connector
from fleet.verbs.common import selected, takes_part


def facts_of_tree(root: str, options: Options) -> int:
    """Facts of a captured tree; needs no inventory."""
    if not Path(root).is_dir():
        raise UsageError(f"--root {root} is not a directory", hint="it holds sys/ and proc/ as captured from a host")
    facts = read_tree(Path(root))
    if options.json:
        terminal.show_json(facts.to_json())
    else:
        facts_report.show({root: facts}, verbose=options.verbose)
    return 0


def facts_of_hosts(options: Options) -> int:
    answers = _ask(selected(options), options, "facts")
    known = {name: answer.facts for name, answer in answers.items() if isinstance(answer, Answer)}
    failed = _failures(answers)
    if options.json:
        hosts = {name: facts.to_json() for name, facts in known.items()}
        terminal.show_json({"hosts": hosts, "failed": errors.document(failed)})
    else:
        facts_report.show(known, verbose=options.verbose)
        _close(answers, options, {name: HostRecap(name, ok=1) for name in known})
    return 1 if failed else 0


def preflight_hosts(options: Options, *, strict: bool) -> int:
    """Hosts to which `fleet:` gives no part (a bastion, a registry) are left alone and counted as skipped."""
    hosts = selected(options)
    taking_part = tuple(host for host in hosts if takes_part(host)) or hosts
    answers = _ask(taking_part, options, "preflight")
    known = {name: answer for name, answer in answers.items() if isinstance(answer, Answer)}
    failed = _failures(answers)
    fit = {name: verdict(answer.findings, strict=strict) for name, answer in known.items()}
    if options.json:
        terminal.show_json(preflight_report.document(known, fit, failed))
    else:
        preflight_report.show(known, verbose=options.verbose)
        recaps = {name: HostRecap(name, ok=1 + well, failed=1 - well) for name, well in fit.items()}
        idle = {host.name: HostRecap(host.name, skipped=1) for host in hosts if host.name not in answers}
        _close(answers, options, {**recaps, **idle})
    return 0 if all(fit.values()) and not failed else 1


def _ask(hosts: tuple[Host, ...], options: Options, title: str) -> dict[str, Answer | HostError]:
    with (
        Connector(accept_new=options.accept_new, on_event=terminal.event) as connector,
        terminal.counting(title, len(hosts)) as done,
    ):
        return survey(hosts, connector, forks=options.forks, on_done=done)


def _failures(answers: Mapping[str, Answer | HostError]) -> dict[str, HostError]:
    return {name: answer for name, answer in answers.items() if isinstance(answer, HostError)}


def _close(answers: Mapping[str, Answer | HostError], options: Options, recaps: Mapping[str, HostRecap]) -> None:
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
