"""Driver and ROCm: supported, contradicted or unknown, and never guessed."""

import pytest

from fleet.preflight.compat import below_minimum, driver_line, listed, minor_of, window


@pytest.mark.parametrize(
    ("version", "line"),
    [
        ("6.12.12", "6.4"),
        ("6.14.14-2204008.24.04", "30.10"),
        ("6.16.13", "30.30"),
        ("6.19.14.31400000", "31.40"),
        ("6.19.14.31500000", "31.50"),
        ("5.0.0", None),
        ("nonsense", None),
    ],
)
def test_a_modules_version_names_its_release(version: str, line: str | None) -> None:
    assert driver_line(version) == line


@pytest.mark.parametrize(
    ("version", "rocm", "answer"),
    [
        ("6.12.12", "7.2.1", "supported"),
        ("6.12.12", "7.14", "contradicted"),
        ("6.12.12", "7.1", "unknown"),
        ("6.12.12", "10.0", "unknown"),
        ("6.8.5", "7.2", "contradicted"),
        ("6.10.5", "7.2.3", "unknown"),
        ("6.16.6", "6.4", "unknown"),
        ("6.16.6", "7.2", "supported"),
        ("6.19.14.31400000", "7.14.0", "supported"),
        ("6.19.14.31400000", "7.2", "unknown"),
        ("6.19.14.31500000", "7.14", "unknown"),
        ("1.2.3", "7.2", "unknown"),
        ("6.12.12", "soon", "unknown"),
    ],
)
def test_pairs(version: str, rocm: str, answer: str) -> None:
    assert window(version, rocm) == answer


def test_words_for_people() -> None:
    assert "7.2" in listed("6.12.12")
    assert listed("1.2.3") == ()
    assert minor_of("7.2.3-complete") == "7.2"


def test_minimum_versions() -> None:
    assert "6.3" in below_minimum("6.2.4", ())
    assert "gfx950" in below_minimum("6.4.1", ("gfx942", "gfx950"))
    assert below_minimum("10.0", ("gfx950",)) == ""
    assert below_minimum("unheard of", ()) == ""
