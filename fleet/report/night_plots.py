"""The drawings of a night's page: SVG, each with its figures in words as well. Pure."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fleet.nightly.nights import Night

_COLOURS = ("#1f6feb", "#1a7f37", "#bf8700", "#8250df", "#cf222e", "#9aa7b4")  # stages; the last one is for all others
_WIDTH, _HEIGHT, _LEFT = 640, 120, 60  # pixels of a plot, and of its left margin


def paces(paces: Sequence[Mapping[str, Any]]) -> list[str]:
    """Two bars for each replica of the canaries: before, and with the new release."""
    if not paces:
        return []
    most = max(max(one["before"], one["after"]) for one in paces) or 1
    bars = []
    for number, one in enumerate(paces):
        top = number * 56
        bars.append(f'<text x="0" y="{top + 12}">{escape(one["host"])} {escape(one["replica"])}</text>')
        for row, (word, colour) in enumerate((("before", "#9aa7b4"), ("after", "#1f6feb"))):
            width, y = one[word] / most * (_WIDTH - 220), top + 18 + row * 16
            bars.append(f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="12" fill="{colour}"/>')
            change = f" ({one['change']:+.0f} %)" if word == "after" else ""
            label = f"{one[word]:.1f} tokens/s{change}"
            bars.append(f'<text x="0" y="{y + 10}">{word}</text>')
            bars.append(f'<text x="{_LEFT + width + 6:.1f}" y="{y + 10}">{label}</text>')
    drawing = f'<svg width="{_WIDTH}" height="{len(paces) * 56}" role="img">{"".join(bars)}</svg>'
    return [drawing]


def columns(title: str, points: Sequence[tuple[str, float]]) -> list[str]:
    """Columns over the nights that have such a figure; nothing for fewer than two."""
    known = [(name, value) for name, value in points if value > 0][-60:]
    if len(known) < 2:
        return []
    most = max(value for _, value in known)
    step = (_WIDTH - _LEFT) / len(known)
    marks = []
    for number, (name, value) in enumerate(known):
        height = value / most * (_HEIGHT - 30)
        x, y = _LEFT + number * step, _HEIGHT - 18 - height
        told = f"<title>{escape(name)}: {value:.1f}</title>"
        marks.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(step - 3, 1):.1f}" height="{height:.1f}" fill="#1f6feb">{told}</rect>'
        )
    marks += [f'<text x="0" y="16">{most:.0f}</text>', _dates(known[0][0], known[-1][0])]
    return [
        f"<h2>{escape(title)}, night by night</h2>",
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img">{"".join(marks)}</svg>',
    ]


def _dates(first: str, last: str) -> str:
    """Below a plot, of the first and the last night's id."""
    return (
        f'<text x="{_LEFT}" y="{_HEIGHT - 3}">{escape(first[:8])}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 3}" text-anchor="end">{escape(last[:8])}</text>'
    )


def stages(history: Sequence[Night]) -> list[str]:
    """A column for each night that built something, its stages on top of each other, the longest at the bottom."""
    nights = [(one.id, totals) for one in history if (totals := _by_stage(one))][-60:]
    if len(nights) < 2:
        return []
    whole: dict[str, float] = {}
    for _, totals in nights:
        for stage, took in totals.items():
            whole[stage] = whole.get(stage, 0.0) + took
    order = sorted(whole, key=lambda stage: -whole[stage])
    colours = {stage: _COLOURS[min(number, len(_COLOURS) - 1)] for number, stage in enumerate(order)}
    most, step = max(sum(totals.values()) for _, totals in nights) or 1.0, (_WIDTH - _LEFT) / len(nights)
    marks = [f'<text x="0" y="16">{most:.0f}</text>', _dates(nights[0][0], nights[-1][0])]
    for number, (name, totals) in enumerate(nights):
        x, y = _LEFT + number * step, float(_HEIGHT - 18)
        for stage in order:
            height = totals.get(stage, 0.0) / most * (_HEIGHT - 30)
            y -= height
            told = f"<title>{escape(name)}, {escape(stage)}: {totals.get(stage, 0.0):.1f}</title>"
            marks.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(step - 3, 1):.1f}" height="{height:.1f}" '
                f'fill="{colours[stage]}">{told}</rect>'
            )
    legend = " ".join(
        f'<span style="color: {colours[stage]}">&#9632;</span> {escape(stage)}' for stage in order[: len(_COLOURS) - 1]
    )
    more = f' <span style="color: {_COLOURS[-1]}">&#9632;</span> others' if len(order) >= len(_COLOURS) else ""
    drawing = f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img">{"".join(marks)}</svg>'
    return ["<h2>Steps of the stages, seconds, night by night</h2>", drawing, f"<p>{legend}{more}</p>"]


def _by_stage(night: Night) -> dict[str, float]:
    totals: dict[str, float] = {}
    for one in night.document.get("stages") or ():
        totals[str(one["stage"])] = totals.get(str(one["stage"]), 0.0) + float(one["seconds"])
    return totals


def build_seconds(night: Night) -> float:
    phases = night.document.get("phases") or ()
    return float(sum(one.get("seconds", 0) for one in phases if one.get("name") == "build"))


def pace(night: Night) -> float:
    return float(sum(one.get("after", 0) for one in night.document.get("paces") or ()))
