"""A run as a picture: hosts × time, a bar for each step, in one HTML file that needs nothing else.

Colours are told apart by people with colour-blindness too, and no meaning hangs on colour alone: every bar names its
step when pointed at, failures carry a cross and an outline, and each host's outcome stands in words at its row's end.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from fleet.journal.header import BAD, iso
from fleet.journal.story import Batch, HostStory, RunStory, StepStory
from fleet.report.hosts import fold
from fleet.report.recap import duration
from fleet.report.runs import counts
from fleet.report.timeline_style import STYLE

WIDTH, RIGHT, TOP = 1280, 116, 26  # px: whole picture, outcome column, axis
HEADING = 22  # px above a batch's rows
LETTER = 7.2  # px, a monospaced letter at 12 px
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)  # seconds

# (class, what the legend says, words in a step's kind); the first that fits counts.
CATEGORIES = (
    ("stop", "drain, stop, free VRAM", "undrain drain stop vram"),
    ("verify", "verify", "verify prove baseline answer"),
    ("wait", "wait until ready", "wait healthy pause"),
    ("start", "create and start", "create start secret"),
    ("image", "image", "pull load tag placeca keep image relay bundle stage"),
    ("prepare", "prepare", "fix prepare module sysctl group"),
    ("tidy", "rename, remove and other", ""),
)
_MARKS = {"ok": "✓", "changed": "✓", "skipped": "–", "not begun": "–", "cut off": "!", **dict.fromkeys(BAD, "✗")}


def write(story: RunStory) -> Path:
    """timeline.html in the run's directory, written whole. Raises OSError."""
    path, staged = story.path / "timeline.html", story.path / ".timeline.html"
    staged.write_text(render(story), encoding="utf-8")
    staged.replace(path)
    return path


def category(kind: str) -> str:
    """The class of a step by its kind's name; what nobody knows is `tidy`."""
    name = kind.lower()
    return next((css for css, _, words in CATEGORIES if any(word in name for word in words.split())), "tidy")


@dataclass(frozen=True)
class Scale:
    """Where things lie, in px. `rows` are high enough for a few hosts and low enough for hundreds."""

    left: float
    row: float
    span: float  # seconds that the picture shows

    @property
    def width(self) -> float:
        return WIDTH - self.left - RIGHT

    def x(self, seconds: float) -> float:
        return self.left + self.width * min(max(seconds, 0.0), self.span) / self.span


def render(story: RunStory) -> str:
    """The whole page. Everything that a journal holds was redacted when it was written."""
    header = story.header
    command = " ".join(header.argv) or header.verb
    took = "still running" if story.state == "running" else duration(story.seconds)
    began = _clock(story.began)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(header.verb)} {escape(story.id)}</title><style>{STYLE}</style></head><body>\n"
        f"<h1>{escape(header.verb)} <small>{escape(story.id)}</small></h1>\n"
        f'<p class="facts"><b class="{_tone(story)}">{escape(_state(story))}</b> · {escape(began)} · {escape(took)}'
        f" · {len(story.hosts)} hosts: {escape(counts(story.counts))}</p>\n"
        f'<p class="facts"><code>{escape(command)}</code></p>\n'
        f"{_ending(story)}{_failures(story)}{_legend(story)}"
        f'<div class="scroll">{_picture(story)}</div>\n</body></html>\n'
    )


def _picture(story: RunStory) -> str:
    groups = _groups(story)
    total = sum(len(hosts) for _, hosts in groups)
    longest = max((len(host.name) for _, hosts in groups for host in hosts), default=0)
    row = 28.0 if total <= 16 else 20.0 if total <= 60 else 15.0
    scale = Scale(min(longest, 34) * LETTER + 26, row, max(story.seconds, 0.5) * 1.005)
    rows: list[str] = []
    y = float(TOP)
    for batch, hosts in groups:
        if batch is not None:
            rows.append(_heading(batch, scale, y, row * len(hosts)))
            y += HEADING
        for host in hosts:
            rows.append(_row(story, host, scale, y))
            y += row
    height = y + TOP
    size = f'width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}"'
    hatch = (
        '<defs><pattern id="open" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="hatch" width="2.5" height="6"/></pattern></defs>'
    )
    small = ' class="small"' if row < 18 else ""
    return f'<svg{small} {size} role="img" aria-label="hosts over time">{hatch}{_axis(scale, y)}{"".join(rows)}</svg>'


def _groups(story: RunStory) -> list[tuple[Batch | None, list[HostStory]]]:
    """Hosts under the batch that took them last, in order; those in none come last."""
    batches = {batch.number: batch for batch in story.batches}
    groups: list[tuple[Batch | None, list[HostStory]]] = []
    for number, batch in sorted(batches.items()):
        hosts = [story.hosts[name] for name in batch.hosts if story.hosts[name].batch == number]
        if hosts:
            groups.append((batch, hosts))
    rest = [host for host in story.hosts.values() if host.batch not in batches]
    if rest:
        label = Batch(0, tuple(host.name for host in rest), "in no batch", 0.0) if groups else None
        groups.append((label, rest))
    return groups


def _axis(scale: Scale, bottom: float) -> str:
    every = next((tick for tick in TICKS if scale.span / tick <= 12), TICKS[-1])
    parts = []
    for number in range(int(scale.span // every) + 1):
        x = scale.x(number * every)
        text = _tick(number * every)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{bottom:.1f}"/>')
        parts += [
            f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{text}</text>'
            for y in (TOP - 10, bottom + 16)
        ]
    return "".join(parts)


def _heading(batch: Batch, scale: Scale, y: float, height: float) -> str:
    """A batch's name over its rows, and a line where it began."""
    name = batch.name or f"batch {batch.number}"
    hosts = f"{len(batch.hosts)} host{'' if len(batch.hosts) == 1 else 's'}"
    told = f"{name}: {hosts}" + (f", from {duration(batch.start)}" if batch.number else "")
    x = scale.x(batch.start)
    begins = f'<line class="begins" x1="{x:.1f}" x2="{x:.1f}" y1="{y + HEADING:.1f}" y2="{y + HEADING + height:.1f}"/>'
    return (
        f'<line class="between" x1="0" x2="{WIDTH}" y1="{y + 3:.1f}" y2="{y + 3:.1f}"/>'
        f'<text class="batch" x="6" y="{y + 17:.1f}">{escape(told)}</text>{begins if batch.number else ""}'
    )


def _row(story: RunStory, host: HostStory, scale: Scale, y: float) -> str:
    name = host.name if len(host.name) <= 34 else f"{host.name[:20]}…{host.name[-13:]}"
    middle = y + scale.row / 2
    word = _word(story, host)
    tone = "bad" if host.outcome in BAD or word == "cut off" else "quiet" if not host.begun else "good"
    told = "\n".join(
        text for text in (f"{host.name}: {word}", host.message, host.hint and f"next: {host.hint}") if text
    )
    mark = _MARKS.get(word, "…")
    placed = [(step, _box(step, lane, lanes, story, scale, y)) for step, lane, lanes in _lanes(host.steps)]
    bars = "".join(_bar(step, box) for step, box in placed)
    crosses = "".join(_cross(box) for step, box in placed if step.ok is False)  # above every bar
    return (
        f'<g class="row"><rect class="back" x="0" y="{y:.1f}" width="{WIDTH}" height="{scale.row:g}"/>'
        f'<g><title>{escape(told)}</title><text class="host {tone}" x="6" y="{middle:.1f}">{escape(name)}</text>'
        f'<text class="outcome {tone}" x="{WIDTH - RIGHT + 10}" y="{middle:.1f}">{mark} {escape(word)}</text></g>'
        f"{bars}{crosses}</g>"
    )


def _word(story: RunStory, host: HostStory) -> str:
    """What stands at the end of a host's row."""
    if host.outcome == "untouched" or not (host.outcome or host.begun):
        return "not begun"
    return host.outcome or ("under way" if story.state == "running" else "cut off")


def _lanes(steps: Sequence[StepStory]) -> Iterable[tuple[StepStory, int, int]]:
    """(step, lane, lanes): steps that overlap in time lie under each other in their host's row."""
    ends: list[float] = []
    placed = []
    for step in sorted(steps, key=lambda step: (step.start, step.seq)):
        end = step.start + (step.seconds if step.seconds is not None else float("inf"))
        lane = next((index for index, until in enumerate(ends) if until <= step.start), len(ends))
        ends[lane : lane + 1] = [end]
        placed.append((step, lane))
    return [(step, lane, len(ends)) for step, lane in placed]


@dataclass(frozen=True)
class Box:
    """A bar's place, in px."""

    x: float
    y: float
    width: float
    height: float


def _box(step: StepStory, lane: int, lanes: int, story: RunStory, scale: Scale, y: float) -> Box:
    end = story.seconds if step.seconds is None else step.start + step.seconds
    x = scale.x(step.start)
    room = scale.row - max(4.0, scale.row * 0.25)
    height = room / lanes
    top = y + (scale.row - room) / 2 + lane * height
    return Box(x, top, max(scale.x(end) - x, 2.0), max(height - (lanes > 1), 1.5))


def _bar(step: StepStory, box: Box) -> str:
    where = f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="1.5"'
    state = "failed" if step.ok is False else "open" if step.ok is None else ""
    hatch = f'<rect {where} fill="url(#open)"/>' if step.ok is None else ""
    bar = f'<rect class="bar {category(step.kind)} {state}" {where}/>'
    return f"<g><title>{escape(_hover(step))}</title>{bar}{hatch}</g>"


def _cross(box: Box) -> str:
    """Where a step failed: at its end, on a halo that keeps it apart from any bar's colour."""
    x, y = min(box.x + box.width, WIDTH - RIGHT - 4), box.y + box.height / 2
    arm = min(5.0, max(box.height / 3, 3.0))
    lines = "".join(f"M{x - arm:.1f} {y + way * arm:.1f}l{2 * arm:.1f} {-way * 2 * arm:.1f}" for way in (1, -1))
    return f'<path class="halo" d="{lines}"/><path class="cross" d="{lines}"/>'


def _hover(step: StepStory) -> str:
    took = "under way when the journal ends" if step.seconds is None else f"took {duration(step.seconds)}"
    lines = [f"{step.host}: {step.what}", step.why, f"{took}, from {duration(step.start)} ({_clock(step.at)})"]
    return "\n".join([line for line in lines if line] + ([f"failed: {step.error}"] if step.error else []))


def _legend(story: RunStory) -> str:
    used = {category(step.kind) for host in story.hosts.values() for step in host.steps}
    entries = [
        f'<li><svg width="14" height="12"><rect class="bar {css}" width="14" height="12" rx="2"/></svg>{escape(text)}</li>'
        for css, text, _ in CATEGORIES
        if css in used
    ]
    steps = [step for host in story.hosts.values() for step in host.steps]
    if any(step.ok is False for step in steps):
        entries.append('<li><b class="bad">✗</b> failed</li>')
    if any(step.ok is None for step in steps):
        swatch = '<svg width="14" height="12"><rect class="bar" width="14" height="12"/><rect width="14" height="12" fill="url(#open)"/></svg>'
        entries.append(f"<li>{swatch}under way when the journal ends</li>")
    if story.batches:
        entries.append(
            '<li><svg width="14" height="12"><line class="begins" x1="7" x2="7" y1="0" y2="12"/></svg>a batch begins</li>'
        )
    return f'<ul class="legend">{"".join(entries)}<li class="hint">point at a bar to read its step</li></ul>\n'


def _ending(story: RunStory) -> str:
    """Why the whole run ended early, where it did."""
    result = story.result or {}
    told = str(result.get("error") or result.get("ended") or "")
    return f'<p class="facts bad">ended early: {escape(told)}</p>\n' if told else ""


def _failures(story: RunStory) -> str:
    """Hosts that ended badly, those that are down first; equal causes are told once."""
    causes: dict[tuple[str, str], list[str]] = {}
    for outcome in BAD:
        for host in story.hosts.values():
            if host.outcome == outcome:
                causes.setdefault((outcome, _why(host)), []).append(host.name)
    told = [
        f'<tr><th>{escape(outcome)}</th><td>{escape(fold(names))}</td><td class="why">{escape(why)}</td></tr>'
        for (outcome, why), names in causes.items()
    ]
    return f'<table class="failures">{"".join(told)}</table>\n' if told else ""


def _why(host: HostStory) -> str:
    text = host.message or (host.broke.error if host.broke else "")
    return text + (f"\nnext: {host.hint}" if host.hint else "")


def _state(story: RunStory) -> str:
    if story.state != "finished":
        return story.state
    return {0: "finished, all well", 130: "interrupted"}.get(story.exit_code or 0, "finished with failures")


def _tone(story: RunStory) -> str:
    return "good" if story.state == "running" or story.exit_code == 0 else "bad"


def _tick(seconds: int) -> str:
    if seconds < 60:
        return f"{seconds} s"
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    words = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", f"{seconds} s" if seconds else ""]
    return " ".join(word for word in words if word)


def _clock(at: float) -> str:
    return re.sub(r"T(.*?)(\.\d+)?Z$", r" \1 UTC", iso(at))
