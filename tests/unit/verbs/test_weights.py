"""Which models go to which hosts, and from where, by the stages of a playbook."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import HostError, UsageError
from fleet.image import lock as locks
from fleet.image.lock import Lock
from fleet.inventory.model import Connection, Host, Inventory
from fleet.inventory.settings import Service, Settings
from fleet.models.content import Content, File
from fleet.models.disk import OnHost, There
from fleet.models.hub import Hub, Repository, parse, repository
from fleet.models.source import Here, snapshot
from fleet.playbook import Models, Play, Playbook
from fleet.rollout.assign import assign
from fleet.rollout.modelplan import differing
from fleet.verbs.weights import Weights, gather

COMMIT = "c" * 40
SERVED = {"a": "org/big", "b": "/app/models/big", "c": "small"}


def gathered(stage: Models, lock: Lock | None = None) -> Weights:
    hosts = {
        name: Host(name, ("all",), Connection(name), Settings(services={"chat": Service(name="chat", model=model)}))
        for name, model in SERVED.items()
    }
    inventory = Inventory(hosts, {"all": tuple(hosts)}, (Path("prod.yaml"),))
    programme = assign(Playbook(Path("x"), (Play("bring", (stage,)),)), inventory, tuple(hosts.values()))

    def moving(*_: object) -> Any:
        return nullcontext(lambda _done: None)

    return gather(programme, None, moving, lock or Lock())


def test_a_repository_goes_to_the_hosts_that_serve_it_under_the_name_that_they_call_it() -> None:
    weights = gathered(Models(hf="org/big"))
    assert {host: list(found) for host, found in weights.of_host.items()} == {"a": ["org/big"], "b": ["big"]}
    (hub,) = weights.hubs
    assert all(origin is hub for found in weights.of_host.values() for origin in found.values())
    assert hub.repository == Repository("org/big")
    assert list(gathered(Models(hf="org/big", names=("other",))).of_host["c"]) == ["other"]


def test_a_directory_of_the_hosts_is_looked_at_there() -> None:
    weights = gathered(Models("host:/mnt/disk", revision="v1"))
    assert weights.of_host["c"] == {"small": OnHost("/mnt/disk", "v1")}
    assert gathered(Models("host:/mnt/disk", names=("small",))).of_host["a"]["small"] == OnHost("/mnt/disk", asked=True)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (Models(), "has no source"),
        (Models(revision="v1"), "has no source"),
        (Models("models", hf="org/big"), "not from both"),
        (Models(hf="org/big", names=("a", "b")), "hf is one model"),
        (Models("models", token_file="/etc/token"), "are of hf"),
        (Models("host:disk"), "no directory of a host"),
        (Models("nowhere"), "is no directory"),
        (Models(hf="../big"), "no repository"),
        (Models(hf="org/big", revision="a..b"), "no revision"),
        (Models(hf="org/big", endpoint="ftp://x"), "no endpoint"),
        (Models(hf="org/big", endpoint="https://u:p@x"), "no endpoint"),
        (Models(hf="org/big", endpoint="http://x", token_file="/etc/token"), "for everybody to read"),
        (Models(hf="org/big", token_file="token"), "absolute path"),
    ],
)
def test_arguments_that_say_nothing_together_are_refused(stage: Models, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        gathered(stage)


def test_the_lock_says_which_commit_a_revision_is_until_it_is_asked_to_move() -> None:
    lock = Lock().with_model("https://huggingface.co org/big main", COMMIT)
    assert locks.parse(locks.dumps(lock), "lock") == lock
    assert [hub.pinned for hub in gathered(Models(hf="org/big"), lock).hubs] == [COMMIT]
    assert [hub.pinned for hub in gathered(Models(hf="org/big", update=True), lock).hubs] == [""]
    assert [hub.pinned for hub in gathered(Models(hf="org/big", revision="v1"), lock).hubs] == [""]
    found = Weights(
        hubs=[Hub(Repository("org/big"), "", Path(), commit="d" * 40), Hub(Repository("no/answer"), "", Path())]
    )
    assert found.pinned(lock).models == {"https://huggingface.co org/big main": "d" * 40}
    fixed = Weights(hubs=[Hub(Repository("org/big", COMMIT), "", Path(), commit=COMMIT)])
    assert fixed.pinned(Lock()) == Lock()


def test_disks_that_hold_something_else_are_named() -> None:
    one, two = (Content.of("m", (File("w", 1, char * 64),)) for char in "12")
    same = {"a": {"m": There(one, "/mnt", "m")}, "b": {"m": There(one, "/mnt", "m")}}
    assert differing(same) == ()
    (words,) = differing({**same, "c": {"m": There(two, "/mnt", "m")}, "d": {"m": Here(two, {}, "")}})
    assert words.startswith("model m is not the same on all disks")
    assert f"{one.digest[:12]} on a, b; {two.digest[:12]} on c" in words


@pytest.mark.parametrize(
    ("revision", "known", "refs", "chosen"),
    [
        ("", ["x"], {}, "x"),
        ("", ["x", "y"], {"main": "y"}, "y"),
        ("v1", ["x", "y"], {"main": "y", "v1": "x"}, "x"),
        ("abcd", ["abcdef", "bcd"], {}, "abcdef"),
    ],
)
def test_a_snapshot_is_chosen_by_a_ref_a_commit_or_because_it_is_the_only_one(
    revision: str, known: list[str], refs: dict[str, str], chosen: str
) -> None:
    assert snapshot("cache", revision, known, refs) == chosen


@pytest.mark.parametrize(
    ("revision", "known", "refs"),
    [("", ["x", "y"], {}), ("", ["x"], {"main": "y"}), ("ab", ["abc", "abd"], {}), ("v1", ["x"], {"v1": "y"})],
)
def test_a_snapshot_that_is_not_there_or_not_the_only_one_is_refused(
    revision: str, known: list[str], refs: dict[str, str]
) -> None:
    with pytest.raises(UsageError):
        snapshot("cache", revision, known, refs)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"<html>", "does not answer as Hugging Face does"),
        (b'{"sha": 1}', "does not answer as Hugging Face does"),
        (b'{"sha": "main", "siblings": [{"rfilename": "a", "size": 1}]}', "cannot be brought"),
        (b'{"sha": "%s", "siblings": []}' % (b"c" * 40), "tells of no files"),
        (b'{"sha": "%s", "siblings": [{"rfilename": "a b", "size": 1}]}' % (b"c" * 40), "no plain relative path"),
        (b'{"sha": "%s", "siblings": [{"rfilename": "a", "size": 99999999}]}' % (b"c" * 40), "has no checksum"),
        (
            b'{"sha": "%s", "siblings": [{"rfilename": "a", "lfs": {"sha256": "x", "size": 1}}]}' % (b"c" * 40),
            "does not answer",
        ),
    ],
)
def test_an_answer_that_is_not_hugging_faces_is_refused(answer: bytes, words: str) -> None:
    with pytest.raises(HostError, match=words):
        parse(answer, "node", "https://hf")


def test_files_that_serve_nothing_stay_at_hugging_face() -> None:
    def kept(*paths: str) -> set[str]:
        siblings = [{"rfilename": path, "size": 1, "blobId": "0"} for path in paths]
        answer = json.dumps({"sha": COMMIT, "siblings": siblings}).encode()
        return {entry.path for entry in parse(answer, "node", "https://hf")[1]}

    twins = ("pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
    rest = ("config.json", "adapter.bin")
    hidden = (".gitattributes", "original/consolidated.00.pth")
    assert kept("model.safetensors", *twins, *rest, *hidden) == {"model.safetensors", *rest}
    assert kept(*twins, *rest, *hidden) == {*twins, *rest}


def test_an_endpoint_is_a_mirrors_address() -> None:
    assert repository("org/big", "", "https://hf.corp/", "").endpoint == "https://hf.corp"
    assert repository("org/big", "refs/pr/1", "", "/t") == Repository("org/big", "refs/pr/1", token_file="/t")
