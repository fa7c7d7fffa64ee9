"""Nights on record: `.fleet/nights/<id>/report.json`, one directory a night."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.errors import FleetError
from fleet.journal.header import check_schema, seconds_of


@dataclass(frozen=True)
class Night:
    """How one night went. `began` is in seconds since the epoch; `result` "" means that it came to no end."""

    id: str
    began: float
    result: str
    said: str


def nights(folder: Path, inventory: str = "") -> tuple[Night, ...]:
    """Those of an inventory (all for ""), the oldest first. Raises FleetError for one of a newer fleet."""
    found = []
    for path in sorted(folder.glob("*/report.json")):
        document = read(path)
        if document and inventory in ("", document.get("inventory")):
            night = Night(
                path.parent.name,
                seconds_of(document.get("began")),
                str(document.get("result", "")),
                str(document.get("said", "")),
            )
            found.append(night)
    return tuple(found)


def read(path: Path) -> Mapping[str, Any]:
    """A report, {} for one that is gone, torn or none of ours."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    except OSError as error:
        raise FleetError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(document, dict):
        return {}
    check_schema(document, str(path))
    return document
