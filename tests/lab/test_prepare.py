"""The safe fixes on real nodes: broken, mended, looked at, done again without a change, undone by what was said.

20.10 as root, and 26.1 on Debian 13 by sudo.
"""

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.errors import HostError
from fleet.inventory.model import Become, Connection, Host
from fleet.inventory.settings import Gpus, Registry, Service, Settings
from fleet.lab import Lab, Node, NodeSpec
from fleet.prepare import carry_out, look, make_ready, plan
from fleet.seam import Bare, Described
from fleet.transport import Connector, Session
from tests.lab.conftest import lab_name

pytestmark = pytest.mark.lab

SPECS = (
    NodeSpec("old", profile="mi300x-8"),
    NodeSpec("new", base="trixie", profile="mi300x-8", user="ops"),
)
FAULTS = ("amdgpu-absent", "numa-balancing-on")
# The account tools keep a copy of each list under its name with a hyphen, and gpasswd makes gshadow where there is none.
FILES = "find /etc -type f ! -name '*-' ! -name gshadow -exec md5sum {} + | sort; docker ps -aq; id -Gn ops 2>/dev/null; true"
TINY = "docker image inspect tiny >/dev/null 2>&1 || tar -c -C / etc/hostname | docker import - tiny >/dev/null; "
LOGS = (
    TINY + "id=$(docker create tiny x) && docker inspect -f '{{json .HostConfig.LogConfig.Config}}' $id; docker rm $id"
)
PEM = "-----BEGIN CERTIFICATE-----\nnot one, but as a file it does\n-----END CERTIFICATE-----\n"


@dataclass
class Site:
    """One node and the open connection to it."""

    lab: Lab
    node: Node
    session: Session
    settings: Settings

    @property
    def owner(self) -> bool:
        return self.node.spec.user == "root"

    def open_fixes(self) -> list[str]:
        facts, findings = look(self.session)
        return [fix.id for fix in plan(findings, facts, self.settings)]

    def sh(self, script: str) -> str:
        return self.node.exec(("sh", "-c", script)).stdout

    def logs(self) -> dict[str, str]:
        """The log options that a container made now is given."""
        options: dict[str, str] = json.loads(self.sh(LOGS).splitlines()[0])
        return options


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    name = lab_name("prep")
    try:
        yield Lab.up(name, SPECS, inventories=tmp_path_factory.mktemp("inventories"))
    finally:
        Lab.remove(name)


@pytest.fixture(params=[spec.name for spec in SPECS])
def site(lab: Lab, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    node = lab.node(request.param)
    pem = tmp_path / "ca.pem"
    pem.write_text(PEM)
    settings = Settings(
        gpus=Gpus("MI300X", 8),
        registry=Registry(host="registry.corp:5000", ca_file=str(pem)),
        services={"chat": Service("chat", "tiny-chat")},
    )
    connection = Connection(
        node.links[0].address,
        user=node.spec.user,
        key_file=str(lab.paths.client_key),
        common_args=("-F", str(lab.paths.ssh_config)),
        become=Become(enabled=node.spec.user == "ops"),
    )
    with Connector() as connector:
        yield Site(lab, node, connector.connect(Host(node.name, ("all",), connection, settings)), settings)
    lab.mend(node.name)


class Watching:
    """A seam that notes what passes."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def perform(self, _host: str, step: Described, do: Callable[[], None], /) -> None:
        self.seen.append(step.what)
        do()


def test_all_faults_are_mended_the_second_run_changes_nothing_and_undo_undoes(site: Site) -> None:
    for fault in FAULTS:
        site.lab.break_(fault, site.node.name)
    site.sh("docker rmi tiny >/dev/null 2>&1; true")
    begun = site.sh("pgrep -x dockerd")
    before = site.sh(FILES)
    first = site.open_fixes()
    assert first == ["amdgpu", "numa_balancing", "docker_logs", "registry_ca"]
    assert site.sh(FILES) == before  # planning touched nothing

    seam, said = Watching(), list[str]()
    groups = [] if site.owner else ["add ops to render"]  # seen once the driver has brought the devices
    assert make_ready(site.session, seam, say=said.append) == len(seam.seen)
    assert seam.seen == [
        "load the amdgpu driver",
        "switch automatic NUMA balancing off",
        "limit the logs of new containers",
        "let the engine trust registry.corp:5000",
        *groups,
    ]
    assert site.open_fixes() == []
    assert site.sh("cat /proc/sys/kernel/numa_balancing").strip() == "0"
    assert site.sh("cat /etc/sysctl.d/90-fleet.conf") == "kernel.numa_balancing = 0\n"
    assert site.sh("cat /etc/docker/certs.d/registry.corp:5000/ca.crt") == PEM
    assert site.sh("pgrep -x dockerd") == begun

    mended = site.sh(FILES)
    assert make_ready(site.session, seam) == 0
    assert site.sh(FILES) == mended
    assert len(seam.seen) == len(first) + len(groups)

    for line in reversed(said):
        if "to undo it: " in line:
            site.sh(line.partition("to undo it: ")[2])
    assert site.sh(FILES) == before
    still = site.open_fixes()  # but for the driver, which the lab's modprobe only ever loads
    assert still == [*(["user_groups"] if groups else []), "numa_balancing", "docker_logs", "registry_ca"]


def test_log_limits_count_from_dockerds_next_start_and_not_from_a_reload(site: Site) -> None:
    assert make_ready(site.session, only=("docker_logs",)) == 1
    assert "max-size" not in site.logs()
    site.sh("kill -HUP $(cat /run/docker.pid); sleep 1")
    assert "max-size" not in site.logs()
    site.node.stop_engine()
    site.node.start_engine()
    assert site.logs() == {"max-size": "50m", "max-file": "3"}
    site.sh("mv -f /etc/docker/daemon.json.before-fleet.1 /etc/docker/daemon.json")


def test_a_driver_that_does_not_come_is_told_and_the_other_fixes_are_done(site: Site) -> None:
    for fault in FAULTS:
        site.lab.break_(fault, site.node.name)
    site.sh("rm -f /usr/local/lib/amdgpu/unloaded.tar")  # now modprobe finds no device
    facts, findings = look(site.session)
    fixes = plan(findings, facts, site.settings, only=("amdgpu", "numa_balancing"))
    with pytest.raises(HostError, match="load the amdgpu driver") as caught:
        carry_out(fixes, site.session, Bare())
    assert "No such device" in "\n".join(caught.value.tail)
    assert site.sh("cat /proc/sys/kernel/numa_balancing").strip() == "0"
    assert shlex.join(fixes[0].commands[0]) == "modprobe amdgpu"
