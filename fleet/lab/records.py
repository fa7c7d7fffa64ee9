"""Which labs there are: their locks and records, and how all that one can have left behind is removed."""

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from fleet.errors import FleetError, UsageError
from fleet.lab import cgroups, network, processes
from fleet.lab.paths import DATA, RUN, Paths
from fleet.lab.topology import ENGINES, FIRST_OCTET, MAX_LABS, NodeSpec, Topology

NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")


def check_name(name: str) -> None:
    """A lab's name becomes the name of directories, which are removed with it."""
    if not NAME.fullmatch(name):
        raise UsageError(f"a lab cannot be called {name!r}", hint="a letter, then up to 19 letters, digits and -")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file. `down` removes it, so whoever waited for one that is gone takes the new one."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                if path.stat().st_ino != os.fstat(lock.fileno()).st_ino:
                    continue
            except FileNotFoundError:
                continue
            yield
            return


def register(paths: Paths, wanted: tuple[NodeSpec, ...], inventory_path: Path, engine: str = "") -> Topology:
    """Write what the lab is made of before anything of it exists.

    A lab that is there keeps its number and nodes, and without a wish for an `engine` that one too.
    """
    with locked(RUN / "index.lock"):
        known: tuple[NodeSpec, ...] = ()
        if paths.record.exists():
            record = json.loads(paths.record.read_text())
            before = Topology.from_json(record["topology"])
            index, known, engine = before.index, before.specs, engine or before.engine
            if record["inventory"] != str(inventory_path):  # another checkout takes the lab over
                Path(record["inventory"]).unlink(missing_ok=True)
        else:
            index = _free_index()
        names = {spec.name for spec in known}
        specs = (*known, *(spec for spec in wanted if spec.name not in names))
        topology = Topology(paths.name, index, specs, engine or ENGINES[0])
        for directory in (paths.run, paths.data):
            directory.mkdir(parents=True, exist_ok=True)
        new = paths.record.with_suffix(".new")
        new.write_text(json.dumps({"topology": topology.to_json(), "inventory": str(inventory_path)}, indent=2))
        new.replace(paths.record)
    return topology


def _free_index() -> int:
    taken = {json.loads(record.read_text())["topology"]["index"] for record in DATA.glob("*/lab.json")}
    octets = network.used_octets()
    for index in range(MAX_LABS):
        if index not in taken and FIRST_OCTET + index not in octets:
            return index
    raise FleetError(f"all {MAX_LABS} networks for labs are taken", hint="invoke lab.down in one of them")


def remove(paths: Paths) -> None:
    """Remove all that a lab of this name can have left behind, from what is there rather than from memory."""
    record = json.loads(paths.record.read_text()) if paths.record.exists() else None
    for file in sorted(paths.run.glob("*.pid")):
        processes.end(file)
    cgroups.kill(paths.cgroup)
    cgroups.remove(paths.cgroup)
    if record:
        network.remove(Topology.from_json(record["topology"]))
        inventory_path = Path(record["inventory"])
        for file in (inventory_path, inventory_path.with_suffix(".lock.yaml")):
            file.unlink(missing_ok=True)
    shutil.rmtree(paths.run, ignore_errors=True)
    if paths.data.exists():
        for entry in paths.data.iterdir():
            if entry != paths.record:  # it goes last: killed here, the next `down` still finds the lab
                shutil.rmtree(entry, ignore_errors=True)
    shutil.rmtree(paths.data, ignore_errors=True)
    paths.lock.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        DATA.rmdir()
    with contextlib.suppress(OSError):
        if not any(entry.name != "index.lock" for entry in RUN.iterdir()):
            (RUN / "index.lock").unlink(missing_ok=True)
            RUN.rmdir()
