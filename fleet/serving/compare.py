"""Answers and speeds of one replica beside those of its likes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet.facts import Facts
from fleet.serving.inspection import Inspection
from fleet.serving.load import quantile
from fleet.serving.spec import gpu_minors

FLAGS = ("--tensor-parallel-size", "-tp")
PLACE = ("--port", "--host")  # where it listens changes no answer


@dataclass(frozen=True)
class Kin:
    """What decides whether two replicas must say the same. `env` are sorted pairs, `arguments` those of vLLM."""

    host: str
    replica: str
    service: str
    gfx: str
    tp: str
    release: str
    env: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()
    gpu: str = ""  # the model of the cards, for speeds

    @property
    def alike(self) -> tuple[object, ...]:
        """Equal for replicas whose answers may be compared."""
        return (self.service, self.gfx, self.tp, self.release, self.env, self.arguments)

    @property
    def pace(self) -> tuple[str, ...]:
        """Equal for replicas whose speeds may be compared."""
        return (self.service, self.gpu, self.tp)


@dataclass(frozen=True)
class Answered:
    """One replica with its answers by prompt and its median tokens/s; None where that was not measured."""

    kin: Kin
    answers: Mapping[str, str]
    rate: float | None = None


@dataclass(frozen=True)
class Finding:
    """One sentence about one replica."""

    kin: Kin
    said: str


def kin_of(host: str, one: Inspection, facts: Facts) -> Kin:
    """A running container as it really is; an unknown GPU is an empty text, which equals only its own kind."""
    minors = gpu_minors(one.devices)
    gpus = [gpu for gpu in facts.gpus if minors is None or gpu.render_minor in minors]
    arguments = _without(one.arguments, PLACE)
    return Kin(
        host,
        one.name,
        one.service,
        "+".join(sorted({gpu.gfx or "" for gpu in gpus})),
        next((value for flag in FLAGS if (value := _value(one.arguments, flag))), "1"),
        one.labels.get("io.fleet.release", one.image_id),
        tuple(sorted(one.env.items())),
        arguments,
        "+".join(sorted({gpu.model or gpu.gfx or "" for gpu in gpus})),
    )


def groups(kin: Sequence[Kin]) -> tuple[tuple[Kin, ...], ...]:
    """Those that may be compared, each group in the order given. One without a known gfx stands alone."""
    found: dict[tuple[object, ...], list[Kin]] = {}
    for one in kin:
        key = one.alike if one.gfx else (one.host, one.replica)
        found.setdefault(key, []).append(one)
    return tuple(map(tuple, found.values()))


def differences(replicas: Sequence[Answered]) -> tuple[Finding, ...]:
    """Who answers otherwise than the first of its group, in the order given, that was asked the same."""
    of = {(one.kin.host, one.kin.replica): one for one in replicas}
    found = []
    for group in groups([one.kin for one in replicas]):
        first = of[group[0].host, group[0].replica]
        for kin in group[1:]:
            here = of[kin.host, kin.replica].answers
            other = [prompt for prompt, text in first.answers.items() if here.get(prompt, text) != text]
            if other:
                more = f" (and {len(other) - 1} more)" if len(other) > 1 else ""
                where = first.kin.host if first.kin.replica == kin.replica else f"{first.kin.host} {first.kin.replica}"
                said = f"{kin.replica} answers prompt {_short(other[0])!r}{more} differently from {where}: "
                said += f"{_short(here[other[0]])!r}, there {_short(first.answers[other[0]])!r}"
                found.append(Finding(kin, said))
    return tuple(found)


def slow(replicas: Sequence[Answered], shares: Mapping[tuple[str, str], int]) -> tuple[Finding, ...]:
    """Who is under its share (percent, by host and replica) of the median of the same GPU model and service."""
    found = []
    for one in replicas:
        if one.rate is None:
            continue
        rates = [other.rate for other in replicas if other.rate is not None and other.kin.pace == one.kin.pace]
        median, share = quantile(rates, 0.5), shares.get((one.kin.host, one.kin.replica), 70)
        if len(rates) > 1 and one.rate < median * share / 100:
            of = f"{one.kin.gpu} with {one.kin.service}"
            said = f"{one.kin.replica} is slow: {one.rate:.1f} tokens/s, {100 * one.rate / median:.0f}% of the median "
            found.append(Finding(one.kin, f"{said}{median:.1f} of {len(rates)} replicas of {of} (limit {share}%)"))
    return tuple(found)


def _value(arguments: Sequence[str], flag: str) -> str:
    for here, word in enumerate(arguments):
        if word == flag and here + 1 < len(arguments):
            return arguments[here + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""


def _without(arguments: Sequence[str], flags: Sequence[str]) -> tuple[str, ...]:
    kept, skip = [], False
    for word in arguments:
        if skip:
            skip = False
        elif word in flags:
            skip = True
        elif word.partition("=")[0] not in flags:
            kept.append(word)
    return tuple(kept)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:39] + "…"
