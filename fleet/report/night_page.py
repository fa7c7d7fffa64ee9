"""A night as a page of its own: nothing is loaded from anywhere, no script. Pure, but for `write`."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fleet.nightly.nights import Night
from fleet.report.recap import duration
from fleet.report.units import size

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 60em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em; margin-bottom: .2em } h2 { font-size: 1.1em; margin-top: 2em }
table { border-collapse: collapse } th, td { text-align: left; padding: .2em 1.2em .2em 0; vertical-align: top }
th { font-weight: 600; border-bottom: 1px solid #b8c2cc } td:first-child { white-space: nowrap }
code { font-size: .9em; overflow-wrap: anywhere }
.word { display: inline-block; padding: .1em .7em; border-radius: 1em; color: #fff; background: #59636e }
.good { background: #1a7f37 } .bad { background: #c0392b } svg text { font: 11px system-ui, sans-serif; fill: #59636e }
"""
_GOOD, _BAD = ("promoted", "kept"), ("failed", "drift", "held")
_COLOURS = ("#1f6feb", "#1a7f37", "#bf8700", "#8250df", "#cf222e", "#9aa7b4")  # stages; the last one is for all others
_WIDTH, _HEIGHT, _LEFT = 640, 120, 60  # pixels of a plot, and of its left margin


def write(document: Mapping[str, Any], history: Sequence[Night], path: Path) -> None:
    """Raises OSError."""
    path.write_text(page(document, history), encoding="utf-8")


def page(document: Mapping[str, Any], history: Sequence[Night]) -> str:
    """`document` is report.json; `history` are the nights up to this one, the oldest first."""
    result = str(document.get("result") or "not ended")
    kind = "good" if result in _GOOD else "bad" if result in _BAD else ""
    title = f"Night {document['id']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p><span class="word {kind}">{escape(result)}</span> {escape(str(document.get("said", "")))}</p>',
        f"<p><code>{escape(str(document['inventory']))}</code>, began {escape(str(document['began']))}</p>",
        *_upstream(document.get("upstream") or ()),
        *_phases(document["phases"]),
        *_stages(document.get("stages") or ()),
        *_plot("Build, seconds", [(one.id, _build_seconds(one)) for one in history]),
        *_stage_plot(history),
        *_images(document.get("images") or ()),
        *_hosts(document),
        *_paces(document.get("paces") or ()),
        *_plot("Canary, tokens/s of all its replicas", [(one.id, _pace(one)) for one in history]),
        *_pruned(document.get("pruned") or {}),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _upstream(commits: Sequence[Mapping[str, Any]]) -> list[str]:
    if not commits:
        return []
    rows = [[f"<code>{escape(str(one['commit'])[:9])}</code>", escape(str(one["subject"]))] for one in commits]
    return ["<h2>What changed upstream since last good</h2>", _table(("commit", "what"), rows)]


def _phases(phases: Sequence[Mapping[str, Any]]) -> list[str]:
    words = {True: "well", False: "failed"}
    rows = [
        [
            escape(str(one["name"])),
            words.get(one["ok"], "not ended"),
            duration(float(one.get("seconds", 0))),
            f"<code>{escape(str(one['run']))}</code>" if one.get("run") else "",
        ]
        for one in phases
    ]
    return ["<h2>Steps</h2>", _table(("step", "ended", "time", "run"), rows)]


def _images(images: Sequence[Mapping[str, Any]]) -> list[str]:
    if not images:
        return []
    rows = [
        [
            f"<code>{escape(str(one['release']))}</code>",
            f"<code>{escape(str(one.get('tag', '')))}</code>",
            escape(size(int(one["bytes"]))),
            escape(str(one["why"])),
        ]
        for one in images
    ]
    return ["<h2>Images</h2>", _table(("release", "tag", "size", "why"), rows)]


def _hosts(document: Mapping[str, Any]) -> list[str]:
    rolls = [one for one in document["phases"] if one.get("hosts")]
    left = dict(document.get("left_out") or {})
    names = dict.fromkeys([*(document.get("hosts") or ()), *left])
    canaries = document.get("canaries") or ()
    rows = []
    for name in names:
        cells = [escape(name) + (" (canary)" if name in canaries else "")]
        for roll in rolls:
            told = roll["hosts"].get(name, {})
            words = ": ".join(word for word in (told.get("outcome", ""), told.get("message", "")) if word)
            cells.append(escape(words))
        cells.append(escape(str(left.get(name, ""))))
        rows.append(cells)
    return ["<h2>Hosts</h2>", _table(("host", *(escape(str(one["name"])) for one in rolls), "left out"), rows)]


def _paces(paces: Sequence[Mapping[str, Any]]) -> list[str]:
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
    return ["<h2>Speed against last good</h2>", drawing]


def _pruned(pruned: Mapping[str, Any]) -> list[str]:
    """Per host its room before and after; of everything what was removed."""
    if not pruned:
        return []
    hosts, places = dict(pruned.get("hosts") or {}), dict(pruned.get("places") or {})
    rows = []
    for name, told in {**hosts, **places}.items():
        removed = [escape(f"{one['what']}: {one['why']}") for one in told.get("removed") or ()]
        used = [size(room["used"]) if (room := told.get(when)) else "" for when in ("before", "after")]
        failed = escape(str((pruned.get("failed") or {}).get(name, "")))
        rows.append([escape(name), *used, "<br>".join(removed) or "nothing", failed])
    notes = [f"<p>{escape(str(note))}</p>" for note in pruned.get("notes") or ()]
    return ["<h2>What was pruned</h2>", _table(("where", "used before", "after", "removed", "failed"), rows), *notes]


def _plot(title: str, points: Sequence[tuple[str, float]]) -> list[str]:
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


def _stages(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    if not stages:
        return []
    rows = [
        [escape(str(one["image"])), escape(str(one["stage"])), duration(float(one["seconds"]))]
        for one in sorted(stages, key=lambda one: -float(one["seconds"]))
    ]
    return ["<h2>Build, by stage</h2>", _table(("image", "stage", "steps took"), rows)]


def _stage_plot(history: Sequence[Night]) -> list[str]:
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


def _build_seconds(night: Night) -> float:
    phases = night.document.get("phases") or ()
    return float(sum(one.get("seconds", 0) for one in phases if one.get("name") == "build"))


def _pace(night: Night) -> float:
    return float(sum(one.get("after", 0) for one in night.document.get("paces") or ()))


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{one}</th>" for one in titles)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
