"""`releases`: what each host runs, ran, and can go back to."""

from fleet.cli import Options
from fleet.errors import UsageError
from fleet.report import errors, terminal
from fleet.report import releases as report
from fleet.rollout.goback import cached, pasts
from fleet.verbs.common import ROOT, connected, selected, serving


def show_releases(options: Options, services: frozenset[str]) -> int:
    """The releases of these services (all where empty), as the hosts themselves remember them. Changes nothing."""
    hosts = serving(selected(options))
    missing = sorted(services - {name for host in hosts for name in host.settings.services})
    if missing:
        raise UsageError(f"no selected host has a service {', '.join(missing)}")
    with connected(options) as connector:
        found, failed = pasts(hosts, connector, ROOT, forks=options.forks)
    known = cached(ROOT)
    rows_of = {
        host.name: report.rows(
            found[host.name], [name for name in host.settings.services if not services or name in services], known
        )
        for host in hosts
        if host.name in found
    }
    if options.json:
        terminal.show_json({"hosts": report.document(rows_of), "failed": errors.document(failed)})
    else:
        report.show(rows_of)
        terminal.show_failures(failed)
    return 1 if failed else 0
