"""Who shares a relay, who is it, and what everybody does then instead of what they would have done."""

from dataclasses import replace
from pathlib import Path

import pytest

from fleet.bundle.contents import unserved
from fleet.bundle.manifest import Manifest, Want
from fleet.delivery.plan import Keep, Load, PlaceCa, Pull, Step, Sweep, Tag
from fleet.delivery.relay import Distrust, Ground, StopRelay
from fleet.delivery.staging import StagedImage, Staging
from fleet.image.lock import Lock
from fleet.image.release import Release
from fleet.image.strategy import fingerprint
from fleet.inventory import load
from fleet.inventory.model import Host
from fleet.inventory.settings import Image, Relay
from fleet.rollout.imageorders import relay_orders
from fleet.rollout.relays import (
    Post,
    fills,
    groups,
    leftovers,
    needs,
    pick,
    post,
    registry_images,
    through,
    trusts,
    wanted,
)

RELEASE = Release(
    "vllm", "sha256:" + "1" * 64, "sha256:c", ("sha256:d", "sha256:e"), ("sha256:l", "sha256:m"), (5, 7), "s"
)
RELEASES = {"chat": RELEASE}
PLACE = Post("r", "10.0.0.5:5443", "10.0.0.5", 5443, False, "f" * 64)
LOAD = Load(RELEASE.local_name, (0, 1), 10, "", there=2)
PULL = f"{PLACE.registry}/vllm"
REFERENCE = f"{PULL}@{RELEASE.manifest_digest}"


def hosts(tmp_path: Path, text: str) -> tuple[Host, ...]:
    path = tmp_path / "site.yaml"
    path.write_text(text, encoding="utf-8")
    return tuple(load([str(path)]).hosts.values())


def test_auto_groups_the_hosts_that_got_the_word_from_one_place(tmp_path: Path) -> None:
    text = """\
all:
  children:
    east: {hosts: {e1: , e2: {fleet: {relay: {address: 10.9.0.2}}}, e3: }, vars: {fleet: {relay: {host: auto, port: 99}}}}
    west:
      hosts: {w1: , w2: }
      vars: {fleet: {relay: auto}}
    alone: {hosts: {a1: }, vars: {fleet: {relay: auto}}}
    none: {hosts: {n1: , n2: }}
"""
    found = groups(hosts(tmp_path, text))
    assert [group.names for group in found] == [("e1", "e2", "e3"), ("w1", "w2")]
    second = next(host for host in hosts(tmp_path, text) if host.name == "e2")
    assert post(found[0], second, "").registry == "10.9.0.2:99"


def test_a_named_host_serves_who_names_it_and_need_not_be_one_of_them(tmp_path: Path) -> None:
    text = "all: {hosts: {a: {fleet: {relay: c}}, b: {fleet: {relay: {host: c}}}, c: {ansible_host: 10.0.0.3}, d: }}"
    every = hosts(tmp_path, text)
    (group,) = groups(every)
    assert (group.names, group.order) == (("a", "b"), ("c", "a", "b"))
    assert post(group, every[2], "").registry == "10.0.0.3:5443"
    (left,) = groups([host for host in every if host.name != "c"])
    assert left.order == ("a", "b")


@pytest.mark.parametrize(
    ("able", "needy", "chosen"),
    [
        ({"a", "b", "c"}, (), "a"),
        ({"b", "c"}, (), "b"),
        (set(), (), ""),
        ({"a", "b", "c"}, ("c",), "c"),
        ({"a"}, ("c",), "a"),
    ],
)
def test_the_first_that_is_able_serves_and_who_takes_over_needs_the_images_itself(
    tmp_path: Path, able: set[str], needy: tuple[str, ...], chosen: str
) -> None:
    (group,) = groups(hosts(tmp_path, "all: {hosts: {a: , b: , c: }, vars: {fleet: {relay: auto}}}"))
    assert pick(group, able, needy) == chosen


def test_a_relay_that_is_no_host_and_a_registry_from_source_are_mistakes(tmp_path: Path) -> None:
    wrong = "{host: x, image: {source: {ref: main}}}"
    with pytest.raises(Exception, match="not built from source"):
        hosts(tmp_path, f"all: {{hosts: {{a: }}, vars: {{fleet: {{relay: {wrong}}}}}}}")
    with pytest.raises(Exception, match="x is not in the inventory"):
        hosts(tmp_path, "all: {hosts: {a: }, vars: {fleet: {relay: x}}}")


def test_one_image_of_the_registry_is_ordered_for_all_that_may_serve(tmp_path: Path) -> None:
    every = hosts(tmp_path, "all: {hosts: {a: , b: }, vars: {fleet: {relay: {image: {archive: reg.tar}}}}}")
    image = Image("fleet-relay", archive=str(tmp_path / "reg.tar"))
    assert registry_images(every) == {image: ("a", "b")}
    (order,) = relay_orders(every)
    assert (order.image, order.published, order.wanted_by) == (image, False, (("a", ""), ("b", "")))
    assert relay_orders(every[:1]) == ()


def test_a_bundle_without_the_registry_is_not_enough_for_a_site_with_relays(tmp_path: Path) -> None:
    every = hosts(tmp_path, "all: {hosts: {a: , b: }, vars: {fleet: {relay: {image: {archive: reg.tar}}}}}")
    want = Want("a", "", fingerprint(Image("fleet-relay", archive="/elsewhere/reg.tar")), RELEASE.id)
    made = Manifest("", "", "", (), (), (want,))
    assert unserved(made, (RELEASE,), every, Lock(), Lock()) == ()
    (lacking,) = unserved(replace(made, wants=()), (RELEASE,), every, Lock(), Lock())
    assert lacking == "a, b: the image of the relay's registry (fleet-relay) is not in the bundle"


def test_a_sideload_becomes_a_pull_from_the_relay() -> None:
    steps = through((LOAD,), RELEASES, PLACE, Ground(), "n")
    assert [type(one) for one in steps] == [PlaceCa, Pull, Tag]
    assert steps[1] == Pull(PULL, RELEASE.manifest_digest, 12, "relay r has it for the group", "r")
    assert steps[1].way == "from relay r"
    assert steps[2] == Tag(REFERENCE, RELEASE.local_name, "the name is not there")


def test_a_pull_from_a_registry_becomes_one_from_the_relay() -> None:
    other = "registry.corp/vllm"
    own = (
        PlaceCa("registry.corp", ""),
        Pull(other, RELEASE.manifest_digest, 12, ""),
        Tag(f"{other}@{RELEASE.manifest_digest}", RELEASE.local_name, ""),
    )
    steps = through(own, RELEASES, PLACE, Ground(trusts={PLACE.registry: PLACE.fingerprint}), "n")
    assert [type(one) for one in steps] == [Pull, Tag]
    assert isinstance(steps[1], Tag)
    assert steps[1].image == REFERENCE


def test_the_relay_itself_pulls_from_its_own_store_and_nothing_moves() -> None:
    pull = through((LOAD,), RELEASES, PLACE, Ground(), "r")[1]
    assert (pull.size, pull.why) == (0, "its own store has it")


def test_what_needs_no_bytes_stays_and_what_was_staged_for_nothing_goes() -> None:
    keep, retag = Keep("x", ""), Tag("sha256:c", RELEASE.local_name, "")
    assert through((keep, retag), RELEASES, PLACE, Ground(), "n")[1:] == (keep, retag)
    staged = Ground(Staging("/s", images=(StagedImage("sha256:c", RELEASE.local_name, 1.0),)))
    assert through((LOAD,), RELEASES, PLACE, staged, "n")[-1] == Sweep(
        "/s", RELEASE.local_name, "sha256:c", "it comes from the relay"
    )


def test_only_what_a_store_lacks_is_sent_and_shared_layers_once() -> None:
    twin = Release("other", "sha256:2", "sha256:x", ("sha256:e",), ("sha256:m",), (7,), "s")
    first, second = fills((RELEASE, twin), Ground(Staging(parts={"sha256:m": 3}), {"sha256:l": 5}), "way")
    assert (first.size, second.size) == (4, 0)
    assert "its store has 1 of 2 layers" in first.why
    assert [one.size for one in fills((RELEASE,), Ground(), "")] == [12]


def test_needs_and_wants_are_told_by_the_steps() -> None:
    steps: tuple[Step, ...] = (LOAD,)
    assert needs(steps)
    assert wanted(steps, RELEASES) == (RELEASE,)
    assert not needs((Keep("x", ""), Tag("i", "n", "")))
    assert wanted((), RELEASES) == ()


def test_leftovers_are_removed_but_by_nobody_who_may_not_and_never_what_is_kept() -> None:
    ground = Ground(Staging("/s"), trusts={PLACE.registry: PLACE.fingerprint, "registry.corp": "0" * 64}, left=True)
    why = "an earlier run has left it"
    both = (StopRelay("/s", why), Distrust(PLACE.registry, PLACE.fingerprint, why))
    assert leftovers(ground, Relay(), PLACE.fingerprint, root=True) == both
    assert leftovers(ground, Relay(), PLACE.fingerprint, root=False) == both[:1]
    assert leftovers(ground, Relay(keep=True), PLACE.fingerprint, root=True) == ()
    assert leftovers(Ground(trusts={PLACE.registry: ""}), Relay(), "", root=True) == ()
    assert trusts(ground, PLACE)
