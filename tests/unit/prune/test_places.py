"""What goes from registries, builders and the controller's store."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.image.builder_facts import BuilderFacts
from fleet.image.registry_shelf import ShelfClient
from fleet.image.registry_words import UnsupportedError
from fleet.image.release import Release
from fleet.prune import builder, registry
from fleet.prune.builder import (
    BuiltImage,
    LayoutFile,
    base_keys_of,
    keys_of,
    plan_built,
    plan_cache,
    plan_layouts,
    plan_unfinished,
)
from fleet.prune.ownership import NOT_OURS, Owned, ours
from fleet.prune.registry import DeleteManifest, Shelf, plan_registry
from fleet.report.units import bytes_of
from fleet.transport import Output
from tests.unit.image.test_registry_api import PLAIN, Answer, client

NAME = "vllm-rocm"


def release(number: int, day: int = 0) -> Release:
    digits = f"{number:064x}"[::-1]
    return Release(
        NAME, f"sha256:{digits}", f"sha256:c{digits[1:]}", (), (), (), "source",
        content_key=f"{number:020x}", created=f"2026-01-{day or number:02}T00:00:00Z",
    )  # fmt: skip


A, B, C, D = (release(number) for number in range(1, 5))
OURS = Owned(frozenset(word for one in (A, B, C, D) for word in (one.id, one.content_key)) | set("abcd"))


def shelf(*releases: Release, **tags: str) -> Shelf:
    """Each under its id, with its record; `tags` are more, `_` standing for `-`."""
    known = {one.id: one.manifest_digest for one in releases}
    records = {f"fleet-{one.content_key}": one for one in releases}
    of_records = {tag: f"sha256:{one.content_key}" for tag, one in records.items()}
    there = frozenset(one.manifest_digest for one in releases)
    more = {tag.replace("_", "-").lstrip("-"): digest for tag, digest in tags.items()}
    return Shelf("reg:5000", NAME, {**known, **of_records, **more}, records, there=there)


def gone(given: Shelf, needed: dict[str, str], keep: int = 1, owned: Owned = OURS) -> list[str]:
    return [step.digest for step in plan_registry(given, needed, keep, owned)[0] if isinstance(step, DeleteManifest)]


def test_what_no_host_needs_goes_with_its_record_behind_it() -> None:
    assert gone(shelf(A, B, C, D), {B.id: "chat-0 runs it"}) == [
        A.manifest_digest,
        f"sha256:{A.content_key}",
        C.manifest_digest,
        f"sha256:{C.content_key}",
    ]
    kept = {one.what: one.why for one in plan_registry(shelf(A, B, C, D), {B.id: "chat-0 runs it"}, 1, OURS)[1]}
    assert kept[f"reg:5000/{NAME}:{B.id}"] == "chat-0 runs it"
    assert "newest" in kept[f"reg:5000/{NAME}:{D.id}"]


def test_of_releases_of_one_day_the_newest_are_those_that_were_built_last() -> None:
    early, late = (replace(release(2, day=1), created=f"2026-01-01T{hour}:00:00Z") for hour in ("20", "21"))
    late = replace(late, manifest_digest=A.manifest_digest, content_key=A.content_key)
    assert early.id > late.id  # by their names alone it would be the other one
    assert gone(shelf(early, late), {}) == [early.manifest_digest, f"sha256:{early.content_key}"]


def test_an_image_without_a_record_is_somebody_elses() -> None:
    given = shelf(D, nightly="sha256:f", v1=A.manifest_digest)
    assert gone(given, {}) == []


@pytest.mark.parametrize("tag", ["last_good", "production", f"_20200101-{'9' * 20}"])
def test_a_digest_with_a_tag_that_is_not_ours_stays(tag: str) -> None:
    """The last is a night's tag of another content key."""
    steps, kept = plan_registry(shelf(A, D, **{tag: A.manifest_digest}), {}, 1, OURS)
    assert steps == ()
    assert any("too, and deleting it" in one.why for one in kept)


def test_the_tags_of_its_own_night_go_with_it() -> None:
    night = f"_20260101-abcdef012-{A.content_key}"
    (image, record) = plan_registry(shelf(A, D, **{night: A.manifest_digest}), {}, 1, OURS)[0]
    assert isinstance(image, DeleteManifest)
    assert isinstance(record, DeleteManifest)
    assert set(image.tags) == {A.id, night.lstrip("_")}
    assert record.tags == (f"fleet-{A.content_key}",)


def test_two_content_keys_of_one_image_stand_and_fall_together() -> None:
    given = shelf(A, D)
    twin = {**given.records, "fleet-99": A}
    both = replace(given, records=twin, tags={**given.tags, "fleet-99": "sha256:99"})
    assert gone(both, {}) == [A.manifest_digest, f"sha256:{A.content_key}", "sha256:99"]
    assert gone(both, {A.id: "pinned"}) == []


def test_a_record_whose_manifest_has_another_tag_stays_and_its_image_goes() -> None:
    given = shelf(A, D)
    tagged = replace(given, tags={**given.tags, "mine": f"sha256:{A.content_key}"})
    assert gone(tagged, {}) == [A.manifest_digest]


def test_what_an_index_names_stays() -> None:
    assert gone(replace(shelf(A, D), inside=frozenset({A.manifest_digest})), {}) == []


def test_a_prune_that_was_cut_off_behind_the_image_takes_the_record() -> None:
    given = shelf(A, D)
    tags = {tag: digest for tag, digest in given.tags.items() if tag != A.id}
    cut = replace(given, tags=tags, there=frozenset({D.manifest_digest}))
    assert gone(cut, {}) == [f"sha256:{A.content_key}"]


def test_the_base_below_a_needed_image_stays_on_the_builder_and_in_its_own_repository() -> None:
    on_c = replace(A, labels={"io.fleet.base-key": C.content_key})
    needed, known = {A.id: "chat-0 runs it"}, {A.id: on_c, B.id: replace(B, labels={"io.fleet.base-key": "9"})}
    of_a = dict.fromkeys((A.content_key, A.config_digest, A.manifest_digest), "chat-0 runs it")
    assert keys_of(needed, known) == {**of_a, C.content_key: f"the base of {A.local_name}"}
    bases = registry.needed_bases(shelf(B, C, D), base_keys_of(needed, known))
    assert bases == {C.id: f"the base of {A.local_name}"}
    assert gone(shelf(B, C, D), bases) == [B.manifest_digest, f"sha256:{B.content_key}"]


def answers(deleting: Answer, tags: dict[str, str]) -> ShelfClient:
    def answer(method: str, url: str, _auth: str) -> Answer:
        if method == "DELETE":
            return deleting
        if url.endswith("last=a"):
            return 200, {}, json.dumps({"tags": list(tags)[1:]}).encode()
        if "tags/list" in url:
            link = '</v2/vllm-rocm/tags/list?last=a>; rel="next"'
            return 200, {"Link": link}, json.dumps({"tags": list(tags)[:1]}).encode()
        return 200, {"Docker-Content-Digest": tags.get(url.rpartition("/")[2], "")}, b"{}"

    return ShelfClient(PLAIN, session=client(answer)[0]._session)


def test_all_pages_of_tags_are_read() -> None:
    assert answers((202, {}, b""), {"a": "", "b": "", "c": ""}).tags(NAME) == ("a", "b", "c")


def test_a_registry_that_deletes_nothing_is_said_with_the_way_to_turn_it_on() -> None:
    step = registry.DeleteManifest("reg", NAME, A.manifest_digest, ("a",), 1, "")
    unsupported = json.dumps({"errors": [{"code": "UNSUPPORTED", "message": "no"}]}).encode()
    for code, body in ((405, b""), (400, unsupported)):
        with pytest.raises(UnsupportedError) as caught:
            registry.delete(step, answers((code, {}, body), {"a": A.manifest_digest}))
        assert "REGISTRY_STORAGE_DELETE_ENABLED" in caught.value.hint


def test_a_digest_that_got_another_tag_meanwhile_is_not_deleted() -> None:
    step = registry.DeleteManifest("reg", NAME, A.manifest_digest, ("a",), 1, "")
    with pytest.raises(FleetError, match="the tag b since"):
        registry.delete(step, answers((202, {}, b""), {"a": A.manifest_digest, "b": A.manifest_digest}))


def built(key: str, at: int, *, used: bool = False) -> BuiltImage:
    return BuiltImage(f"{NAME}:build-{key}", key, 10, f"2026-01-{at:02}", used)


def test_built_images_stay_by_their_content_key_or_as_the_newest() -> None:
    images = [built("a", 1), built("b", 2), built("c", 3, used=True), built("d", 4)]
    steps, kept = plan_built(images, {"b": "chat-0 runs it"}, 1, OURS)
    assert [step.what for step in steps] == [f"remove image {NAME}:build-a"]
    assert {one.why for one in kept} == {
        "chat-0 runs it",
        "a container was made from it",
        "one of the 1 newest that were built",
    }
    assert keys_of({A.id: "why", "0" * 12: ""}, {A.id: A})[A.content_key] == "why"


def test_of_images_with_similar_names_on_a_builder_only_those_go_that_this_inventory_had_built() -> None:
    """Somebody's three builds of the same name, older and newer than ours, neither go nor count as the newest."""
    theirs = [built(key, at) for key, at in (("e1", 1), ("e2", 5), ("e3", 9))]
    steps, kept = plan_built([*theirs, built("a", 2), built("b", 3)], {}, 1, OURS)
    assert [step.what for step in steps] == [f"remove image {NAME}:build-a"]
    assert {one.what for one in kept if one.why == NOT_OURS} == {f"image {one.tag}" for one in theirs}


def test_what_two_inventories_of_one_controller_had_made_is_left_to_the_other_by_the_first() -> None:
    both = replace(OURS, others=frozenset({"a", A.id}))
    (step,) = plan_built([built("a", 1), built("b", 2)], {}, 1, both)[0]
    assert (step.what.startswith(f"leave image {NAME}:build-a to another inventory"), step.size) == (True, 0)
    assert gone(shelf(A, D), {}, 1, both) == []
    (other,) = plan_registry(shelf(A, D), {}, 1, both)[0]
    assert other.what.startswith(f"leave reg:5000/{NAME}:{A.id} to")


def test_of_images_that_lost_their_name_on_a_builder_those_go_that_this_inventory_had_built() -> None:
    """By their ID: somebody's image made from ours has our labels. One that a host needs stays, whatever it is called."""
    digest = "sha256:" + "1" * 64
    owned = ours(
        Owned(frozenset({digest.removeprefix("sha256:"), A.content_key, B.content_key})), (), {A.id: A, B.id: B}
    )
    lost = [
        BuiltImage(one, "", 9, "2026", used=False, id=one)
        for one in (digest, A.manifest_digest, B.manifest_digest, "x")
    ]
    steps, kept = plan_built(lost, keys_of({B.id: "chat-0 runs it"}, {B.id: B}), 2, owned)
    assert [step.what for step in steps] == [
        f"remove image {one}" for one in sorted((digest, A.manifest_digest), reverse=True)
    ]
    assert {one.why for one in kept} == {"chat-0 runs it", NOT_OURS}
    assert plan_built([replace(lost[0], used=True)], {}, 0, owned)[0] == ()


def test_a_release_in_the_registry_that_another_inventory_had_made_stays_and_is_not_counted() -> None:
    mine = Owned(frozenset({A.id, B.content_key}))
    assert gone(shelf(A, B, C, D), {}, 1, mine) == [A.manifest_digest, f"sha256:{A.content_key}"]
    kept = {one.what: one.why for one in plan_registry(shelf(A, B, C, D), {}, 1, mine)[1]}
    assert kept[f"reg:5000/{NAME}:{D.id}"] == NOT_OURS


LOST = "sha256:" + "9" * 64


class Engine:
    """A builder whose docker prints these."""

    name = "builder"

    def __init__(self, **label: str) -> None:
        self.labels = label

    def run(self, argv: tuple[str, ...]) -> Output:
        if argv == builder.LIST:
            return Output(0, "".join(f"{tag}\n" for tag in self.labels), "")
        if argv == builder.LOST:
            return Output(0, f"{LOST}\n", "")
        if argv == builder.CACHE:
            return Output(0, '{"Type":"Images","Size":"9GB"}\n{"Type":"Build Cache","Size":"1.5GB"}\n', "")
        if argv[:3] == ("docker", "image", "inspect"):
            labels = {"io.fleet.content-key": self.labels.get(argv[3], "ab")}
            return Output(0, json.dumps([{"Id": LOST, "Created": "2026", "Config": {"Labels": labels}}]), "")
        return Output(0, "", "")


@pytest.mark.parametrize("name", ["alice/vllm-rocm", "vllm-rocm2", "vllm-rocm-dev", "other:5000/vllm-rocm", "rocm"])
def test_an_image_that_inherited_our_label_or_has_a_similar_name_is_not_read(name: str) -> None:
    """One without a name is read by its ID, and judged by that."""
    tags = {f"{NAME}:build-ab": "ab", "somebody/else:1": "ab", f"{NAME}:build-cd": "ab", "<none>:<none>": "ab"}
    engine = Engine(**tags, **{f"{name}:build-ab": "ab", f"{NAME}-base:build-ab": "ab"})
    found = builder.read_built(engine, {NAME, f"{NAME}-base"})  # type: ignore[arg-type]  # runs commands, and no more is asked
    assert [(one.tag, one.key) for one in found] == [
        (f"{NAME}:build-ab", "ab"),
        (f"{NAME}-base:build-ab", "ab"),
        (LOST, ""),
    ]
    assert builder.read_cache(engine) == 1_500_000_000  # type: ignore[arg-type]  # likewise


@pytest.mark.parametrize(
    ("buildx", "argv"),
    [
        ((), "docker builder prune --force --keep-storage 50"),
        ((0, 13, 1), "docker buildx prune --force --keep-storage 50"),
        ((0, 17, 0), "docker buildx prune --force --max-used-space 50"),
    ],
)
def test_the_cache_shrinks_to_its_limit_in_the_engines_own_words(buildx: tuple[int, ...], argv: str) -> None:
    facts = BuilderFacts(cli=(26,), engine=(26,), buildx=buildx)
    (step,) = plan_cache(80, 50, facts)
    assert (" ".join(step.argv), step.size) == (argv, 30)
    assert plan_cache(50, 50, facts) == plan_cache(80, 0, facts) == ()


@pytest.mark.parametrize(("text", "size"), [("0B", 0), ("1.5GB (80%)", 1_500_000_000), ("50GB", 50 * 10**9), ("", 0)])
def test_sizes_are_read_as_docker_and_inventories_write_them(text: str, size: int) -> None:
    assert bytes_of(text) == size


def test_layouts_stay_by_their_release_or_as_the_newest_and_unfinished_ones_for_two_days() -> None:
    theirs = "0123456789ab"
    names = [(A.id, 9.0), (B.id, 5.0), (C.id, 1.0), ("new-key", 9e9), ("new-young", 5.0), ("mine", 9e9), (theirs, 0.5)]
    layouts = [LayoutFile(Path("layouts") / name, age, 3) for name, age in names]
    steps, kept = plan_layouts(layouts, {A.id: "pinned"}, 1, OURS)
    assert [step.what for step in steps] == [f"remove layouts/{B.id}"]
    assert {one.why for one in kept} == {"pinned", "one of the 1 newest here", NOT_OURS}
    assert [step.path.name for step in plan_unfinished(layouts)] == ["new-key"]
    (step,) = plan_layouts(layouts, {A.id: "pinned"}, 1, replace(OURS, others=frozenset({B.id})))[0]
    assert step.what.startswith(f"leave layout layouts/{B.id} to another inventory")
