"""How this server is to behave: standin.json beside the model, then STANDIN_* variables, which win."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Seconds are floats; an empty string is "nothing of the kind"."""

    start_seconds: float = 1.5
    fail: str = ""
    hang: str = ""
    slow_tokens: float = 0.0
    wrong_model: str = ""
    garbage: bool = False
    wrong_answers: bool = False
    task: str = "generate"
    stop_seconds: float = 0.0


def read(directory: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of one run. Raises ValueError for a name that does not exist in standin.json."""
    file = directory / "standin.json" if directory else None
    found: dict[str, Any] = json.loads(file.read_text()) if file and file.is_file() else {}
    known = {field.name: field.default for field in fields(Settings)}
    if unknown := sorted(set(found) - set(known)):
        raise ValueError(f"standin.json: no such setting: {', '.join(unknown)}")
    for name in known:
        if (value := environment.get(f"STANDIN_{name.upper()}")) is not None:
            found[name] = value
    return Settings(**{name: _as(known[name], value) for name, value in found.items()})


def _as(default: Any, value: Any) -> Any:
    if isinstance(default, bool):
        return str(value).lower() not in {"", "0", "false", "no"}
    return type(default)(value)
