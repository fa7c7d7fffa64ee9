"""Small readers that every parser here shares."""

import re
import shlex
from collections.abc import Sequence

_SECRET = re.compile(r"^--?[\w-]*(?:api[-_]?key|token|password|secret)[\w-]*$", re.IGNORECASE)
_SECRET_PAIR = re.compile(
    r"^(--?[\w-]*(?:api[-_]?key|token|password|secret)[\w-]*=|\w*(?:KEY|TOKEN|PASSWORD|SECRET)\w*=).+"
)


_NAME = r"[\w-]*(?:api[-_]?key|token|password|secret)[\w-]*"
_SECRET_IN_TEXT = re.compile(rf"""(--?{_NAME}(?:=|\x1f|",\s*"| )|\b{_NAME}=)[^\x1f"\s]+""", re.IGNORECASE)


def integer(text: str | None) -> int | None:
    """A whole number, or None for anything else."""
    if text is None or re.fullmatch(r"\s*-?\d+\s*", text) is None:
        return None
    return int(text)


def redact(argv: Sequence[str]) -> str:
    """A command line for people to read: quoted, cut at 2,000 characters, with secrets as ***."""
    shown, hide = [], False
    for word in argv:
        pair = _SECRET_PAIR.match(word)
        shown.append("***" if hide else f"{pair[1]}***" if pair else shlex.quote(word))
        hide = _SECRET.match(word) is not None
    return " ".join(shown)[:2000]


def scrub(text: str) -> str:
    """The probe's raw text without the secrets that command lines may hold, before it is kept in a file."""
    return _SECRET_IN_TEXT.sub(r"\1***", text)
