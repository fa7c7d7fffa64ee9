"""Hosts as JSON: groups, connection, settings, and where each value was set. Secrets show as `***`."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from fleet.inventory.convert import SECRET_FIELDS
from fleet.inventory.model import Host, Inventory
from fleet.secret import Secret

KINDS = {"env", "file", "command"}


def describe(inventory: Inventory, hosts: Iterable[Host]) -> dict[str, Any]:
    """{"hosts": {name: {"groups", "connection", "fleet", "origins"}}} of hosts of `inventory`.

    `fleet` is what was written, merged, with the defaults of what was not.
    """
    return {"hosts": {host.name: _host(inventory.hosts[host.name]) for host in hosts}}


def _host(host: Host) -> dict[str, Any]:
    written = host.variables.get("fleet") or {}
    fleet = _filled(_as_json(host.settings), _masked(written))
    fleet["services"] = {name: fleet["services"][name] for name in host.settings.services}
    return {
        "groups": list(host.groups),
        "connection": _as_json(host.connection),
        "fleet": fleet,
        "origins": {path: f"{at.file}:{at.line}:{at.col}" for path, at in host.origins.items()},
    }


def _as_json(value: Any) -> Any:
    if isinstance(value, Secret):
        return "***"
    if is_dataclass(value):
        return {item.name: _as_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: _as_json(inner) for key, inner in value.items()}
    return [_as_json(inner) for inner in value] if isinstance(value, tuple | list) else value


def _masked(value: Any, *, secrets: bool = False) -> Any:
    """Without nulls, which unset, and with `***` for every reference to a secret."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: "***"
        if (secrets or key in SECRET_FIELDS) and isinstance(inner, Mapping) and set(inner) <= KINDS
        else _masked(inner, secrets=key == "secrets")
        for key, inner in value.items()
        if inner is not None
    }


def _filled(defaults: Any, written: Any) -> Any:
    """`written` over `defaults`; mappings of the user's own keys hold no defaults that he did not write."""
    if not isinstance(defaults, Mapping) or not isinstance(written, Mapping):
        return written
    return {key: _filled(value, written[key]) if key in written else value for key, value in defaults.items()} | {
        key: value for key, value in written.items() if key not in defaults
    }
