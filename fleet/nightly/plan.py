"""What a night decides: is there anything new, who goes first, was it fast enough, and who goes back to what. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

KEPT, HELD, BUILD = "kept", "held", "build"
Standing = Mapping[str, Mapping[str, str]]  # host -> service -> release id


@dataclass(frozen=True)
class Decision:
    """`kind`: kept (nothing is new), held (what is new has failed before), build. `why` is a sentence."""

    kind: str
    why: str


def decide(old: Mapping[str, str], new: Mapping[str, str], failed: Mapping[str, str], *, force: bool) -> Decision:
    """By content keys of the images: `old` as the lock says, `new` as upstream says now; `failed` key -> cause."""
    fresh = {name: key for name, key in new.items() if old.get(name) != key}
    if not fresh:
        return Decision(KEPT, "nothing is new: every content key is as it was")
    broken = {name: failed[key] for name, key in fresh.items() if key in failed}
    if broken and not force:
        told = "; ".join(f"{name}: {cause}" for name, cause in broken.items())
        return Decision(HELD, f"the same content key failed before and is not tried again without --force: {told}")
    return Decision(BUILD, "; ".join(f"{name} has the new content key {key}" for name, key in fresh.items()))


def tag(began: float, commit: str, key: str) -> str:
    """`20261124-3f9c1a2b7-<key>`, a tag that is never moved; an image of no commit has none in it."""
    day = f"{datetime.fromtimestamp(began, UTC):%Y%m%d}"
    return "-".join(word for word in (day, commit[:9], key) if word)


def groups(before: Standing, now: Standing) -> dict[tuple[str, str], tuple[str, ...]]:
    """What has to go back: (service, release id) -> hosts that ran it before and run another now."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for host, services in before.items():
        for service, release in services.items():
            if now.get(host, {}).get(service) != release:
                key = (service, release)
                found[key] = (*found.get(key, ()), host)
    return found


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


def too_slow(found: Iterable[Pace], limit: str) -> str:
    """A sentence with both figures of each replica that lost more than `limit` (a percentage), or ""."""
    most = float(limit.removesuffix("%"))
    slow = [one for one in found if one.change < -most]
    told = ", ".join(
        f"{one.replica} on {one.host} {one.after:.1f} tokens/s, before {one.before:.1f} ({one.change:+.0f} %)"
        for one in slow
    )
    return f"slower by more than {limit}: {told}" if told else ""
