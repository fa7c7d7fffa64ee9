"""Every release that registries, hosts and the controller tell of, as one row each; and the table that shows it."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from fleet.image.release import Release
from fleet.prune.registry import Shelf
from fleet.report.catalogue import document, table
from fleet.rollout.catalogue import Entry, catalogue
from fleet.rollout.lineage import Lineage, Served
from fleet.rollout.past import Past
from fleet.serving.inspection import Inspection
from tests.unit.serving.make import built, image, service, serving


def release(digit: str, **more: str) -> Release:
    def digest(kind: str) -> str:
        return f"sha256:{digit}{kind * 63}"

    made = Release("vllm-rocm", digest("a"), digest("c"), (digest("d"),), (digest("e"),), (25_000_000_000,), "source")
    return replace(made, content_key=f"{digit}feedbeef0001", gfx=("gfx90a", "gfx942"), rocm="7.0.0", **more)  # type: ignore[arg-type]  # only texts are given


OLD = release("1", created="2026-11-20T03:00:00Z", vllm_version="0.11.0", vllm_commit="a" * 40)
NEW = release("2", created="2026-11-21T03:00:00Z", vllm_version="0.11.1rc1.dev7", vllm_commit="b" * 40)
ELSEWHERE = release("3", created="2026-11-19T03:00:00Z", base="rocm/vllm-dev:base", base_digest="sha256:" + "9" * 64)
REGISTRY = "registry.corp:5000"


def shelf(*releases: Release, good: Release | None = None) -> Shelf:
    tags = {one.id: one.manifest_digest for one in releases} | {
        f"fleet-{one.content_key}": "sha256:r" for one in releases
    }
    tags |= {"last-good": good.manifest_digest} if good else {}
    records = {f"fleet-{one.content_key}": one for one in releases}
    return Shelf(REGISTRY, "vllm-rocm", tags, records, there=frozenset(one.manifest_digest for one in releases))


def runs(one: Release, **changes: str) -> Inspection:
    spec = built(service(), of=replace(image("r1"), release=one.id)).spec
    return replace(serving(spec), **changes)  # type: ignore[arg-type]  # only texts are given


def host(*containers: Inspection, answered: tuple[tuple[Release, float], ...] = (), **more: dict[str, str]) -> Past:
    lineage = Lineage(tuple(Served(one.id, at) for one, at in answered))
    known = {one.id: one for one, _ in answered}
    return Past({"chat": lineage}, releases=known, held=frozenset(known), containers=containers, **more)  # type: ignore[arg-type]  # pinned alone


PASTS = {
    "n1": host(runs(NEW), answered=((OLD, 1000.0), (NEW, 2000.0)), pinned={OLD.id: "the benchmark's"}),
    "n2": host(runs(NEW), runs(OLD, name="chat-0-previous", state="exited"), answered=((NEW, 3000.0),)),
}


def by_id(*shelves: Shelf, asked: tuple[str, ...] = ()) -> dict[str, Entry]:
    return {one.id: one for one in catalogue(shelves, PASTS, {}, asked)}


def test_one_release_is_one_row_whoever_tells_of_it() -> None:
    found = by_id(shelf(NEW, ELSEWHERE, good=NEW), asked=(NEW.id,))
    assert list(found) == [NEW.id, OLD.id, ELSEWHERE.id]
    new = found[NEW.id]
    assert (new.release, new.registries, new.held) == (NEW, (REGISTRY,), ("n1", "n2"))
    assert (new.verified, new.running) == ({"n1": 2000.0, "n2": 3000.0}, {"n1": ("chat",), "n2": ("chat",)})
    assert (new.last_good, new.asked, new.pinned) == ((REGISTRY,), True, {})
    assert (found[OLD.id].registries, found[OLD.id].pinned) == ((), {"n1": "the benchmark's"})
    assert (found[ELSEWHERE.id].held, found[ELSEWHERE.id].verified) == ((), {})


def test_a_stopped_container_that_is_kept_does_not_run() -> None:
    assert by_id()[OLD.id].running == {}


def test_a_registry_that_is_down_takes_only_its_own_away() -> None:
    assert list(by_id()) == [NEW.id, OLD.id]


def test_what_runs_without_a_record_is_shown_by_its_id() -> None:
    pasts = {"n1": host(runs(ELSEWHERE))}
    (one,) = catalogue((), pasts, {}, ())
    assert (one.id, one.release, one.running) == (ELSEWHERE.id, None, {"n1": ("chat",)})
    assert "its record is gone" in shown((one,), 100)
    assert document((one,))[0]["record"] is None


def test_a_record_whose_image_is_gone_from_the_registry_does_not_say_that_it_lies_there() -> None:
    gone = replace(shelf(ELSEWHERE), there=frozenset())
    assert by_id(gone)[ELSEWHERE.id].registries == ()


def test_the_tag_of_its_night_says_when_it_was_built() -> None:
    night = shelf(NEW)
    tags = {**night.tags, "20261125-bbbbbbbbb-2feedbeef0001": NEW.manifest_digest}
    assert by_id(replace(night, tags=tags))[NEW.id].made == "20261125"
    assert by_id(night)[NEW.id].made == "20261121"


def shown(entries: tuple[Entry, ...], width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(entries))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_fits_a_terminal_and_nothing_is_cut(width: int) -> None:
    text = shown(catalogue([shelf(NEW, ELSEWHERE, good=NEW)], PASTS, {}, (NEW.id,)), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    whole = (NEW.id, "gfx90a", "gfx942", "7.0.0", "2026-11-21", "2feedbeef000")
    for word in (*whole, *(("0.11.0", "bbbbbbbbb", "n[1:2]", "last-good") if width > 80 else ())):
        assert word in text


def test_where_there_are_several_registries_last_good_says_in_which() -> None:
    other = replace(shelf(ELSEWHERE), registry="mirror:5000")
    text = shown(catalogue([shelf(NEW, good=NEW), other], PASTS, {}, ()), 200)
    assert f"last-good in {REGISTRY}" in text


def test_json_has_whole_digests_bytes_and_times() -> None:
    first = document(catalogue([shelf(NEW, good=NEW)], PASTS, {}, ()))[0]
    assert first["record"] is not None
    assert first["record"]["manifest_digest"] == NEW.manifest_digest  # type: ignore[index]
    assert first["record"]["size"] == 25_000_000_000  # type: ignore[index]
    assert (first["verified"], first["last_good"]) == (
        {"n1": "1970-01-01T00:33:20.000Z", "n2": "1970-01-01T00:50:00.000Z"},
        [REGISTRY],
    )
