"""Releases from sources, tags and archives: real git, real skopeo, a real registry on loopback, a fake docker."""

import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest

from fleet.errors import FleetError, InputError, UsageError
from fleet.image.build import BuildError
from fleet.image.layout import read
from fleet.image.lock import Lock
from fleet.image.machine import NOTHING
from fleet.image.produce import known, look, produce
from fleet.image.registry_api import RegistryClient
from fleet.image.release import Release
from fleet.image.smoke import SmokeError
from fleet.image.store import Store
from fleet.image.workshop import Produced, Workshop, ensure_layout, publish
from fleet.inventory.settings import Image, Registry, Source
from fleet.transport import Output
from tests.tools.test_convert import docker_save, quiet
from tests.tools.test_source import git

BASE_ID = "sha256:" + "b" * 64
DOCKERFILE = """ARG BASE_IMAGE=local/base:1
FROM ${BASE_IMAGE} AS base
ARG ARG_PYTORCH_ROCM_ARCH
RUN --mount=type=cache,target=/x true
FROM base AS final
"""


class Docker:
    """A docker CLI that knows these commands and no other."""

    name = "builder"

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.buildx = "github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3\n"
        self.built: dict[str, dict[str, str]] = {}  # tag -> labels
        self.builds: list[tuple[str, ...]] = []
        self.environments: list[dict[str, str]] = []
        self.base = BASE_ID
        self.user = 0

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        words = tuple(argv)
        if words == ("id", "-u"):
            return Output(0, f"{self.user}\n", "")
        if words[:2] == ("docker", "version"):
            version = {"Version": "26.1.5", "Os": "linux", "Arch": "amd64"}
            return Output(0, json.dumps({"Client": version, "Server": version}), "")
        if words == ("docker", "buildx", "version"):
            return Output(int(not self.buildx), self.buildx, "")
        if words[:3] == ("docker", "image", "inspect"):
            if words[-1] in self.built:
                return Output(0, self.built[words[-1]]["io.fleet.content-key"], "")
            return Output(0, f"{self.base}\n", "") if words[-1] == "local/base:1" else Output(1, "", "No such image")
        raise AssertionError(words)

    def stream(
        self,
        argv: Sequence[str],
        on_line: Callable[[str], None],
        *,
        environment: Mapping[str, str] = NOTHING,
        stdin: bytes = b"",
        stall: float = 0,
    ) -> int:
        assert not stdin
        self.environments.append(dict(environment))
        words = tuple(argv)[argv.index("docker") :]  # what ends its steps stands before it
        assert words[:3] == ("docker", "buildx", "build")
        self.builds.append(words)
        for line in (
            "#4 [base 2/2] RUN true",
            *([f"#4 0.1 {self.fails}", "#4 ERROR: exit code: 1"] if self.fails else []),
        ):
            on_line(line)
        pairs = [words[at + 1].partition("=") for at, word in enumerate(words) if word == "--label"]
        if not self.fails:
            self.built[words[words.index("--tag") + 1]] = {name: value for name, _, value in pairs}
        return 1 if self.fails else 0

    def fetch(self, argv: Sequence[str], into: Path) -> None:
        assert tuple(argv[:2]) == ("docker", "save")
        docker_save(into, {"Labels": self.built[argv[2]], "Entrypoint": ["vllm", "serve"]}, argv[2])

    def place(self, path: Path) -> AbstractContextManager[str]:
        assert (path / ".git").is_dir()
        return nullcontext(str(path))

    def bench(self) -> AbstractContextManager[str]:
        raise AssertionError("nothing is made on this builder")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    (folder / "docker").mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / "docker/Dockerfile.rocm").write_text(DOCKERFILE)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    git(folder, "tag", "v0.11.0")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    port = free_port()
    config = tmp_path / "registry.yml"
    root = tmp_path / "registry"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    command = ("docker-registry", "serve", str(config))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield Registry(f"127.0.0.1:{port}", insecure=True)
        finally:
            process.terminate()


def workshop(root: Path, docker: Docker, registry: Registry | None = None) -> Workshop:
    return Workshop(Store(root), docker, registry, quiet)


def spec(repository: Path) -> Image:
    return Image("vllm-rocm", source=Source(ref="v0.11.0", repository=str(repository)))


def push(shop: Workshop, made: Produced, registry: Registry) -> None:
    layout = shop.store.layout(made.release)
    target = f"docker://{registry.host}/{made.release.name}:{made.release.id}"
    command = ("skopeo", "copy", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:image", target)
    subprocess.run(command, check=True, capture_output=True)


def test_a_source_is_built_once(repository: Path, tmp_path: Path) -> None:
    docker, shop = Docker(), workshop(tmp_path / "fleet", Docker())
    shop = replace(shop, machine=docker)
    first = produce(spec(repository), shop, Lock(), gfx=("gfx942", "gfx90a"))
    assert first.changes
    assert first.release.content_key == first.key
    assert first.release.vllm_version == "0.11.0"
    assert first.release.gfx == ("gfx90a", "gfx942")
    assert first.release.rocm == "7.14.0"
    assert first.release.base_digest == BASE_ID
    assert first.release.vllm_commit == git(repository, "rev-parse", "v0.11.0")
    assert "ARG_PYTORCH_ROCM_ARCH=gfx90a;gfx942" in docker.builds[0]
    assert first.release.args == {"ARG_PYTORCH_ROCM_ARCH": "gfx90a;gfx942"}
    assert first.release.versions == {"ROCM_SDK_VERSION": "7.14.0"}
    layout = shop.store.layout(first.release)
    assert layout is not None
    assert read(layout).config.digest == first.release.config_digest
    second = produce(spec(repository), shop, first.lock, gfx=("gfx942", "gfx90a"))
    assert not second.changes
    assert second.release == first.release
    assert second.lock == first.lock
    assert len(docker.builds) == 1
    assert sorted(path.name for path in (tmp_path / "fleet/layouts").glob("[!.]*")) == [first.release.id]


def test_looking_builds_nothing_and_agrees_with_what_is_made_then(repository: Path, tmp_path: Path) -> None:
    docker = Docker()
    shop = workshop(tmp_path / "fleet", docker)
    seen = look(spec(repository), shop, Lock(), gfx=("gfx942",))
    assert seen.changes
    assert seen.what == f"build vllm-rocm:build-{seen.key} on builder"
    assert not docker.builds
    made = produce(spec(repository), shop, Lock(), gfx=("gfx942",))
    assert (made.key, made.lock, made.why) == (seen.key, seen.lock, seen.why)
    again = look(spec(repository), shop, made.lock, gfx=("gfx942",))
    assert not again.changes
    assert again.release == made.release


def test_other_gfx_targets_make_another_image(repository: Path, tmp_path: Path) -> None:
    docker = Docker()
    shop = workshop(tmp_path / "fleet", docker)
    keys = {produce(spec(repository), shop, Lock(), gfx=gfx).key for gfx in (("gfx942",), ("gfx90a",), ("gfx942",))}
    assert len(keys) == len(docker.builds) == 2


def test_a_moved_ref_is_followed_only_by_update(repository: Path, tmp_path: Path) -> None:
    docker = Docker()
    shop = workshop(tmp_path / "fleet", docker)
    image = Image("vllm-rocm", source=Source(ref="main", repository=str(repository)))
    first = produce(image, shop, Lock(), gfx=())
    (repository / "new").write_text("x")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "two")
    assert not produce(image, shop, first.lock, gfx=()).changes
    moved = produce(image, replace(shop, update=True), first.lock, gfx=())
    assert moved.changes
    assert moved.release.vllm_commit == git(repository, "rev-parse", "main")


def test_a_base_that_lies_on_the_builder_alone_is_locked_by_its_id(repository: Path, tmp_path: Path) -> None:
    docker = Docker()
    shop = workshop(tmp_path / "fleet", docker)
    first = produce(spec(repository), shop, Lock(), gfx=())
    assert first.lock.local == {"docker.io/local/base:1": BASE_ID}
    docker.base = "sha256:" + "c" * 64
    tonight = look(spec(repository), replace(shop, update=True), first.lock, gfx=())
    assert tonight.key != first.key
    assert tonight.lock.local == {"docker.io/local/base:1": docker.base}
    for cache in ("another", "fleet"):  # what a look that came to nothing has found out moves nothing
        shop = workshop(tmp_path / cache, docker)
        again = look(spec(repository), shop, first.lock, gfx=())
        assert (again.key, again.lock) == (first.key, first.lock)
    assert known(spec(repository), shop, first.lock, gfx=()) == first.release
    made = produce(spec(repository), shop, tonight.lock, gfx=())
    assert (made.key, made.release.base_digest) == (tonight.key, docker.base)


def test_a_base_that_is_not_the_locked_one_any_more_builds_nothing(repository: Path, tmp_path: Path) -> None:
    docker = Docker()
    lock = produce(spec(repository), workshop(tmp_path / "one", docker), Lock(), gfx=()).lock
    docker.built, docker.base = {}, "sha256:" + "c" * 64
    with pytest.raises(FleetError, match="is locked as sha256:bbbbbbbbbbbb and is sha256:cccccccccccc there now"):
        produce(spec(repository), workshop(tmp_path / "two", docker), lock, gfx=())
    assert len(docker.builds) == 1


def test_a_lost_layout_is_had_again(repository: Path, tmp_path: Path) -> None:
    docker = Docker()
    shop = workshop(tmp_path / "fleet", docker)
    first = produce(spec(repository), shop, Lock(), gfx=())
    shutil.rmtree(shop.store.layout_path(first.release))
    second = produce(spec(repository), shop, first.lock, gfx=())
    assert second.release == first.release
    assert shop.store.layout(second.release) is not None
    assert len(docker.builds) == 1


def test_without_a_registry_another_controller_finds_the_image_on_the_builder(repository: Path, tmp_path: Path) -> None:
    docker = Docker()
    first = produce(spec(repository), workshop(tmp_path / "one", docker), Lock(), gfx=())
    second = produce(spec(repository), workshop(tmp_path / "two", docker), first.lock, gfx=())
    assert len(docker.builds) == 1
    assert second.release == first.release
    assert second.why == "builder had it built"


def test_with_a_registry_another_controller_needs_no_builder(
    repository: Path, tmp_path: Path, registry: Registry
) -> None:
    docker = Docker()
    shop = workshop(tmp_path / "one", docker, registry)
    first = produce(spec(repository), shop, Lock(), gfx=())
    push(shop, first, registry)
    assert publish(first.release, first.key, registry)
    assert not publish(first.release, first.key, registry)
    other = workshop(tmp_path / "two", Docker(), registry)
    second = produce(spec(repository), other, first.lock, gfx=())
    assert not second.changes
    assert second.release == first.release
    ensure_layout(other, second.release)
    layout = other.store.layout(second.release)
    assert layout is not None
    assert read(layout).config.digest == first.release.config_digest


def test_a_failed_build_names_the_step_and_keeps_a_log(repository: Path, tmp_path: Path) -> None:
    shop = workshop(tmp_path / "fleet", Docker(fails="cp: no space left on device"))
    with pytest.raises(BuildError) as caught:
        produce(spec(repository), shop, Lock(), gfx=())
    assert caught.value.step == "[base 2/2] RUN true"
    assert caught.value.tail == ("cp: no space left on device",)
    assert "disk is full" in caught.value.hint
    assert "no space left" in caught.value.log.read_text()
    assert not (tmp_path / "fleet/releases").exists()


def test_a_dockerfile_without_the_argument_is_bad_input(repository: Path, tmp_path: Path) -> None:
    source = Source(ref="v0.11.0", repository=str(repository), args={"BASE_IMAG": "x"}, target="vllm-openai")
    docker = Docker()
    with pytest.raises(InputError) as caught:
        produce(Image("vllm-rocm", source=source), workshop(tmp_path / "fleet", docker), Lock(), gfx=())
    assert "did you mean BASE_IMAGE" in str(caught.value)
    assert "its stages: base, final" in str(caught.value)
    assert not docker.builds


def test_a_missing_dockerfile_names_those_that_are_there(repository: Path, tmp_path: Path) -> None:
    source = Source(ref="v0.11.0", repository=str(repository), dockerfile="docker/Dockerfile.rock")
    with pytest.raises(FleetError, match=r"it has docker/Dockerfile\.rocm"):
        produce(Image("vllm-rocm", source=source), workshop(tmp_path / "fleet", Docker()), Lock(), gfx=())


def test_an_archive_becomes_a_release_once(tmp_path: Path) -> None:
    config = {"Env": ["PYTORCH_ROCM_ARCH=gfx942"], "Healthcheck": {"Test": ["CMD", "true"]}}
    path = docker_save(tmp_path / "brought.tar.gz", config)
    image = Image("vllm-rocm", archive=str(path))
    shop = workshop(tmp_path / "fleet", Docker())
    first = produce(image, shop, Lock(), gfx=())
    assert (first.release.gfx, first.release.rocm, first.release.dropped) == (("gfx942",), "7.14.0", ("HEALTHCHECK",))
    assert not produce(image, shop, Lock(), gfx=()).changes
    docker_save(path, {"Env": ["PYTORCH_ROCM_ARCH=gfx90a"]})
    assert produce(image, shop, Lock(), gfx=()).release.gfx == ("gfx90a",)


def test_a_tag_is_locked_and_keeps_its_digests(tmp_path: Path, registry: Registry) -> None:
    target = f"docker://{registry.host}/vendor/vllm:v1"
    for number, config in enumerate(({"Cmd": ["one"]}, {"Cmd": ["two"]})):
        path = docker_save(tmp_path / f"{number}.tar", dict(config))
        flags = ("--format", "oci", "--dest-tls-verify=false")
        subprocess.run(("skopeo", "copy", *flags, f"docker-archive:{path}", target), check=True, capture_output=True)
        if number == 0:
            image = Image("vllm-rocm", prebuilt=f"{registry.host}/vendor/vllm:v1", gfx=("gfx942",))
            shop = workshop(tmp_path / "fleet", Docker(), registry)
            first = produce(image, shop, Lock(), gfx=())
    with RegistryClient(registry) as client:
        assert client.digest("vendor/vllm", "v1") != first.release.manifest_digest
    assert not look(image, shop, first.lock, gfx=()).changes
    assert first.release.source_digest == first.release.manifest_digest
    assert first.release.gfx == ("gfx942",)
    assert not produce(image, shop, first.lock, gfx=()).changes
    moved = produce(image, replace(shop, update=True), first.lock, gfx=())
    assert moved.release.cmd == ("two",)


class Trying(Docker):
    """Loads what is placed on it, and knows what it has."""

    def __init__(self, engine: bool = True) -> None:
        super().__init__()
        self.engine, self.there = engine, {"vllm-rocm:smoke-old", "vllm-rocm:latest"}

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        words = tuple(argv)
        if words[:2] == ("docker", "version") and not self.engine:
            return Output(127, "", "docker: No such file or directory")
        if words[:3] == ("docker", "load", "--input"):
            with tarfile.open(words[3]) as tar:
                entries = json.load(tar.extractfile("manifest.json") or io.BytesIO(b"[]"))
                assert {*entries[0]["Layers"], entries[0]["Config"]} <= set(tar.getnames())
            self.there |= set(entries[0]["RepoTags"])
            return Output(0, "", "")
        if words[:3] == ("docker", "image", "ls"):
            pattern = words[-1].removeprefix("reference=")
            return Output(0, "\n".join(name for name in sorted(self.there) if fnmatch(name, pattern)), "")
        if words[:4] == ("docker", "image", "rm", "--force"):
            self.there.remove(words[4])
            return Output(0, "", "")
        return super().run(argv, stall=stall)

    def place(self, path: Path) -> AbstractContextManager[str]:
        return nullcontext(str(path))


def test_what_was_brought_is_tried_on_the_builder_and_leaves_nothing_there(tmp_path: Path) -> None:
    image = Image("vllm-rocm", archive=str(docker_save(tmp_path / "brought.tar")))
    docker, tried = Trying(), list[str]()

    def refuse(tag: str) -> None:
        assert tag in docker.there
        raise SmokeError("not fit")

    def fine(tag: str) -> None:
        assert docker.there == {tag, "vllm-rocm:latest"}
        tried.append(tag)

    shop = replace(workshop(tmp_path / "fleet", docker), prove=refuse)
    with pytest.raises(SmokeError, match="not fit") as caught:
        produce(image, shop, Lock(), gfx=())
    assert caught.value.key == look(image, shop, Lock(), gfx=()).key
    assert docker.there == {"vllm-rocm:latest"}
    assert not list((tmp_path / "fleet").glob("releases/*"))
    assert not list((tmp_path / "fleet/layouts").glob("[!.]*"))
    made = produce(image, replace(shop, prove=fine), Lock(), gfx=())
    assert tried == [f"vllm-rocm:smoke-{made.key}"]
    assert docker.there == {"vllm-rocm:latest"}
    produce(image, replace(shop, prove=fine), made.lock, gfx=())
    assert len(tried) == 1
    elsewhere = replace(workshop(tmp_path / "other", Trying(engine=False)), prove=refuse)
    assert "it was not tried, for no Docker engine answers on builder" in produce(image, elsewhere, Lock(), gfx=()).why


def test_a_tag_that_is_not_there_is_said(tmp_path: Path, registry: Registry) -> None:
    image = Image("vllm-rocm", prebuilt=f"{registry.host}/vendor/vllm:v9")
    with pytest.raises(UsageError, match="has no image vendor/vllm:v9"):
        produce(image, workshop(tmp_path / "fleet", Docker(), registry), Lock(), gfx=())


def test_a_digest_that_is_not_there_is_said_and_leaves_nothing(tmp_path: Path, registry: Registry) -> None:
    image = Image("vllm-rocm", prebuilt=f"{registry.host}/vendor/vllm@sha256:{'d' * 64}")
    shop = workshop(tmp_path / "fleet", Docker(), registry)
    for ask in (produce, look):
        with pytest.raises(UsageError, match=f"has no image vendor/vllm@sha256:{'d' * 64}") as caught:
            ask(image, shop, Lock(), gfx=())
        assert "check the digest" in caught.value.hint
    assert not list((tmp_path / "fleet").glob("releases/*"))


class Neighbours:
    """Hosts that hold one release, as their `docker save` gives it back."""

    def __init__(self, release: Release, archive: Path) -> None:
        self.release, self.archive = release, archive

    def find(self, name: str, key: str, known: Release | None) -> Release | None:
        return self.release if name == self.release.name else None

    def saved(self, release: Release, folder: Path) -> Iterator[AbstractContextManager[Path]]:
        yield nullcontext(self.archive)


def test_a_release_comes_back_from_a_host_with_the_same_digests_or_not_at_all(tmp_path: Path) -> None:
    brought = docker_save(tmp_path / "brought.tar", {"Cmd": ["one"]})
    image = Image("vllm-rocm", archive=str(brought))
    first = produce(image, workshop(tmp_path / "one", Docker()), Lock(), gfx=())
    other = docker_save(tmp_path / "other.tar", {"Cmd": ["two"]})
    for archive, comes in ((docker_save(tmp_path / "saved.tar", {"Cmd": ["one"]}), True), (other, False)):
        bare = workshop(tmp_path / archive.stem, Docker())
        shop = replace(bare, hosts=Neighbours(first.release, archive))
        found = produce(image, shop, first.lock, gfx=())
        assert (found.changes, found.release) == (False, first.release)
        assert shop.store.layout(first.release) is None
        if comes:
            ensure_layout(shop, first.release)
            assert shop.store.layout(first.release) is not None
        else:
            with pytest.raises(FleetError, match="came back packed otherwise: from a host it came as"):
                ensure_layout(shop, first.release)
            assert not list((tmp_path / archive.stem / "layouts").glob("[!.]*"))


def test_a_builder_without_buildx_is_refused_before_the_build(repository: Path, tmp_path: Path) -> None:
    docker = Docker()
    docker.buildx = ""
    with pytest.raises(FleetError, match="only through the buildx plugin, which is missing"):
        produce(spec(repository), workshop(tmp_path / "fleet", docker), Lock(), gfx=())
    assert not docker.builds


def test_a_proxys_password_is_in_no_argument_and_no_log(repository: Path, tmp_path: Path) -> None:
    docker = Docker(fails="proxy http://bob:h1dd3n@p:1 refused")
    source = Source(ref="v0.11.0", repository=str(repository), proxy={"http_proxy": "http://bob:h1dd3n@p:1"})
    with pytest.raises(BuildError) as caught:
        produce(Image("vllm-rocm", source=source), workshop(tmp_path / "fleet", docker), Lock(), gfx=())
    assert "h1dd3n" not in str(docker.builds)
    assert docker.environments[0]["HTTP_PROXY"] == "http://bob:h1dd3n@p:1"
    assert caught.value.tail == ("proxy http://bob:***@p:1 refused",)
    assert "h1dd3n" not in caught.value.log.read_text()
