"""What an image must say of itself before it leaves the builder."""

import json

import pytest

from fleet.image.smoke import SmokeError, gfx_of, judge

FIT = ("i:t", "0.11.0", "0.11.0\n", "6.4.3", ("gfx90a", "gfx942"), ("gfx942",))


def test_a_fit_image_tells_its_versions() -> None:
    assert judge(*FIT).rocm == "6.4.3"
    assert judge("i:t", "0.11.0", "vllm 0.11.0", "6.4.3", (), ("gfx942",)).gfx == ()


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (1, "", "no version"),
        (2, "0.10.2\n", "its package 0.11.0"),
        (3, "", "is empty"),
        (5, ("gfx950",), "not for gfx950"),
    ],
)
def test_an_unfit_image_is_refused(place: int, value: object, said: str) -> None:
    words = [*FIT]
    words[place] = value  # type: ignore[call-overload]  # one of the positions by number
    with pytest.raises(SmokeError, match=said):
        judge(*words)  # type: ignore[arg-type]  # mixed on purpose


def test_gfx_targets_are_read_from_the_environment() -> None:
    assert gfx_of(json.dumps(["A=1", "PYTORCH_ROCM_ARCH=gfx90a;gfx942"])) == ("gfx90a", "gfx942")
    assert gfx_of("null") == gfx_of("") == ()
