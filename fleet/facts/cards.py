"""Which card a PCI device id is, and what its partition modes look like. Data: pci_ids.yaml."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from fleet.packaged import table


@cache
def _table() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = table("fleet.facts", "pci_ids.yaml")
    return loaded


def model_of(device_id: int | None, cus: int | None) -> str | None:
    """The card's name as AMD sells it, or None for an id nobody wrote down."""
    row = _table()["devices"].get(device_id)
    if row is None:
        return None
    return str(row.get("by_cus", {}).get(cus, row["model"]))


def gfx_of(device_id: int | None) -> str | None:
    """The target of a known card, for kernels that do not tell it."""
    row = _table()["devices"].get(device_id)
    return None if row is None else str(row["gfx"])


def mode_of(model: str | None, xccs: int | None) -> str | None:
    """The compute partition mode told by the compute dies of one node, where the driver's own word is missing."""
    whole = _table()["card_xccs"].get(family(model or ""))
    if not whole or not xccs:
        return None
    for mode, nodes in _table()["partitions"][family(model or "")].items():
        if xccs * nodes == whole:
            return str(mode)
    return None


def family(model: str) -> str:
    """MI300X for MI300X, MI300X VF and MI300X HF."""
    return model.split(" ", maxsplit=1)[0].upper()


def gfx_of_version(version: int) -> str | None:
    """`gfx_target_version` as a target: 90402 -> gfx942, 90010 -> gfx90a. Zero is no GPU. Source: kfd_device.c."""
    if not 0 < version < 1_000_000:
        return None
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def gfx_of_name(name: str) -> str | None:
    """The target by the code name that older kernels put into a node's `name`; None for "ip discovery"."""
    found = _table()["code_names"].get(name.lower())
    return None if found is None else str(found)


def families() -> tuple[str, ...]:
    """The cards that are written down, by the names that an inventory may give them."""
    rows = _table()["devices"].values()
    return tuple(sorted({family(name) for row in rows for name in (row["model"], *row.get("by_cus", {}).values())}))


def gfx_of_model(model: str) -> str | None:
    """The target of a card by its name (MI300X -> gfx942); None for a name nobody wrote down."""
    for row in _table()["devices"].values():
        if family(model) in {family(name) for name in (row["model"], *row.get("by_cus", {}).values())}:
            return str(row["gfx"])
    return None
