"""`runs.*` and `audit`: what was done, as the controller and the hosts wrote it down."""

from fleet.cli import CONNECT, verb
from fleet.options import Options


@verb("json", example="invoke runs", default=True, name="list")
def runs_list(options: Options) -> int:
    """List every run of this controller that could change something, and how it ended; the newest comes last."""
    from fleet.verbs.history import list_runs

    return list_runs(options)


@verb(
    "json", "verbose",
    example="invoke runs.show last --timeline",
    name="show",
    run="A run's id, the beginning of one, or `last`.",
    timeline="Draw the run again into its directory: timeline.html, hosts over time.",
)  # fmt: skip
def runs_show(options: Options, run: str, timeline: bool = False) -> int:
    """Tell a run's story: what is broken and why, what was left, what went well, and what to type next."""
    from fleet.verbs.history import show_run

    return show_run(options, run, picture=timeline)


@verb(
    *CONNECT,
    example="invoke audit -i prod --service chat --last 20",
    service="Only changes of this service.",
    last="How many of the newest lines to show; 0 shows all.",
)
def audit(options: Options, service: str = "", last: int = 50) -> int:
    """Show what was changed on the hosts, by whom, from where and when, as the hosts themselves wrote it down."""
    from fleet.verbs.history import show_audit

    return show_audit(options, service=service, last=last)
