"""Three small line charts as one self-contained SVG: CPU, memory and CPU for each call, over the size of the fleet."""

from collections.abc import Sequence

WIDTH, HEIGHT, GAP = 250, 180, 70  # of one chart, and around it
INK, LINE, LIMIT = "#24292f", "#0969da", "#cf222e"

Point = tuple[float, float]


def plot(rows: Sequence[tuple[int, float, float, int]]) -> str:
    """`rows` are (hosts, CPU seconds, MB, calls) of one roll each."""
    charts: tuple[tuple[str, Sequence[Point], Sequence[Point]], ...] = (
        ("CPU of a roll, s", [(hosts, cpu) for hosts, cpu, _, _ in rows], [(hosts, 0.3 * hosts) for hosts, *_ in rows]),
        ("memory, MB", [(hosts, mb) for hosts, _, mb, _ in rows], _from_first(rows)),
        (
            "CPU for each remote call, ms",
            [(hosts, 1000 * cpu / calls) for hosts, cpu, _, calls in rows],
            [(hosts, 10.0) for hosts, *_ in rows],
        ),
    )
    width, height = len(charts) * (WIDTH + GAP) + GAP // 2, HEIGHT + 2 * GAP
    body = "".join(_chart(GAP + number * (WIDTH + GAP), GAP // 2 + 10, *chart) for number, chart in enumerate(charts))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12" fill="{INK}"><title>What a roll costs the controller</title>'
        f'<rect width="{width}" height="{height}" fill="white"/>{body}'
        f'<text x="{GAP}" y="{height - 14}">x: hosts of the fleet; '
        f'<tspan fill="{LINE}">measured</tspan>, <tspan fill="{LIMIT}">limit</tspan></text></svg>\n'
    )


def _from_first(rows: Sequence[tuple[int, float, float, int]]) -> list[Point]:
    """One MB for each host beyond the smallest fleet."""
    return [(hosts, rows[0][2] + hosts - rows[0][0]) for hosts, *_ in rows] if rows else []


def _chart(left: int, top: int, title: str, measured: Sequence[Point], limit: Sequence[Point]) -> str:
    most_x = max(x for x, _ in measured)
    most_y = _round_up(max(y for _, y in (*measured, *limit)))

    def at(x: float, y: float) -> tuple[float, float]:
        return left + WIDTH * x / most_x, top + HEIGHT * (1 - y / most_y)

    parts = [f'<text x="{left}" y="{top - 12}" font-weight="bold">{title}</text>']
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = at(0, most_y * share)
        parts.append(f'<line x1="{x}" y1="{y:.1f}" x2="{left + WIDTH}" y2="{y:.1f}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">{most_y * share:g}</text>')
    for hosts, _ in measured:
        x, y = at(hosts, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{hosts:g}</text>')
    for points, colour, dashes in ((limit, LIMIT, ' stroke-dasharray="5 4"'), (measured, LINE, "")):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
    for x, y in (at(*point) for point in measured):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{LINE}"/>')
    return "".join(parts)


def _round_up(value: float) -> float:
    """The next of 4, 8, 12, 20, 40, 60, 80, 100 times a power of ten: quarters of it are round, too."""
    power = 1.0
    while value > 100 * power:
        power *= 10
    while value <= 4 * power:
        power /= 10
    return power * next(step for step in (8, 12, 20, 40, 60, 80, 100) if value <= step * power)
