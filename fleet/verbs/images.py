"""`build` and `push`: the images of the selected hosts, made once."""

from fleet.cli import Options
from fleet.report import outcomes, terminal
from fleet.rollout.releases import obtain
from fleet.verbs import secrets
from fleet.verbs.common import ROOT, connected, inventory_and_hosts, narrator, serving


def build(options: Options, *, update: bool, publish: bool) -> int:
    """Make the images of the selected hosts, once; `publish` pushes them too."""
    inventory, chosen = inventory_and_hosts(options)
    secrets.require(serving(chosen), services=False)
    say = narrator(options, loud=terminal.err().is_terminal)
    with connected(options) as connector:
        stock = obtain(
            inventory,
            serving(chosen),
            connector,
            ROOT,
            say=say.line,
            update=update,
            dry=options.check,
            publish=publish,
            moving=say.moving,
        )
    if options.json:
        terminal.show_json(outcomes.stock_document(stock))
    else:
        outcomes.show_stock(stock)
    return 0
