"""The date that goes into names, and by which files are old: of nights, runs and tags of releases.

One place, so that a test can let a month of nights go by in half an hour. What is compared with another machine's clock,
or measured, is asked of the real one.
"""

import time


def now() -> float:
    """In seconds since the epoch."""
    return time.time()
