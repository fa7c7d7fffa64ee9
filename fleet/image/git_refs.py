"""Git refs as values: what `git ls-remote` printed, and which commit a person's word means. Pure."""

import re
from collections.abc import Mapping
from difflib import get_close_matches

from fleet.errors import UsageError

_SHA = re.compile(r"[0-9a-f]{40}")
_ABBREVIATED = re.compile(r"[0-9a-f]{7,39}")
# The order of gitrevisions(7), but for `pull/N/head`, which vLLM's own build argument takes too.
_PLACES = ("{}", "refs/{}", "refs/tags/{}", "refs/heads/{}", "refs/remotes/{}")


def parse(text: str) -> dict[str, str]:
    """`SHA<TAB>REF` lines -> ref -> commit; an annotated tag is given as the commit it points at (`REF^{}`)."""
    refs: dict[str, str] = {}
    for line in text.splitlines():
        sha, tab, ref = line.partition("\t")
        if tab and _SHA.fullmatch(sha):
            refs[ref] = sha
    for ref in [ref for ref in refs if ref.endswith("^{}")]:
        refs[ref.removesuffix("^{}")] = refs.pop(ref)
    return refs


def is_commit(wanted: str) -> bool:
    return bool(_SHA.fullmatch(wanted))


def pick(refs: Mapping[str, str], wanted: str, repository: str) -> str:
    """The commit that `wanted` (branch, tag, `pull/N/head`, a commit) means. Raises UsageError naming near refs."""
    if is_commit(wanted):
        return wanted
    for place in _PLACES:
        if sha := refs.get(place.format(wanted)):
            return sha
    heads = {sha for sha in refs.values() if sha.startswith(wanted)}
    if _ABBREVIATED.fullmatch(wanted) and len(heads) == 1:
        return heads.pop()
    raise UsageError(f"{repository} has no ref {wanted!r}", hint=_hint(refs, wanted))


def _hint(refs: Mapping[str, str], wanted: str) -> str:
    if _ABBREVIATED.fullmatch(wanted):
        return "a commit that no ref points at is named by all its 40 digits"
    names = [re.sub(r"^refs/(?:tags|heads)/", "", ref) for ref in refs if not ref.startswith("refs/pull/")]
    near = get_close_matches(wanted, names, n=5, cutoff=0.6)
    return f"near: {', '.join(near)}" if near else "see `git ls-remote --tags --heads` of that repository"
