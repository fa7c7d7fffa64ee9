"""Real git: refs, mirrors, patches."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.image import source as sources
from fleet.image.between import Between, between
from fleet.image.release import Release
from fleet.image.source import History, checkout, history
from fleet.inventory.settings import Source
from fleet.secret import Secret

PATCH = """--- a/hello.txt
+++ b/hello.txt
@@ -1 +1 @@
-{old}
+{new}
"""


def git(folder: Path, *args: str) -> str:
    person = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main")
    done = subprocess.run(("git", *person, *args), cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "hello.txt").write_text("one\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    git(folder, "tag", "-a", "v0.11.0", "-m", "release")
    (folder / "hello.txt").write_text("two\n")
    git(folder, "commit", "--quiet", "-am", "two")
    return folder


def test_an_annotated_tag_is_its_commit_and_the_tree_has_tags(origin: Path, tmp_path: Path) -> None:
    source = Source(ref="v0.11.0", repository=str(origin))
    commit = sources.resolve(source)
    assert commit == git(origin, "rev-parse", "v0.11.0^{commit}")
    with sources.checkout(source, commit, tmp_path / "cache") as tree:
        assert (tree.path / "hello.txt").read_text() == "one\n"
        assert (tree.path / ".git").is_dir()
        assert tree.describe == "v0.11.0"
        assert git(tree.path, "describe", "--tags", "--long").startswith("v0.11.0-0-g")
    assert not tree.path.exists()


def test_a_moved_branch_is_fetched_into_the_same_mirror(origin: Path, tmp_path: Path) -> None:
    source = Source(ref="main", repository=str(origin))
    first = sources.resolve(source)
    with sources.checkout(source, first, tmp_path / "cache") as tree:
        assert tree.describe.startswith("v0.11.0-1-g")
    (origin / "hello.txt").write_text("three\n")
    git(origin, "commit", "--quiet", "-am", "three")
    second = sources.resolve(source)
    assert second != first
    with sources.checkout(source, second, tmp_path / "cache") as tree:
        assert (tree.path / "hello.txt").read_text() == "three\n"


def test_a_mirror_whose_git_was_killed_is_mended(origin: Path, tmp_path: Path) -> None:
    source = Source(ref="main", repository=str(origin))
    with sources.checkout(source, sources.resolve(source), tmp_path / "cache"):
        pass
    (mirror,) = (tmp_path / "cache/git").glob("*.git")
    (mirror / "config").unlink()  # and one that was killed while it was made
    locks = [mirror / name for name in ("packed-refs.lock", "refs/heads/main.lock", "shallow.lock")]
    half = mirror / "objects/pack/tmp_pack_Ab12Cd"
    for file in (*locks, half):
        file.touch()
    (origin / "hello.txt").write_text("three\n")
    git(origin, "commit", "--quiet", "-am", "three")
    with sources.checkout(source, sources.resolve(source), tmp_path / "cache") as tree:
        assert (tree.path / "hello.txt").read_text() == "three\n"
    assert [file for file in (*locks, half) if file.exists()] == []


def test_a_tag_that_moved_to_a_commit_of_the_mirror_gives_its_version(origin: Path, tmp_path: Path) -> None:
    git(origin, "tag", "v1.0.0", "v0.11.0^{}")
    git(origin, "tag", "--delete", "v0.11.0")
    source, cache = Source(ref="main", repository=str(origin)), tmp_path / "cache"
    with sources.checkout(source, sources.resolve(source), cache) as tree:
        assert tree.describe.startswith("v1.0.0-1-g")
    git(origin, "tag", "--force", "v1.0.0", "main")
    git(origin, "tag", "new")
    moved = Source(ref="v1.0.0", repository=str(origin))
    with sources.checkout(moved, sources.resolve(moved), cache) as tree:
        assert (tree.commit, tree.describe) == (git(origin, "rev-parse", "main"), "v1.0.0")
        assert git(tree.path, "tag").split() == ["new", "v1.0.0"]
    # A whole commit means what it meant, and a site that is cut off has it still.
    origin.rename(tmp_path / "away")
    for ref in (tree.commit, "v1.0.0"):
        with sources.checkout(Source(ref=ref, repository=str(origin)), tree.commit, cache) as again:
            assert again.describe == "v1.0.0"


def test_the_commits_between_two_releases_are_told_in_both_directions(origin: Path, tmp_path: Path) -> None:
    old, new = (git(origin, "rev-parse", ref) for ref in ("v0.11.0^{}", "main"))
    source, cache = Source(ref="main", repository=str(origin)), tmp_path / "cache"
    digest = "sha256:" + "a" * 64
    first = Release("v", digest, digest, (), (), (), "source", f"{origin} main", vllm_commit=old)
    second = replace(first, vllm_commit=new)
    assert between(first, second, [source], cache) == Between(added=((new, "two"),))
    assert between(second, first, [source], cache) == Between(removed=((new, "two"),))
    assert between(first, first, [], cache) == Between()
    assert "is built from its repository" in between(first, second, [], cache).unknown
    assert "does not say" in between(first, replace(first, vllm_commit=""), [source], cache).unknown
    gone = Source(ref="main", repository=str(tmp_path / "gone"))
    elsewhere = replace(second, source_reference=f"{gone.repository} main")
    assert "gone" in between(first, elsewhere, [gone], cache).unknown


def test_a_commit_without_a_ref_can_be_named(origin: Path, tmp_path: Path) -> None:
    git(origin, "checkout", "--quiet", "--detach")
    (origin / "hello.txt").write_text("stray\n")
    git(origin, "commit", "--quiet", "-am", "stray")
    stray = git(origin, "rev-parse", "HEAD")
    git(origin, "update-ref", "refs/pull/7/head", stray)
    git(origin, "checkout", "--quiet", "main")
    source = Source(ref="pull/7/head", repository=str(origin))
    assert sources.resolve(source) == stray
    with sources.checkout(source, stray, tmp_path / "cache") as tree:
        assert (tree.path / "hello.txt").read_text() == "stray\n"


def test_patches_give_the_same_clean_commit_every_time(origin: Path, tmp_path: Path) -> None:
    patch = tmp_path / "fix.patch"
    patch.write_text(PATCH.format(old="one", new="patched"))
    source = Source(ref="v0.11.0", repository=str(origin), patches=(str(patch),))
    heads = []
    for cache in ("one", "two"):
        with sources.checkout(source, sources.resolve(source), tmp_path / cache) as tree:
            assert (tree.path / "hello.txt").read_text() == "patched\n"
            assert not git(tree.path, "status", "--porcelain")
            assert tree.patches == sources.patch_hashes(source)
            heads.append(git(tree.path, "rev-parse", "HEAD"))
    assert heads[0] == heads[1]


def test_a_patch_that_does_not_fit_is_named_with_its_hunk(origin: Path, tmp_path: Path) -> None:
    patch = tmp_path / "fix.patch"
    patch.write_text(PATCH.format(old="never", new="x"))
    source = Source(ref="v0.11.0", repository=str(origin), patches=(str(patch),))
    with (
        pytest.raises(
            FleetError,
            match=r"fix\.patch does not fit v0\.11\.0: its hunk at line 1 of hello\.txt does not apply; last changed by \w{7,} .",
        ),
        sources.checkout(source, sources.resolve(source), tmp_path / "cache"),
    ):
        pass


def test_a_missing_ref_and_a_missing_repository_are_said(origin: Path, tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"near: v0\.11\.0"):
        sources.resolve(Source(ref="v0.11.1", repository=str(origin)))
    with pytest.raises(FleetError, match=r"asking .*nowhere for its refs"):
        sources.resolve(Source(ref="main", repository=str(tmp_path / "nowhere")))


def test_a_password_in_the_url_is_refused_and_not_shown() -> None:
    with pytest.raises(FleetError, match="carries credentials") as caught:
        sources.resolve(Source(ref="main", repository="https://bob:hunter2@git.corp/x.git"))
    assert "hunter2" not in str(caught.value)


def test_a_missing_patch_is_said(origin: Path) -> None:
    with pytest.raises(FleetError, match=r"patch /nowhere\.patch cannot be read"):
        sources.patch_hashes(Source(ref="main", repository=str(origin), patches=("/nowhere.patch",)))


def test_credentials_reach_git_by_askpass_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEST_TOKEN", "s3cret")
    # A git of our own in front of the real one writes down what it was given and asks for the password.
    log = tmp_path / "log"
    spy = tmp_path / "bin" / "git"
    spy.parent.mkdir()
    spy.write_text(f'#!/bin/sh\n{{ echo "argv $*"; "$GIT_ASKPASS" "Password for x"; }} >{log}\nexit 1\n')
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{spy.parent}:{os.environ['PATH']}")
    source = Source(ref="main", repository="https://127.0.0.1:1/x.git", git_password=Secret("p", env="TEST_TOKEN"))
    with pytest.raises(FleetError):
        sources.resolve(source)
    argv, password = log.read_text().splitlines()
    assert "s3cret" not in argv
    assert password == "s3cret"


def test_a_branch_on_top_a_rewritten_one_and_a_moved_tag_tell_their_history(origin: Path, tmp_path: Path) -> None:
    source, cache = Source(ref="main", repository=str(origin)), tmp_path / "cache"

    def commit(said: str) -> str:
        git(origin, "commit", "--quiet", "--allow-empty", "-m", said)
        return git(origin, "rev-parse", "HEAD").strip()

    def seen(new: str, old: str, ref: str = "main") -> History:
        asked = replace(source, ref=ref)
        with checkout(asked, new, cache):
            return history(asked, old, new, cache)

    git(origin, "checkout", "--quiet", "-B", "main")
    first, second = commit("one"), commit("two")
    with checkout(source, first, cache):
        pass
    found = seen(second, first)
    assert (found.commits, found.dropped, found.on_top, found.tag) == (((second, "two"),), (), True, False)
    git(origin, "reset", "--quiet", "--hard", first)
    other = commit("two, but otherwise")
    found = seen(other, second)
    assert (found.commits, found.dropped) == (((other, "two, but otherwise"),), ((second, "two"),))
    assert (found.known, found.on_top) == (True, False)
    git(origin, "tag", "nightly", other)
    assert seen(other, first, "nightly").tag
    assert not seen(other, "f" * 40).known
