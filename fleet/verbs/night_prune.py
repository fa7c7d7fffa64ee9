"""A night's last step, however it went: what nothing needs any more goes. Its failure fails no night.

A night that fails, waits or is held leaves images of 25 GB too, and one bad week must not fill the disks.
"""

from fleet.errors import FleetError
from fleet.nightly.nights import Book
from fleet.options import Options
from fleet.report import prune as report
from fleet.report import terminal
from fleet.verbs.prune import pruned

WAIT = 300.0  # seconds for a host that somebody else holds


def retain(options: Options, book: Book) -> None:
    """Prune hosts, builder, registry and controller; what went stands in the night's report.

    Not while a host is not back on what ran before: the next night takes it there, and needs all that it needed.
    """
    if book.document.get("not_back"):
        return
    with book.phase("prune") as phase:
        try:
            found = pruned(options, lock_wait=WAIT)
        except FleetError as error:
            phase["ok"] = False
            book.put(pruned={"hosts": {}, "places": {}, "notes": [error.message], "failed": {}})
            terminal.event("nightly", f"what nothing needs could not be removed: {error.message}")
            return
        failed = {name: error.message for name, error in found.failed.items()}
        phase["ok"] = not failed
        document = report.document(found.hosts, found.places, check=False)
        book.put(pruned={**document, "notes": found.notes, "failed": failed})
        for name, message in failed.items():
            terminal.event(name, f"not pruned: {message}")
