"""One image, built once on Debian 13's engine, is the same release wherever it arrives."""

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleet.delivery.push import push
from fleet.engine import docker_client
from fleet.errors import FleetError
from fleet.image.build import BuildError
from fleet.image.convert import to_layout
from fleet.image.layout import read
from fleet.image.lock import Lock
from fleet.image.lock import read as read_lock
from fleet.image.machine import There
from fleet.image.produce import look, produce
from fleet.image.registry_api import RegistryClient
from fleet.image.release import Release
from fleet.image.store import Store
from fleet.image.workshop import Workshop, ensure_layout, publish
from fleet.inventory import load
from fleet.inventory.settings import Image, OwnBase, Registry, Source
from fleet.lab import Lab, NodeSpec
from fleet.nightly.plan import BUILD, decide
from fleet.rollout.base_images import keep_base
from fleet.secret import Secret
from fleet.transport import Connector, Session
from tests.lab.cli import Controller
from tests.lab.conftest import REGISTRY, lab_name
from tests.unit.image import layouts

pytestmark = pytest.mark.lab

SPECS = (
    NodeSpec("builder", role="builder", base="trixie"),
    REGISTRY,
    NodeSpec("old", profile="mi300x-8"),
    NodeSpec("store", base="trixie", profile="mi300x-8", user="ops", containerd_store=True),
)
BASE = "vllm-base:lab"
DOCKERFILE = """ARG BASE_IMAGE=vllm-base:lab
FROM ${BASE_IMAGE} AS base
ARG ARG_PYTORCH_ROCM_ARCH
ENV PYTORCH_ROCM_ARCH=${ARG_PYTORCH_ROCM_ARCH}
RUN mkdir -p /app && echo "ROCM_SDK_VERSION: 7.14.0" >/app/versions.txt

FROM base AS build
COPY . /src
RUN --mount=type=cache,target=/cache test -d /src/.git && cp /src/version /app/built
RUN --network=none true

FROM base AS final
COPY --link --from=build /app/built /app/built
RUN <<END
cat /app/built
END
HEALTHCHECK CMD true
ENTRYPOINT ["vllm", "serve"]
"""


BASE_DOCKERFILE = """ARG BASE_IMAGE=vllm-base:lab
FROM ${BASE_IMAGE} AS base
ARG PYTORCH_ROCM_ARCH=gfx90a
ENV PYTORCH_ROCM_ARCH=${PYTORCH_ROCM_ARCH}
ARG PYTORCH_BRANCH=one
COPY requirements /app/requirements
RUN echo "${PYTORCH_BRANCH}" >/app/torch
"""


@dataclass
class Site:
    lab: Lab
    sessions: dict[str, Session]
    registry: Registry
    repository: Path

    def workshop(self, root: Path, builder: str = "builder") -> Workshop:
        machine = There(self.sessions[builder], "/var/tmp/fleet")
        return Workshop(Store(root), machine, self.registry, lambda _line: None)

    @property
    def image(self) -> Image:
        return Image("vllm-rocm", source=Source(ref="v0.11.0", repository=str(self.repository)))


def base_tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.add("/bin/busybox", arcname="bin/busybox")
        for name in ("sh", "mkdir", "cp", "cat", "true", "test", "false"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return made.getvalue()


def git(folder: Path, *args: str) -> None:
    person = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main")
    subprocess.run(("git", *person, *args), cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("image")
    name = lab_name("img")
    repository = folder / "vllm"
    (repository / "docker").mkdir(parents=True)
    (repository / "docker/Dockerfile.rocm").write_text(DOCKERFILE)
    (repository / "docker/Dockerfile.rocm_base").write_text(BASE_DOCKERFILE)
    (repository / "requirements").write_text("torch\n")
    (repository / "version").write_text("0.11.0\n")
    git(repository, "init", "--quiet")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "one")
    git(repository, "tag", "v0.11.0")
    with ExitStack() as stack:
        stack.callback(Lab.remove, name)
        lab = Lab.up(name, SPECS, inventories=folder)
        hosts = load([str(lab.inventory)]).hosts
        connector = stack.enter_context(Connector())
        sessions = {word: connector.connect(hosts[word]) for word in ("builder", "old", "store")}
        for word in ("builder", "old"):
            sessions[word].upload(io.BytesIO(base_tar()), "/var/tmp/base.tar")
            sessions[word].run(("docker", "import", "/var/tmp/base.tar", BASE))
        registry = hosts["old"].settings.registry
        assert registry is not None
        yield Site(lab, sessions, registry, repository)


@pytest.fixture(scope="module")
def released(site: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workshop, Release, str, Lock]:
    """Built on the builder, pushed, recorded."""
    shop = site.workshop(tmp_path_factory.mktemp("one"))
    made = produce(site.image, shop, Lock(), gfx=("gfx942", "gfx90a"))
    assert made.changes
    push(shop.store.layout_path(made.release), site.registry, "vllm-rocm", made.release.id, on_line=lambda _line: None)
    publish(made.release, made.key, site.registry)
    return shop, made.release, made.key, made.lock


def test_the_image_explains_itself(released: tuple[Workshop, Release, str, Lock]) -> None:
    _, release, key, _ = released
    assert (release.vllm_version, release.rocm, release.gfx) == ("0.11.0", "7.14.0", ("gfx90a", "gfx942"))
    assert release.content_key == key
    assert release.entrypoint == ("vllm", "serve")
    assert release.dropped == ("HEALTHCHECK",)
    assert release.base == BASE


def test_a_strategy_is_explained_by_the_fleets_own_drivers_and_kept_in_the_lock(
    site: Site, released: tuple[Workshop, Release, str, Lock], tmp_path: Path
) -> None:
    source = {"repository": str(site.repository), "ref": "v0.11.0"}
    image: dict[str, object] = {
        "strategy": "auto",
        "prebuilt": f"{site.registry.host}/vllm-rocm:{released[1].id}",
        "source": source,
    }
    image |= {"rocm": "7.2.1"}
    inventory = tmp_path / "auto.yaml"
    inventory.write_text(site.lab.inventory.read_text())
    over = tmp_path / "over.yaml"
    over.write_text(json.dumps({"all": {"vars": {"fleet": {"image": image}}}}))
    controller = Controller(tmp_path, (inventory, over))
    code, told = controller.ask("build", "--explain")
    (one,) = told["images"]
    assert (code, one["chosen"], one["locked"]) == (0, "prebuilt", "")
    (rocm,) = [row for row in one["reasons"] if (row["candidate"], row["question"]) == ("prebuilt", "ROCm")]
    assert rocm["evidence"].startswith("7.2.1 is documented for driver 6.16.13 of old, store")
    assert not (tmp_path / "auto.lock.yaml").exists()
    assert controller.run("build").returncode == 0
    assert list(read_lock(tmp_path / "auto.lock.yaml").choices.values()) == ["prebuilt"]
    image |= {"require_source": True}
    over.write_text(json.dumps({"all": {"vars": {"fleet": {"image": image}}}}))
    shown = controller.run("build", "--explain").stdout
    assert re.search(r"policy +require_source +does not fit", shown)
    assert "chosen: own_base fits" in shown
    assert "the lock has no choice yet" in shown
    assert "only nightly tries an image on the builder" in shown


def test_a_second_build_does_nothing_from_another_controller_too(
    site: Site, released: tuple[Workshop, Release, str, Lock], tmp_path: Path
) -> None:
    shop, release, _, lock = released
    for other in (shop, site.workshop(tmp_path)):
        again = produce(site.image, other, lock, gfx=("gfx942", "gfx90a"))
        assert not again.changes
        assert again.release == release
        assert again.lock == lock


def test_one_release_has_one_config_and_the_same_layers_by_every_way(
    site: Site, released: tuple[Workshop, Release, str, Lock], tmp_path: Path
) -> None:
    shop, release, _, _ = released
    layout = shop.store.layout(release)
    assert layout is not None
    with RegistryClient(site.registry) as client:
        assert client.digest("vllm-rocm", release.id) == release.manifest_digest
    other = site.workshop(tmp_path)
    ensure_layout(other, release)
    assert read(other.store.layout_path(release)).config.digest == release.config_digest
    archive = tmp_path / "image.tar"
    archive.write_bytes(layouts.archive(read(layout), release.local_name))
    for name, identity in (("old", release.config_digest), ("store", release.manifest_digest)):
        session = site.sessions[name]
        with archive.open("rb") as file:
            session.upload(file, "/var/tmp/image.tar", sudo=True)
        session.run(("docker", "load", "--input", "/var/tmp/image.tar"), sudo=True)
        image = docker_client(session).images.get(release.local_name)
        assert image.id == identity
        assert tuple(image.attrs["RootFS"]["Layers"]) == release.diff_ids
        pulled = _pull(site, session, release)
        assert pulled == (identity, release.diff_ids)


def _pull(site: Site, session: Session, release: Release) -> tuple[str, tuple[str, ...]]:
    """Pull by digest into the same engine; gives the image's ID and layers there."""
    folder = f"/etc/docker/certs.d/{site.registry.host}"
    session.run(("mkdir", "-p", folder), sudo=True)
    with Path(site.registry.ca_file).open("rb") as file:
        session.upload(file, f"{folder}/ca.crt", sudo=True)
    client = docker_client(session)
    assert site.registry.username
    assert site.registry.password
    auth = {"username": site.registry.username.reveal(), "password": site.registry.password.reveal()}
    name = str(release.in_registry(site.registry.host))
    client.images.remove(release.local_name)
    image = client.images.pull(name, auth_config=auth)
    return str(image.id), tuple(image.attrs["RootFS"]["Layers"])


def test_the_base_may_come_from_the_fleets_own_registry(site: Site, tmp_path: Path) -> None:
    base = tmp_path / "base.tar"
    There(site.sessions["builder"], "/var/tmp/fleet").fetch(("docker", "save", BASE), base)
    image = to_layout(f"docker-archive:{base}", tmp_path / "base", on_line=lambda _line: None).image
    push(image.path, site.registry, "vllm-base", "v1", on_line=lambda _line: None)
    name = f"{site.registry.host}/vllm-base:v1"
    source = Source(ref="v0.11.0", repository=str(site.repository), base_image=name)
    made = produce(Image("vllm-rocm", source=source), site.workshop(tmp_path / "fleet"), Lock(), gfx=())
    assert made.release.base_digest == image.manifest.digest
    assert made.lock.image(name) == image.manifest.digest
    assert made.release.diff_ids[: len(image.diff_ids)] == image.diff_ids
    assert not site.sessions["builder"].run(("ls", "-A", "/var/tmp/fleet")).stdout


def test_an_own_base_is_built_first_kept_in_the_registry_and_built_again_only_when_it_changes(
    site: Site, tmp_path: Path
) -> None:
    git(site.repository, "checkout", "--quiet", "-b", "next")
    source = Source(ref="next", repository=str(site.repository), base=OwnBase())
    image, builder = Image("own", source=source), site.sessions["builder"]
    shop, gfx = site.workshop(tmp_path / "one"), ("gfx942",)
    seen = look(image, shop, Lock(), gfx=gfx)
    assert seen.release is None
    assert re.fullmatch(r"build own-base:build-(\w+) from docker/\S+, then build own:build-\w+ on builder", seen.what)
    assert "nowhere yet" in seen.why
    first = produce(image, shop, Lock(), gfx=gfx)
    bases = images(builder, "own-base")
    assert bases == {first.release.base}
    assert not produce(image, shop, first.lock, gfx=gfx).changes
    torch = (
        "docker",
        "run",
        "--rm",
        "--entrypoint",
        "cat",
        f"own:build-{first.key}",
        "/app/torch",
        "/app/requirements",
    )
    assert builder.run(torch).stdout == "one\ntorch\n"

    # The registry gets the base beside the image, once; a dry run only says so.
    assert "would be pushed" in keep_base(first.release, site.registry, shop, dry=True)[0]
    assert keep_base(first.release, site.registry, shop, dry=False)[1]
    assert keep_base(first.release, site.registry, shop, dry=False) == ("", False)

    # A new commit that has no part in the base, another controller, and a builder that has lost the base.
    (site.repository / "version").write_text("0.11.1\n")
    git(site.repository, "commit", "--quiet", "-am", "two")
    builder.run(("docker", "image", "rm", *bases))
    other = replace(site.workshop(tmp_path / "two"), update=True)
    seen = look(image, other, first.lock, gfx=gfx)
    assert seen.key != first.key
    assert f"its base is unchanged ({site.registry.host} has it)" in seen.why
    second = produce(image, other, first.lock, gfx=gfx)
    assert second.release.base == first.release.base
    assert not images(builder, "own-base")
    assert second.release.diff_ids[:2] == first.release.diff_ids[:2]

    # What the base takes from the tree has changed: both are made anew.
    (site.repository / "requirements").write_text("torch 2\n")
    git(site.repository, "commit", "--quiet", "-am", "three")
    third = produce(image, other, second.lock, gfx=gfx)
    assert third.changes
    assert third.release.base != second.release.base
    assert images(builder, "own-base") == {third.release.base}
    assert third.key not in {first.key, second.key}


def test_a_new_image_below_the_base_is_seen_by_a_night(site: Site, tmp_path: Path) -> None:
    below = tmp_path / "base.tar"
    There(site.sessions["builder"], "/var/tmp/fleet").fetch(("docker", "save", BASE), below)
    brought = to_layout(f"docker-archive:{below}", tmp_path / "base", on_line=lambda _line: None).image
    push(brought.path, site.registry, "rocm-dev", "v1", on_line=lambda _line: None)
    base = OwnBase(args={"BASE_IMAGE": f"{site.registry.host}/rocm-dev:v1"})
    image = Image("night", source=Source(ref="v0.11.0", repository=str(site.repository), base=base))
    shop = site.workshop(tmp_path / "fleet")
    before = look(image, shop, Lock(), gfx=())
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("new"))
    site.sessions["builder"].upload(io.BytesIO(other.getvalue()), "/var/tmp/new.tar")
    site.sessions["builder"].run(("docker", "import", "/var/tmp/new.tar", "new:lab"))
    There(site.sessions["builder"], "/var/tmp/fleet").fetch(("docker", "save", "new:lab"), below)
    moved = to_layout(f"docker-archive:{below}", tmp_path / "new", on_line=lambda _line: None).image
    push(moved.path, site.registry, "rocm-dev", "v1", on_line=lambda _line: None)
    assert look(image, shop, before.lock, gfx=()).key == before.key
    night = look(image, replace(shop, update=True), before.lock, gfx=())
    assert night.key != before.key
    assert decide({"night": before.key}, {"night": night.key}, {}, force=False).kind == BUILD


def images(session: Session, name: str) -> set[str]:
    said = session.run(("docker", "images", "--format", "{{.Repository}}:{{.Tag}}", name)).stdout
    return set(said.split())


def test_the_old_engine_is_refused_before_anything_starts(site: Site, tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="old cannot build docker/Dockerfile") as caught:
        produce(site.image, site.workshop(tmp_path, "old"), Lock(), gfx=("gfx942",))
    for feature in ("RUN --network", "COPY --link", "RUN heredoc"):
        assert feature in caught.value.message


def test_a_failing_step_is_named_and_the_builder_is_left_clean(site: Site, tmp_path: Path) -> None:
    patch = tmp_path / "break.patch"
    patch.write_text(
        "--- a/docker/Dockerfile.rocm\n+++ b/docker/Dockerfile.rocm\n@@ -8,4 +8,4 @@\n COPY . /src\n"
        " RUN --mount=type=cache,target=/cache test -d /src/.git && cp /src/version /app/built\n"
        "-RUN --network=none true\n+RUN cat /nowhere\n \n"
    )
    source = Source(ref="v0.11.0", repository=str(site.repository), patches=(str(patch),))
    with pytest.raises(BuildError) as caught:
        produce(Image("vllm-rocm", source=source), site.workshop(tmp_path / "fleet"), Lock(), gfx=())
    assert "RUN cat /nowhere" in caught.value.step
    assert any("/nowhere" in line for line in caught.value.tail)
    assert not site.sessions["builder"].run(("ls", "-A", "/var/tmp/fleet")).stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ca_file": ""}, "is not trusted: .*; set registry.ca_file"),
        ({"password": Secret("p", literal="wrong")}, "refuses our credentials"),
        ({"username": None, "password": None}, "asks for credentials"),
        ({"host": "127.0.0.1:1"}, "connection refused"),
    ],
)
def test_what_the_registry_refuses_is_said(site: Site, change: dict[str, object], words: str) -> None:
    registry = replace(site.registry, **change)  # type: ignore[arg-type]  # the table holds different fields
    with RegistryClient(registry) as client, pytest.raises(FleetError, match=words):
        client.check()
