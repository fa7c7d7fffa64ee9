"""Hosts as JSON: groups, connection, settings, and where each value was set. Secrets show as `***`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from fleet.inventory.connection import ARGS, FIELDS
from fleet.inventory.convert import SECRET_FIELDS
from fleet.inventory.model import Host, Inventory, Origin
from fleet.secret import Secret

KINDS = {"env", "file", "command"}


def describe(inventory: Inventory, hosts: Iterable[Host]) -> dict[str, Any]:
    """{"hosts": {name: {"groups", "connection", "fleet", "origins"}}} of hosts of `inventory`.

    `fleet` is what was written, merged, with the defaults of what was not. `origins` are FILE:LINE:COL by the dotted path
    of a value (`fleet.image.name`, `connection.port`) and by variable (`ansible_port`).
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
        "origins": {path: _place(at) for path, at in host.origins.items()} | dict(_of_connection(host)),
    }


def _of_connection(host: Host) -> Iterator[tuple[str, str]]:
    """`connection.FIELD` and the place of the variable that it was made of; of several names the last one counts."""
    for name, variables in FIELDS.items():
        given = [one for one in variables if host.variables.get(one) not in (None, "") and one in host.origins]
        if given:
            places = [_place(host.origins[one]) for one in given]
            yield f"connection.{name}", ", ".join(places) if variables is ARGS else places[-1]


def _place(at: Origin) -> str:
    return f"{at.file}:{at.line}:{at.col}"


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
