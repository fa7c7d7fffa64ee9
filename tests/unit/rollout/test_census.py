"""Which of two images with one name is which."""

from dataclasses import replace

from fleet.image.release import Release
from fleet.report.images import document, shown
from fleet.rollout.census import Listed, Seen, User, census, read, repository

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


def test_what_a_builder_built_is_told_by_the_content_key_in_its_tag() -> None:
    made = replace(A, content_key="a1b2")
    built, strange = (Listed(f"sha256:{key}", (f"{NAME}:build-{key}",), (), 10, 1) for key in ("a1b2", "c3d4"))
    found = {one.image.id: one for one in census((built, strange), (), {made.id: made}, [NAME])}
    assert (found[built.id].release, found[built.id].built, found[strange.id].built) == (None, made, None)
    told = document({"builder": tuple(found.values())})["builder"]
    assert [one["built"] for one in told] == [made.local_name, None]


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


def test_a_name_that_was_built_again_says_what_it_meant_before_and_the_old_image_says_what_it_was_called() -> None:
    """What a dangling image is, and which of the two runs: the container tells what it was made from."""
    new, old = Listed("sha256:22", (f"{NAME}:latest",), (), 10, 3), Listed("sha256:11", (), (), 10, 2)
    found = look(new, old, users=(User("by-hand", "running", "sha256:11", NAME),))
    assert found["sha256:22"].before == {f"{NAME}:latest": ("11",)}
    assert (found["sha256:11"].lost, found["sha256:11"].before) == ((f"{NAME}:latest",), {})


def test_a_release_whose_name_went_to_another_image_is_what_that_name_meant_before() -> None:
    other = Listed("sha256:99", (A.local_name,), (), 10, 3)
    assert look(other, users=())["sha256:99"].before == {A.local_name: (A.id,)}
    assert look(replace(IMAGE_A, names=()), other)["sha256:99"].before == {A.local_name: ("A" * 12,)}
    assert look(IMAGE_A)[A.config_digest].before == {}


def test_a_container_that_was_made_from_an_id_or_a_digest_tells_of_no_name() -> None:
    for asked in (A.config_digest, "A" * 12, f"docker.io/rocm/vllm@{A.manifest_digest}", ""):
        user = User("by-hand", "running", A.config_digest, asked)
        assert look(replace(IMAGE_A, names=()), users=(user,))[A.config_digest].lost == (A.local_name,)
    assert User("db", "running", "sha256:1", "docker.io/library/postgres").named == "postgres:latest"


def test_a_registrys_tag_says_which_release_it_brought_before() -> None:
    tag, now = "docker.io/rocm/vllm:nightly", "sha256:" + "7" * 64
    fetched = [replace(one, source="prebuilt", source_reference=tag) for one in (A, B)]
    old, new = replace(fetched[0], source_digest="sha256:5"), replace(fetched[1], source_digest=now)
    found = census((IMAGE_A, IMAGE_B), (), {one.id: one for one in (old, new)}, [NAME], {tag: now})
    told = {one.image.id: (one.before, one.lost) for one in found}
    assert told == {IMAGE_B.id: ({tag: (old.id,)}, ()), IMAGE_A.id: ({}, (tag,))}
    unlocked = census((IMAGE_A, IMAGE_B), (), {one.id: one for one in (old, new)}, [NAME])
    assert not any(one.before or one.lost for one in unlocked)


class Engine:
    """Two containers of one name, which went to another image after the second was made."""

    def __init__(self) -> None:
        self.api = self

    def images(self) -> list[dict[str, object]]:
        return []

    def containers(self, *, all: bool) -> list[dict[str, object]]:  # noqa: A002  docker's own word
        assert all
        return [
            {"Id": "c1", "Names": ["/now"], "State": "running", "ImageID": "sha256:22", "Image": "vllm:latest"},
            {"Id": "c2", "Names": ["/then"], "State": "running", "ImageID": "sha256:11", "Image": "sha256:11"},
        ]

    def inspect_container(self, name: str) -> dict[str, object]:
        assert name == "c2", "the list has said it already"
        return {"Config": {"Image": "vllm:latest"}}


def test_a_container_is_asked_for_its_name_where_the_list_has_an_id_instead() -> None:
    _, users = read(Engine(), "n1")  # type: ignore[arg-type]  # as much of a client as is used
    assert [(user.name, user.image, user.asked) for user in users] == [
        ("now", "sha256:22", "vllm:latest"),
        ("then", "sha256:11", "vllm:latest"),
    ]


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
