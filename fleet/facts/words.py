"""Small readers that every parser here shares. What they cannot read is None or empty; they never raise."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

# Neither --max-num-batched-tokens nor --tokenizer is a secret.
_NAME = r"[\w-]*(?:api[-_]?key|(?:api|auth|access|hf|hub)[-_]?tokens?|token(?!s|iz)|passw(?:or)?d|secret)[\w-]*"
_SECRET = re.compile(rf"^--?{_NAME}$", re.IGNORECASE)
_PAIR = re.compile(rf"^(--?{_NAME}=|{_NAME}=|\w*_?KEY=)(?!$).*", re.IGNORECASE | re.DOTALL)
_SECRET_IN_TEXT = re.compile(rf"""(--?{_NAME}(?:=|\x1f|",\s*"| )|\b{_NAME}=|\b\w*_?KEY=)[^\x1f"\s]+""", re.IGNORECASE)
# Secrets that show by their own form: credentials in a URL, bearer tokens, tokens of Hugging Face and OpenAI.
_SHAPES = (
    (re.compile(r"(://[^/\s:@\x1f\"]*):[^/\s@\x1f\"]+@"), r"\1:***@"),
    (re.compile(r"(\bBearer[ \x1f])[^\s\x1f\"']+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\b(?:hf_|sk-)[A-Za-z0-9_-]{16,}"), "***"),
)
_DECIMAL = re.compile(r"\s*-?[0-9]+\s*")
_HEXADECIMAL = re.compile(r"\s*(?:0x)?[0-9a-fA-F]+\s*")
_LARGEST = 1 << 64  # no counter of the kernel is larger; what is comes from a damaged file


def integer(text: str | None, base: int = 10) -> int | None:
    """A whole number between -2^64 and 2^64, or None for anything else. ASCII digits only, as a kernel prints them."""
    if text is None or len(text) > 64:
        return None
    plain = base == 10 and text.isascii() and text.isdigit()  # nearly all of a topology's thousands are
    if not plain and (_DECIMAL if base == 10 else _HEXADECIMAL).fullmatch(text) is None:
        return None
    value = int(text, base)
    return value if abs(value) < _LARGEST else None


def natural(text: str | None, base: int = 10) -> int | None:
    """A whole number that is not negative, or None."""
    value = integer(text, base)
    return None if value is None or value < 0 else value


def decimal(text: str) -> float | None:
    """The number at the beginning of a text (`16.0 GT/s PCIe`), or None."""
    match = re.match(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)", text)
    return float(match[1]) if match else None


def json_object(text: str) -> dict[str, Any]:
    """A JSON object; an empty one for anything else, however deep or damaged."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def mapping(value: object) -> Mapping[str, Any]:
    """The value where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> Sequence[Any]:
    """The value where it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else ()


def word(value: object) -> str | None:
    """The value where it is a text with something in it."""
    return value if isinstance(value, str) and value else None


def redact(argv: Sequence[str]) -> str:
    """A command line for people to read: quoted, cut at 2,000 characters, with secrets as ***."""
    shown, hide = [], False
    for text in argv:
        pair = _PAIR.match(text)
        shown.append("***" if hide else f"{pair[1]}***" if pair else shlex.quote(_shapes(text)))
        hide = _SECRET.match(text) is not None
    return " ".join(shown)[:2000]


def scrub(text: str) -> str:
    """The probe's raw text without the secrets that command lines may hold, before it is kept in a file."""
    return _shapes(_SECRET_IN_TEXT.sub(r"\1***", text))


def _shapes(text: str) -> str:
    for pattern, instead in _SHAPES:
        text = pattern.sub(instead, text)
    return text
