"""A night's look at two images of which the new one of the first is known to be broken."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from fleet.image.lock import Lock, write
from fleet.image.release import Release
from fleet.image.store import Store
from fleet.image.workshop import Outlook, Workshop
from fleet.inventory import load
from fleet.inventory.model import Inventory
from fleet.inventory.settings import Image
from fleet.nightly.nights import Night
from fleet.options import Options
from fleet.rollout import releases
from fleet.transport import Connector
from fleet.verbs.common import ROOT
from fleet.verbs.night_images import Looked, good_ones, last_good, look

OLD, NEW = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"

RELEASE = Release("one", OLD, "", (), (), (), "prebuilt", vllm_version="0.11.0")


def inventory(folder: Path, second: str) -> Inventory:
    text = f"""
all:
  vars:
    fleet:
      delivery: sideload
      services:
        chat: {{model: m, port: 8000, image: {{name: one, prebuilt: "r.corp/one:latest"}}}}
        more: {{model: m, port: 8001, image: {{name: two, prebuilt: "r.corp/{second}:latest"}}}}
  hosts: {{a: {{}}}}
"""
    (folder / "prod.yaml").write_text(text)
    return load([str(folder / "prod.yaml")])


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A look with these keys to avoid; what the registry has now is NEW, and the key of an image is its tag's digest."""

    def outlook(image: Image, workshop: Workshop, lock: Lock, *, gfx: tuple[str, ...]) -> Outlook:
        assert gfx == ()
        assert workshop.store == Store(ROOT)
        digest = NEW if workshop.update else lock.image(image.prebuilt) or NEW
        made = RELEASE if digest == OLD else None
        return Outlook(made, f"{image.name} {digest[7:9]}", lock.with_image(image.prebuilt, digest), "fetch", "new")

    monkeypatch.setattr(releases, "look", outlook)

    def run(second: str, avoid: Collection[str]) -> tuple[Looked, Lock]:
        made = inventory(tmp_path, second)
        write(made.lock_path, Lock(images=dict.fromkeys(("r.corp/one:latest", f"r.corp/{second}:latest"), OLD)))
        with Connector():
            found = look(Options(), made, tuple(made.hosts.values()), tmp_path / "night.yaml", avoid)
        return found, found.stock.lock

    return run


def test_the_broken_one_stays_as_the_lock_says_and_the_other_goes_on(seen: Any) -> None:
    found, lock = seen("two", {"one 22"})
    assert (found.new, found.spared) == ({"one": "one 11", "two": "two 22"}, {"one": "one 22"})
    assert lock.images == {"r.corp/one:latest": OLD, "r.corp/two:latest": NEW}
    found, lock = seen("two", ())
    assert (found.new, found.spared) == ({"one": "one 22", "two": "two 22"}, {})


def test_two_images_of_one_tag_go_together_for_the_lock_has_one_line_for_both(seen: Any) -> None:
    found, lock = seen("one", {"one 22"})
    assert (found.new, found.spared) == ({"one": "one 22", "two": "two 22"}, {})
    assert lock.images == {"r.corp/one:latest": NEW}


def test_what_is_good_is_what_the_lock_means_with_the_night_that_brought_it(seen: Any, tmp_path: Path) -> None:
    made = inventory(tmp_path, "two")
    hosts = tuple(made.hosts.values())
    assert last_good(Options(), made, hosts) == {}  # nothing was ever deployed by this lock
    write(made.lock_path, Lock(images=dict.fromkeys(("r.corp/one:latest", "r.corp/two:latest"), OLD)))
    found = last_good(Options(), made, hosts)
    assert {name: one.key for name, one in found.items()} == {"one": "one 11", "two": "two 11"}
    past = [Night("n1", 0.0, "promoted", "", {"images": [{"release": RELEASE.local_name}]})]
    assert good_ones(found, past)[0] == {
        "image": "one",
        "release": RELEASE.local_name,
        "version": "0.11.0",
        "commit": "",
        "since": "n1",
    }
