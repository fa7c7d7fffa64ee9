"""Images that come from several registries, each with credentials of its own."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.delivery.progress import silent
from fleet.errors import FleetError
from fleet.image.lock import Lock
from fleet.image.produce import bring_again, produce
from fleet.image.registry_api import RegistryClient
from fleet.image.release import Release
from fleet.image.workshop import Workshop
from fleet.inventory.settings import Image, Registry, Source
from fleet.rollout.publish import Published, publish
from fleet.secret import Secret
from tests.tools.middle import middle
from tests.tools.test_convert import docker_save
from tests.tools.test_produce import Docker, push, registry, repository, workshop

__all__ = ["registry", "repository"]  # fixtures
LOGIN = "mirror:s3cret"
KNOWN = Registry("", username=Secret("u", literal="mirror"), password=Secret("p", literal="s3cret"), insecure=True)


@pytest.fixture
def mirror(registry: Registry, tmp_path: Path) -> Iterator[Registry]:
    """Another registry than the fleet's, which asks who is there; it has `team/vllm:1`."""
    shop = workshop(tmp_path / "theirs", Docker())
    made = produce(Image("team/vllm", archive=str(docker_save(tmp_path / "a.tar"))), shop, Lock(), gfx=())
    push(shop, made, registry)
    with middle(registry.host, login=LOGIN) as (host, _asked):
        yield replace(KNOWN, host=host)


def tag_of(registry: Registry, tmp_path: Path) -> str:
    (layout,) = (tmp_path / "theirs/layouts").glob("[!.]*")
    return f"{registry.host}/team/vllm:{layout.name}"


def test_a_prebuilt_image_is_fetched_as_the_inventory_says_of_its_registry(mirror: Registry, tmp_path: Path) -> None:
    ours = Registry("registry.corp:5000", username=Secret("u", literal="ours"), password=Secret("p", literal="x"))
    shop = replace(workshop(tmp_path / "fleet", Docker()), registry=None, registries={mirror.host: mirror})
    image = Image("vllm", prebuilt=tag_of(mirror, tmp_path))
    made = produce(image, shop, Lock(), gfx=())
    again = replace(shop, registry=ours)
    assert again.registry_for(mirror.host) == mirror
    assert again.registry_for("registry.corp:5000") == ours
    assert again.registry_for("quay.io") == Registry("quay.io")
    shop.store.layout_path(made.release).rename(tmp_path / "gone")
    bring_again(image, again, made.release)
    assert shop.store.layout(made.release)


def test_without_a_word_about_its_registry_the_image_is_refused(mirror: Registry, tmp_path: Path) -> None:
    unknown = {mirror.host: Registry(mirror.host, insecure=True)}
    shop = replace(workshop(tmp_path / "fleet", Docker()), registries=unknown)
    with pytest.raises(FleetError, match="asks for credentials") as caught:
        produce(Image("vllm", prebuilt=tag_of(mirror, tmp_path)), shop, Lock(), gfx=())
    assert "fleet.registries" in caught.value.hint


class Noting(Docker):
    """Keeps the logins that builds were given."""

    def place(self, path: Path) -> AbstractContextManager[str]:
        if path.name != "config.json":
            return super().place(path)
        self.logins = json.loads(path.read_text())["auths"]
        return nullcontext(str(path))


def test_a_build_is_given_the_login_of_its_bases_registry_and_no_other(
    repository: Path, mirror: Registry, tmp_path: Path
) -> None:
    docker = Noting()
    other = replace(KNOWN, host="other.corp")
    known = {one.host: one for one in (mirror, other)}
    shop = replace(workshop(tmp_path / "fleet", docker), registries=known)
    source = Source(ref="v0.11.0", repository=str(repository), base_image=tag_of(mirror, tmp_path))
    made = produce(Image("vllm-rocm", source=source), shop, Lock(), gfx=())
    assert list(docker.logins) == [mirror.host]
    assert made.release.base.startswith(f"{mirror.host}/team/vllm")


def lying(registry: Registry, tmp_path: Path, kind: str) -> str:
    """An image of the registry's owner in it, as docker or as buildx pushes one."""
    source = f"docker-archive:{docker_save(tmp_path / 'theirs.tar', {'Healthcheck': {'Test': ['CMD', 'true']}})}"
    target = f"docker://{registry.host}/team/images/vllm:prod"
    form = ("--format", "oci") if kind == "oci" else ()
    command = ("skopeo", "copy", "--quiet", "--dest-tls-verify=false", *form, source, target)
    subprocess.run(command, check=True, capture_output=True)
    return "team/images/vllm:prod"


def settled(registry: Registry, where: str, root: Path) -> tuple[Release, Published, Published, Workshop]:
    """What a controller makes of the prebuilt image, and what it publishes, twice."""
    shop = replace(workshop(root, Docker(), registry), pulled=True)
    image = Image("ours", prebuilt=f"{registry.host}/{where}")
    made = produce(image, shop, Lock(), gfx=())
    first, second = (
        publish(made.release, made.key, registry, shop, dry=False, moving=silent) for _ in ("first", "second")
    )
    again = produce(image, shop, made.lock, gfx=())
    assert (again.changes, again.release) == (False, made.release)
    return made.release, first, second, shop


def test_an_image_that_lies_in_the_registry_of_the_hosts_is_pulled_from_where_it_lies(
    registry: Registry, tmp_path: Path
) -> None:
    where = lying(registry, tmp_path, "oci")
    with middle(registry.host) as (host, asked):
        site = Registry(host, insecure=True)
        release, first, second, _ = settled(site, where, tmp_path / "one")
        other, third, _, _ = settled(site, where, tmp_path / "two")
    assert str(release.in_registry(host)) == f"{host}/team/images/vllm@{release.manifest_digest}"
    assert (first.changes, second.changes) == ((f"recorded {release.local_name} in {host}",), ())
    assert "where it lies anyway" in first.notes[0]
    assert (other, third.changes) == (release, ())
    sent = [one for one in asked if not one.startswith(("GET", "HEAD"))]
    assert all("/v2/ours/" in one for one in sent)
    assert len([one for one in sent if "manifests" in one]) == 1, sent


def test_who_may_only_pull_does_without_the_record(registry: Registry, tmp_path: Path) -> None:
    where = lying(registry, tmp_path, "oci")
    with middle(registry.host, pull_only=True, login=LOGIN) as (host, _asked):
        release, first, second, _ = settled(replace(KNOWN, host=host), where, tmp_path / "one")
    assert release.in_registry(host).path == "team/images/vllm"
    assert (first.changes, first.recorded, second) == ((), False, first)
    assert any("no record of it is kept" in note for note in first.notes)


def test_who_may_only_pull_an_image_in_dockers_format_gets_it_as_it_is(registry: Registry, tmp_path: Path) -> None:
    where = lying(registry, tmp_path, "docker")
    with middle(registry.host, pull_only=True) as (host, _asked):
        site = Registry(host, insecure=True)
        release, first, _, shop = settled(site, where, tmp_path / "one")
        with RegistryClient(site) as client:
            assert client.digest("team/images/vllm", "prod") == release.manifest_digest
            assert client.amd64("team/images/vllm", "prod") == ("prod", release.config_digest)
    assert str(release.in_registry(host)) == f"{host}/team/images/vllm@{release.manifest_digest}"
    assert not first.changes
    assert shop.store.layout(release) is None
    assert not list((tmp_path / "one/layouts").glob("[!.]*"))


def test_who_may_push_has_an_image_in_dockers_format_as_every_other(registry: Registry, tmp_path: Path) -> None:
    where = lying(registry, tmp_path, "docker")
    release, first, second, shop = settled(registry, where, tmp_path / "one")
    assert release.dropped == ("HEALTHCHECK",)
    assert shop.store.layout(release) is not None
    assert str(release.in_registry(registry.host)) == f"{registry.host}/ours@{release.manifest_digest}"
    assert (first.changes, second.changes) == ((f"pushed {release.local_name} to {registry.host}",), ())


def test_a_push_that_is_denied_says_what_is_missing(registry: Registry, tmp_path: Path) -> None:
    shop = workshop(tmp_path / "one", Docker())
    made = produce(Image("ours", archive=str(docker_save(tmp_path / "a.tar"))), shop, Lock(), gfx=())
    with (
        middle(registry.host, pull_only=True) as (host, _asked),
        pytest.raises(FleetError, match="could not push") as caught,
    ):
        publish(made.release, made.key, Registry(host, insecure=True), shop, dry=False, moving=silent)
    assert "may not push" in caught.value.hint
