"""Models in the plans of a run with relays: which way their bytes come, and which host has room for a store."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from fleet.delivery.plan import Load
from fleet.delivery.relay import FillModel, Ground
from fleet.delivery.staging import Staging
from fleet.facts.stored import Space
from fleet.image.release import Release
from fleet.inventory.model import Connection, Host, Origin
from fleet.inventory.settings import Relay, Settings
from fleet.models.content import Content, File, Source
from fleet.models.courier import FromHub
from fleet.models.disk import There
from fleet.models.held import Ground as ModelsGround
from fleet.models.held import Model
from fleet.models.hub import Remote, Repository
from fleet.models.plan import plan_models
from fleet.models.source import Here
from fleet.rollout import relayplan
from fleet.rollout.hostplan import HostPlan
from fleet.rollout.modelplan import Weighed
from fleet.rollout.modelrelays import arrange
from fleet.rollout.run import Outcome, site_of
from fleet.rollout.site import Site, Wishes

REGISTRY = Release("fleet-relay", "sha256:" + "2" * 64, "sha256:r", ("sha256:q",), ("sha256:p",), (9,), "s")
IMAGE = Load(REGISTRY.local_name, (0,), 9, "")
A, B = "a" * 64, "b" * 64
GB = 10**9
CONTENT = Content.of("m", (File("config.json", 10, A), File("weights", GB, B)))
HERE = Here(CONTENT, {one.path: Path(one.path) for one in CONTENT.files}, "models/m")


class Session:
    """Only what plans ask of one."""

    via = ("jump@gate",)
    user = "ops"


class Facts:
    """The same of facts: root, and disks by place."""

    class user:  # noqa: N801
        uid = 0

    class docker:  # noqa: N801
        image_store = "overlay2"

    def __init__(self, disks: dict[str, int]) -> None:
        self.space = {name: Space(f"/{name}", True, 0, 0, None, disk) for name, disk in disks.items()}


def outcome(
    name: str,
    *,
    source: Source = HERE,
    have: bool = False,
    curl: bool = True,
    free: int = 1 << 40,
    disks: dict[str, int] | None = None,
    blobs: dict[str, int] | None = None,
) -> Outcome:
    settings = Settings(relay=Relay())
    host = Host(name, ("all",), Connection(f"10.0.0.{name[1:]}"), settings, {}, {"fleet.relay": Origin("i.yaml", 3)})
    ground = ModelsGround("/srv/models", there=True, writable=True, free=1 << 40)
    if have:
        sums = {one.path: one.sha256 for one in CONTENT.files}
        ground = ground.with_model(
            Model("m", "link", sizes={one.path: one.size for one in CONTENT.files}, sums=sums, listed=sums)
        )
    plan = plan_models(ground, {"m": source})
    site = Site(
        host,
        cast("Any", Session()),
        cast("Any", None),
        cast("Any", Facts(disks or {})),
        (),
        None,
        HostPlan(name, models=plan.steps),
        Ground(Staging("/s", free), blobs or {}),
        (IMAGE,),
        Weighed(plan, {"m": source}, curl=curl),
    )
    return Outcome(name, site)


def arranged(*given: Outcome) -> dict[str, HostPlan]:
    found = {one.host: one for one in given}
    arrange(found, Wishes(relays=dict.fromkeys(found, REGISTRY), fingerprint="f" * 64))
    return {name: site_of(one).plan for name, one in found.items()}


def words(plan: HostPlan) -> list[str]:
    return [line.what.partition(" ")[0] for line in plan.lines if line.changes]


def test_the_relay_gets_a_models_bytes_once_and_the_others_theirs_from_it() -> None:
    plans = arranged(outcome("n1"), outcome("n2"), outcome("n3", have=True))
    assert words(plans["n1"]) == ["sideload", "start", "fill", "stage", "switch", "remove"]
    assert words(plans["n2"]) == ["stage", "switch"]
    assert [plan.size for plan in plans.values()] == [CONTENT.size + 9, CONTENT.size, 0]
    assert {line.way for line in plans["n2"].lines if line.size} == {"from relay n1"}
    assert plans["n3"].relayed_models == ()
    fill = next(step for step in plans["n1"].relayed_models if isinstance(step, FillModel))
    assert {one.digest for one in fill.parcels} == {f"sha256:{A}", f"sha256:{B}"}


def test_what_the_store_has_is_not_sent_again() -> None:
    plans = arranged(outcome("n1", have=True, blobs={f"sha256:{B}": GB}), outcome("n2"))
    fill = next(step for step in plans["n1"].relayed_models if isinstance(step, FillModel))
    assert (fill.size, len(fill.parcels)) == (10, 2)
    assert fill.why.endswith("its store has 1 of 2 files")


def test_a_host_without_curl_goes_its_own_way_and_says_so() -> None:
    plans = arranged(outcome("n1", curl=False), outcome("n2", curl=False))
    assert "from its own store" in {line.way for line in plans["n1"].lines}  # it copies
    assert plans["n2"].relayed_models == ()
    assert "there is no curl on the host to ask relay n1" in plans["n2"].notes[0]


def test_what_comes_from_a_disk_of_each_host_needs_no_relay() -> None:
    disk = There(CONTENT, "/mnt/disk", "m")
    plans = arranged(outcome("n1", source=disk), outcome("n2", source=disk))
    assert {plan.relayed_models for plan in plans.values()} == {()}


def test_what_comes_from_hugging_face_comes_to_the_relay_alone_and_to_the_others_from_it() -> None:
    remote = Remote(CONTENT, Repository("org/m"), "c" * 40, Path("hub"))
    plans = arranged(outcome("n1", source=remote), outcome("n2", source=remote))
    fill = next(step for step in plans["n1"].relayed_models if isinstance(step, FillModel))
    assert (fill.size, fill.way) == (CONTENT.size, "from https://huggingface.co")
    assert isinstance(fill.courier, FromHub)
    assert fill.parcels[0].path == Path("hub") / A
    assert {line.way for line in plans["n2"].lines if line.size} == {"from relay n1"}


def test_a_host_whose_disk_has_no_room_for_the_store_is_no_relay() -> None:
    assert arranged(outcome("n1", free=GB), outcome("n2"))["n2"].lines[1].what.startswith("start relay 10.0.0.2")
    same = {"staging": 1, "models": 1}
    tight = GB + CONTENT.size
    assert "start" in words(arranged(outcome("n1", free=tight), outcome("n2"))["n1"])
    plans = arranged(outcome("n1", free=tight, disks=same), outcome("n2"))
    assert "start" not in words(plans["n1"])
    assert "start" in words(plans["n2"])


def test_a_host_that_was_named_and_has_no_room_is_said() -> None:
    release = Release("vllm", "sha256:" + "1" * 64, "sha256:c", ("sha256:d",), ("sha256:l",), (GB,), "s")
    load = (Load(release.local_name, (0,), GB, ""),)
    found = {name: outcome(name, have=True, free=free) for name, free in (("n1", GB), ("n2", 1 << 40))}
    for one in found.values():
        site = site_of(one)
        settings = replace(site.host.settings, relay=Relay("n1"))
        one.site = replace(site, host=replace(site.host, settings=settings), plan=replace(site.plan, images=load))
    wishes = Wishes({name: {"chat": release} for name in found}, relays=dict.fromkeys(found, REGISTRY))
    relayplan.arrange(found, wishes)
    (note, *_) = site_of(found["n2"]).plan.notes
    assert note == "n1 cannot be the relay: /s has 1.0 GB free, and its store needs 1.1 GB"
