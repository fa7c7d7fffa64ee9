"""Images by the installed command: made once, found again by whoever comes with the inventory and its lock."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.image.build import BuildError
from fleet.image.lock import Lock
from fleet.image.lock import read as read_lock
from fleet.image.machine import There
from fleet.image.produce import produce
from fleet.image.store import Store
from fleet.image.workshop import Workshop
from fleet.inventory import load
from fleet.inventory.settings import Image, Source
from fleet.lab import Lab, NodeSpec
from fleet.transport import Connector
from tests.lab.cli import Controller
from tests.lab.conftest import REGISTRY, lab_name
from tests.lab.standin_image import standin_archive
from tests.proc import command_lines

pytestmark = pytest.mark.lab

SPECS = (
    NodeSpec("builder", role="builder", base="trixie"),
    REGISTRY,
    NodeSpec("old", profile="mi300x-8"),
    NodeSpec("store", base="trixie", profile="mi300x-8", user="ops", containerd_store=True),
)
HOSTS = ("old", "store")
ASK = """import ssl, sys, urllib.error, urllib.request
try:
    urllib.request.urlopen("https://{host}/v2/")
except urllib.error.HTTPError as error:
    sys.exit(error.code != 401)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    name = lab_name("sec")
    try:
        yield Lab.up(name, SPECS, inventories=tmp_path_factory.mktemp("inventories"))
    finally:
        Lab.remove(name)


@pytest.fixture(scope="module")
def repository(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the stand-in that tests may commit to, and a branch `asking` whose build asks an HTTPS server."""
    folder = tmp_path_factory.mktemp("source") / "vllm"
    subprocess.run(("git", "clone", "--quiet", str(lab.paths.source), str(folder)), check=True)
    git(folder, "checkout", "--quiet", "-b", "asking")
    (folder / "ask.py").write_text(ASK.format(host=lab.registry))
    dockerfile = folder / "docker/Dockerfile.rocm"
    asking = (
        f"FROM rocm/vllm-dev:base\nCOPY ask.py /ask.py\nRUN python3 /ask.py\n"
        f"RUN git ls-remote https://{lab.registry}/x 2>&1 | grep 'not found'\n"
    )
    dockerfile.write_text(f"ARG BASE_IMAGE=rocm/vllm-dev:base\n{asking}")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "ask")
    git(folder, "checkout", "--quiet", "main")
    return folder


def git(folder: Path, *args: str) -> None:
    person = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    subprocess.run(("git", *person, *args), cwd=folder, check=True, capture_output=True)


def overlay(folder: Path, name: str, fleet: dict[str, object]) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({"all": {"vars": {"fleet": fleet}}}))
    return path


def controller(lab: Lab, folder: Path, *overlays: Path) -> Controller:
    """A controller with copies of its own of the inventory and, where there is one, its lock."""
    folder.mkdir(exist_ok=True)
    for file in lab.inventory.parent.glob(f"{lab.inventory.stem}*"):
        if file.is_file():
            shutil.copy(file, folder)
    return Controller(folder, (folder / lab.inventory.name, *overlays))


def records(lab: Lab, host: str) -> list[str]:
    found = lab.node(host).exec(
        ("sh", "-c", "cat /var/lib/fleet/releases/*.json /home/ops/.local/state/fleet/releases/*.json"), check=False
    )
    return [line for line in found.stdout.splitlines() if "config_digest" in line]


@pytest.fixture(scope="module")
def bare(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Controller, Controller, Path]:
    """Two controllers of a site without a registry, and the archive, which only the first one will see."""
    folder = tmp_path_factory.mktemp("bare")
    archive = standin_archive(folder / "brought.tar")
    image = {"name": "vllm-rocm", "source": None, "archive": str(archive), "gfx": ["gfx942"], "rocm": "6.4.3"}
    brought = overlay(folder, "brought", {"image": image})
    plain = overlay(folder, "plain", {"registry": None, "delivery": "sideload", "builder": ""})
    first = controller(lab, folder / "one", brought, plain)
    assert first.ask("sideload")[0] == 0
    shutil.copytree(folder / "one", folder / "two", ignore=shutil.ignore_patterns(".fleet"))
    for lock in folder.glob("*.lock.yaml"):  # the lock stands beside the last inventory
        assert "brought.tar" in lock.read_text()
    archive.rename(folder / "gone.tar")
    second = Controller(folder / "two", (folder / "two" / lab.inventory.name, brought, plain))
    return first, second, folder / "gone.tar"


def test_without_a_registry_the_hosts_keep_the_records(lab: Lab, bare: tuple[Controller, Controller, Path]) -> None:
    first, _, _ = bare
    for host in HOSTS:
        assert records(lab, host)
    before = {host: records(lab, host) for host in HOSTS}
    code, document = first.ask("sideload")
    assert (code, document["failed"], document["images"]["changed"]) == (0, {}, [])
    assert before == {host: records(lab, host) for host in HOSTS}


def test_a_second_controller_without_the_archive_finds_the_release_and_has_nothing_to_do(
    lab: Lab, bare: tuple[Controller, Controller, Path]
) -> None:
    first, second, _ = bare
    _, wanted = first.ask("plan")
    code, planned = second.ask("plan")
    assert code == 0
    assert planned["images"]["releases"] == wanted["images"]["releases"]
    code, document = second.ask("sideload")
    assert (code, document["failed"], document["images"]["changed"]) == (0, {}, [])
    assert {host["changed"] for host in document["hosts"].values()} == {0}
    assert not (second.directory / ".fleet/layouts").exists()


@pytest.mark.parametrize(("loses", "keeps"), [("store", "old"), pytest.param("old", "store", marks=pytest.mark.matrix)])
def test_a_host_that_lost_the_image_gets_it_from_its_neighbour(
    lab: Lab, bare: tuple[Controller, Controller, Path], loses: str, keeps: str
) -> None:
    _, second, _ = bare
    shutil.rmtree(second.directory / ".fleet", ignore_errors=True)
    lab.node(loses).exec(("sh", "-c", "docker rmi -f $(docker images -q vllm-rocm)"))
    code, document = second.ask("sideload", "--limit", loses)
    assert (code, document["failed"]) == (0, {})
    assert document["hosts"][loses]["changed"] > 0
    (release,) = document["images"]["releases"].values()
    for host in (loses, keeps):
        found = json.loads(
            lab.node(host).exec(("docker", "image", "inspect", f"vllm-rocm:{release['manifest_digest'][7:19]}")).stdout
        )[0]
        assert found["RootFS"]["Layers"] == release["diff_ids"]


def test_a_record_whose_image_is_gone_is_not_believed(lab: Lab, bare: tuple[Controller, Controller, Path]) -> None:
    _, second, gone = bare
    shutil.rmtree(second.directory / ".fleet", ignore_errors=True)
    for host in HOSTS:
        lab.node(host).exec(("sh", "-c", "docker rmi -f $(docker images -q vllm-rocm)"))
    done = second.run("sideload")
    assert done.returncode != 0
    assert "brought.tar is not there" in done.stderr
    assert "Traceback" not in done.stderr
    gone.rename(gone.with_name("brought.tar"))
    assert second.run("sideload").returncode == 0


def test_build_and_push_do_their_part_once(lab: Lab, repository: Path, tmp_path: Path) -> None:
    following = overlay(tmp_path, "main", {"image": {"source": {"ref": "main", "repository": str(repository)}}})
    one = controller(lab, tmp_path / "one", following)
    code, document = one.ask("build")
    assert code == 0
    assert [line for line in document["changed"] if line.startswith("made vllm-rocm:")]
    code, again = one.ask("build")
    assert (code, again["changed"], again["releases"]) == (0, [], document["releases"])
    code, pushed = one.ask("push")
    assert (code, [line for line in pushed["changed"] if "pushed" in line] != []) == (0, True)
    code, nothing = one.ask("push")
    assert (code, nothing["changed"]) == (0, [])
    (repository / "new").write_text("x")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "later")
    assert one.ask("build")[1]["changed"] == []
    (lock,) = tmp_path.rglob("*.lock.yaml")
    before = read_lock(lock)
    code, moved = one.ask("build", "--update")
    assert code == 0
    assert moved["changed"]
    assert read_lock(lock).commits != before.commits
    assert moved["releases"].keys() != document["releases"].keys()


@pytest.fixture
def shop(lab: Lab, tmp_path: Path) -> Iterator[Workshop]:
    with Connector() as connector:
        session = connector.connect(load([str(lab.inventory)]).hosts["builder"])
        yield Workshop(Store(tmp_path / "fleet"), There(session, "/var/tmp/fleet"), None, lambda _line: None)


def asking(repository: Path, **settings: object) -> Image:
    return Image("vllm-ask", source=Source(ref="asking", repository=str(repository), **settings))  # type: ignore[arg-type]  # of several kinds


def test_run_steps_trust_a_private_ca_and_the_image_keeps_no_trace(lab: Lab, repository: Path, shop: Workshop) -> None:
    with pytest.raises(BuildError) as caught:
        produce(asking(repository), shop, Lock(), gfx=())
    assert "CERTIFICATE_VERIFY_FAILED" in "\n".join(caught.value.tail)
    made = produce(asking(repository, ca_file=str(lab.paths.ca)), shop, Lock(), gfx=())
    assert not {"SSL_CERT_FILE", "PIP_CERT"} & set(made.release.env)
    tag = f"vllm-ask:build-{made.key}"
    listing = lab.node("builder").exec(
        (
            "sh",
            "-c",
            f"docker create --name trace {tag} x >/dev/null; docker export trace | tar -t; docker rm trace >/dev/null",
        )
    )
    assert "ask.py" in listing.stdout
    assert "run/secrets" not in listing.stdout


def test_a_proxys_password_shows_in_no_command_line_log_or_history(lab: Lab, repository: Path, shop: Workshop) -> None:
    proxy = {"http_proxy": "http://bob:h1dd3n@127.0.0.1:9", "no_proxy": lab.registry.partition(":")[0]}
    seen: list[str] = []

    def look(line: str) -> None:
        seen.append(line)
        seen.extend(f"h1dd3n in {words!r}" for _, words in command_lines() if b"h1dd3n" in words)

    watched = Workshop(shop.store, shop.machine, None, look)
    made = produce(
        asking(repository, proxy=proxy, ca_file=str(lab.paths.ca), args={"BASE_IMAGE": "rocm/vllm-dev:base"}),
        watched,
        Lock(),
        gfx=("gfx942",),
    )
    assert len(seen) > 3
    assert not [line for line in seen if "h1dd3n" in line]
    history = lab.node("builder").exec(("docker", "history", "--no-trunc", f"vllm-ask:build-{made.key}")).stdout
    assert "h1dd3n" not in history
    assert "h1dd3n" not in shop.store.log(f"build-vllm-ask-{made.key}").read_text()


def test_a_full_disk_on_the_builder_is_said(lab: Lab, repository: Path, shop: Workshop) -> None:
    git(repository, "checkout", "--quiet", "-b", "large", "main")
    (repository / "docker/Dockerfile.rocm").write_text(
        "FROM rocm/vllm-dev:base\nRUN dd if=/dev/urandom of=/large bs=1M count=64\n"
    )
    git(repository, "commit", "--quiet", "-am", "large")
    git(repository, "checkout", "--quiet", "main")
    lab.break_("docker-disk-full", "builder")
    try:
        image = Image("vllm-large", source=Source(ref="large", repository=str(repository)))
        with pytest.raises(BuildError) as caught:
            produce(image, shop, Lock(), gfx=())
    finally:
        lab.mend("builder")
    assert "full" in caught.value.hint
    assert caught.value.log.exists()


def test_a_builder_that_does_not_answer_is_named(lab: Lab, repository: Path, tmp_path: Path) -> None:
    fresh = overlay(
        tmp_path, "fresh", {"image": {"name": "vllm-other", "source": {"ref": "main", "repository": str(repository)}}}
    )
    one = controller(lab, tmp_path / "one", fresh)
    lab.break_("sshd-down", "builder")
    try:
        done = one.run("build")
    finally:
        lab.mend("builder")
    assert done.returncode == 1
    assert "builder" in done.stderr
    assert "Traceback" not in done.stderr
