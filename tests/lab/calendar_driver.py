"""`fleet` on another day: the date of names and of what is old, and nothing else, is so many seconds off as FILE says.

    python -P tests/lab/calendar_driver.py FILE WORD...

WORD... is what an operator types behind `fleet`.
"""

import sys
import time
from pathlib import Path

from fleet import calendar
from fleet.program import main

if __name__ == "__main__":
    file, *words = sys.argv[1:]
    offset = float(Path(file).read_text(encoding="utf-8"))
    calendar.now = lambda: time.time() + offset
    sys.argv = ["fleet", *words]
    main()
