"""One node of a running lab: its namespaces, its daemons, its cables."""

import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import FleetError
from fleet.lab import cgroups, engine, host, inside, keys, network, processes
from fleet.lab.boot import Plan
from fleet.lab.engine import Engine
from fleet.lab.paths import NodePaths, Paths
from fleet.lab.rootfs import trixie
from fleet.lab.topology import REGISTRY_PORT, Link, NodeSpec, Topology

ENVIRONMENT = {"PATH": host.PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"}
START = 40.0  # seconds for a daemon to answer on a busy machine
STOP = 20.0  # seconds for a daemon to go when asked; dockerd gives its containers 15


@dataclass(frozen=True)
class NodeStatus:
    """What a look at one node says. `services` maps a daemon's name to whether it answers."""

    name: str
    running: bool
    engine: str  # version, empty = none or stopped
    store: str  # overlay2 | containerd, empty as above
    address: str
    user: str
    profile: str
    services: dict[str, bool]

    @property
    def ok(self) -> bool:
        return self.running and all(self.services.values())


@dataclass(frozen=True)
class Node:
    """A handle; everything it says is read at that moment."""

    topology: Topology
    spec: NodeSpec
    paths: NodePaths

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pid(self) -> int:
        """The node's first process as the machine numbers it. Raises FleetError when the node is down."""
        found = processes.recall(self.paths.process)
        if not found:
            raise FleetError(f"the lab's node {self.name} is not running", hint=self._repair)
        return found

    @property
    def running(self) -> bool:
        return bool(processes.recall(self.paths.process))

    @property
    def root(self) -> Path:
        """The node's / seen from the machine; writing here changes the running node."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def links(self) -> tuple[Link, ...]:
        return self.topology.links(self.name)

    @property
    def cgroup(self) -> str:
        return f"{Paths(self.topology.name).cgroup}/{self.name}"

    @property
    def _repair(self) -> str:
        return f"invoke lab.up --lab {self.topology.name}"

    def exec(
        self, argv: Sequence[str], *, check: bool = True, stdin: str = "", timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the node as root, in all its namespaces. Raises FleetError if `check` and it fails."""
        done = subprocess.run(
            self.inside(argv),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env=ENVIRONMENT,
            cwd="/",
        )
        if check and done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}").splitlines()[-1]
            raise FleetError(f"lab node {self.name}: `{' '.join(argv[:4])}` failed: {said}")
        return done

    def inside(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The command line that runs `argv` on the node as root, in all its namespaces."""
        namespaces = ("nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C")
        return (*namespaces, "/bin/sh", "-c", inside.JOIN, "sh", *argv)

    # Life

    def start(self) -> None:
        """Boot the node and wait until its daemons answer. What runs already is left alone, what is missing is added."""
        if not self.running:
            self.stop()
            self._boot()
        if not network.connected(self.links):
            network.connect(self.topology.name, self.links, self.pid)
        self._start_accountant()
        for service in self.spec.services:
            self.launch_service(service)
        for service in self.spec.services:
            self.await_service(service)

    def stop(self) -> None:
        """Pull the plug: everything on the node is killed at once, its disks stay."""
        processes.end(self.paths.accountant)
        processes.end(self.paths.process)
        cgroups.kill(self.cgroup)
        cgroups.remove(self.cgroup)
        # The kernel lets go of mounts a moment after the last process, and one disk must not be mounted twice.
        deadline = time.monotonic() + STOP
        while inside.attached(self.paths.disk) and time.monotonic() < deadline:
            time.sleep(0.05)

    def reboot(self) -> None:
        """Kill everything and boot again, with a new boot id."""
        self.stop()
        self.start()

    def _boot(self) -> None:
        self.paths.mountpoint.mkdir(parents=True, exist_ok=True)
        lower = Path("/") if self.spec.base == "host" else trixie()
        plan = Plan(
            name=self.name,
            lower=str(lower),
            upper=str(self.paths.upper),
            work=str(self.paths.work),
            kernel=str(self.paths.kernel),
            mountpoint=str(self.paths.mountpoint),
            disk=str(self.paths.disk) if self.spec.engine else "",
            cgroup=self.cgroup,
            profile=self.spec.profile,
            boot_id=str(uuid.uuid4()),
            process=str(self.paths.process),
            log=str(self.paths.log),
        )
        self.paths.plan.write_text(plan.to_json())
        source = str(Path(__file__).resolve().parents[2])
        done = subprocess.run(
            (sys.executable, "-m", "fleet.lab.boot", str(self.paths.plan)),
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRONMENT | {"PYTHONPATH": source},
        )
        if done.returncode:
            said = (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1]
            raise FleetError(
                f"the lab's node {self.name} did not boot: {said}", hint=f"invoke lab.down, then {self._repair}"
            )

    def _start_accountant(self) -> None:
        if not self.spec.profile or processes.recall(self.paths.accountant):
            return
        source = str(Path(__file__).resolve().parents[2])
        log = self.paths.data / "accountant.log"
        with log.open("ab") as out:
            started = subprocess.Popen(
                (sys.executable, "-m", "fleet.lab.accountant", "--node-pid", str(self.pid)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                env=ENVIRONMENT | {"PYTHONPATH": source},
                start_new_session=True,
            )
        processes.remember(self.paths.accountant, started.pid)

    # Daemons

    def _service_pid(self, service: str) -> int:
        """The daemon's process as the node itself numbers it, 0 when it does not run."""
        root = self.root
        try:
            pid = int((root / f"run/lab.{service}.pid").read_text())
            name = (root / f"proc/{pid}/comm").read_text().strip()
        except (OSError, ValueError):
            return 0
        running = processes.start_time(pid, root / "proc") and name == Path(inside.DAEMONS[service][0]).name[:15]
        return pid if running else 0

    def launch_service(self, service: str) -> None:
        """Start a daemon of the node without waiting for it; nothing if it runs."""
        if not self._service_pid(service):
            # setsid forks, so the daemon becomes a child of the node's init and outlives this call.
            self.exec(("setsid", "--fork", "/bin/sh", "-c", inside.LAUNCH, service, *inside.DAEMONS[service]))

    def await_service(self, service: str) -> None:
        """Wait until a daemon answers. Raises FleetError with its last words."""
        deadline = time.monotonic() + START
        while not self.answers(service):
            if time.monotonic() > deadline:
                raise FleetError(
                    f"lab node {self.name}: {service} does not answer after {START:.0f} s",
                    hint=self._last_words(service),
                )
            time.sleep(0.05)

    def answers(self, service: str) -> bool:
        """Whether a daemon takes connections; looks from inside, so a cable pulled out does not matter."""
        if not self.running or not self._service_pid(service):
            return False
        if service == "dockerd":
            return self.engine() is not None
        return inside.listens(self.pid, {"sshd": 22, "registry": REGISTRY_PORT}[service])

    def engine(self) -> Engine | None:
        """What the node's Docker engine says of itself, None when it does not answer."""
        return engine.ask(self.root / "run/docker.sock") if self.spec.engine and self.running else None

    def start_service(self, service: str) -> None:
        """Start a daemon of the node and wait until it answers."""
        self.launch_service(service)
        self.await_service(service)

    def stop_service(self, service: str) -> None:
        """Ask a daemon to end and wait for it; it is killed when it does not. Nothing if it does not run."""
        for number, seconds in (("TERM", STOP), ("KILL", STOP)):
            pid = self._service_pid(service)
            if not pid:
                return
            self.exec(("/bin/kill", f"-{number}", str(pid)), check=False)
            deadline = time.monotonic() + seconds
            while self._service_pid(service) and time.monotonic() < deadline:
                time.sleep(0.05)

    def start_engine(self) -> None:
        self.start_service("dockerd")

    def stop_engine(self) -> None:
        self.stop_service("dockerd")

    def start_sshd(self) -> None:
        self.start_service("sshd")

    def stop_sshd(self) -> None:
        """End sshd and every session of it, as a crash of the machine's sshd unit would."""
        self.stop_service("sshd")
        self.exec(("/usr/bin/pkill", "-KILL", "-x", "sshd"), check=False)  # in the node's own process namespace

    def _last_words(self, service: str) -> str:
        log = self.paths.upper / f"var/log/{service}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return " / ".join(lines[-3:]) or f"it said nothing in {log}"

    # Faults of the surroundings

    def link_down(self) -> None:
        """Pull the node's network cables out; open connections hang, as they do in a rack."""
        network.set_links(self.links, up=False)

    def link_up(self) -> None:
        network.set_links(self.links, up=True)

    def set_clock(self, offset: int) -> None:
        """Make `date` on the node wrong by `offset` seconds; 0 makes it right again."""
        wrapper = self.root / "usr/local/bin/date"
        wrapper.parent.mkdir(parents=True, exist_ok=True)
        wrapper.unlink(missing_ok=True)
        if offset:
            wrapper.write_text(inside.WRONG_CLOCK.format(offset=offset))
            wrapper.chmod(0o755)

    def new_host_keys(self) -> None:
        """Give the node other host keys, as a reinstalled machine has; sshd is restarted."""
        for kind in keys.HOST_KEY_TYPES:
            keys.ssh_key(keys.host_key_path(self.root, kind), kind, self.name)
        self.stop_sshd()
        self.start_sshd()

    def status(self) -> NodeStatus:
        """A look at the node."""
        found = self.engine()
        return NodeStatus(
            name=self.name,
            running=self.running,
            engine=found.version if found else "",
            store=found.store if found else "",
            address=self.topology.address(self.name),
            user=self.spec.user,
            profile=self.spec.profile,
            services={service: self.answers(service) for service in self.spec.services},
        )
