"""`build` and `push`: the images of the selected hosts, made once, or the reasons for making them so."""

from fleet.errors import UsageError
from fleet.options import Options
from fleet.report import outcomes, strategy, terminal
from fleet.rollout import releases
from fleet.rollout.releases import obtain
from fleet.rollout.straighten import Depots
from fleet.verbs import secrets
from fleet.verbs.common import ROOT, connected, inventory_and_hosts, narrator, serving, some


def build(options: Options, *, update: bool, publish: bool) -> int:
    """Make the images of the selected hosts, once; `publish` pushes them too."""
    inventory, chosen = inventory_and_hosts(options)
    secrets.require(serving(chosen), services=False)
    say = narrator(options, loud=terminal.err().is_terminal)
    with connected(options) as connector, Depots(say.line) as depots:
        stock = obtain(
            inventory,
            some(serving(chosen)),
            connector,
            ROOT,
            say=say.line,
            update=update,
            dry=options.check,
            publish=publish,
            moving=say.moving,
            depots=depots,
        )
    if options.json:
        terminal.show_json(outcomes.stock_document(stock))
    else:
        outcomes.show_stock(stock)
    return 0


def explain(options: Options, *, update: bool) -> int:
    """The table of reasons of each image, by what is so now. Exit 1 where nothing fits."""
    if update:
        raise UsageError("--explain moves no lock", hint="it shows what build --update would choose")
    inventory, chosen = inventory_and_hosts(options)
    secrets.require(serving(chosen), services=False)
    say = narrator(options)
    with connected(options) as connector:
        found = releases.explain(inventory, some(serving(chosen)), connector, ROOT, say=say.line)
    if options.json:
        terminal.show_json(strategy.document(found))
    else:
        strategy.show(found)
    return 1 if any(one.choice is not None and not one.choice.kind for one in found) else 0
