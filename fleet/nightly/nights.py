"""Nights on record: `.fleet/nights/<id>/`, one directory a night, and beside them what is known from night to night.

.fleet/nights/failed.json       content keys that failed, and why
.fleet/nights/<id>/report.json  what happened, written after every step
.fleet/nights/<id>/lock.yaml    what refs and tags mean to this night
"""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from fleet import calendar, whole
from fleet.errors import FleetError
from fleet.journal.header import SCHEMA, check_schema, iso, run_id, seconds_of


@dataclass(frozen=True)
class Night:
    """How one night went. `began` is in seconds since the epoch; `result` "" means that it came to no end."""

    id: str
    began: float
    result: str
    said: str
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def before(self) -> Mapping[str, Mapping[str, str]]:
        """What ran when it began: host -> service -> release id."""
        found = self.document.get("before")
        return found if isinstance(found, dict) else {}

    @property
    def brought(self) -> frozenset[str]:
        """Ids of the releases that it, and the nights that it continued, brought to hosts."""
        return frozenset(map(str, self.document.get("brought") or ()))


def unsettled(past: Sequence[Night]) -> Night | None:
    """The last night that looked at hosts, where what it changed on them may still be there: killed, waiting, cut off."""
    last = next((one for one in reversed(past) if one.before), None)
    return last if last is not None and last.document.get("settled") is not True else None


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
                document,
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


@dataclass
class Book:
    """The record of the night that runs. Every change is on disk when the call returns."""

    folder: Path  # .fleet/nights
    id: str
    document: dict[str, Any]
    redact: Callable[[str], str]

    @classmethod
    def begin(cls, folder: Path, inventory: str, moment: float, redact: Callable[[str], str] = str) -> "Book":
        identity = run_id(datetime.fromtimestamp(moment, UTC), secrets.token_hex(2))
        document = {"schema": SCHEMA, "id": identity, "inventory": inventory, "began": iso(moment), "result": ""}
        book = cls(folder, identity, {**document, "said": "", "phases": []}, redact)
        book.path.mkdir(parents=True)
        book.put()
        return book

    @classmethod
    def again(cls, folder: Path, night: Night, redact: Callable[[str], str] = str) -> "Book":
        return cls(folder, night.id, dict(night.document), redact)

    @property
    def path(self) -> Path:
        return self.folder / self.id

    @property
    def lock(self) -> Path:
        return self.path / "lock.yaml"

    @property
    def fresh(self) -> frozenset[str]:
        """Content keys that the lock did not mean before."""
        keys, before = self.document.get("keys", {}), self.document.get("before_keys", {})
        return frozenset(key for name, key in keys.items() if before.get(name) != key)

    def put(self, **fields: Any) -> None:
        self.document.update(fields)
        write(self.path / "report.json", self.document, self.redact)

    @contextmanager
    def phase(self, name: str) -> Iterator[dict[str, Any]]:
        """A step with its time, in seconds; how it ended is written whatever ends it."""
        began = calendar.now()
        phase: dict[str, Any] = {"name": name, "began": iso(began), "ok": None}
        self.document["phases"].append(phase)
        self.put()
        try:
            yield phase
            phase["ok"] = phase["ok"] is not False
        except BaseException:
            phase["ok"] = False
            raise
        finally:
            phase["seconds"] = round(calendar.now() - began, 1)
            self.put()

    def end(self, result: str, said: str) -> None:
        self.put(result=result, said=said, ended=iso(calendar.now()))


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One night of an inventory at a time on this machine, wherever it is said: `path` is the inventory's lock, beside which
    lies the file that is held; the kernel lets go of it with the process. Raises FleetError.
    """
    place = path.with_name(f".{path.name}.night")
    while True:
        try:
            file = place.open("a+", encoding="utf-8")
        except OSError as error:
            raise FleetError(f"{place} cannot be written: {error.strerror}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                holder = file.read().strip()
                raise FleetError(
                    f"another night is running here ({holder}) with this inventory; nothing was done",
                    hint="invoke nightly.status",
                ) from error
            if not _is_still(file, place):  # the one before took its file away while we waited for it
                continue
            file.truncate(0)
            file.write(f"process {os.getpid()} in {Path.cwd()}\n")
            file.flush()
            try:
                yield
            finally:
                place.unlink(missing_ok=True)
            return


def _is_still(file: IO[str], place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), place.stat())
    except FileNotFoundError:
        return False


def good_paces(past: Sequence[Night]) -> dict[str, tuple[float, str]]:
    """By `HOST REPLICA`, tokens/s with the release that a night promoted last, and that night's id."""
    found: dict[str, tuple[float, str]] = {}
    for night in past:
        for one in night.document.get("paces") or () if night.result == "promoted" else ():
            found[f"{one['host']} {one['replica']}"] = (float(one["after"]), night.id)
    return found


def failed(folder: Path) -> dict[str, str]:
    """Content key -> why it failed, of all nights."""
    found = read(folder / "failed.json")
    keys = found.get("keys")
    return {str(key): str(cause) for key, cause in keys.items()} if isinstance(keys, dict) else {}


def remember(folder: Path, keys: Mapping[str, str], *, forget: tuple[str, ...] = ()) -> None:
    """Write down keys that failed and drop those that went well after all. Nights of other inventories do so beside us."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        known = {key: cause for key, cause in {**failed(folder), **keys}.items() if key not in forget}
        write(folder / "failed.json", {"schema": SCHEMA, "keys": known})
    finally:
        os.close(held)


def keep(folder: Path, inventory: str, number: int) -> tuple[str, ...]:
    """Remove all but the newest nights of an inventory; one that still waits or was cut off last is among them."""
    old = nights(folder, inventory)[:-number]
    for night in old:
        shutil.rmtree(folder / night.id, ignore_errors=True)
    return tuple(night.id for night in old)


def write(path: Path, document: Mapping[str, Any], redact: Callable[[str], str] = str) -> None:
    """Replace a JSON file in one step, secrets taken out of it. Raises FleetError."""
    try:
        whole.write(path, redact(json.dumps(document, indent=2, ensure_ascii=False)))
    except OSError as error:
        raise FleetError(f"{path} cannot be written: {error.strerror}") from error
