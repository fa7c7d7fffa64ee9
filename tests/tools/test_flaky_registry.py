"""A registry behind something that fails one request in nine: whatever is asked of it arrives all the same."""

from pathlib import Path

import pytest

from fleet.delivery.push import push as push_layout
from fleet.image.lock import Lock
from fleet.image.produce import produce
from fleet.image.workshop import publish
from fleet.inventory.settings import Image, Registry
from tests.tools.middle import middle
from tests.tools.test_convert import docker_save, quiet
from tests.tools.test_produce import Docker, registry, workshop

__all__ = ["registry"]  # a fixture


@pytest.mark.parametrize("code", [503, 0], ids=["503", "hangs up"])
def test_a_fetch_a_push_and_a_record_arrive(
    code: int, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.image.again.PAUSE", 0.05)
    monkeypatch.setattr("fleet.image.skopeo.PAUSE", 0.05)
    shop = workshop(tmp_path / "one", Docker())
    spec = Image("vllm", archive=str(docker_save(tmp_path / "a.tar")))
    made = produce(spec, shop, Lock(), gfx=())
    layout = shop.store.layout(made.release)
    assert layout is not None
    with middle(registry.host, code=code, every=9) as (host, asked):
        site = Registry(host, insecure=True)
        push_layout(layout, site, "vllm", made.release.id, on_line=quiet)
        assert publish(made.release, made.key, site)
        other = Image("vllm", prebuilt=f"{host}/vllm:{made.release.id}")
        fetched = produce(other, workshop(tmp_path / "two", Docker(), site), Lock(), gfx=())
        assert len(asked) > 2 * 9
    assert fetched.release.manifest_digest == made.release.manifest_digest
