"""Pins: releases that the stage prune leaves alone. A pin lies on the host itself, so that every controller sees it.

It is `releases/pinned/RELEASE.json` of the state directory. A login without root reads those of /var/lib/fleet too.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from fleet.journal.header import SCHEMA, iso, parse
from fleet.shell import STATE_DIR, Shell

# The text comes behind it by standard input, because arguments can be seen by everybody on the host.
_PIN = f"""{STATE_DIR}
mkdir -p "$dir/releases/pinned" || exit 1
umask 022
cat > "$dir/releases/pinned/.$1.$$" <<'END-OF-PIN' || exit 1
%s
END-OF-PIN
mv -f "$dir/releases/pinned/.$1.$$" "$dir/releases/pinned/$1.json"
"""
_UNPIN = f"""{STATE_DIR}
rm -f -- "$dir/releases/pinned/$1.json" || exit 1
if [ -e "/var/lib/fleet/releases/pinned/$1.json" ]; then
  echo "/var/lib/fleet/releases/pinned/$1.json was put there by root, and holds on" >&2
  exit 1
fi
"""


@dataclass(frozen=True)
class SetPin:
    """Pin a release on one host, or take its pin away; `release` is its id, `name` how people know it."""

    release: str
    name: str
    pin: bool
    why: str

    @property
    def what(self) -> str:
        return f"pin {self.name}" if self.pin else f"unpin {self.name}"


def pinned_in(lines: Iterable[str], where: str) -> dict[str, str]:
    """Of a host's records (lines of JSON), the pinned releases' ids and why. Pure. Raises FleetError for a newer fleet's."""
    records = [parse(line, where) for line in lines]
    told = [record for record in records if record is not None]
    return {one["pinned"]: str(one.get("why", "")) for one in told if isinstance(one.get("pinned"), str)}


def put(session: Shell, step: SetPin, at: float) -> None:
    """Carry it out. `at` is in seconds since the epoch. Raises HostError."""
    if step.pin:
        text = json.dumps({"schema": SCHEMA, "pinned": step.release, "why": step.why, "at": iso(at)})
        session.script(_PIN.replace("%s", text), args=(step.release,), sudo=True)
    else:
        session.script(_UNPIN, args=(step.release,), sudo=True)
