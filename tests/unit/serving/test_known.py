"""Garbage is called by its name, and known answers are judged as the inventory means them."""

import pytest

from fleet.inventory.settings import Expect, Known
from fleet.serving.known import garbage, mistakes, needed, right


@pytest.mark.parametrize(
    ("text", "finish", "said"),
    [
        ("", "stop", "an empty answer"),
        (" \n", "length", "an empty answer"),
        ("!" * 16, "length", "nothing but exclamation marks (!!!!!!!!!!!!!!!!): token 0 over and over"),
        ("\ufffd \ufffd", "length", "bytes that are no text"),
        ("aaaaaaaa", "stop", "the character 'a' over and over"),
        ("the " * 8, "length", "'the' over and over"),
        (" foo bar" * 9, "length", "'foo bar' over and over"),
        ("Paris", "", "no finish_reason: the answer stopped after 'Paris'"),
    ],
)
def test_each_kind_of_garbage_has_words_of_its_own(text: str, finish: str, said: str) -> None:
    assert garbage(text, (text,), finish).startswith(said)


@pytest.mark.parametrize("text", [" Paris.", "4", "!", "no", "ha ha ha", "aaa", "1, 2, 3, 4, 5, 6, 7, 8, 9"])
def test_short_and_regular_answers_are_no_garbage(text: str) -> None:
    assert garbage(text, tuple(text.split()), "stop") == ""


def test_one_token_over_and_over_is_seen_in_the_pieces_too() -> None:
    assert garbage("ab\nab ab  ab ab ab ab\tab", ("ab",) * 8, "length") == "'ab' over and over"


@pytest.mark.parametrize(
    ("expect", "answer", "good"),
    [
        (Expect(begins=("Paris",)), " paris, of course", True),
        (Expect(begins=("Par",)), " Paris", False),
        (Expect(begins=("4",)), "42", False),
        (Expect(begins=("4", "four")), " Four.", True),
        (Expect(contains="seine"), "on the Seine", True),
        (Expect(contains="Thames"), "on the Seine", False),
        (Expect(regex=r"^\s*(4|four)\b"), " four", True),
        (Expect(regex=r"a.b"), "a\nb", True),
        (Expect(regex=r"^b"), "ab", False),
    ],
)
def test_expectations(expect: Expect, answer: str, good: bool) -> None:
    assert right(Known("p", expect), answer) is good


def test_case_matters_where_it_is_said_to() -> None:
    assert not right(Known("p", Expect(begins=("Paris",)), case=True), "paris")


def test_the_pass_rule_rounds_shares_up() -> None:
    assert [needed(rule, 3) for rule in ("all", "1", "3", "50%", "67%", "100%", "1%")] == [3, 1, 3, 2, 3, 3, 1]


def test_a_mistake_says_prompt_expected_and_got_in_one_short_line() -> None:
    known = (Known("P", Expect(begins=("a", "b"))), Known("Q", Expect(contains="x")), Known("R", Expect(regex="x+")))
    told = list(map(str, mistakes(known, {"P": "no\n" * 50, "Q": "y", "R": "xx"})))
    assert told[0].startswith("to 'P' expected 'a' or 'b', got 'no no no")
    assert len(told[0]) < 120
    assert told[1:] == ["to 'Q' expected something with 'x', got 'y'"]
