"""The content key changes with every ingredient and with nothing else."""

import hashlib
from dataclasses import replace

import pytest

from fleet.image.content_key import Ingredients, content_key

BASE = Ingredients(
    commit="1" * 40,
    dockerfile="FROM scratch\n",
    target="final",
    args={"A": "1", "B": "2"},
    base="sha256:" + "b" * 64,
    gfx=("gfx942", "gfx90a"),
    patches=("c" * 64, "d" * 64),
)


def test_is_made_exactly_as_documented() -> None:
    dockerfile = hashlib.sha256(b"FROM scratch\n").hexdigest()
    text = (
        f'{{"args":{{"A":"1","B":"2"}},"base":"sha256:{"b" * 64}","commit":"{"1" * 40}","dockerfile":"{dockerfile}",'
        f'"gfx":["gfx90a","gfx942"],"patches":["{"c" * 64}","{"d" * 64}"],"schema":1,"target":"final"}}'
    )
    assert content_key(BASE) == hashlib.sha256(text.encode()).hexdigest()[:20]


def test_is_the_same_next_year() -> None:
    assert content_key(BASE) == "a473e53c6f080e88e847"


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, commit="2" * 40),
        replace(BASE, dockerfile="FROM scratch\n\n"),
        replace(BASE, target="vllm-openai"),
        replace(BASE, args={"A": "1"}),
        replace(BASE, args={"A": "1", "B": "3"}),
        replace(BASE, base=""),
        replace(BASE, gfx=("gfx942",)),
        replace(BASE, patches=("d" * 64, "c" * 64)),
    ],
)
def test_every_ingredient_counts(other: Ingredients) -> None:
    assert content_key(other) != content_key(BASE)


def test_the_order_of_arguments_and_targets_does_not_count() -> None:
    same = replace(BASE, args={"B": "2", "A": "1"}, gfx=("gfx90a", "gfx942", "gfx942"))
    assert content_key(same) == content_key(BASE)
