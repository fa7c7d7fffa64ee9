"""What a person's word for a commit means."""

import pytest

from fleet.errors import FleetError
from fleet.image.git import hint, reason
from fleet.image.git_refs import parse, pick
from fleet.image.source import explain_apply

A, B, C, D, E = (letter * 40 for letter in "abcde")
LISTING = f"""{A}\tHEAD
{A}\trefs/heads/main
{B}\trefs/heads/v0.11.0-fixes
{C}\trefs/tags/v0.11.0
{D}\trefs/tags/v0.11.0^{{}}
{E}\trefs/pull/7/head
"""
REFS = parse(LISTING)


@pytest.mark.parametrize(
    ("wanted", "commit"),
    [
        ("main", A),
        ("HEAD", A),
        ("v0.11.0", D),
        ("refs/tags/v0.11.0", D),
        ("pull/7/head", E),
        ("bbbbbbb", B),
        ("1" * 40, "1" * 40),
    ],
)
def test_a_word_means_its_commit(wanted: str, commit: str) -> None:
    assert pick(REFS, wanted, "vllm.git") == commit


def test_an_unknown_ref_names_near_ones() -> None:
    with pytest.raises(FleetError) as caught:
        pick(REFS, "v0.11.1", "vllm.git")
    assert caught.value.message == "vllm.git has no ref 'v0.11.1'"
    assert caught.value.hint == "near: v0.11.0, v0.11.0-fixes"


def test_an_unknown_abbreviation_asks_for_all_digits() -> None:
    with pytest.raises(FleetError, match="40 digits"):
        pick(REFS, "1234567", "vllm.git")


def test_gits_reason_is_its_first_fatal_line() -> None:
    text = "warning: x\nfatal: unable to access 'https://x/': Could not resolve host: x\nmore\n"
    assert reason(text) == "unable to access 'https://x/': Could not resolve host: x"
    assert "source.proxy" in hint(text)
    assert reason("") == "git gave no reason"


def test_a_failed_patch_names_file_and_line() -> None:
    text = "error: patch failed: vllm/engine.py:10\nerror: vllm/engine.py: patch does not apply\n"
    assert explain_apply(text) == "its hunk at line 10 of vllm/engine.py does not apply"
    assert explain_apply("error: gone.py: No such file or directory\n") == "gone.py: No such file or directory"
