"""docs/failures.md names tests that exist and words that the code has."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/failures.md"
LEAST = 9  # a shorter piece of a message is found anywhere and shows nothing


class Row(NamedTuple):
    what: str
    says: str
    exit: str
    test: str


def rows() -> list[Row]:
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    return [Row(*row) for row in cells if row[0] != "what" and not row[0].startswith("---")]


@cache
def source() -> str:
    """Everything that fleet may say, with the seams of its string literals closed."""
    files = [path for path in sorted((ROOT / "fleet").rglob("*")) if path.suffix in (".py", ".yaml")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return re.sub(r'"\s*\n\s*f?"', "", text)


@cache
def names_of_tests(path: str) -> frozenset[str]:
    """The names of the tests in a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_the_page_has_every_kind_of_failure() -> None:
    assert len(rows()) > 40
    assert {row.exit for row in rows()} == {"1", "2", "130", "–"}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.what)
def test_a_row_names_a_test_that_exists(row: Row) -> None:
    match = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", row.test)
    assert match is not None
    assert match[2] in names_of_tests(match[1])


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.what)
def test_a_row_quotes_words_that_the_code_has(row: Row) -> None:
    quoted = [piece.strip() for text in re.findall(r"`([^`]+)`", row.says) for piece in re.split("[…:;(),]", text)]
    assert [piece for piece in quoted if len(piece) >= LEAST and piece not in source()] == []
