"""`nightly.*`: what starts a night by itself. One short task a verb."""

from invoke.collection import Collection

from fleet.cli import HOSTS, Options, verb

_HOW = "What starts it: systemd, cron, or auto (systemd where it runs)."


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


namespace = Collection("nightly", install, status, uninstall)
