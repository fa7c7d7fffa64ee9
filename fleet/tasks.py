"""The Invoke namespace: one short task a verb; flags, one library call, exit code.

Imports of the library stand inside the tasks: `invoke --list` answers before paramiko and docker could be imported.
"""

from invoke.collection import Collection

from fleet.cli import CONNECT, HOSTS, Options, verb
from fleet.lab.tasks import namespace as lab


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
)
def facts(options: Options, root: str = "") -> int:
    """Show what each host says about itself: GPUs, driver, Docker, limits, models."""
    from fleet.commands import facts_of_hosts, facts_of_tree

    return facts_of_tree(root, options) if root else facts_of_hosts(options)


@verb(
    *CONNECT,
    example="invoke preflight -i prod --limit '!canary' --strict",
    strict="Warnings fail too.",
)
def preflight(options: Options, strict: bool = False) -> int:
    """Check that every host can serve what its inventory asks for, with evidence and a fix for each finding."""
    from fleet.commands import preflight_hosts

    return preflight_hosts(options, strict=strict)


def _collection() -> Collection:
    inventory = Collection("inventory")
    inventory.add_task(inventory_show, default=True)
    inventory.add_task(schema)
    root = Collection(facts, preflight)
    root.add_collection(inventory)
    root.add_collection(lab, name="lab")
    return root


namespace = _collection()
