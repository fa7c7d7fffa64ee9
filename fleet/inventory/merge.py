"""Layers of variables to one value: later wins, and mappings below `fleet` are merged key by key.

Ansible replaces mappings; we merge `fleet`, as Ansible itself does with hash_behaviour=merge, its oracle in our tests.
"""

from collections.abc import Iterable

from fleet.inventory.document import Entry, Value

OURS = "fleet"


def layered(layers: Iterable[dict[str, Entry]]) -> dict[str, Entry]:
    """All layers, first to last."""
    merged: dict[str, Entry] = {}
    for layer in layers:
        for name, entry in layer.items():
            merged[name] = deep(merged[name], entry) if name == OURS and name in merged else entry
    return merged


def deep(below: Entry, above: Entry) -> Entry:
    """Two entries of the same key; mappings are merged, anything else is replaced."""
    if not (below.value.is_mapping and above.value.is_mapping):
        return above
    data = dict(below.value.data)
    for name, entry in above.value.data.items():
        data[name] = deep(data[name], entry) if name in data else entry
    return Entry(above.key, Value(data, above.value.origin))
