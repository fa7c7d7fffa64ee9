"""Verbs that look and change nothing, but for an open shell: hosts, what runs on them, whether it answers."""

from fleet.cli import CONNECT, HOSTS, verb
from fleet.options import Options, duration


@verb(*HOSTS, "json", example="invoke inventory -i prod --limit 'mi300x:!vault'", default=True, name="show")
def inventory_show(options: Options) -> None:
    """Show the selected hosts, their resolved settings and where each value came from."""
    from fleet.inventory import describe, load, select
    from fleet.report import inventory, terminal

    loaded = load(options.inventory)
    document = describe(loaded, select(loaded, options.limit))
    if options.json:
        terminal.show_json(document)
    else:
        inventory.show(document)


@verb(example="invoke inventory.schema > fleet.schema.json")
def schema() -> None:
    """Print the JSON Schema of `fleet:`, for editors."""
    from fleet.inventory import schema as fleet_schema
    from fleet.report import terminal

    terminal.show_json(fleet_schema())


@verb(
    *CONNECT,
    example="invoke facts -i prod --limit mi300x-01 --json",
    root="Read a captured tree (DIR/sys/…, DIR/proc/…) instead of hosts.",
    capture="Also write each host into DIR/HOST (`--capture bug`), which `--root bug/HOST` reads back. No secrets in it.",
)
def facts(options: Options, root: str = "", capture: str = "") -> int:
    """Show what each host says about itself: GPUs, driver, Docker, limits, models; or capture it for a bug report."""
    from fleet.verbs.look import facts_of_hosts, facts_of_tree

    return facts_of_tree(root, options) if root else facts_of_hosts(options, capture)


@verb(
    *CONNECT,
    example="invoke preflight -i prod --limit '!canary' --strict",
    strict="Warnings fail too.",
)
def preflight(options: Options, strict: bool = False) -> int:
    """Check that every host can serve what its inventory asks for, with evidence and a fix for each finding."""
    from fleet.verbs.look import preflight_hosts

    return preflight_hosts(options, strict=strict)


@verb(*CONNECT, example="invoke staging -i prod --limit vault")
def staging(options: Options) -> int:
    """Show which sideloads were begun and not ended: host, image, bytes that lie there, since when."""
    from fleet.verbs.staging import staging as work

    return work(options)


@verb(
    *CONNECT,
    example="invoke images -i prod --limit mi300x-01",
    all="List foreign images that nothing uses, too.",
)
def images(options: Options, all: bool = False) -> int:  # noqa: A002  the flag's name
    """Show which image is which on every host, by digest: names, what they meant before, release, containers made from it."""
    from fleet.verbs.census import show_images

    return show_images(options, everything=all)


@verb(
    *CONNECT,
    example="invoke drift -i prod --json",
    accept="Take kernel, driver, firmware and partition modes as they are now for what they should be.",
)
def drift(options: Options, accept: bool = False) -> int:
    """Show where hosts differ from the inventory, from what they were, and from most of their group. Exit 1 when something does."""
    from fleet.verbs.drift import show_drift

    return show_drift(options, accept=accept)


@verb(
    *CONNECT,
    example="invoke verify -i prod --load 30s",
    load="Measure every replica for so long under a fixed load, and name slow ones: 30s, 2m.",
)
def verify(options: Options, load: str = "") -> int:
    """Ask every replica for a real answer and compare it with those of its likes, changing nothing."""
    from fleet.verbs.services import verify as work

    return work(options, load=duration(load, "--load"))


@verb(*CONNECT, example="invoke status -i prod")
def status(options: Options) -> int:
    """Show every replica: state, release that really runs, age, health, GPUs, drift, orphans."""
    from fleet.verbs.services import show_status

    return show_status(options)


@verb(
    *CONNECT,
    example="invoke endpoints -i prod --prometheus > /etc/prometheus/vllm.json",
    prometheus="Print Prometheus file_sd instead.",
)
def endpoints(options: Options, prometheus: bool = False) -> int:
    """Print the endpoints of every serving replica as JSON."""
    from fleet.verbs.services import show_endpoints

    return show_endpoints(options, prometheus=prometheus)


@verb(
    *HOSTS, "forks", "accept_new",
    example="invoke logs chat -i prod --limit mi300x-01 --follow",
    service="A service, or one of its containers (chat-0). Several with commas between.",
    follow="Go on with what comes.",
    letters={"follow": "f"},
    tail="Lines to begin with; -1 for all.",
)  # fmt: skip
def logs(options: Options, service: str, follow: bool = False, tail: int = 100) -> int:
    """Show the logs of a service's containers, each line with its host."""
    from fleet.verbs.containers import logs as work

    return work(options, tuple(service.split(",")), follow=follow, tail=tail)


@verb(
    *HOSTS, "accept_new",
    example="invoke shell chat -i prod --limit mi300x-01",
    service="A service (its first container), or one of its containers (chat-1).",
)  # fmt: skip
def shell(options: Options, service: str) -> int:
    """Open an interactive bash in a service's container on one host."""
    from fleet.verbs.containers import shell as work

    return work(options, service)
