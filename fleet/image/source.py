"""A source ref -> a commit -> a work tree with tags, patched, ready to be a build context."""

import fcntl
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import FleetError
from fleet.image import git_refs
from fleet.image.git import STALL, Git, git_for, reason
from fleet.image.scratch import scratch
from fleet.inventory.settings import Source

_TAGS = "+refs/tags/*:refs/tags/*"
MOST = 500  # commits of a list
_REFSPECS = ("+refs/heads/*:refs/heads/*", _TAGS)


@dataclass(frozen=True)
class Checkout:
    """A work tree at `commit` with the patches on top. `describe` is git's name for the commit, like v0.11.0-3-gabc."""

    path: Path
    commit: str
    describe: str
    date: str  # of the commit, RFC 3339
    patches: tuple[str, ...]  # SHA-256 of each patch


@dataclass(frozen=True)
class History:
    """From an old to a new commit, both lists as (commit, subject), the newest first.

    `known`: the old commit can still be had. `on_top`: the new one has it in its history. `tag`: the ref is a tag.
    """

    commits: tuple[tuple[str, str], ...]
    dropped: tuple[tuple[str, str], ...]
    known: bool
    on_top: bool
    tag: bool


def resolve(source: Source) -> str:
    """The commit that the source's ref means now. Raises FleetError for a bad repository or ref."""
    _refuse_credentials(source)
    if git_refs.is_commit(source.ref):
        return source.ref
    with git_for(source) as git:
        location = _location(source)
        listing = git.run(f"asking {source.repository} for its refs", "ls-remote", "--", location, stall=STALL)
    return git_refs.pick(git_refs.parse(listing), source.ref, source.repository)


@contextmanager
def checkout(source: Source, commit: str, cache: Path) -> Iterator[Checkout]:
    """A fresh work tree, removed afterwards. `cache` keeps one bare mirror per repository between builds."""
    _refuse_credentials(source)
    patches = tuple(_read_patch(path) for path in source.patches)
    with git_for(source) as git:
        # A tag that was moved names a commit otherwise, and the version with it. What a whole commit means never moves.
        mirror = _mirror(git, source, commit, cache, tags=not git_refs.is_commit(source.ref))
        with scratch(cache.absolute() / "trees") as folder:
            yield _work_tree(git, source, commit, mirror, folder / "tree", patches)


def commits(source: Source, old: str, new: str, cache: Path) -> tuple[tuple[str, str], ...]:
    """(commit, subject) of what is in `new` and not in `old`, the newest first; of a checked-out `new`.

    Where upstream rewrote its history, `old` may be gone: then there is nothing to tell. Raises FleetError.
    """
    with git_for(source) as git:
        return _listed(git, _mirror(git, source, new, cache, tags=False), f"{old}..{new}")


def history(source: Source, old: str, new: str, cache: Path) -> History:
    """What became of a ref between two commits, of which `new` was checked out. Raises FleetError."""
    with git_for(source) as git:
        mirror = _mirror(git, source, new, cache, tags=False)
        known = git.try_run("cat-file", "-e", f"{old}^{{commit}}", cwd=mirror).exit_code == 0
        on_top = git.try_run("merge-base", "--is-ancestor", old, new, cwd=mirror).exit_code == 0
        tag = git.try_run("rev-parse", "--verify", "--quiet", f"refs/tags/{source.ref}", cwd=mirror).exit_code == 0
        dropped = _listed(git, mirror, f"{new}..{old}") if known and not on_top else ()
        return History(_listed(git, mirror, f"{old}..{new}") if known else (), dropped, known, on_top, tag)


def _listed(git: Git, mirror: Path, words: str) -> tuple[tuple[str, str], ...]:
    done = git.try_run("log", f"--max-count={MOST}", "--format=%H %s", words, cwd=mirror)
    lines = [line.partition(" ") for line in done.stdout.splitlines()] if done.exit_code == 0 else []
    return tuple((commit, subject) for commit, _, subject in lines)


def context_hash(source: Source, tree: Checkout, paths: tuple[str, ...] | None) -> str:
    """What these files and directories of a work tree are, "" for none of them; None is the tree with its history."""
    if paths == ():
        return ""
    with git_for(source) as git:
        doing = f"reading the tree of {tree.commit[:12]}"
        if paths is None:
            return git.run(doing, "rev-parse", "HEAD", cwd=tree.path).strip()
        listed = git.run(doing, "ls-tree", "-r", "--full-tree", "HEAD", "--", ".dockerignore", *paths, cwd=tree.path)
    return hashlib.sha256(listed.encode()).hexdigest()


def patch_hashes(source: Source) -> tuple[str, ...]:
    """SHA-256 of each patch in order, for the content key."""
    return tuple(hashlib.sha256(_read_patch(path)).hexdigest() for path in source.patches)


def explain_apply(stderr: str) -> str:
    """Which file and hunk a patch failed at, out of `git apply`'s words."""
    failed = _failed_hunks(stderr)
    if failed:
        return "; ".join(f"its hunk at line {line} of {path} does not apply" for path, line in failed)
    return reason(stderr)


def _failed_hunks(stderr: str) -> list[tuple[str, str]]:
    """Paths and lines."""
    return re.findall(r"^error: patch failed: (.+):(\d+)$", stderr, re.MULTILINE)


def _refuse_credentials(source: Source) -> None:
    """What is in the URL stands in argv, in the lock and in logs. A token is often given as the user of an https URL."""
    if re.match(r"https?://[^/@]+@|[a-z+]+://[^/@:]*:[^/@]+@", source.repository):
        raise FleetError(
            f"source.repository of {source.ref} carries credentials in its URL",
            hint="set source.git_username and source.git_password instead",
        )


def _location(source: Source) -> str:
    """A local path is given to git absolutely, for we run it elsewhere."""
    path = Path(source.repository).expanduser()
    return str(path.absolute()) if path.is_dir() else source.repository


def _mirror(git: Git, source: Source, commit: str, cache: Path, *, tags: bool) -> Path:
    """A bare repository that holds `commit` and all tags; `tags` asks for them anew.

    A repository that does not answer is no failure where the mirror has the commit: a site may be cut off from it.
    """
    location = _location(source)
    path = cache.absolute() / "git" / f"{hashlib.sha256(location.encode()).hexdigest()[:16]}.git"
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_suffix(".lock")):
        git.run(f"making the mirror {path}", "init", "--quiet", "--bare", str(path))  # nothing, where it is whole
        if git.try_run("cat-file", "-e", f"{commit}^{{commit}}", cwd=path).exit_code or not _has_tags(git, path):
            doing = f"fetching {source.repository}"
            _mend(path)
            git.run(doing, "fetch", "--progress", "--prune", "--", location, *_REFSPECS, cwd=path, stall=STALL)
        elif tags:
            git.try_run("fetch", "--progress", "--prune", "--", location, _TAGS, cwd=path, stall=STALL)
        if git.try_run("cat-file", "-e", f"{commit}^{{commit}}", cwd=path).exit_code:
            git.run(
                f"fetching commit {commit} of {source.repository}", "fetch", "--progress", "--", location, commit,
                cwd=path, stall=STALL,
            )  # fmt: skip
    return path


def _mend(mirror: Path) -> None:
    """Remove what a git that was killed has left: its locks, which refuse every other one, and half packs. We alone write."""
    for left in (*mirror.rglob("*.lock"), *mirror.glob("objects/**/tmp_*")):
        if left.is_file():
            left.unlink(missing_ok=True)


def _has_tags(git: Git, mirror: Path) -> bool:
    return bool(git.try_run("for-each-ref", "--count=1", "refs/tags", cwd=mirror).stdout)


def _work_tree(git: Git, source: Source, commit: str, mirror: Path, tree: Path, patches: tuple[bytes, ...]) -> Checkout:
    doing = f"checking out {commit[:12]} of {source.repository}"
    # A clone, not `git worktree`: the context must carry a .git of its own, for setuptools_scm inside the build.
    git.run(doing, "clone", "--quiet", "--no-checkout", "--", str(mirror), str(tree))
    # The mirror may know the commit by no ref of its own (a pull request's head).
    git.run(doing, "fetch", "--quiet", "--", str(mirror), f"+{commit}:refs/fleet/wanted", cwd=tree)
    git.run(doing, "checkout", "--quiet", "--detach", commit, cwd=tree)
    described = git.run(doing, "describe", "--tags", "--always", "--match", "v[0-9]*", commit, cwd=tree).strip()
    date = git.run(doing, "show", "--no-patch", "--format=%cI", commit, cwd=tree).strip()
    if patches:
        _apply(git, source, tree, date)
    hashes = tuple(hashlib.sha256(content).hexdigest() for content in patches)
    return Checkout(tree, commit, described, date, hashes)


def _apply(git: Git, source: Source, tree: Path, date: str) -> None:
    """Apply every patch, then commit them with fixed names and dates: the tree is clean and its hash repeatable."""
    for patch in source.patches:
        path = str(Path(patch).expanduser().absolute())
        done = git.try_run("apply", "--index", "--whitespace=nowarn", "--", path, cwd=tree)
        if done.exit_code:
            raise FleetError(
                f"patch {patch} does not fit {source.ref}: {explain_apply(done.stderr)}{_changed_by(git, tree, done.stderr)}",
                hint="make it anew against that ref, or take it out of source.patches",
            )
    person = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "fleet"), ("EMAIL", "fleet@localhost"), ("DATE", date))
    }
    message = "Apply the inventory's patches"
    git.run(
        "committing the patches",
        "commit",
        "--quiet",
        "--no-verify",
        "--allow-empty",
        "-m",
        message,
        cwd=tree,
        extra=person,
    )


def _changed_by(git: Git, tree: Path, stderr: str) -> str:
    """The commit that changed those files last, as a clause, or ""."""
    paths = [path for path, _ in _failed_hunks(stderr)]
    done = git.try_run("log", "--max-count=1", "--format=%h %s", "HEAD", "--", *paths, cwd=tree)
    return f"; last changed by {done.stdout.strip()}" if paths and done.stdout.strip() else ""


def _read_patch(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise FleetError(f"patch {path} cannot be read: {error.strerror}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the kernel releases it when we die."""
    with path.open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
