"""`releases.*`: which releases the hosts run and ran, and what each of them is. One short task a verb."""

from invoke.collection import Collection

from fleet.cli import CONNECT, verb
from fleet.options import Options, words

_RELEASE = "The beginning of its id, digest or content key, or its reference."


@verb(
    *CONNECT,
    example="invoke releases -i prod --service chat",
    name="list",
    default=True,
    service="Only this service. Several with commas between.",
    history="What each host runs and ran, whether it answered, and what `rollback` goes back to.",
)
def list_(options: Options, service: str = "", history: bool = False) -> int:
    """Show every release that registries and hosts know: what it is, where it lies, answered and runs, what keeps it."""
    from fleet.verbs.releases import show_releases

    return show_releases(options, words(service), history=history)


@verb(*CONNECT, example="invoke releases.show 3f9c1a -i prod", name="show", release=_RELEASE)
def show(options: Options, release: str) -> int:
    """Show what one release was made from, and which hosts hold it, run it or ran it."""
    from fleet.verbs.releases import show_release

    return show_release(options, release)


@verb(*CONNECT, example="invoke releases.diff 3f9c1a 77e0b2 -i prod", name="diff", before=_RELEASE, after=_RELEASE)
def diff(options: Options, before: str, after: str) -> int:
    """Show what a release has otherwise than another: commits, base, build arguments, packages, labels, bytes to bring."""
    from fleet.verbs.releases import diff_releases

    return diff_releases(options, before, after)


@verb(
    *CONNECT,
    "check",
    example="invoke releases.pin 3f9c1a -i prod --reason 'the one of the benchmark'",
    name="pin",
    release=_RELEASE,
    reason="Why; shown by releases.show.",
)
def pin(options: Options, release: str, reason: str = "") -> int:
    """Keep a release: `prune` leaves its image on these hosts and in the registry, whatever controller runs it."""
    from fleet.verbs.pins import set_pin

    return set_pin(options, release, pin=True, reason=reason)


@verb(*CONNECT, "check", example="invoke releases.unpin 3f9c1a -i prod", name="unpin", release=_RELEASE)
def unpin(options: Options, release: str) -> int:
    """Let `prune` remove a release again when no service runs it or would go back to it."""
    from fleet.verbs.pins import set_pin

    return set_pin(options, release, pin=False)


namespace = Collection("releases", list_, show, diff, pin, unpin)
