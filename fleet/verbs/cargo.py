"""`--bundle`: a roll takes its releases from a bundle, which is checked whole before anything is touched."""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from fleet.bundle import check, contents
from fleet.bundle import load as loading
from fleet.bundle.check import Bundle
from fleet.bundle.contents import Record
from fleet.bundle.inside import Looking
from fleet.bundle.store import SiteStore
from fleet.bundle.supply import moved, over_ssh, supply, wanted
from fleet.errors import FleetError, UsageError
from fleet.image import lock as locks
from fleet.image.lock import Lock
from fleet.image.release import Release
from fleet.image.store import Store
from fleet.inventory.model import Host, Inventory
from fleet.options import Options
from fleet.prune.ledger import Ledger
from fleet.rollout.stock import Stock
from fleet.verbs.closing import Teller
from fleet.verbs.common import ROOT, narrator, serving

PLAYBOOK = "airgap"


@dataclass(frozen=True)
class Trust:
    """Whose signature counts; `unsigned` says that none is asked for."""

    allowed_signers: str
    unsigned: bool

    def require(self) -> None:
        if bool(self.allowed_signers) == self.unsigned:
            raise UsageError(
                "whose signature counts?", hint="--allowed-signers FILE, or --unsigned to do without; not both"
            )


@dataclass(frozen=True)
class Cargo:
    """The bundle of a roll. `store` "" is the site's usual one."""

    folder: str
    store: str
    trust: Trust

    @property
    def site_store(self) -> SiteStore:
        return SiteStore(Path(self.store or ROOT / "store"))

    def flags(self) -> dict[str, Any]:
        """For a run's journal, from which --resume takes it."""
        return asdict(self)

    @classmethod
    def of_flags(cls, flags: object) -> Self | None:
        if not isinstance(flags, Mapping) or not isinstance(flags.get("trust"), Mapping):
            return None
        trust = flags["trust"]
        signers, unsigned = str(trust.get("allowed_signers", "")), trust.get("unsigned") is True
        return cls(str(flags.get("folder", "")), str(flags.get("store", "")), Trust(signers, unsigned))


def cargo_of(folder: str, store: str, allowed_signers: str, *, unsigned: bool) -> Cargo | None:
    """What the flags say. Raises UsageError for flags of a bundle without one."""
    if folder:
        return Cargo(folder, store, Trust(allowed_signers, unsigned))
    if store or allowed_signers or unsigned:
        raise UsageError("--store, --allowed-signers and --unsigned are about a bundle", hint="--bundle DIR")
    return None


@dataclass(frozen=True)
class Examined:
    """A bundle that was found whole, and complete for the hosts of a roll."""

    bundle: Bundle
    records: tuple[Record, ...]
    store: SiteStore


def examine(cargo: Cargo, hosts: Sequence[Host], options: Options) -> Examined:
    """Raises UsageError with every problem by name; nothing was written then and no host was asked."""
    cargo.trust.require()
    try:
        bundle = check.open_bundle(Path(cargo.folder), cargo.trust.allowed_signers)
        wrong = damage(bundle, options, inside=cargo.trust.unsigned)
        records = contents.records(bundle) if not wrong else ()
        held = cargo.site_store.digests()
    except FleetError as error:
        raise UsageError(f"{error.message}: nothing was touched", hint=error.hint) from error
    if wrong:
        raise UsageError(_listed(f"{cargo.folder} is damaged", wrong), hint="bring the named files again")
    needing = serving(hosts)
    releases = wanted(bundle.manifest, records, needing)
    lacking = contents.unserved(bundle.manifest, releases, needing, Lock(), Lock())
    lacking += missing(bundle, releases, held, needing)
    if lacking:
        hint = f"bring a full bundle of this inventory, or one --since a bundle.have of {cargo.site_store.root}"
        raise UsageError(_listed(f"{cargo.folder} is not enough for this inventory", lacking), hint=hint)
    return Examined(bundle, records, cargo.site_store)


def missing(
    bundle: Bundle, releases: Sequence[Release], held: Collection[str], hosts: Sequence[Host]
) -> tuple[str, ...]:
    """By name, what hosts could not get of these releases from a bundle and a store: what they hold themselves counts."""
    alone = over_ssh(bundle.manifest, hosts)
    return tuple(
        problem
        for one in releases
        for problem in contents.lacking(bundle.manifest, (one,), held, nodes=one.id in alone)
    )


def damage(bundle: Bundle, options: Options, *, inside: bool) -> tuple[str, ...]:
    """Read every byte, and what the layers unpack to (`inside`); all that is wrong, by name."""
    done, guard = 0, threading.Lock()

    def on_bytes(count: int) -> None:
        nonlocal done
        with guard:
            done += count
            at(done)

    looking = Looking(bundle, on_bytes) if inside else None
    total = bundle.manifest.size + (looking.size if looking else 0)
    with narrator(options).moving("bundle", f"read {bundle.path}", total) as at:
        if looking:
            looking.start()
        wrong = check.problems(bundle, on_bytes) or contents.damaged(bundle)
        return wrong or (looking.problems() if looking else ())


def unload(cargo: Examined, inventory: Inventory, hosts: Sequence[Host], say: Teller, *, dry: bool) -> Stock:
    """Load the bundle into the store and move the lock to what it was made with; `dry` says what would be done."""
    bundle, store = cargo.bundle, cargo.store
    lines: list[str] = []
    if dry:
        number = len(loading.new_blobs(bundle, store))
        lines += [f"{number} blobs of {bundle.path} would be loaded into {store.root}"] if number else []
    else:
        number = loading.load(bundle, cargo.records, store, Store(ROOT), say.moving).added
        lines += [f"loaded {number} blobs of {bundle.path} into {store.root}"] if number else []
    before = locks.read(inventory.lock_path)
    lock = moved(before, contents.lock_of(bundle))
    if lock != before:
        lines.append(f"{inventory.lock_path} {'would say' if dry else 'says'} what bundle {bundle.manifest.id} says")
        if not dry:
            locks.write(inventory.lock_path, lock)
    left_out = contents.left_out(bundle.manifest, contents.distinct(cargo.records), store.digests())
    stock = supply(
        bundle.manifest, cargo.records, hosts, ROOT, say=say.line, dry=dry, left_out=left_out, moving=say.moving
    )
    (stock.notes if dry else stock.changes)[:0] = lines
    if not dry:
        brought = [one for of_host in stock.releases.values() for one in of_host.values()]
        Ledger.of(ROOT, inventory).claim(*(word for one in brought for word in (one.id, one.content_key)))
    absent = contents.models_missing(bundle.manifest, hosts)
    stock.notes += [f"model {model} is not in the bundle: it has to be on the hosts" for model in absent]
    return stock


def _listed(what: str, problems: Sequence[str]) -> str:
    return "\n".join((f"{what}; nothing was touched:", *(f"  {problem}" for problem in problems)))
