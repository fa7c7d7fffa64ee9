"""The releases that a roll brings: made, found, or taken from a bundle."""

from fleet.errors import FleetError, UsageError
from fleet.inventory.model import Inventory
from fleet.rollout.assign import IMAGES, Programme
from fleet.rollout.releases import obtain
from fleet.rollout.stock import Stock
from fleet.rollout.straighten import Depots
from fleet.transport import Connector
from fleet.verbs.cargo import Examined, unload
from fleet.verbs.closing import Teller
from fleet.verbs.common import ROOT
from fleet.verbs.order import Order


def require_bundle(order: Order, programme: Programme) -> None:
    """Raises UsageError where a play wants a bundle and none was named."""
    for one in programme.assignments:
        if order.cargo is None and any(getattr(stage, "bundle", False) for stage in one.play.stages):
            raise UsageError(f"play {one.play.name} takes its images from a bundle alone", hint="--bundle DIR")


def stock_of(
    inventory: Inventory,
    programme: Programme,
    cargo: Examined | None,
    connector: Connector,
    depots: Depots,
    say: Teller,
    *,
    dry: bool,
) -> Stock:
    """The releases, made (or taken from the bundle) where the stage `image` says so and found otherwise."""
    hosts = [host for host in programme.hosts if host.settings.services]
    if not hosts or not programme.stages & IMAGES:
        return _relays_alone(inventory, programme, connector, say, dry=dry) if cargo is None else Stock.empty()
    # A night has resolved everything already, and all its rolls mean the same.
    update = inventory.lock is None and any(
        getattr(stage, "update", False) for one in programme.assignments for stage in one.play.stages
    )
    dry = dry or "image" not in programme.stages
    if cargo is not None:
        return unload(cargo, inventory, hosts, say, dry=dry)
    return obtain(
        inventory, hosts, connector, ROOT, say=say.line, update=update, dry=dry, moving=say.moving, depots=depots
    )


def _relays_alone(inventory: Inventory, programme: Programme, connector: Connector, say: Teller, *, dry: bool) -> Stock:
    """What relays run, for a run that brings models and no images; without it models come as if there were no relay."""
    if "models" not in programme.stages:
        return Stock.empty()
    try:
        return obtain(
            inventory, programme.hosts, connector, ROOT, say=say.line, dry=dry, moving=say.moving, services=False
        )
    except FleetError as error:
        stock = Stock.empty()
        stock.notes.append(
            f"there is no image for a relay, so models come as if none had been asked for: {error.message}"
        )
        return stock
