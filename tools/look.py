"""Make sample timelines, and photograph them where there is a chromium: `python tools/look.py [FOLDER]` (`make look`).

Pictures are judged by eyes, not by tests. Debian: apt-get install chromium.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fleet.journal import read
from fleet.report import timeline
from tests.unit.report.stories import roll

SAMPLES = {
    "four": {"hosts": 4, "fail": (3,)},
    "killed": {"hosts": 12, "killed_at": 8},
    "running": {"hosts": 12, "fail": (2,), "killed_at": 8, "running": True},
    "many": {"hosts": 200, "fail": (17, 60, 61, 150)},
}


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "google-chrome"))), None)
    for name, sample in SAMPLES.items():
        with tempfile.TemporaryDirectory() as root:
            path = roll(Path(root), **sample)  # type: ignore[arg-type]  # a table of keyword arguments
            page = folder / f"{name}.html"
            page.write_text(timeline.render(read(Path(root), path.name)), encoding="utf-8")
        print(page)  # noqa: T201  a tool
        for scheme in ("light", "dark") if browser else ():
            print(photograph(str(browser), page, scheme))  # noqa: T201  a tool
    if not browser:
        print("no chromium here: open the pages yourself")  # noqa: T201  a tool
    return 0


def photograph(browser: str, page: Path, scheme: str) -> Path:
    """A PNG of the page in one colour scheme."""
    picture = page.with_name(f"{page.stem}-{scheme}.png")
    height = 3600 if page.stem == "many" else 900
    dark = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0") if scheme == "dark" else ()
    with tempfile.TemporaryDirectory() as profile:
        argv = (
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
            f"--window-size=1360,{height}", *dark, f"--screenshot={picture}", page.absolute().as_uri(),
        )  # fmt: skip
        subprocess.run(argv, check=True, capture_output=True, timeout=120)
    return picture


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/look")))
