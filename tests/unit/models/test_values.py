"""Names, lists of checksums, sources on disk, and what a host says of its models."""

import hashlib
from pathlib import Path

import pytest

from fleet.errors import FleetError, UsageError
from fleet.models.content import Content, File, listing, parse_listing
from fleet.models.hashes import Hashes
from fleet.models.held import Model, parse
from fleet.models.names import checked, of_cache, of_service, path_problem
from fleet.models.source import Here, find, measure, read
from fleet.models.verify import expected, judge

A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize("name", ["Llama-3.1-70B-Instruct", "meta-llama/Llama-3.1_8B", "a", "x+y.z"])
def test_names_of_models_are_taken(name: str) -> None:
    assert checked(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "..", "../x", "/srv/x", "a/../b", "a//b", "a/b/c", ".hidden", "a b", "a\nb", "-x", "a;b", "models--a--b"],
)
def test_names_that_could_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        checked(name)


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../x", "a//x", ".x", "a/.x", "", "a\\x", "a\nx", "a x", "-x", "d/" * 8 + "x"]
)
def test_paths_that_could_lead_elsewhere_are_refused(path: str) -> None:
    assert path_problem(path)


def test_paths_of_models_are_taken() -> None:
    for path in (
        "config.json",
        "model-00001-of-00030.safetensors",
        "original/params.json",
        "_name_or_path",
        "a=b,c@d(e)~",
    ):
        assert not path_problem(path)


def test_a_service_names_its_model_in_several_ways() -> None:
    assert [of_service(name) for name in ("m", "org/m", "/app/models/m", "/app/models/org/m/")] == [
        "m",
        "org/m",
        "m",
        "org/m",
    ]
    assert [of_service(name) for name in ("/data/m", "../m", "a/b/c", "/app/models//x")] == ["", "", "", ""]


def test_a_directory_of_the_cache_is_told_from_any_other() -> None:
    assert [of_cache(name) for name in ("models--org--a--b", "models--gpt2", "datasets--org--x", "models--")] == [
        "org/a--b",
        "gpt2",
        "",
        "",
    ]


def test_a_list_reads_back_and_lines_that_are_not_ours_are_passed_over() -> None:
    files = (File("b/c", 1, B), File("a", 2, A))
    text = listing(files)
    assert text == f"{A}  a\n{B}  b/c\n"
    assert parse_listing(text.splitlines()) == {"a": A, "b/c": B}
    assert parse_listing(["", "x  a", f"{A}  ../a", f"\\{A}  a", f"{A} *bin", f"{A.upper()}  a"]) == {"bin": A}


def test_a_digest_is_of_paths_and_bytes_and_not_of_their_order() -> None:
    one, other = (
        Content.of("m", (File("a", 2, A), File("b", 1, B))),
        Content.of("m", (File("b", 1, B), File("a", 2, A))),
    )
    assert one.digest == other.digest
    assert one.digest != Content.of("m", (File("a", 2, B), File("b", 1, A))).digest


def source(folder: Path, name: str, hashes: Path | None = None) -> Here:
    root = find(folder, name)
    assert root
    return read(name, root, measure(root), Hashes(hashes or folder / "hashes.json"), lambda _count: None)


def test_a_plain_directory_is_read_without_what_is_hidden(tmp_path: Path) -> None:
    for path in (
        "org/m/config.json",
        "org/m/.cache/x",
        "org/m/.gitattributes",
        "org/m/sub/w.bin",
        "org/m/__pycache__/a.pyc",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    here = source(tmp_path, "org/m")
    assert [one.path for one in here.content.files] == ["config.json", "sub/w.bin"]
    assert here.content.files[0].sha256 == hashlib.sha256(b"org/m/config.json").hexdigest()


def test_the_directory_of_the_model_itself_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.json").write_text("{}")
    assert find(tmp_path / "m", "org/m")
    assert find(tmp_path / "m", "other") is None


def cache(folder: Path, *revisions: str, main: str = "") -> Path:
    """Hugging Face's cache with one model whose weights differ from revision to revision."""
    repository = folder / "models--org--m"
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    if main:
        (repository / "refs/main").write_text(main)
    for revision in revisions:
        snapshot = repository / "snapshots" / revision
        snapshot.mkdir(parents=True)
        blob = hashlib.sha256(revision.encode()).hexdigest()
        (repository / "blobs" / blob).write_text(revision)
        (snapshot / "model.safetensors").symlink_to(f"../../blobs/{blob}")
    return repository


@pytest.mark.parametrize("name", ["org/m", "m"])
@pytest.mark.parametrize("inside", ["", "hub", "hub/models--org--m"])
def test_a_snapshot_of_the_cache_is_found_by_its_main_revision(tmp_path: Path, name: str, inside: str) -> None:
    cache(tmp_path / "hub", "r1", "r2", main="r2")
    here = source(tmp_path / inside, name, tmp_path / "hashes.json")
    assert here.content.files == (File("model.safetensors", 2, hashlib.sha256(b"r2").hexdigest()),)


def test_the_only_snapshot_needs_no_reference(tmp_path: Path) -> None:
    cache(tmp_path, "r1")
    assert source(tmp_path, "org/m").where.endswith("snapshots/r1")


@pytest.mark.parametrize("main", ["", "r3"])
def test_several_snapshots_without_a_right_reference_are_named(tmp_path: Path, main: str) -> None:
    cache(tmp_path, "r1", "r2", main=main)
    with pytest.raises(UsageError, match="r1, r2"):
        find(tmp_path, "org/m")


def test_two_organisations_with_a_model_of_one_name_are_told(tmp_path: Path) -> None:
    cache(tmp_path, "r1").rename(tmp_path / "models--other--m")
    cache(tmp_path, "r1")
    with pytest.raises(UsageError, match="org/m, other/m"):
        find(tmp_path, "m")


def test_a_blob_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    repository = cache(tmp_path, "r1")
    next((repository / "blobs").iterdir()).write_text("r?")
    with pytest.raises(FleetError, match="has other bytes than its name says"):
        source(tmp_path, "org/m")


def test_links_to_nothing_or_out_of_the_cache_are_named_all_at_once(tmp_path: Path) -> None:
    snapshot = cache(tmp_path, "r1") / "snapshots/r1"
    (tmp_path / "secret").write_text("x")
    (snapshot / "gone.bin").symlink_to("../../blobs/gone")
    (snapshot / "config.json").symlink_to(tmp_path / "secret")
    (snapshot / "odd name").write_text("x")
    root = find(tmp_path, "org/m")
    assert root
    with pytest.raises(UsageError) as told:
        measure(root)
    assert all(
        word in told.value.message for word in ("gone.bin is a link to nothing", "config.json leads out", "'odd name'")
    )


def test_what_was_hashed_is_not_read_again_until_it_changes(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    file = tmp_path / "m/w.bin"
    file.write_text("one")
    hashes = Hashes(tmp_path / "known.json")
    root = find(tmp_path, "m")
    assert root
    here = read("m", root, measure(root), hashes, lambda _count: None)
    hashes.save()
    again = Hashes(tmp_path / "known.json")
    assert again.known(file, file.stat()) == here.content.files[0].sha256
    file.write_text("other")
    assert again.known(file, file.stat()) == ""
    (tmp_path / "known.json").write_text("damaged")
    assert Hashes(tmp_path / "known.json").known(file, file.stat()) == ""


LOOK = f"""\
a banner of the site
fleet-models writable
fleet-models root 0
fleet-models free 2048
fleet-models there
fleet-models blob 7 {A}
fleet-models blob 5 {B}.part
fleet-models blob x {B}
fleet-models model link org/m
fleet-models target .m.0123456789ab
fleet-models version 17 free .m.0123456789ab
fleet-models version 12 mounted .m.before-2
fleet-models version 12 free .m.n.0123456789ab
fleet-models file 10 ./config.json
fleet-models file 20 ./sub/w.bin
fleet-models file 3 ./odd name
fleet-models listed
fleet-models sum {A}  config.json
fleet-models sum {B}  sub/w.bin
fleet-models sum {B}  gone.bin
fleet-models newer ./sub/w.bin
fleet-models model plain other
fleet-models file 1 ./w.bin
fleet-models model none third
""".splitlines()


def test_what_a_host_says_is_read() -> None:
    ground = parse("/srv/models", LOOK)
    assert (ground.there, ground.writable, ground.root, ground.free) == (True, True, True, 2048 * 1024)
    assert (ground.blobs, ground.parts) == ({A: 7}, {B: 5})
    model = ground.models["org/m"]
    assert model.current == ".m.0123456789ab"
    assert [one.folder for one in model.versions] == [".m.0123456789ab", ".m.before-2"]
    assert model.sizes == {"config.json": 10, "sub/w.bin": 20, "./odd name": 3}
    assert model.sums == {"config.json": A}  # the other one is newer than the list
    assert model.listed == {"config.json": A, "sub/w.bin": B, "gone.bin": B}
    assert (ground.models["other"].kind, ground.models["other"].listed) == ("plain", None)
    assert not ground.models["third"].there


def test_only_files_of_the_right_size_and_an_unknown_sum_are_hashed() -> None:
    content = Content.of("m", (File("a", 1, A), File("b", 2, A), File("c", 3, A), File("d", 4, A)))
    model = Model("m", "plain", "", {"a": 1, "b": 2, "c": 9, "x": 3}, {"a": A})
    assert model.unsure(content) == ("b",)
    assert model.unsure(content, everything=True) == ("a", "b")


def test_a_verdict_names_what_is_damaged_missing_and_too_much() -> None:
    model = Model("m", "plain", "", {"a": 1, "b": 1, "x": 1}, {}, {"a": A, "b": B, "c": A})
    verdict = judge(model, expected(model, None), {"a": A, "b": A})
    assert (verdict.wrong, verdict.missing, verdict.extra, verdict.well) == (("b",), ("c",), ("x",), False)
    assert verdict.words == "1 damaged: b; 1 missing: c; 1 not in the list: x"
    unlisted = Model("m", "plain", "", {"a": 1})
    assert not judge(unlisted, expected(unlisted, None), {}).known
    assert judge(unlisted, expected(unlisted, Content.of("m", (File("a", 1, A),))), {"a": A}).well
