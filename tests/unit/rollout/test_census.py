"""Which of two images with one name is which."""

from dataclasses import replace

from fleet.image.release import Release
from fleet.report.images import document, shown
from fleet.rollout.census import Listed, Seen, User, census, repository

NAME = "vllm-rocm"


def release(letter: str) -> Release:
    return Release(NAME, f"sha256:{letter * 64}", f"sha256:{letter.upper() * 64}", (), (), (), "source")


A, B = release("a"), release("b")
KNOWN = {one.id: one for one in (A, B)}
IMAGE_A = Listed(A.config_digest, (A.local_name,), (), 10, 1)
IMAGE_B = Listed(B.manifest_digest, (B.local_name,), (), 10, 2)  # as the containerd store lists it
STRANGER = Listed("sha256:0", ("debian:13",), ("debian@sha256:1",), 5, 9)
CHAT = User("chat-0", "running", A.config_digest, A.local_name)


def look(*images: Listed, users: tuple[User, ...] = (CHAT,)) -> dict[str, Seen]:
    return {one.image.id: one for one in census(images, users, KNOWN, [NAME])}


def test_releases_are_known_by_digest_in_either_store_and_what_runs_comes_first() -> None:
    found = census((STRANGER, IMAGE_B, IMAGE_A), (CHAT,), KNOWN, [NAME])
    assert [(one.release, one.ours, one.running) for one in found] == [
        (A, True, True),
        (B, True, False),
        (None, False, False),
    ]
    assert not any(one.remarks for one in found)


def test_a_pulled_image_is_known_by_its_repo_digest() -> None:
    pulled = Listed("sha256:77", (), (f"registry.corp:5000/{NAME}@{A.manifest_digest}",), 10, 1)
    assert look(pulled)["sha256:77"].release == A


def test_an_image_under_a_releases_name_is_told_from_the_release() -> None:
    other = Listed("sha256:99", (A.local_name,), (), 10, 3)
    found = look(replace(IMAGE_A, names=()), other)
    assert found["sha256:99"].release is None
    assert found["sha256:99"].ours
    assert found["sha256:99"].remarks == (f"{A.local_name} is the name of release {A.id}, and this is another image",)
    assert found[A.config_digest].lost == (A.local_name,)
    assert found[A.config_digest].remarks == (
        f"{A.local_name} points to 99 now",
        f"chat-0 was made from {A.local_name}, which is 99 now",
    )


def test_a_release_that_nothing_is_called_and_what_dangles_are_said() -> None:
    nameless = Listed("sha256:55", (), (), 10, 3)
    found = look(replace(IMAGE_B, names=()), nameless)
    assert found[B.manifest_digest].remarks == (f"nothing is called {B.local_name} any more",)
    assert found["sha256:55"].remarks == ("dangling: no name points to it, and no container uses it",)
    assert not found["sha256:55"].ours


def test_a_foreign_image_with_a_similar_name_is_foreign() -> None:
    similar = Listed("sha256:33", ("corp/vllm-rocm-dev:1",), (), 10, 3)
    same = Listed("sha256:44", ("registry.corp:5000/vllm-rocm:nightly",), (), 10, 3)
    found = look(similar, same)
    assert not found["sha256:33"].ours
    assert found["sha256:44"].ours
    assert found["sha256:44"].release is None


def test_what_is_neither_ours_nor_used_is_only_counted() -> None:
    user = User("db", "exited", "sha256:88", "postgres:17")
    used = Listed("sha256:88", ("postgres:17",), (), 5, 4)
    found = census((STRANGER, used, IMAGE_A), (CHAT, user), KNOWN, [NAME])
    assert [one.image.id for one in shown(found)] == [A.config_digest, "sha256:88"]
    assert [one["id"] for one in document({"n1": found})["n1"]] == [A.config_digest, "sha256:0", "sha256:88"]


def test_what_engines_say_where_there_is_no_name_is_no_name() -> None:
    entry = {"Id": "sha256:1", "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"], "Size": 1, "Created": 2}
    assert Listed.of(entry) == Listed("sha256:1", (), (), 1, 2)
    assert Listed.of({"Id": "sha256:1", "RepoTags": None}).references == ()
    both = {"Id": "sha256:1", "RepoTags": ["a:1", "a@sha256:2"], "RepoDigests": ["a@sha256:2"]}
    assert Listed.of(both) == Listed("sha256:1", ("a:1",), ("a@sha256:2",), 0, 0)


def test_repositories_of_references() -> None:
    for reference in (
        "r.corp:5000/team/vllm-rocm:1",
        "r.corp:5000/team/vllm-rocm@sha256:0",
        "r.corp:5000/team/vllm-rocm",
    ):
        assert repository(reference) == "r.corp:5000/team/vllm-rocm"
