"""Another team's container on our port and GPUs: named with its command line, left alone, and replaced only on demand.

Taken over, it is treated like our own: stopped, kept until ours has answered, and started again if ours does not.
"""

import json
from collections.abc import Iterator

import pytest

from fleet.lab import NodeSpec
from tests.lab.cli import Controller
from tests.lab.conftest import MI250
from tests.lab.rolls import answers
from tests.lab.small import Site, small_site

pytestmark = pytest.mark.lab

NEW = NodeSpec("mi300x-new-01", base="trixie", profile="mi300x-8")
HOSTS = (MI250.name, NEW.name)
# Holds its GPUs open as a process of ROCm does, and answers everything on the port.
HOLD = """\
import glob, http.server
held = [open(path) for path in ("/dev/kfd", *glob.glob("/dev/dri/renderD*"))]
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("", {port}), Answer).serve_forever()
"""
FAILING = json.dumps({"gpu": {"vars": {"fleet": {"services": {"chat": {"env": {"STANDIN_FAIL": "no_hip_gpus"}}}}}}})
SHOWN = "{{.Id}} {{.State.Running}} {{.State.StartedAt}} {{.HostConfig.RestartPolicy.Name}}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two hosts that have the image."""
    with small_site("take", tmp_path_factory.mktemp("take-over"), MI250, NEW) as made:
        code, document = made.controller.ask("sideload")
        assert (code, document["failed"]) == (0, {})
        yield made


def begin(site: Site, port: int) -> None:
    """Nothing runs but `by-hand`, somebody's on each host."""
    for host in HOSTS:
        site.sh(host, "docker ps -aq | xargs -r docker rm -f")
        image = site.docker(host, "images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()[0]
        settings = ("--network", "host", "--restart", "always", "--device", "/dev/kfd", "--device", "/dev/dri")
        command = ("--entrypoint", "python3", image, "-c", HOLD.format(port=port))
        site.docker(host, "run", "--detach", "--init", "--name", "by-hand", *settings, *command)


def theirs(site: Site) -> dict[str, str]:
    return {host: site.docker(host, "inspect", "-f", SHOWN, "by-hand") for host in HOSTS}


def told(controller: Controller, *words: str) -> dict[str, str]:
    """What is said of each host by a deploy that fails everywhere."""
    code, document = controller.ask("deploy", *words)
    assert code == 1
    assert set(document["failed"]) == set(HOSTS)
    return {host: failure["message"] for host, failure in document["failed"].items()}


@pytest.mark.parametrize("port", [8000, 9000], ids=["port and GPUs", "GPUs alone"])
def test_a_foreign_container_is_named_left_alone_and_replaced_only_on_demand(site: Site, port: int) -> None:
    begin(site, port)
    before = theirs(site)
    for message in told(site.controller).values():
        assert "in container by-hand (vllm-rocm:" in message
        assert "python3 -c" in message
        assert ("port 8000 of chat is taken by container by-hand" in message) == (port == 8000)
    assert theirs(site) == before
    assert [site.containers(host) for host in HOSTS] == [{"by-hand"}, {"by-hand"}]

    planned = site.controller.run("plan", "--take-over", "by-hand")
    assert planned.returncode == 0, planned.stderr
    assert "stop by-hand" in planned.stdout
    assert theirs(site) == before

    for message in told(site.over(FAILING), "--take-over", "by-hand").values():
        assert "by-hand was put back" in message
    for host in HOSTS:
        assert site.containers(host) == {"by-hand"}
        identity, running, _, restart = theirs(site)[host].split()
        assert (identity, running, restart) == (before[host].split()[0], "true", "always")
        assert answers(site.lab.topology.address(host), port=port)

    code, document = site.controller.ask("deploy", "--take-over", "by-hand")
    assert (code, document["failed"]) == (0, {})
    assert [site.containers(host) for host in HOSTS] == [{"chat-0"}, {"chat-0"}]
    assert all("Paris" in document["hosts"][host]["proofs"]["chat-0"]["answer"] for host in HOSTS)
    code, document = site.controller.ask("deploy")
    assert (code, [document["hosts"][host]["changed"] for host in HOSTS]) == (0, [0, 0])
