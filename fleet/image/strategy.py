"""Which way to an image fits this fleet: one that exists, one that is built, or one on a base of one's own. Pure.

Every candidate is asked the same things, and an answer that nobody has is no yes: what is known to fit goes before what
nothing speaks against. Among equals the cheapest is taken, minutes before hours.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from fleet.image.dockerfile import BASE_ARG
from fleet.image.lock import Lock
from fleet.inventory.settings import Image, OwnBase
from fleet.preflight import compat
from fleet.report.hosts import fold

Verdict = Literal["fits", "unknown", "does not fit"]
FITS: Verdict = "fits"
UNKNOWN: Verdict = "unknown"
OUT: Verdict = "does not fit"
PREBUILT, SOURCE, OWN_BASE, AUTO = "prebuilt", "source", "own_base", "auto"
CANDIDATES = (PREBUILT, SOURCE, OWN_BASE)  # from minutes to hours


@dataclass(frozen=True)
class Told:
    """What an image says of itself; empty is "says nothing". `problem`: why it could not be asked.

    `silent`: its registry gave no answer at all, which is another thing than a no.
    """

    reference: str = ""
    gfx: tuple[str, ...] = ()
    rocm: str = ""
    problem: str = ""
    silent: bool = False


@dataclass(frozen=True)
class Known:
    """The facts of a choice. An image that is None was not asked for, because a cheaper one fits.

    `drivers` are versions of the amdgpu module by host, "" where it is not known; `base` is what the source build stands
    on, `below` what the base of one's own does, `own_file` that one's Dockerfile ("" = the tree has none), `own_gfx`
    whether it is built for the targets that it is told. `before` is the candidate that the lock has.
    """

    gfx: tuple[str, ...]
    drivers: Mapping[str, str] = field(default_factory=dict)
    sideloaded: tuple[str, ...] = ()  # hosts that pull from no registry
    prebuilt: Told | None = None
    base: Told | None = None
    below: Told | None = None
    own_file: str = ""
    own_gfx: bool = False
    before: str = ""


@dataclass(frozen=True)
class Reason:
    """One question to one candidate."""

    candidate: str
    question: str
    evidence: str
    verdict: Verdict


@dataclass(frozen=True)
class Choice:
    """`kind` is the candidate that is taken, "" where none can be; `why` is one line of it."""

    kind: str
    why: str
    reasons: tuple[Reason, ...]


def choose(image: Image, known: Known) -> Choice:
    """The cheapest candidate that fits, else the cheapest that nothing speaks against."""
    reasons = tuple(reason for name in CANDIDATES for reason in reasons_for(name, image, known))
    verdicts = {name: verdict_of(reasons, name) for name in CANDIDATES}
    kind = next((name for want in (FITS, UNKNOWN) for name in CANDIDATES if verdicts[name] == want), "")
    if known.before == PREBUILT and _only_silent(reasons, known):
        kind = PREBUILT
    return Choice(kind, _why(kind, reasons, verdicts), reasons)


def verdict_of(reasons: Sequence[Reason], candidate: str) -> Verdict:
    """The worst answer that a candidate got."""
    found = {reason.verdict for reason in reasons if reason.candidate == candidate}
    return next((verdict for verdict in (OUT, UNKNOWN) if verdict in found), FITS)


def narrowed(image: Image, kind: str) -> Image:
    """The image with this candidate alone: as if the inventory had named no other."""
    if not kind or kind == AUTO:
        return image
    bare = replace(image, strategy="", require_source=False)
    if kind == PREBUILT:
        return replace(bare, source=None)
    source = image.source
    if source is None:
        return bare
    if kind == SOURCE:
        return replace(bare, prebuilt="", source=replace(source, base=None))
    args = {name: value for name, value in source.args.items() if name != BASE_ARG}
    base = source.base or OwnBase(build=f"{source.dockerfile}_base")
    return replace(bare, prebuilt="", source=replace(source, base=base, base_image="", args=args))


def decided(image: Image, lock: Lock, gfx: tuple[str, ...]) -> Image | None:
    """The image as it is made, without asking anybody; None where its strategy has yet to be decided."""
    if image.strategy != AUTO:
        return narrowed(image, image.strategy)
    kind = lock.choice(key_of(image, gfx))
    return narrowed(image, kind) if kind else None


def key_of(image: Image, gfx: tuple[str, ...]) -> str:
    """The lock's name for a choice: other settings of the image or other GPUs in the inventory are another question."""
    return f"{image.name} {fingerprint(image)} {','.join(gfx) or '-'}"


def fingerprint(image: Image) -> str:
    """A name for what an inventory asks for, the same everywhere: where files lay and how a build ran do not matter."""
    words: list[object] = [image.name, image.prebuilt, image.archive.rpartition("/")[2], image.gfx, image.rocm]
    if image.source is not None:
        one = image.source
        patches = [patch.rpartition("/")[2] for patch in one.patches]
        words += [one.repository, one.ref, one.dockerfile, one.target, one.base_image, patches, one.gfx]
        words += [sorted(one.args.items())]
        if one.base is not None:
            words += [one.base.build, one.base.target, sorted(one.base.args.items())]
    if image.strategy:
        words += [image.strategy, image.require_source]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:20]


def reasons_for(candidate: str, image: Image, known: Known) -> Iterator[Reason]:
    """All that decides for or against one candidate."""
    rows = {PREBUILT: _prebuilt, SOURCE: _source, OWN_BASE: _own_base}[candidate](image, known)
    for question, evidence, verdict in rows:
        yield Reason(candidate, question, evidence, verdict)


Row = tuple[str, str, Verdict]


def _prebuilt(image: Image, known: Known) -> Iterator[Row]:
    if not image.prebuilt:
        yield "inventory", "names no image that exists", OUT
        return
    yield "policy", *(("require_source", OUT) if image.require_source else ("any image may run", FITS))
    patches = image.source.patches if image.source else ()
    names = ", ".join(patch.rpartition("/")[2] for patch in patches)
    yield "patches", *((f"it does not have {names}", OUT) if patches else ("none", FITS))
    told = known.prebuilt
    if told is None:
        yield "registry", "not asked, for it cannot be taken", UNKNOWN
        return
    yield "registry", told.problem or f"has {told.reference}", OUT if told.problem else FITS
    yield from _as_told(image, told, known)
    if known.sideloaded:
        evidence = f"{fold(known.sideloaded)}: this controller fetches it and brings it over SSH"
        yield "hosts that pull nothing", evidence, OUT if told.problem else FITS


def _source(image: Image, known: Known) -> Iterator[Row]:
    if image.source is None:
        yield "inventory", "names no source", OUT
        return
    yield from _targets(image, known)
    told = known.base
    if told is None:
        yield "base image", "not asked, because something cheaper fits", UNKNOWN
        return
    yield "base image", told.problem or told.reference, UNKNOWN if told.problem else FITS
    yield from _as_told(image, told, known)


def _own_base(image: Image, known: Known) -> Iterator[Row]:
    if image.source is None:
        yield "inventory", "names no source", OUT
        return
    yield from _targets(image, known)
    told = known.below
    if told is None:
        asked = known.base is not None
        missing = "the source has no Dockerfile for a base", OUT
        yield "base's Dockerfile", *(missing if asked else ("not asked, because something cheaper fits", UNKNOWN))
        return
    yield "base's Dockerfile", f"{known.own_file} on {told.reference}", FITS
    if told.problem:
        yield "image below it", told.problem, UNKNOWN
    if known.own_gfx and known.gfx:
        yield "gfx targets", f"it is built for {' '.join(known.gfx)}", FITS
    else:
        yield _gfx(told.gfx, known.gfx)
    yield _rocm(told.rocm or image.rocm, known)


def _as_told(image: Image, told: Told, known: Known) -> Iterator[Row]:
    """What an image says of itself, unless the inventory says it; nothing of one that could not be asked."""
    if not told.problem:
        yield _gfx(image.gfx or told.gfx, known.gfx)
        yield _rocm(image.rocm or told.rocm, known)


def _targets(image: Image, known: Known) -> Iterator[Row]:
    """Targets that the inventory itself names for the build."""
    named = image.source.gfx if image.source else ()
    missing = sorted(set(known.gfx) - set(named))
    if named and missing:
        yield "source.gfx", f"has {' '.join(named)} and not {' '.join(missing)}", OUT


def _gfx(told: tuple[str, ...], wanted: tuple[str, ...]) -> Row:
    if not wanted:
        return "gfx targets", "no host declares its GPUs", UNKNOWN
    if not told:
        return "gfx targets", "the image does not say (image.gfx does, for one that is known)", UNKNOWN
    missing = sorted(set(wanted) - set(told))
    if missing:
        return "gfx targets", f"{' '.join(told)}, and not {' '.join(missing)}", OUT
    return "gfx targets", f"{' '.join(told)}, declared are {' '.join(wanted)}", FITS


def _rocm(rocm: str, known: Known) -> Row:
    if not rocm:
        return "ROCm", "the image does not say (image.rocm does, for one that is known)", UNKNOWN
    old = compat.below_minimum(rocm, known.gfx)
    if old:
        return "ROCm", old, OUT
    by_version: dict[str, list[str]] = {}
    for host, version in known.drivers.items():
        by_version.setdefault(version, []).append(host)
    told: dict[Verdict, list[str]] = {OUT: [], UNKNOWN: [], FITS: []}
    for version, hosts in by_version.items():
        answer = compat.window(version, rocm) if version else "unknown"
        said = f"driver {version} of {fold(hosts)}" if version else f"the driver of {fold(hosts)} is not known"
        told[{"contradicted": OUT, "unknown": UNKNOWN, "supported": FITS}[answer]].append(said)
    if not by_version:
        return "ROCm", f"{rocm}; no host's driver is known", UNKNOWN
    worst = next(verdict for verdict in (OUT, UNKNOWN, FITS) if told[verdict])
    words = {OUT: "is not documented for", UNKNOWN: "nobody knows with", FITS: "is documented for"}[worst]
    return "ROCm", f"{rocm} {words} {'; '.join(told[worst])}", worst


def _only_silent(reasons: Sequence[Reason], known: Known) -> bool:
    """Does nothing speak against the prebuilt image but a registry that gives no answer just now?"""
    against = [one for one in reasons if one.candidate == PREBUILT and one.verdict == OUT]
    silent = known.prebuilt is not None and known.prebuilt.silent
    return silent and all(one.question in ("registry", "hosts that pull nothing") for one in against)


def _why(kind: str, reasons: Sequence[Reason], verdicts: Mapping[str, Verdict]) -> str:
    said = {
        name: "; ".join(
            f"{one.question}: {one.evidence}" for one in reasons if one.candidate == name and one.verdict != FITS
        )
        for name in CANDIDATES
    }
    if not kind:
        return "nothing fits: " + "; ".join(f"{name} ({said[name]})" for name in CANDIDATES)
    if verdicts[kind] == OUT:
        return f"{kind} was chosen before, and {said[kind]} is no reason to build"
    cheaper = [name for name in CANDIDATES[: CANDIDATES.index(kind)] if not _absent(reasons, name)]
    word = "fits" if verdicts[kind] == FITS else f"is not known to be wrong ({said[kind]})"
    return "; ".join([f"{kind} {word}", *(f"{name} {verdicts[name]} ({said[name]})" for name in cheaper)])


def _absent(reasons: Sequence[Reason], candidate: str) -> bool:
    """Is it left out by the inventory itself?"""
    return any(one.candidate == candidate and one.question == "inventory" for one in reasons)
