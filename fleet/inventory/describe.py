"""An inventory as JSON-able data: what each host resolved to, and where each value came from. Secrets stay ***."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from fleet.inventory.model import Host, Inventory
from fleet.secret import Secret


def describe(inventory: Inventory, hosts: Iterable[Host]) -> dict[str, Any]:
    """`{hosts: {name: {groups, connection, fleet, origins}}, sources}`; origins are `file:line` by dotted path."""
    return {
        "sources": [str(path) for path in inventory.sources],
        "hosts": {
            host.name: {
                "groups": list(host.groups),
                "connection": _plain(host.connection),
                "fleet": _plain(host.settings),
                "origins": {path: str(origin) for path, origin in host.origins.items()},
            }
            for host in hosts
        },
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return str(value)
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
