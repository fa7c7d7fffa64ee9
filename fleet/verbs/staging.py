"""`staging`: what broken sideloads left on the hosts. Changes nothing; the next sideload removes what is old."""

from fleet.delivery.send import Sender
from fleet.delivery.staging import Staging
from fleet.errors import HostError
from fleet.options import Options
from fleet.report import errors, terminal
from fleet.report import staging as report
from fleet.survey import each
from fleet.transport import Session
from fleet.verbs.common import active, connected, selected


def staging(options: Options) -> int:
    """Ask every host that `fleet:` gives a part."""
    chosen = selected(options)
    hosts = active(chosen) or chosen

    def ask(session: Session) -> Staging:
        return Sender.of(session).look(session.host.settings.staging_dir)

    with connected(options) as connector, terminal.counting("staging", len(hosts)) as done:
        answers = each(hosts, connector, ask, forks=options.forks, on_done=done)
    failed = {name: one for name, one in answers.items() if isinstance(one, HostError)}
    found = {name: one for name, one in answers.items() if isinstance(one, Staging)}
    if options.json:
        terminal.show_json({**report.document(found), "failed": errors.document(failed)})
    else:
        report.show(found)
        terminal.show_failures(failed)
    return 1 if failed else 0
