"""Which image of a tarball is meant, by its documents."""

from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.image.archive_judge import judge


def documents(**texts: str) -> dict[str, bytes]:
    return {
        name.replace("_", "-", 1) if name == "oci_layout" else f"{name}.json": text.encode()
        for name, text in texts.items()
    }


def test_an_archive_of_both_kinds_counts_as_oci() -> None:
    index = '{"manifests": [{"digest": "sha256:1", "annotations": {"io.containerd.image.name": "r/a:b"}}]}'
    texts = documents(oci_layout="{}", index=index, manifest="[]")
    texts["blobs/sha256/1"] = b'{"config": {"digest": "sha256:2"}}'
    (found,) = judge(Path("x.tar"), texts, frozenset({"blobs/sha256/1", "blobs/sha256/2"}))
    assert (found.kind, found.names) == ("oci-archive", ("r/a:b",))
    assert found.descriptor["digest"] == "sha256:1"


def test_an_oci_archive_that_lacks_a_layer_leaves_docker_archive() -> None:
    index = '{"manifests": [{"digest": "sha256:1"}]}'
    texts = documents(oci_layout="{}", index=index, manifest='[{"Config": "c.json", "Layers": []}]')
    texts["blobs/sha256/1"] = b'{"config": {"digest": "sha256:2"}, "layers": [{"digest": "sha256:3"}]}'
    members = frozenset({"c.json", "blobs/sha256/1", "blobs/sha256/2"})
    assert [one.kind for one in judge(Path("x.tar"), texts, members)] == ["docker-archive"]
    texts.pop("manifest.json")
    with pytest.raises(FleetError, match="blobs/sha256/3 is missing"):
        judge(Path("x.tar"), texts, members)


def test_an_index_without_its_manifest_leaves_docker_archive() -> None:
    index = '{"manifests": [{"digest": "sha256:1"}]}'
    manifest = '[{"Config": "c.json", "RepoTags": ["a:b"], "Layers": ["l.tar"]}]'
    members = frozenset({"c.json", "l.tar"})
    (found,) = judge(Path("x"), documents(oci_layout="{}", index=index, manifest=manifest), members)
    assert (found.kind, found.names) == ("docker-archive", ("a:b",))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({}, "neither a docker-archive nor an OCI layout"),
        ({"manifest": "[]"}, "lists no image"),
        ({"manifest": "{"}, "no JSON"),
        (
            {"manifest": '[{"Config": "1", "RepoTags": ["a:1"]}, {"Config": "2", "RepoTags": ["b:2"]}]'},
            "holds 2 images: a:1, b:2",
        ),
        ({"manifest": '[{"Config": "c.json", "Layers": []}]'}, r"c\.json is missing"),
    ],
)
def test_other_archives_are_refused_in_words(texts: dict[str, str], words: str) -> None:
    with pytest.raises(FleetError, match=words):
        judge(Path("x.tar"), documents(**texts), frozenset())
