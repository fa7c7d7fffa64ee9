"""Pages in a real browser: what is in them is laid out, seen, and of the page alone."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fleet.report.night_page import page
from tests.unit.report.test_night_page import DOCUMENT, night

BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium") or "chromium-headless-shell"
# What the browser made of the page, told in the page itself: it has no script of its own.
MEASURE = """<script>
addEventListener("load", () => {
  const box = one => { const b = one.getBoundingClientRect(); return [b.left, b.right, b.width, b.height]; };
  const told = document.createElement("pre");
  told.id = "measured";
  told.textContent = JSON.stringify({
    width: innerWidth, whole: document.documentElement.scrollWidth,
    drawings: [...document.querySelectorAll("svg")].map(box),
    bars: [...document.querySelectorAll("svg rect")].map(box),
    titles: [...document.querySelectorAll("h1, h2")].map(one => [one.textContent, ...box(one)]),
    loaded: performance.getEntriesByType("resource").map(one => one.name),
  });
  document.body.append(told);
});
</script>"""


def measured(path: Path, folder: Path, width: int) -> dict[str, Any]:
    argv = (
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={folder}",
        f"--window-size={width},1200", "--dump-dom", path.as_uri(),
    )  # fmt: skip
    dom = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout
    found = re.search(r'<pre id="measured">(.*?)</pre>', dom, re.DOTALL)
    assert found, dom[-2000:]
    values: dict[str, Any] = json.loads(html.unescape(found[1]))
    return values


@pytest.mark.parametrize("width", [1280, 800])
def test_a_nights_report_is_laid_out_and_loads_nothing(tmp_path: Path, width: int) -> None:
    text = page(DOCUMENT, [night(f"202611{day:02d}-1", 50.0 + day) for day in range(1, 31)])
    path = tmp_path / "report.html"
    path.write_text(text.replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    seen = measured(path, tmp_path / "profile", width)
    assert seen["loaded"] == []
    assert seen["whole"] <= seen["width"], "the page is wider than its window"
    assert len(seen["drawings"]) == 4
    for left, right, _, height in seen["drawings"]:
        assert 0 <= left < right <= seen["width"]
        assert height > 50
    assert sum(wide > 0 and high > 0 for _, _, wide, high in seen["bars"]) >= 30 * 3
    titles = [name for name, *_ in seen["titles"]]
    assert titles[0] == "Night 20261124-023000-000-abcd"
    assert {
        "What changed upstream since last good",
        "Disks, and what was pruned",
        "Changed under the services since it was last accepted",
    } <= {*titles}
    assert all(height > 0 for *_, height in seen["titles"])
