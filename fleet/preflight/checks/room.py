"""Is there room for what is about to arrive?"""

from fleet.facts.model import Facts, Space
from fleet.preflight.checks.words import GIB, size
from fleet.preflight.needs import ImageFacts, Needs
from fleet.preflight.registry import Blind, Result, checks

RESERVE = 5 * GIB  # stays free: logs, compile caches, the container's own layer
UNPACKED_RATIO = 3.2  # of ROCm images with gzip layers, where nobody knows the real size
INODES_LEAST = 500_000  # a vLLM image has some two hundred thousand files


def demands(facts: Facts, needs: Needs, image: ImageFacts) -> dict[str, int]:
    """Bytes by place (root, containerd, staging) at the moment of most use.

    The engine holds a copy of the compressed layers beside the unpacked ones while it loads, and the containerd store
    keeps it. A sideload stages another one, of which a part may lie there already.
    """
    unpacked = image.unpacked_bytes or int(image.size_bytes * UNPACKED_RATIO)
    own_store = facts.docker.image_store == "containerd" and "containerd" in facts.space
    places = {"containerd" if own_store else "root": image.size_bytes + unpacked}
    if needs.delivery != "registry":
        places["staging"] = max(image.size_bytes - image.staged_bytes, 0)
    return places


@checks("space_image")
def space_image(facts: Facts, needs: Needs) -> Result:
    if needs.image is None or not needs.image.size_bytes:
        return None  # nothing has to move, or nobody knows yet and asks again
    groups: dict[int | str, list[tuple[Space, int]]] = {}
    for place, count in demands(facts, needs, needs.image).items():
        space = facts.space.get(place)
        if space is None:
            return Blind(f"the free space for {place}")
        groups.setdefault(space.path if space.device is None else space.device, []).append((space, count))
    short = []
    for rows in groups.values():
        wanted, free = sum(count for _, count in rows) + RESERVE, min(space.free_bytes for space, _ in rows)
        if wanted > free:
            paths = " and ".join(space.path for space, _ in rows)
            short.append(f"{paths}: {size(free)} free, {size(wanted)} needed")
    return "; ".join(short) or None


@checks("space_engine")
def space_engine(facts: Facts, _needs: Needs) -> Result:
    space = facts.space.get("root")
    if space is None:
        return Blind("the free space below docker's root directory")
    return f"{space.path}: {size(space.free_bytes)} free" if space.free_bytes < RESERVE else None


@checks("space_inodes")
def space_inodes(facts: Facts, _needs: Needs) -> Result:
    space = facts.space.get("root")
    if space is None:
        return Blind("the free inodes below docker's root directory")
    if space.free_inodes is None or space.free_inodes >= INODES_LEAST:
        return None
    return f"{space.path}: {space.free_inodes} inodes free"


@checks("space_staging")
def space_staging(facts: Facts, needs: Needs) -> Result:
    if needs.delivery == "registry":
        return None
    space = facts.space.get("staging")
    if space is None:
        return Blind(f"the free space below {needs.staging_dir}")
    return f"{space.path}: {size(space.free_bytes)} free" if space.free_bytes < RESERVE else None
