"""What a night decides: is there anything new, who goes first, was it fast enough, and who goes back to what. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

KEPT, HELD, BUILD = "kept", "held", "build"
Standing = Mapping[str, Mapping[str, str]]  # host -> service -> release id
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Decision:
    """`kind`: kept (nothing is new), held (what is new has failed before), build. `why` is a sentence."""

    kind: str
    why: str


def decide(
    old: Mapping[str, str],
    new: Mapping[str, str],
    failed: Mapping[str, str],
    *,
    force: bool,
    spared: Mapping[str, str] = NOTHING,
) -> Decision:
    """By content keys of the images: `old` as the lock says, `new` as upstream says now; `failed` key -> cause.

    `spared` are images whose new key failed before, and for which `new` says what the lock means: others go on without them.
    """
    fresh = {name: key for name, key in new.items() if old.get(name) != key}
    broken = {} if force else {name: key for name, key in fresh.items() if key in failed} | dict(spared)
    told = "; ".join(f"{name}: {failed.get(key, key)}" for name, key in broken.items())
    held = f"the same content key failed before and is not tried again without --force: {told}"
    if not fresh and not broken:
        return Decision(KEPT, "nothing is new: every content key is as it was")
    if not fresh or any(name in fresh for name in broken):
        return Decision(HELD, held)
    why = "; ".join(f"{name} has the new content key {key}" for name, key in fresh.items())
    return Decision(BUILD, f"{why}; {', '.join(broken)} stays as it was, for {held}" if broken else why)


def tag(began: float, commit: str, key: str) -> str:
    """`20261124-3f9c1a2b7-<key>`, a tag that is never moved; an image of no commit has none in it."""
    day = f"{datetime.fromtimestamp(began, UTC):%Y%m%d}"
    return "-".join(word for word in (day, commit[:9], key) if word)


def groups(before: Standing, now: Standing, brought: Collection[str]) -> dict[tuple[str, str], tuple[str, ...]]:
    """What has to go back: (service, release id) -> hosts that ran it before, and run nothing or what was `brought` now."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for host, services in before.items():
        for service, release in services.items():
            runs = now.get(host, {}).get(service, "")
            if runs != release and (not runs or runs in brought):
                key = (service, release)
                found[key] = (*found.get(key, ()), host)
    return found


def strangers(before: Standing, now: Standing, brought: Collection[str]) -> tuple[str, ...]:
    """Sentences of what runs and neither ran before nor was `brought`: somebody else's, and left alone."""
    return tuple(
        f"{service} of {host} runs {runs}, which somebody else brought: left alone"
        for host, services in before.items()
        for service, release in services.items()
        if (runs := now.get(host, {}).get(service, "")) and runs != release and runs not in brought
    )


def to_blame(
    told: Mapping[str, str], asked: Mapping[str, Mapping[str, str]], names: Mapping[str, str], fresh: Collection[str]
) -> tuple[str, ...]:
    """The fresh content keys that hosts failed with. Pure words decide, for a host has several services.

    `told`: host -> what is told of its failure; `asked`: host -> service -> key; `names`: key -> the image's name. Where
    neither a replica nor an image is named, it may be any that the host asks for.
    """
    blamed: dict[str, None] = {}
    for host, text in told.items():
        wanted = asked.get(host, {})
        named = [
            key
            for service, key in wanted.items()
            if re.search(rf"(?<![\w-]){re.escape(service)}-\d+\b", text) or (key in names and names[key] in text)
        ]
        blamed |= dict.fromkeys(key for key in named or wanted.values() if key in fresh)
    return tuple(blamed)


def carried(before: Standing, now: Standing, brought: Collection[str]) -> dict[str, dict[str, str]]:
    """What runs, but where a night that came to no end has `brought` it, what ran before that night."""
    return {
        host: {
            name: before.get(host, {}).get(name, release) if release in brought else release
            for name, release in services.items()
        }
        for host, services in now.items()
    }


@dataclass(frozen=True)
class Pace:
    """Tokens/s of one replica with the release before and with the new one."""

    host: str
    replica: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """In percent; below 0 is slower."""
        return (self.after / self.before - 1) * 100 if self.before else 0.0


def paces(before: Mapping[tuple[str, str], float], after: Mapping[tuple[str, str], float]) -> tuple[Pace, ...]:
    """Replicas that were measured both times."""
    return tuple(Pace(*where, before[where], after[where]) for where in after if before.get(where))


def slow_ones(found: Iterable[Pace], limit: str) -> tuple[Pace, ...]:
    """Those that lost more than `limit`, a percentage."""
    most = float(limit.removesuffix("%"))
    return tuple(one for one in found if one.change < -most)


def too_slow(slow: Iterable[Pace], limit: str) -> str:
    """A sentence with both figures of each, or ""."""
    told = ", ".join(
        f"{one.replica} on {one.host} {one.after:.1f} tokens/s, before {one.before:.1f} ({one.change:+.0f} %)"
        for one in slow
    )
    return f"slower by more than {limit}: {told}" if told else ""
