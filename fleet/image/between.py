"""The commits of vLLM between two releases, as far as the repository that an inventory names can tell."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import FleetError
from fleet.image.build_plan import without_credentials
from fleet.image.release import Release
from fleet.image.source import commits
from fleet.inventory.settings import Source


@dataclass(frozen=True)
class Between:
    """(commit, subject), the newest first: what the second release has more, and what it has no longer.

    `unknown` says why that cannot be told.
    """

    added: tuple[tuple[str, str], ...] = ()
    removed: tuple[tuple[str, str], ...] = ()
    unknown: str = ""


def between(before: Release, after: Release, sources: Iterable[Source], cache: Path) -> Between:
    """Asks the repository only for commits that its mirror in `cache` lacks."""
    old, new = before.vllm_commit, after.vllm_commit
    if old == new:
        return Between()
    if not (old and new):
        return Between(unknown=f"{(after if old else before).local_name} does not say what it was built from")
    places = {after.source_reference.partition(" ")[0], after.labels.get("org.opencontainers.image.source", "")}
    known = {without_credentials(source.repository): source for source in sources}
    source = next((known[place] for place in places if place in known), None)
    if source is None:
        return Between(unknown="no image of these hosts is built from its repository")
    try:
        added, removed = commits(source, old, new, cache), commits(source, new, old, cache)
    except FleetError as error:
        return Between(unknown=error.message)
    return Between(added, removed) if added or removed else Between(unknown="the repository's history was rewritten")
