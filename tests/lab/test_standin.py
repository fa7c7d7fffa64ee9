"""The stand-in's image: pushed to the lab's registry, built on its builder, served by both engines."""

import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.lab import Lab, Node, NodeSpec
from fleet.lab.base_image import NAME, base_archive
from fleet.lab.vllm_repo import make
from fleet.serving.verify import Question, verify
from tests.lab.conftest import MI300X, REGISTRY, lab_name

pytestmark = pytest.mark.lab

BUILDER = NodeSpec("builder", role="builder", base="trixie")
STORE = NodeSpec("store", base="trixie", profile="mi250-4", containerd_store=True)
MODEL = "tiny-chat"


@dataclass
class Built:
    lab: Lab

    def inspect(self, reference: str) -> dict[str, object]:
        found = json.loads(self.lab.node("builder").exec(("docker", "image", "inspect", reference)).stdout)[0]
        return dict(found["Config"])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """A lab whose builder has made v0.10.2 and v0.11.0, and whose nodes have both."""
    name, folder = lab_name("standin"), tmp_path_factory.mktemp("standin")
    with ExitStack() as stack:
        stack.callback(Lab.remove, name)
        lab = Lab.up(name, (BUILDER, REGISTRY, MI300X, STORE), inventories=folder)
        builder = lab.node("builder")
        with (builder.root / "tmp/base.tar").open("wb") as out:
            out.write(base_archive().read_bytes())
        builder.exec(("docker", "load", "-i", "/tmp/base.tar"))
        check_out(make(folder / "vllm.git"), builder)
        for ref in ("v0.10.2", "v0.11.0"):
            build(builder, ref, f"vllm:{ref}", "--build-arg", "PAYLOAD_MB=3")
        builder.exec(("docker", "save", "-o", "/tmp/vllm.tar", "vllm:v0.10.2", "vllm:v0.11.0"))
        for node in (lab.node("mi300x-01"), lab.node("store")):
            (node.root / "tmp/vllm.tar").write_bytes((builder.root / "tmp/vllm.tar").read_bytes())
            node.exec(("docker", "load", "-i", "/tmp/vllm.tar"))
        yield Built(lab)


def check_out(repository: Path, builder: Node) -> None:
    """Carry the repository over as a tar; on the builder every release has a checkout with its .git."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.add(repository, arcname="vllm.git")
    (builder.root / "srv/vllm.tar").write_bytes(made.getvalue())
    builder.exec(("tar", "-C", "/srv", "-xf", "/srv/vllm.tar"))
    for ref in ("v0.10.2", "v0.11.0", "v0.12.0"):
        builder.exec(("git", "-c", "safe.directory=*", "clone", "-q", "--branch", ref, "/srv/vllm.git", f"/srv/{ref}"))


def build(builder: Node, ref: str, tag: str, *arguments: str, file: str = "Dockerfile.rocm") -> None:
    """Build as an operator would."""
    gfx = ("--build-arg", "ARG_PYTORCH_ROCM_ARCH=gfx90a;gfx942")
    where = ("-f", f"/srv/{ref}/docker/{file}", "-t", tag, f"/srv/{ref}")
    builder.exec(("docker", "buildx", "build", "--progress=plain", *gfx, *arguments, *where))


def run(
    node: Node,
    release: str,
    *flags: str,
    command: tuple[str, ...] = (),
    env: tuple[str, ...] = (),
    user: tuple[str, ...] = (),
) -> None:
    """Start a server with the options of AMD's guide."""
    devices = ("--device", "/dev/kfd", "--device", "/dev/dri", *(user or group(node)))
    shared = ("--network", "host", "--ipc", "host", "--cap-add", "SYS_PTRACE", "--security-opt", "seccomp=unconfined")
    variables = tuple(word for one in env for word in ("-e", one))
    head = ("docker", "run", "-d", "--name", "vllm", "--init", *shared, *devices, "-v", "/srv/models:/app/models:ro")
    arguments = (f"/app/models/{MODEL}", "--served-model-name", MODEL, *flags)
    node.exec((*head, *variables, f"vllm:{release}", *command, *arguments))


def group(node: Node) -> tuple[str, ...]:
    """The group of the device itself, as a number."""
    return ("--group-add", node.exec(("stat", "-c", "%g", "/dev/kfd")).stdout.strip())


def logs(node: Node) -> str:
    done = node.exec(("docker", "logs", "vllm"))
    return done.stdout + done.stderr


def wait_for(node: Node, words: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while words not in logs(node):
        assert time.monotonic() < deadline, logs(node)
        time.sleep(0.1)


@pytest.fixture(params=["mi300x-01", "store"])
def node(built: Built, request: pytest.FixtureRequest) -> Iterator[Node]:
    """Debian 12's engine 20.10, then Debian 13's 26.1 with the containerd store."""
    found = built.lab.node(request.param)
    yield found
    found.exec(("docker", "rm", "-f", "vllm"), check=False)


def eventually(holds: Callable[[], bool], seconds: float = 5) -> None:
    """The accountant looks a few times a second."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def vram(node: Node) -> int:
    return sum(int(path.read_text()) for path in (node.root / "sys/class/drm").glob("card*/device/mem_info_vram_used"))


def test_images_say_what_upstreams_say(built: Built) -> None:
    old, new = built.inspect("vllm:v0.10.2"), built.inspect("vllm:v0.11.0")
    assert (old["Entrypoint"], old["Cmd"]) == (None, ["/bin/bash"])
    assert new["Entrypoint"] == ["vllm", "serve"]
    assert isinstance(new["Env"], list)
    assert "PYTORCH_ROCM_ARCH=gfx90a;gfx942" in new["Env"]
    look = ("docker", "run", "--rm", "--network", "none", "--entrypoint", "cat", "vllm:v0.11.0", "/app/versions.txt")
    lines = built.lab.node("builder").exec(look).stdout.splitlines()
    assert any(line.startswith("PYTORCH_BRANCH: ") for line in lines)
    assert f"VLLM_BASE_IMAGE={NAME}" in lines


@pytest.mark.parametrize("release", ["v0.10.2", "v0.11.0"])
def test_serves_on_both_engines_and_gives_the_gpus_back(node: Node, release: str) -> None:
    before = vram(node)
    run(node, release, "--tensor-parallel-size", "2", command=("vllm", "serve") if release == "v0.10.2" else ())
    wait_for(node, "Application startup complete.")
    assert f"vLLM API server version {release.removeprefix('v')}" in logs(node)
    assert verify(node.links[0].address, 8000, Question(MODEL)).answer.startswith(" Paris.")
    eventually(lambda: vram(node) > before)
    node.exec(("docker", "stop", "-t", "20", "vllm"))
    assert "Application shutdown complete." in logs(node)
    state = node.exec(("docker", "inspect", "-f", "{{.State.ExitCode}}", "vllm")).stdout.strip()
    assert state == "0"
    eventually(lambda: vram(node) == before)


def test_a_failure_that_was_asked_for_ends_the_container(node: Node) -> None:
    run(node, "v0.11.0", env=("STANDIN_FAIL=memory_access_fault",))
    assert node.exec(("docker", "wait", "vllm")).stdout.strip() == "134"
    assert "Memory access fault by GPU node-3" in logs(node)


def test_an_ordinary_user_needs_the_group_of_the_device(node: Node) -> None:
    run(node, "v0.11.0", user=("--user", "12345"))
    assert node.exec(("docker", "wait", "vllm")).stdout.strip() == "1"
    assert "Unable to open /dev/kfd read-write: Permission denied" in logs(node)
    node.exec(("docker", "rm", "vllm"))
    run(node, "v0.11.0", user=("--user", "12345", *group(node)))
    wait_for(node, "Application startup complete.")


def test_the_newest_release_builds_on_a_base_of_its_own(built: Built) -> None:
    builder = built.lab.node("builder")
    build(builder, "v0.12.0", "own:base", "--build-arg", f"BASE_IMAGE={NAME}", file="Dockerfile.rocm_base")
    build(builder, "v0.12.0", "vllm:v0.12.0", "--build-arg", "BASE_IMAGE=own:base")
    said = builder.exec(
        ("docker", "run", "--rm", "--network", "none", "--entrypoint", "vllm", "vllm:v0.12.0", "--version")
    )
    assert said.stdout.strip() == "0.12.0"
    look = ("docker", "run", "--rm", "--network", "none", "--entrypoint", "cat", "vllm:v0.12.0", "/app/versions.txt")
    assert f"BASE_IMAGE: {NAME}" in builder.exec(look).stdout
