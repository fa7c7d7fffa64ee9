"""The lab: up, found again, looked at, taken down. Every step may be repeated, and `down` needs no memory of `up`."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import FleetError, UsageError
from fleet.lab import base_image, faults, host, inventory, keys, network, records, rootfs, supplies, vllm_cpu
from fleet.lab.node import Node, NodeStatus
from fleet.lab.paths import Paths
from fleet.lab.prepare import prepare
from fleet.lab.topology import ENGINES, NodeSpec, Topology, default_specs

WORKERS = 3  # nodes that boot at once; more only wait for the same two cores


@dataclass(frozen=True)
class Lab:
    """A handle on one lab. `timings` tells the seconds of each phase of the `up` that returned it."""

    topology: Topology
    inventory: Path
    timings: dict[str, float] = field(default_factory=dict, compare=False)

    @classmethod
    def up(
        cls,
        name: str = "lab",
        specs: Sequence[NodeSpec] | None = None,
        *,
        nodes: int = 0,
        engine: str = "",
        inventories: Path | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> "Lab":
        """Boot a lab, or repair one that is half up; nodes that are new in `specs` are added to it.

        `nodes` further MI300X nodes join the default ones; `inventories` is where NAME.yaml goes (./inventories).
        `engine` is what serves, `standin` or `vllm-cpu`; empty = as before, at first the stand-in.
        What a first `up` made is taken down again when it fails or is interrupted. Raises FleetError.
        """
        records.check_name(name)
        if engine and engine not in ENGINES:
            raise UsageError(f"the lab has no engine {engine!r}", hint=f"it has {', '.join(ENGINES)}")
        host.require()
        wanted = tuple(specs) if specs is not None else default_specs(nodes)
        directory = (inventories or Path("inventories")).resolve()
        paths = Paths(name)
        with records.locked(paths.lock), contextlib.ExitStack() as undo:
            if not paths.record.exists():
                undo.callback(records.remove, paths)
            file = directory / f"{name}.yaml"
            lab = cls(records.register(paths, wanted, file, engine), file)
            lab._raise_up(say)
            undo.pop_all()
        return lab

    @classmethod
    def find(cls, name: str = "lab") -> "Lab":
        """The lab with this name, whole or half. Raises FleetError when there is none."""
        records.check_name(name)
        try:
            record = json.loads(Paths(name).record.read_text())
        except OSError as error:
            raise FleetError(f"there is no lab {name!r}", hint=f"invoke lab.up --lab {name}") from error
        host.require()
        return cls(Topology.from_json(record["topology"]), Path(record["inventory"]))

    @property
    def name(self) -> str:
        return self.topology.name

    @property
    def paths(self) -> Paths:
        return Paths(self.name)

    @property
    def registry(self) -> str:
        """`address:port` of the registry, empty without one."""
        return self.topology.registry

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(self.node(spec.name) for spec in self.topology.specs)

    def node(self, name: str) -> Node:
        """A handle on one node. Raises UsageError for a name that is not in the lab."""
        for spec in self.topology.specs:
            if spec.name == name:
                return Node(self.topology, spec, self.paths.node(name))
        known = ", ".join(spec.name for spec in self.topology.specs)
        raise UsageError(f"lab {self.name} has no node {name!r}", hint=f"it has {known}")

    def status(self) -> tuple[NodeStatus, ...]:
        """A look at every node."""
        return tuple(node.status() for node in self.nodes)

    def ssh_argv(self, name: str, *command: str) -> tuple[str, ...]:
        """The `ssh` command line that opens a node with the lab's own key, through the bastion where that is needed."""
        return ("ssh", "-F", str(self.paths.ssh_config), self.node(name).name, *command)

    def break_(self, fault: str, name: str) -> None:
        """Inject a fault on a node. Raises UsageError for an unknown one."""
        faults.inject(self, fault, name)

    def mend(self, name: str) -> None:
        """Undo every fault of a node."""
        faults.mend(self, name)

    def down(self) -> None:
        """Take everything down: processes, namespaces, links, rules, control groups, files. Half a lab is fine too."""
        self.remove(self.name)

    @staticmethod
    def remove(name: str) -> None:
        """Take down whatever there is of a lab called `name`, if anything."""
        records.check_name(name)
        host.require()
        with records.locked(Paths(name).lock):
            records.remove(Paths(name))

    def _raise_up(self, say: Callable[[str], None]) -> None:
        with self._phase("root filesystem", say):
            lowers = self._lowers(say)
        with self._phase("keys", say):
            if not self.paths.client_key.exists():
                for node in self.nodes:  # they trust a key that is lost, so they are made again
                    node.stop()
                    node.paths.prepared.unlink(missing_ok=True)
            keys.make(self.paths, self.topology)
        with self._phase("network", say):
            network.ensure_bridges(self.topology)
        with self._phase("nodes on disk", say):
            _each(self.nodes, lambda node: self._prepare(node, lowers[node.spec.base]))
            keys.write_ssh_config(self.paths, self.topology)
        with self._phase("boot", say):
            for name in faults.recorded(self):
                faults.mend(self, name)
            # After mending: a changed host key is a fault, never the lab's truth.
            keys.write_known_hosts(self.paths, self.topology)
            _each(self.nodes, Node.start)
        builder, real = self.topology.role("builder"), self.topology.real
        if builder or real:
            with self._phase("supplies", say):
                if builder:
                    supplies.bring(self.node(builder.name), self.paths)
                if real:
                    supplies.bring_model(self.node(real.name))
        self.inventory.parent.mkdir(parents=True, exist_ok=True)
        image = vllm_cpu.archive(say) if real else None
        self.inventory.write_text(inventory.inventory_text(self.topology, self.paths, image))

    def _lowers(self, say: Callable[[str], None]) -> dict[str, Path]:
        """The directory below each kind of node; what is not cached yet is made, all at once."""
        with ThreadPoolExecutor() as pool:
            trixie = pool.submit(rootfs.trixie, say) if any(s.base == "trixie" for s in self.topology.specs) else None
            base = pool.submit(base_image.base_layout, say=say) if self.topology.role("builder") else None
            real = pool.submit(vllm_cpu.archive, say) if self.topology.real else None
        for made in (base, real):
            if made:
                made.result()
        return {"host": Path("/")} | ({"trixie": trixie.result()} if trixie else {})

    def _prepare(self, node: Node, lower: Path) -> None:
        if not node.paths.prepared.exists():
            node.stop()
            prepare(self.topology, self.paths, node.spec, lower)

    @contextlib.contextmanager
    def _phase(self, name: str, say: Callable[[str], None]) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.timings[name] = time.monotonic() - started
        say(f"{name}: {self.timings[name]:.1f} s")


def _each(nodes: Sequence[Node], work: Callable[[Node], None]) -> None:
    """Do `work` on every node, a few at a time; each one finishes, then the first failure is raised."""
    with ThreadPoolExecutor(WORKERS) as pool:
        running = [pool.submit(work, node) for node in nodes]
        try:
            problems = [problem for problem in (one.exception() for one in running) if problem]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if problems:
        raise problems[0]
