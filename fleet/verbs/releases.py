"""`releases`: what each host runs, ran, and can go back to; what one release is, and what two have otherwise."""

from collections.abc import Sequence

from fleet.cli import Options
from fleet.errors import HostError, UsageError
from fleet.image.release import Release
from fleet.report import errors, terminal
from fleet.report import release as one_report
from fleet.report import releases as report
from fleet.rollout.compare import differences, layers
from fleet.rollout.goback import cached, named, pasts
from fleet.rollout.past import Past
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


def show_release(options: Options, text: str) -> int:
    """What one release is, and which of the hosts hold, run or ran it. Changes nothing."""
    (release,), found, failed = known_releases(options, (text,))
    where = one_report.places(release, found)
    if options.json:
        terminal.show_json({**one_report.document(release, where), "failed": errors.document(failed)})
    else:
        one_report.show(release, where)
        terminal.show_failures(failed)
    return 1 if failed else 0


def diff_releases(options: Options, before: str, after: str) -> int:
    """What the second release has otherwise than the first, by their records. Changes nothing."""
    (old, new), _, failed = known_releases(options, (before, after))
    found, told = differences(old, new), layers(old, new)
    if options.json:
        document = one_report.difference_document(old, new, found, told)
        terminal.show_json({**document, "failed": errors.document(failed)})
    else:
        one_report.show_difference(old, new, found, told)
        terminal.show_failures(failed)
    return 1 if failed else 0


def known_releases(
    options: Options, texts: Sequence[str]
) -> tuple[tuple[Release, ...], dict[str, Past], dict[str, HostError]]:
    """The releases that these words mean, to the hosts or to this controller. Raises UsageError."""
    hosts = serving(selected(options))
    with connected(options) as connector:
        found, failed = pasts(hosts, connector, ROOT, forks=options.forks)
    releases = {**cached(ROOT), **{name: one for past in found.values() for name, one in past.releases.items()}}
    try:
        return tuple(named(text, releases) for text in texts), found, failed
    except UsageError:
        terminal.show_failures(failed)  # one of them may be the host that knows
        raise
