"""`rollback`: what answered before, once more, by the same roll as a deploy."""

from fleet.options import Options
from fleet.rollout.goback import Back
from fleet.verbs.order import Order
from fleet.verbs.roll import roll

STAGES = frozenset({"preflight", "distribute", "serve", "verify"})  # nothing is resolved or made


def rollback(
    options: Options,
    *,
    to: str,
    services: frozenset[str],
    prune: bool,
    lock_wait: float,
    include_quarantined: bool,
) -> int:
    """Put the services back to the release that answered before the present one, or to the one that `to` names."""
    order = Order(
        "rollback",
        stages=STAGES,
        prune=prune,
        lock_wait=lock_wait,
        include_quarantined=include_quarantined,
        back=Back(to, services),
    )
    return roll(options, order)
