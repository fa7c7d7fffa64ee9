"""What lay under the services of each host when it was last looked at: kernel, driver, firmware, partition mode.

It is this controller's memory and stands in `.fleet/seen/HOST.json`. Every look writes down what is new there and what is
otherwise than it was, with when that was first seen. What is otherwise stays a difference until somebody accepts it: a deploy
or `verify` with answers from the host's services, or `drift --accept`. A night accepts nothing, because nobody watches it.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fleet.facts import Facts
from fleet.inventory.model import Host
from fleet.journal.header import iso
from fleet.rollout.alike import PLATFORM, firmware
from fleet.rollout.drift import Drift, joined
from fleet.rollout.run import Outcome

SCHEMA = 1
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class Known:
    """One thing of a host. `value` is what was accepted and `at` when it was last so; `other` has been there since `since`.

    Times are seconds since the epoch.
    """

    value: str
    at: float
    other: str = ""
    since: float = 0.0


@dataclass(frozen=True)
class Seen:
    """One host's memory. A host under another address is another machine, of which nothing is known."""

    address: str
    known: Mapping[str, Known] = field(default_factory=dict)


def platform(facts: Facts) -> dict[str, str]:
    """What is remembered of a host, as words. What it does not tell is left out."""
    read = {name: str(value) for name, of in PLATFORM.items() if (value := of(facts)) not in (None, "")}
    return read | firmware(facts)


def looked(before: Seen, facts: Facts, now: float) -> Seen:
    """The memory after a look. Pure."""
    known = dict(before.known)
    for name, value in platform(facts).items():
        old = known.get(name)
        if old is None or old.value == value:
            known[name] = Known(value, now)
        elif old.other != value:
            known[name] = Known(old.value, old.at, value, now)
    return Seen(before.address, known)


def accepted(before: Seen, facts: Facts, now: float) -> Seen:
    """The memory once what is there now is right. Pure."""
    return Seen(before.address, {**before.known, **{name: Known(one, now) for name, one in platform(facts).items()}})


def changed(seen: Seen) -> tuple[Drift, ...]:
    """What is otherwise than it was accepted. Pure."""
    return joined(
        "changed",
        (
            (name, f"{one.value} → {one.other}, first seen {_minute(one.since)}, as before until {_minute(one.at)}")
            for name, one in seen.known.items()
            if one.other
        ),
    )


def remember(
    root: Path, outcomes: Iterable[Outcome], now: float, *, accept: Collection[str] = ()
) -> dict[str, tuple[Drift, ...]]:
    """Put a look at these hosts into the memory, and take what is there as right on those of `accept`.

    Returns by host what had changed. It is a cache: where it cannot be written, the next look knows less.
    """
    found = {}
    for one in outcomes:
        if one.site is None:
            continue
        seen = looked(read(root, one.host, one.site.host.connection.address), one.site.facts, now)
        found[one.host] = changed(seen)
        write(root, one.host, accepted(seen, one.site.facts, now) if one.host in accept else seen)
    return found


def remembered(root: Path, hosts: Iterable[Host]) -> dict[str, tuple[Drift, ...]]:
    """What is known to have changed on them, as the last looks found it; without a look, and without hosts of no change."""
    found = {host.name: changed(read(root, host.name, host.connection.address)) for host in hosts}
    return {name: changes for name, changes in found.items() if changes}


def read(root: Path, host: str, address: str) -> Seen:
    """A file that cannot be read, that a newer fleet wrote or that is of another machine is no memory."""
    try:
        value = json.loads(_place(root, host).read_text(encoding="utf-8"))
        if value["schema"] != SCHEMA or value["address"] != address:
            return Seen(address)
        return Seen(address, {str(name): Known(**entry) for name, entry in value["known"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Seen(address)


def write(root: Path, host: str, seen: Seen) -> None:
    path = _place(root, host)
    text = json.dumps({"schema": SCHEMA, "host": host, **asdict(seen)}, indent=2)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()


def _place(root: Path, host: str) -> Path:
    """A name that is no plain file's gets one of its own."""
    plain = host if _PLAIN.fullmatch(host) else f"~{hashlib.sha256(host.encode()).hexdigest()[:32]}"
    return root / "seen" / f"{plain}.json"


def _minute(seconds: float) -> str:
    return f"{iso(seconds)[:16].replace('T', ' ')} UTC"
