"""Room on the host's disks, and the models that lie there. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

from fleet.facts.frames import Frames
from fleet.facts.model import Model, Space


def space(frames: Frames) -> Mapping[str, Space]:
    """Lines: `key there|absent AT<tab>PATH`, then `fs …` and `dev …` for every AT that was measured."""
    rows, rooms, devices = [], {}, {}
    for line in frames.lines("space") or ():
        if match := re.match(r"fs (\d+) (\d+) (\d+) (\d+) (\d+) (.*)$", line):
            rooms[match[6]] = tuple(map(int, match.groups()[:5]))
        elif match := re.match(r"dev (\d+) (.*)$", line):
            devices[match[2]] = int(match[1])
        elif match := re.match(r"(\w+) (there|absent) (.*)\t(.*)$", line):
            rows.append(match.groups())
    found = {}
    for key, there, at, path in rows:
        if at in rooms:
            free, block, total, free_nodes, all_nodes = rooms[at]
            nodes = free_nodes if all_nodes else None  # btrfs and others count no inodes
            found[key] = Space(path, there == "there", free * block, total * block, nodes, devices.get(at))
    return found


def models(frames: Frames) -> tuple[Model, ...] | None:
    lines = frames.lines("models")
    if lines is None:
        return None
    configs = {path.removesuffix("/config.json"): text for path, text in frames.files("configs").items()}
    found = []
    for line in lines:
        match = re.match(r"(?:config|-) (weights|-) (.+)$", line)
        if match is None:
            continue  # a directory with a newline in its name
        weights, name = match.groups()
        config = _json(configs.get(name, ""))
        inner: dict[str, Any] = next(
            (config[key] for key in ("text_config", "llm_config") if isinstance(config.get(key), dict)), {}
        )
        both = {**inner, **config}
        architectures = config.get("architectures")
        found.append(
            Model(
                name,
                weights == "weights",
                attention_heads=_whole(both, "num_attention_heads", "n_head", "n_heads"),
                kv_heads=_whole(both, "num_key_value_heads"),
                model_type=str(config["model_type"]) if "model_type" in config else None,
                architectures=tuple(map(str, architectures)) if isinstance(architectures, list) else (),
                max_positions=_whole(both, "max_position_embeddings"),
            )
        )
    return tuple(found)


def _whole(values: Mapping[str, Any], *names: str) -> int | None:
    return next((values[name] for name in names if isinstance(values.get(name), int)), None)


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
