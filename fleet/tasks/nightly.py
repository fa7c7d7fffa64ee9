"""`nightly.*` and `promote`: a night, and what starts it by itself. One short task a verb."""

from invoke.collection import Collection

from fleet.cli import CONNECT, HOSTS, verb
from fleet.options import Options

_NIGHT = tuple(flag for flag in CONNECT if flag != "json")
_HOW = "What starts it: systemd, cron, or auto (systemd where it runs)."


@verb(
    *_NIGHT, "check",
    example="invoke nightly -i prod",
    name="run",
    default=True,
    force="Try a content key that failed before once more.",
)  # fmt: skip
def run(options: Options, force: bool = False) -> int:
    """One night: build when something is new, prove it on a canary, bring it to the rest; otherwise all stays as it was."""
    from fleet.verbs.nightly import nightly

    return nightly(options, force=force)


@verb(*_NIGHT, example="invoke promote -i prod")
def promote(options: Options) -> int:
    """Bring what the last night proved on its canary to the rest of the fleet, with `fleet.nightly.promote: manual`."""
    from fleet.verbs.nightly import promote as work

    return work(options)


@verb(
    *HOSTS, "check",
    example="invoke nightly.install -i prod",
    how=_HOW,
    user="Who runs it, when root installs it (default root).",
)  # fmt: skip
def install(options: Options, how: str = "auto", user: str = "") -> int:
    """Let this machine start a night by itself, as `fleet.nightly.schedule` says; --check prints the files."""
    from fleet.verbs.nightly_timer import install as work

    return work(options, how=how, user=user)


@verb("inventory", "check", example="invoke nightly.uninstall -i prod")
def uninstall(options: Options) -> int:
    """Take the timer away with all its files, the environment file too."""
    from fleet.verbs.nightly_timer import uninstall as work

    return work(options)


@verb("inventory", "json", example="invoke nightly.status -i prod", last="How many of the last nights; 0 shows all.")
def status(options: Options, last: int = 7) -> int:
    """Show the last nights and when the next one starts."""
    from fleet.verbs.nightly_timer import status as work

    return work(options, last=last)


namespace = Collection("nightly", run, install, status, uninstall)
