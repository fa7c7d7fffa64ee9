"""Valid nodes of a playbook to the dataclasses of model.py."""

import re
from types import MappingProxyType

from fleet.inventory.nodes import Node, plain
from fleet.playbook.model import (
    Amount,
    Distribute,
    Image,
    Models,
    Play,
    Preflight,
    Prepare,
    Prune,
    Serve,
    Stage,
    Verify,
)

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def play_of(node: Node) -> Play:
    given = {key: inner.value for key, inner in node.value.items()}
    return Play(
        name=given.get("name", given.get("hosts", "all")).strip(),
        hosts=given.get("hosts", "all").strip(),
        stages=tuple(stage_of(inner) for inner in given["stages"]),
        serial=serial_of(node.value["serial"]) if "serial" in given else (),
        max_fail=amount_of(given.get("max_fail", 0)),
        min_available=amount_of(given["min_available"]) if "min_available" in given else None,
        new_hosts_together=given.get("new_hosts_together", Play.new_hosts_together),
        min_healthy_time=seconds_of(given.get("min_healthy_time", Play.min_healthy_time)),
        progress_deadline=seconds_of(given["progress_deadline"]) if "progress_deadline" in given else None,
        pause=seconds_of(given.get("pause", 0)),
        canary=_canary(given.get("canary", 0)),
        place=node.place,
    )


def stage_name(node: Node) -> str:
    return str(node.value if isinstance(node.value, str) else next(iter(node.value)))


def stage_of(node: Node) -> Stage:
    name = stage_name(node)
    arguments = None if isinstance(node.value, str) else node.value[name]
    given = plain(arguments) or {} if arguments is not None else {}
    match name:
        case "preflight":
            return Preflight(given.get("strict", False), MappingProxyType(given.get("accept", {})))
        case "prepare":
            return Prepare(tuple(given.get("only", ())))
        case "image":
            return Image(given.get("update", False), given.get("bundle", False))
        case "models":
            return Models(
                given.get("source", ""),
                tuple(given.get("names", ())),
                seconds_of(given.get("wait", Models.wait)),
                given.get("revision", ""),
                given.get("hf", ""),
                given.get("token_file", ""),
                given.get("endpoint", ""),
                given.get("update", False),
            )
        case "distribute":
            return Distribute()
        case "serve":
            return Serve(given.get("prune", False), tuple(given.get("take_over", ())))
        case "verify":
            return Verify(seconds_of(given.get("load", 0)))
        case "prune":
            return Prune(given.get("keep", Prune.keep))
    raise ValueError(f"the schema let the stage {name!r} pass")


def serial_of(node: Node) -> tuple[Amount, ...]:
    items = node.value if isinstance(node.value, list) else [node]
    return tuple(amount_of(item.value) for item in items)


def amount_of(value: str | float) -> Amount:
    if isinstance(value, str):
        return Amount(int(value.removesuffix("%")), percent=value.endswith("%"))
    return Amount(int(value))


def seconds_of(value: str | float) -> float:
    """A number is seconds; 90s, 2m and 1h30m are what they say."""
    if not isinstance(value, str):
        return float(value)
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)([hms])", value))


def _canary(value: str | float) -> int | str:
    return value.strip() if isinstance(value, str) else int(value)
