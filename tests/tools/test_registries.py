"""Images that come from several registries, each with credentials of its own."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.image.lock import Lock
from fleet.image.produce import bring_again, produce
from fleet.inventory.settings import Image, Registry, Source
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
