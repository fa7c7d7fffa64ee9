"""`releases.*`: which releases the hosts run and ran, and what each of them is. One short task a verb."""

from invoke.collection import Collection

from fleet.cli import CONNECT, Options, verb, words

_RELEASE = "The beginning of its id, digest or content key, or its reference."


@verb(
    *CONNECT,
    example="invoke releases -i prod --service chat",
    name="list",
    default=True,
    service="Only this service. Several with commas between.",
)
def list_(options: Options, service: str = "") -> int:
    """Show what each host runs and ran, whether it answered, and what `rollback` goes back to."""
    from fleet.verbs.releases import show_releases

    return show_releases(options, words(service))


@verb(*CONNECT, example="invoke releases.show 3f9c1a -i prod", name="show", release=_RELEASE)
def show(options: Options, release: str) -> int:
    """Show what one release was made from, and which hosts hold it, run it or ran it."""
    from fleet.verbs.releases import show_release

    return show_release(options, release)


@verb(*CONNECT, example="invoke releases.diff 3f9c1a 77e0b2 -i prod", name="diff", before=_RELEASE, after=_RELEASE)
def diff(options: Options, before: str, after: str) -> int:
    """Show what a release has otherwise than another: commit, base, ROCm, environment, labels, and bytes to bring."""
    from fleet.verbs.releases import diff_releases

    return diff_releases(options, before, after)


namespace = Collection("releases", list_, show, diff)
