"""Known failures: which entry of signatures.yaml a text shows. Pure, but for reading the catalogue once."""

import re
from dataclasses import dataclass
from functools import cache

from fleet.packaged import table

PLACES = ("build", "load", "run", "container", "kernel", "host")


@dataclass(frozen=True)
class Signature:
    """One known failure. `fatal` is False where a server may still come up; `verified` is issue, doc or infer."""

    id: str
    where: str
    pattern: re.Pattern[str]
    example: str
    cause: str
    fix: str
    verified: str
    source: tuple[str, ...]
    fatal: bool = True


@cache
def catalogue() -> tuple[Signature, ...]:
    """Every entry, in the file's order."""
    data = table("fleet", "signatures.yaml")
    return tuple(
        Signature(
            id=entry["id"],
            where=entry["where"],
            pattern=re.compile(entry["pattern"], re.IGNORECASE),
            example=entry["example"],
            cause=entry["cause"],
            fix=entry["fix"],
            verified=entry["verified"],
            source=tuple(entry["source"]),
            fatal=entry.get("fatal", True),
        )
        for entry in data["signatures"]
    )


def match(text: str, where: str = "") -> tuple[Signature, ...]:
    """The entries that `text` shows, first seen first. `where` (one of PLACES) limits them; "" takes all."""
    hits = [
        (found.start(), signature)
        for signature in catalogue()
        if where in {"", signature.where} and (found := signature.pattern.search(text))
    ]
    return tuple(signature for _, signature in sorted(hits, key=lambda hit: hit[0]))
