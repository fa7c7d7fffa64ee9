"""Ratios of two figures of one run, each with its target, and all of them drawn as bars in one SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

ROW, LEFT, WIDTH, RIGHT = 30, 390, 300, 150  # pixels
GOOD, BAD, INK = "#1a7f37", "#c0392b", "#24292f"


@dataclass(frozen=True)
class Ratio:
    """`at_most`: the target is a limit from above, otherwise one from below."""

    what: str
    value: float
    target: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.target if self.at_most else self.value >= self.target

    def __str__(self) -> str:
        bound = "at most" if self.at_most else "at least"
        return f"{self.value:.2f} x, target {bound} {self.target:g}: {'met' if self.met else 'NOT MET'}"


def drawn(rows: Sequence[Ratio], title: str) -> str:
    """A bar for each, as long as the ratio to its target; the line in the middle is the target."""
    height = ROW * len(rows) + 80
    middle = LEFT + WIDTH / 2
    marks = [f'<text x="12" y="26" font-weight="bold">{escape(title)}</text>']
    for number, row in enumerate(rows):
        y = 44 + number * ROW
        length = min(row.value / row.target, 2.0) * WIDTH / 2
        marks.append(
            f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end">{escape(row.what)}</text>'
            f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="19" fill="{GOOD if row.met else BAD}"/>'
            f'<text x="{LEFT + WIDTH + 10}" y="{y + 14}">{row.value:.2f} ({"≤" if row.at_most else "≥"} {row.target:g})</text>'
        )
    end = 44 + len(rows) * ROW
    marks.append(f'<line x1="{middle}" x2="{middle}" y1="36" y2="{end}" stroke="{INK}" stroke-dasharray="4 3"/>')
    marks.append(f'<text x="{middle}" y="{end + 18}" text-anchor="middle">target</text>')
    width = LEFT + WIDTH + RIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" '
        f'fill="{INK}"><rect width="{width}" height="{height}" fill="white"/>{"".join(marks)}</svg>\n'
    )
