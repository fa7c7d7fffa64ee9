"""`unlock` and `maintenance`: who holds a host, and which hosts every command leaves out."""

import getpass
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fleet.errors import HostError, UsageError
from fleet.inventory import load, select
from fleet.inventory.model import Host
from fleet.locks import Holder
from fleet.locks import unlock as end_lock
from fleet.options import Options
from fleet.report import errors, terminal
from fleet.rollout.leftout import Maintenance, parse_until, read_maintenance, read_quarantine, write_maintenance
from fleet.transport import fan_out
from fleet.verbs.common import ROOT, connected, selected


def unlock(options: Options) -> int:
    """End whatever holds the selected hosts. What it was replacing is put back by the hosts themselves."""
    with connected(options) as connector:

        def work(host: Host) -> Holder | None:
            with connector.connect(host) as session:
                return end_lock(session)

        found = fan_out(selected(options), work, forks=options.forks)
    failed = {name: one for name, one in found.items() if isinstance(one, HostError)}
    if options.json:
        ended = {name: str(one) if one else None for name, one in found.items() if name not in failed}
        terminal.show_json({"unlocked": ended, "failed": errors.document(failed)})
    else:
        for name, one in found.items():
            if name not in failed:
                terminal.host_line(name, f"was held by {one}; unlocked" if one else "was not locked")
        terminal.show_failures(failed)
    return 1 if failed else 0


def maintenance(options: Options, pattern: str, *, reason: str, until: str, end: bool) -> int:
    """Put the hosts of a pattern into maintenance, or take them out of it; then show who is out."""
    path, known = _out(options)
    names = [host.name for host in select(load(options.inventory), pattern)]
    if end:
        out = [name for name in names if name not in known]
        if out:
            raise UsageError(f"not in maintenance: {', '.join(out)}", hint="invoke maintenance.list shows who is")
        known = {name: one for name, one in known.items() if name not in names}
    else:
        if not reason:
            raise UsageError(
                "maintenance needs a reason", hint="--reason 'new HBM', for whoever finds the host left out"
            )
        now = datetime.now(UTC)
        entry = Maintenance("", reason, getpass.getuser(), now, parse_until(until, now))
        if entry.until is not None and entry.until <= now:
            raise UsageError(f"--until {until} is over already")
        known |= {name: replace(entry, host=name) for name in names}
    write_maintenance(path, known)
    _show(options, known)
    return 0


def show_maintenance(options: Options) -> int:
    """Who is out and why."""
    _show(options, _out(options)[1])
    return 0


def _out(options: Options) -> tuple[Path, dict[str, Maintenance]]:
    """The inventory's record, and who is in maintenance by it today."""
    path, now = load(options.inventory).maintenance_path, datetime.now(UTC)
    return path, {name: one for name, one in read_maintenance(path).items() if one.holds(now)}


def _show(options: Options, known: dict[str, Maintenance]) -> None:
    quarantined = read_quarantine(ROOT)
    if options.json:
        times = {
            name: {
                "reason": one.reason,
                "by": one.by,
                "since": one.since.isoformat(),
                "until": one.until and one.until.isoformat(),
            }
            for name, one in known.items()
        }
        terminal.show_json({"maintenance": times, "quarantine": {name: str(one) for name, one in quarantined.items()}})
        return
    for name, text in [*known.items(), *quarantined.items()]:
        terminal.host_line(name, str(text))
    if not known and not quarantined:
        terminal.err().print("no host is in maintenance or in quarantine")
