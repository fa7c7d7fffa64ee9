"""The picture of a run: one well-formed page that needs nothing else and means what the journal says."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from fleet.journal import Journal, RunHeader, RunStory, read
from fleet.report import timeline
from tests.unit.report.stories import Clock, Effect, die, roll

SVG = {"svg": "http://www.w3.org/2000/svg"}


def picture(page: str) -> ET.Element:
    """The drawing itself; the legend's swatches come before it."""
    found = re.search(r'<div class="scroll">(<svg.*</svg>)</div>', page, re.DOTALL)
    assert found
    return ET.fromstring(found.group(1))  # noqa: S314  our own page


def texts(drawing: ET.Element, css: str) -> list[str]:
    return ["".join(one.itertext()) for one in drawing.iter("text") if css in (one.get("class") or "").split()]


def story_of(tmp_path: Path, host: str, message: str = "") -> RunStory:
    clock = Clock()
    header = RunHeader("deploy", ("deploy", "<i>"), (host,))
    journal = Journal.open(tmp_path, header, redact=str, clock=clock.wall, monotonic=clock.monotonic)

    def work() -> None:
        clock.now += 3.0
        if message:
            raise RuntimeError(message)

    if message:
        with pytest.raises(RuntimeError):
            journal.perform(host, Effect("Start", "start <b>", 'why & "so"'), work)
        journal.host_done(host, "failed", message=message, hint="<script>")
        journal.finish(1)
    else:
        journal.perform(host, Effect("Start", "start", "why"), work)
        die(journal)
    return read(tmp_path)


@pytest.mark.parametrize("hosts", [1, 4, 30, 200])
def test_every_host_has_a_row_and_every_step_a_bar(tmp_path: Path, hosts: int) -> None:
    roll(tmp_path, hosts, fail=(hosts,))
    story = read(tmp_path)
    drawing = picture(timeline.render(story))
    assert len(texts(drawing, "host")) == len(texts(drawing, "outcome")) == hosts
    bars = [one for one in drawing.iter("rect") if "bar" in (one.get("class") or "").split()]
    assert len(bars) == sum(len(host.steps) for host in story.hosts.values())
    assert texts(drawing, "bad")[-1].endswith("failed")


def test_the_page_needs_nothing_from_outside_and_runs_nothing(tmp_path: Path) -> None:
    roll(tmp_path, 4, fail=(2,))
    page = timeline.render(read(tmp_path))
    assert not re.findall(r"<script|<link|<img|<iframe|@import|(?:src|href)=|https?:", page)
    assert re.findall(r"url\(([^)]*)\)", page) == ["#open"] * page.count("url(")


def test_names_and_messages_are_escaped(tmp_path: Path) -> None:
    page = timeline.render(story_of(tmp_path, '<b>"host"', "<b>broke</b> & died"))
    assert not re.findall(r"<(?:b>|i>|script)", page.replace('<b class="bad">✗</b>', ""))
    drawing = picture(page)
    assert texts(drawing, "host") == ['<b>"host"']


def test_a_failures_cross_is_drawn_above_every_bar_of_its_row(tmp_path: Path) -> None:
    roll(tmp_path, 4, fail=(2,))
    drawing = picture(timeline.render(read(tmp_path)))
    rows = [row for row in drawing.iter("g") if row.get("class") == "row"]
    crossed = [row for row in rows if row.findall("path")]
    assert len(crossed) == 1
    kinds = [one.tag for one in crossed[0]]
    assert kinds[-2:] == ["path", "path"]
    assert "path" not in kinds[:-2]


def test_what_the_run_has_not_come_to_is_said_so_whether_it_lives_or_not(tmp_path: Path) -> None:
    roll(tmp_path / "on", 12, killed_at=8, running=True)
    words = texts(picture(timeline.render(read(tmp_path / "on"))), "outcome")
    assert (words.count("– not begun"), words.count("… under way")) == (2, 1)
    roll(tmp_path / "off", 12, killed_at=8)
    words = texts(picture(timeline.render(read(tmp_path / "off"))), "outcome")
    assert (words.count("– not begun"), words.count("! cut off")) == (2, 1)


def test_bars_lie_within_the_axis_and_in_the_order_of_time(tmp_path: Path) -> None:
    roll(tmp_path, 5, fail=(3,))
    drawing = picture(timeline.render(read(tmp_path)))
    for row in (one for one in drawing.iter("g") if one.get("class") == "row"):
        bars = [one for one in row.iter("rect") if "bar" in (one.get("class") or "").split()]
        starts = [float(one.get("x") or 0) for one in bars]
        assert starts == sorted(starts)
        assert all(start + float(one.get("width") or 0) <= timeline.WIDTH - timeline.RIGHT + 2.1
                   for start, one in zip(starts, bars, strict=True))  # fmt: skip


def test_a_run_without_hosts_steps_or_length_is_still_a_picture(tmp_path: Path) -> None:
    Journal.open(tmp_path, RunHeader("deploy", (), ()), redact=str).finish(0)
    picture(timeline.render(read(tmp_path)))


def test_the_file_is_written_whole_into_the_runs_directory(tmp_path: Path) -> None:
    story = story_of(tmp_path, "a")
    path = timeline.write(story)
    assert path == story.path / "timeline.html"
    assert path.read_text() == timeline.render(story)
    assert not list(story.path.glob(".timeline*"))


@pytest.mark.parametrize(
    ("kind", "css"),
    [
        ("Pull", "image"), ("FreeVram", "stop"), ("Wait", "wait"), ("Verify", "verify"), ("Start", "start"),
        ("Rename", "tidy"), ("Undrain", "stop"), ("SomethingNew", "tidy"),
    ],
)  # fmt: skip
def test_steps_are_coloured_by_what_they_do(kind: str, css: str) -> None:
    assert timeline.category(kind) == css
