"""How one layer of variables lies over another."""

from collections.abc import Iterable

from fleet.inventory.nodes import Node

Variables = dict[str, Node]
DEEP = "fleet"  # the one variable that is merged rather than replaced


def combine(below: Variables, above: Variables) -> Variables:
    """`above` replaces `below` variable by variable; `fleet` alone is merged deeply."""
    merged = below | above
    if DEEP in below and DEEP in above:
        merged[DEEP] = deep(below[DEEP], above[DEEP])
    return merged


def deep(below: Node, above: Node) -> Node:
    """Mappings are merged key by key; anything else, null too, replaces what was there."""
    if not isinstance(below.value, dict) or not isinstance(above.value, dict) or below.tag or above.tag:
        return above
    value = dict(below.value)
    for key, node in above.value.items():
        value[key] = deep(value[key], node) if key in value else node
    return Node(value, above.place, keys=below.keys | above.keys, size=below.size + above.size)


def fold(layers: Iterable[Variables]) -> Variables:
    merged: Variables = {}
    for layer in layers:
        merged = combine(merged, layer)
    return merged
