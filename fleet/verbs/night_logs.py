"""The last lines of what failed, for a person who reads the report and has no terminal at hand."""

import re
from pathlib import Path
from typing import Any

from fleet.verbs.common import ROOT

LINES = 20
_PATH = re.compile(rf"{re.escape(str(ROOT / 'logs'))}/[^\s;,:]+\.log")


def tail_of(text: str) -> dict[str, Any]:
    """`{path, lines}` of the log that a message names; {} where it names none that can be read."""
    found = _PATH.search(text)
    if found is None:
        return {}
    path = Path(found[0])
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return {"path": str(path), "lines": lines[-LINES:]}
