"""`runs`, `runs.show` and `audit`: what was done, as this controller and as the hosts remember it."""

from fleet.errors import FleetError, HostError, UsageError
from fleet.inventory.model import Host
from fleet.journal import audit, read, runs
from fleet.journal.audit import Audit
from fleet.options import Options
from fleet.report import audit as audit_report
from fleet.report import errors, terminal, timeline
from fleet.report import runs as report
from fleet.transport import fan_out
from fleet.verbs.common import ROOT, active, connected, selected, some


def list_runs(options: Options) -> int:
    """Every run that this controller knows."""
    found = runs(ROOT)
    if options.json:
        terminal.show_json([report.summary_document(run) for run in found])
    else:
        report.show_table(found)
    return 0


def show_run(options: Options, wanted: str, *, picture: bool) -> int:
    """One run's story; `picture` draws its timeline.html first."""
    story = read(ROOT, wanted)
    path = None
    if picture:
        try:
            path = timeline.write(story)
        except OSError as error:
            raise FleetError(f"the timeline of {story.id} cannot be written: {error.strerror}") from error
    if options.json:
        terminal.show_json({**report.document(story), "timeline": str(path) if path else None})
        return 0
    report.show_story(story, verbose=options.verbose)
    if path:
        report.show_picture(path)
    return 0


def show_audit(options: Options, *, service: str, last: int) -> int:
    """What was changed on the hosts, by whomever, merged by time. A host that cannot be read is said to be so."""
    if last < 0:
        raise UsageError(f"--last must be 0 or above, not {last}", hint="0 shows all")
    hosts = some(active(selected(options)))
    with connected(options) as connector, terminal.counting("audit", len(hosts)) as done:

        def ask(host: Host) -> Audit:
            with connector.connect(host) as session:
                return audit.read_all(session)

        answers = fan_out(hosts, ask, forks=options.forks, on_done=lambda host, _: done(host.name))
    known = {name: answer for name, answer in answers.items() if isinstance(answer, Audit)}
    failed = {name: answer for name, answer in answers.items() if isinstance(answer, HostError)}
    entries = [entry for entry in audit.merge(known) if service in ("", entry.service)]
    shown = entries[-last:] if last else entries
    if options.json:
        listed = [audit.document(entry) for entry in shown]
        torn = {name: answer.torn for name, answer in known.items() if answer.torn}
        terminal.show_json({"entries": listed, "unreadable_lines": torn, "failed": errors.document(failed)})
    else:
        audit_report.show(shown, left_out=len(entries) - len(shown), verbose=options.verbose)
        terminal.show_failures(failed)
    return 1 if failed else 0
