"""Serving on real engines: 20.10 as root, 26.1 with the classic store by the docker group, 26.1 with containerd by sudo."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import docker
import pytest

from fleet.engine import docker_client
from fleet.errors import HostError
from fleet.facts import Facts, collect
from fleet.inventory.model import Become, Connection, Host
from fleet.inventory.settings import Service, Settings
from fleet.lab import Lab, Node, NodeSpec
from fleet.secret import Secret
from fleet.serving.execute import apply, carry_out, prove
from fleet.serving.observe import read_vram
from fleet.serving.prepare import Prepared, context_for, prepare
from fleet.serving.spec import ImageIdentity
from fleet.transport import Connector, Session
from tests.lab.conftest import lab_name
from tests.lab.python_image import import_vllm

pytestmark = pytest.mark.lab

SPECS = (
    NodeSpec("old", profile="mi300x-8"),
    NodeSpec("new", base="trixie", profile="mi250-4", user="dev"),
    NodeSpec("store", base="trixie", profile="mi300x-8", user="ops", containerd_store=True),
)
KEY = 'it\'s a "hunter2" key'
NO: Any = {"Name": "no"}
ALWAYS: Any = {"Name": "always"}
CHAT = Service("chat", "tiny-chat", ulimits={}, secrets={"VLLM_API_KEY": Secret("key", literal=KEY)})
CHANGED = replace(CHAT, args={"max-model-len": 512})
BROKEN = replace(CHAT, env={"BREAK": "1"})


@dataclass
class Site:
    """One node, reached as the inventory would reach it."""

    node: Node
    session: Session
    client: docker.DockerClient
    facts: Facts
    logs: Path

    def image(self, reference: str) -> ImageIdentity:
        """Known by layers only: the config digest is what no store here calls it."""
        attrs = self.client.images.get(reference).attrs
        config = attrs["Config"]
        env = {name: value for name, _, value in (line.partition("=") for line in config.get("Env") or ())}
        return ImageIdentity(
            reference,
            reference.partition(":")[2],
            "sha256:" + "0" * 64,
            diff_ids=tuple(attrs["RootFS"]["Layers"]),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            env=env,
        )

    def settings(self, *services: Service) -> Settings:
        return Settings(services={one.name: one for one in services})

    def plan(self, *services: Service, release: str = "r1", **options: Any) -> Prepared:
        image = self.image(f"vllm-rocm:{release}")
        images = {one.name: image for one in services}
        return prepare(self.session, self.client, self.settings(*services), self.facts, images, **options)

    def deploy(self, *services: Service, **options: Any) -> Prepared:
        """Plan and carry out; returns the plan that was carried out."""
        made = self.plan(*services, **options)
        carry_out(made.plan, context_for(self.session, self.client, self.settings(*services), log_dir=self.logs))
        return made

    def settled(self, *services: Service, **options: Any) -> bool:
        made = self.plan(*services, **options)
        return not made.plan.changes and not made.plan.problems

    def inspect(self, name: str = "chat-0") -> dict[str, Any]:
        value: dict[str, Any] = self.client.api.inspect_container(name)
        return value

    @property
    def names(self) -> list[str]:
        """All but those that are kept for a roll-back."""
        names = (one["Names"][0].lstrip("/") for one in self.client.api.containers(all=True))
        return sorted(name for name in names if not name.endswith("-previous"))

    def clear(self) -> None:
        for entry in self.client.api.containers(all=True):
            self.client.api.remove_container(entry["Id"], force=True)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    name = lab_name("srv")
    with ExitStack() as stack:
        stack.callback(Lab.remove, name)
        lab = Lab.up(name, SPECS, inventories=tmp_path_factory.mktemp("inventories"))
        connector = stack.enter_context(Connector())
        found = {}
        for spec in SPECS:
            node = lab.node(spec.name)
            import_vllm(node, "vllm-rocm:r1", 'ENTRYPOINT ["vllm","serve"]')
            import_vllm(node, "vllm-rocm:r2", "ENV RELEASE=2")  # another release without an entrypoint
            connection = Connection(
                node.links[0].address,
                user=spec.user,
                key_file=str(lab.paths.client_key),
                common_args=("-F", str(lab.paths.ssh_config)),
                become=Become(enabled=spec.user == "ops"),
            )
            session = connector.connect(Host(spec.name, ("all",), connection, Settings()))
            facts = collect(session, Settings())
            found[spec.name] = Site(node, session, docker_client(session), facts, tmp_path_factory.mktemp("logs"))
        yield found


@pytest.fixture(params=[spec.name for spec in SPECS])
def site(sites: dict[str, Site], request: pytest.FixtureRequest) -> Iterator[Site]:
    chosen = sites[request.param]
    chosen.clear()
    yield chosen
    chosen.clear()


def test_a_deploy_ends_with_an_answer_and_the_second_one_does_nothing(site: Site) -> None:
    made = site.plan(CHAT)
    context = context_for(site.session, site.client, site.settings(CHAT), log_dir=site.logs)
    proofs = carry_out(made.plan, context)
    assert proofs["chat-0"].answer == " Paris is it"
    assert site.names == ["chat-0"]
    assert site.settled(CHAT)
    before = site.inspect()
    site.deploy(CHAT)
    assert site.inspect()["State"] == before["State"]
    assert prove("chat-0", CHAT, 8000, context).tokens == 3


def test_secrets_are_in_a_private_file_and_nowhere_in_inspect_or_saved_logs(site: Site) -> None:
    site.deploy(CHAT)
    assert "hunter2" not in json.dumps(site.inspect())
    file = next(mount["Source"] for mount in site.inspect()["Mounts"] if mount["Destination"] == "/run/fleet/secrets")
    assert site.node.exec(("stat", "-c", "%a", file)).stdout.strip() == "600"
    with pytest.raises(HostError) as caught:
        site.deploy(BROKEN)
    saved = next(site.logs.glob("*chat-0-new.log")).read_text()
    assert "secret in the log: ***" in saved
    assert "hunter2" not in saved + str(caught.value) + "".join(caught.value.tail)


@pytest.mark.parametrize("site", ["new"], indirect=True)
def test_new_secret_values_replace_the_container_and_the_old_file_goes(site: Site) -> None:
    site.deploy(CHAT)
    other = replace(CHAT, secrets={"VLLM_API_KEY": Secret("key", literal="another")})
    assert "mount /run/fleet/secrets" in site.deploy(other).plan.changes[0].why
    assert site.settled(other)
    assert [Path(path).name for path in site.plan(other).observed.secret_files] == ["chat-0.b"]


def test_an_image_without_entrypoint_and_the_hardened_profile_serve_too(site: Site) -> None:
    site.deploy(CHAT)
    hard = replace(CHAT, hardened=True)
    made = site.deploy(hard, release="r2")
    assert "image: r1" in made.plan.changes[0].why
    assert site.settled(hard, release="r2")
    assert site.inspect()["HostConfig"]["ReadonlyRootfs"]


def test_a_failing_change_leaves_the_very_same_container_serving(site: Site) -> None:
    site.deploy(CHAT)
    before = site.inspect()
    with pytest.raises(HostError, match=r"torch.OutOfMemoryError.*chat-0 was put back and serves again"):
        site.deploy(BROKEN)
    after = site.inspect()
    assert (after["Id"], after["HostConfig"]["RestartPolicy"]["Name"]) == (before["Id"], "unless-stopped")
    assert site.names == ["chat-0"]
    assert site.settled(CHAT)


@pytest.mark.parametrize("site", ["store"], indirect=True)
def test_a_killed_controller_leaves_a_state_that_the_next_run_brings_to_its_end(site: Site) -> None:
    site.deploy(CHAT)
    change = site.plan(CHANGED).plan.changes[0]
    for cut in range(1, len(change.steps) + len(change.commit), 2):
        site.clear()
        site.deploy(CHAT)
        made = site.plan(CHANGED)
        context = context_for(site.session, site.client, site.settings(CHANGED), log_dir=site.logs)
        for step in (*made.plan.changes[0].steps, *made.plan.changes[0].commit)[:cut]:
            apply(step, context)
        site.deploy(CHANGED)
        assert site.settled(CHANGED), f"cut after {cut} steps"
        assert site.names == ["chat-0"]
        assert site.inspect()["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


@pytest.mark.parametrize("site", ["old"], indirect=True)
def test_edits_behind_our_back_are_named_and_repaired(site: Site) -> None:
    site.deploy(CHAT)
    site.client.api.stop("chat-0", timeout=10)
    assert site.deploy(CHAT).plan.changes[0].why.startswith("it is exited")
    site.client.api.update_container("chat-0", restart_policy=NO)
    assert site.deploy(CHAT).plan.changes[0].why == "restart: no -> unless-stopped"
    site.client.api.remove_container("chat-0", force=True)
    assert site.deploy(CHAT).plan.changes[0].why == "no container of chat-0 is there"
    remake(site, GroupAdd=["999"], Devices=[])
    why = site.deploy(CHAT).plan.changes[0].why
    assert "groups: 999 ->" in why
    assert "devices: nothing -> /dev/dri /dev/kfd" in why
    assert site.settled(CHAT)


def remake(site: Site, **changes: Any) -> None:
    """Somebody makes our container anew by hand, labels and all, but differently."""
    value = site.inspect()
    site.client.api.remove_container("chat-0", force=True)
    config, host = value["Config"], {**value["HostConfig"], **changes}
    made = {key: config[key] for key in ("Image", "Cmd", "Entrypoint", "Env", "Labels", "StopTimeout")}
    create: Any = site.client.api.create_container_from_config
    create({**made, "HostConfig": host}, "chat-0")
    site.client.api.start("chat-0")


@pytest.mark.parametrize("site", ["new"], indirect=True)
def test_replicas_get_their_own_gpus_and_vram_is_waited_for(site: Site) -> None:
    two = replace(CHAT, replicas=2, env={"OPEN_KFD": "1"})
    site.deploy(two)
    assert site.settled(two)
    own = [{entry["PathOnHost"] for entry in site.inspect(f"chat-{n}")["HostConfig"]["Devices"]} for n in (0, 1)]
    assert own[0] & own[1] == {"/dev/kfd"}
    one = replace(two, replicas=1)
    assert "run again with --prune" in site.plan(one).plan.problems[0]
    site.deploy(one, prune=True)
    assert site.names == ["chat-0"]
    site.deploy(CHAT)
    assert max(used for used, _ in read_vram(site.session).values()) < 2 * 1024**3


@pytest.mark.parametrize("site", ["store"], indirect=True)
def test_a_stranger_on_the_port_is_named_and_taken_over_only_when_told(site: Site) -> None:
    site.client.api.create_container(
        "vllm-rocm:r2",
        ["vllm", "serve", "m", "--port", "8000"],
        name="by-hand",
        host_config=site.client.api.create_host_config(network_mode="host", init=True, restart_policy=ALWAYS),
    )
    site.client.api.start("by-hand")
    made = site.plan(CHAT)
    assert (
        "container by-hand is not ours and holds the port 8000 of chat-0; it runs `vllm serve m"
        in made.plan.problems[0]
    )
    with pytest.raises(HostError, match="put back"):
        site.deploy(BROKEN, take_over=frozenset({"by-hand"}))
    assert site.inspect("by-hand")["State"]["Running"]
    assert site.inspect("by-hand")["HostConfig"]["RestartPolicy"]["Name"] == "always"
    site.deploy(CHAT, take_over=frozenset({"by-hand"}))
    assert site.names == ["chat-0"]


@pytest.mark.parametrize("site", ["new"], indirect=True)
def test_a_refused_limit_is_told_with_cause_and_fix(site: Site) -> None:
    with pytest.raises(HostError) as caught:
        site.deploy(replace(CHAT, ulimits={"memlock": -1}))
    assert "error setting rlimit" in caught.value.message
    assert caught.value.hint
    assert site.names == []


def test_a_service_comes_back_after_its_node_was_rebooted(sites: dict[str, Site]) -> None:
    """The last test here: the session to this node does not outlive it."""
    site = sites["old"]
    site.clear()
    site.deploy(CHAT)
    site.node.reboot()
    state = ("docker", "inspect", "-f", "{{.State.Running}}", "chat-0")
    until = time.monotonic() + 30
    while site.node.exec(state, check=False).stdout.strip() != "true":
        assert time.monotonic() < until, site.node.exec(("docker", "ps", "-a")).stdout
        time.sleep(0.2)
