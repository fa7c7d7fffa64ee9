"""What one controller remembers of one inventory, beside what hosts and registry tell, so that a prune can be sure.

.fleet/inventories/NAME/ours/TOKEN        it had this made or brought: a content key, a release's id, an image's ID
.fleet/inventories/NAME/needed/HOST.json  what the host needed when it was last asked, and what was meant for it since

Several inventories may share a controller's `.fleet`, a builder or a registry, and call their images alike: only what this
inventory had made is its own to remove. A host that cannot be asked still needs what it needed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleet import calendar, whole
from fleet.errors import FleetError
from fleet.image.release import Release, from_json, to_json
from fleet.inventory.model import Inventory
from fleet.journal.header import SCHEMA, check_schema
from fleet.prune.ownership import Owned


@dataclass(frozen=True)
class Needs:
    """Release ids with why, and their records as far as they are known. `day` is when the host said so; "" is never."""

    day: str = ""
    needed: Mapping[str, str] = field(default_factory=dict)
    releases: Mapping[str, Release] = field(default_factory=dict)


@dataclass(frozen=True)
class Ledger:
    """One inventory's."""

    folder: Path

    @classmethod
    def of(cls, root: Path, inventory: Inventory) -> "Ledger":
        """By where its first file lies, as nights go."""
        path = str(inventory.sources[0].resolve())
        return cls(root / "inventories" / hashlib.sha256(path.encode()).hexdigest()[:12])

    # What is ours

    def claim(self, *tokens: str) -> None:
        """Digests may begin with `sha256:`; empty ones are none."""
        for token in filter(None, tokens):
            path = self.folder / "ours" / _plain(token)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()

    def forget(self, *tokens: str) -> None:
        """Another inventory that claims it too may remove it now."""
        for token in filter(None, tokens):
            (self.folder / "ours" / _plain(token)).unlink(missing_ok=True)

    @property
    def owned(self) -> Owned:
        others = (path for path in self.folder.parent.glob("*/ours/*") if path.parent.parent != self.folder)
        return Owned(
            frozenset(path.name for path in self.folder.glob("ours/*")), frozenset(path.name for path in others)
        )

    # What hosts need

    def remember(self, host: str, needed: Mapping[str, str], known: Mapping[str, Release]) -> None:
        """What the host says that it needs, as of now."""
        self._write(host, Needs(datetime.fromtimestamp(calendar.now(), UTC).date().isoformat(), needed, known))

    def expect(self, host: str, releases: Iterable[Release], why: str) -> None:
        """These are being brought there, so it may need them from now on, whether or not it says so again."""
        before = self.needs(host)
        fresh = {one.id: one for one in releases if one.id not in before.needed}
        if fresh:
            needed = {**before.needed, **dict.fromkeys(fresh, why)}
            self._write(host, Needs(before.day, needed, {**before.releases, **fresh}))

    def needs(self, host: str) -> Needs:
        """As remembered. Raises FleetError for what a newer fleet wrote; what is damaged counts as never asked."""
        path = self.folder / "needed" / f"{host}.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            check_schema(document, str(path))
            releases = [from_json(one, str(path)) for one in document["releases"]]
            needed = {str(name): str(why) for name, why in document["needed"].items()}
            return Needs(str(document["day"]), needed, {one.id: one for one in releases})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Needs()

    def _write(self, host: str, needs: Needs) -> None:
        records = [to_json(one) for name, one in needs.releases.items() if name in needs.needed]
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "day": needs.day,
            "needed": dict(needs.needed),
            "releases": records,
        }
        folder = self.folder / "needed"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            whole.write(folder / f"{host}.json", json.dumps(document))
        except OSError as error:
            raise FleetError(f"what {host} needs could not be written down in {folder}: {error.strerror}") from error


def _plain(token: str) -> str:
    return token.removeprefix("sha256:")
