"""Models: which files a directory holds, which it should hold, and how large they are."""

import pytest

from fleet.facts import parse
from fleet.facts.model import Model


def model(weights: str | None, shards: str = "", config: str = "") -> Model:
    text = "T start 1\nT models\nconfig weights big\n"
    text += f"T configs\nbig/config.json:{config}\n" if config else ""
    text += f"T weights\n{weights}\nT shards\n{shards}\n" if weights is not None else ""
    (found,) = parse(text + "T end\n").models or ()
    return found


def parts(*numbers: int, of: int = 3, kind: str = "safetensors") -> str:
    return "\n".join(f"10 ./big/model-{number:05d}-of-{of:05d}.{kind}" for number in numbers)


def index(*numbers: int, of: int = 3, total: int = 30) -> str:
    name = "./big/model.safetensors.index.json"
    files = [f'{name}:"model-{number:05d}-of-{of:05d}.safetensors"' for number in numbers]
    return "\n".join([*files, f'{name}:"total_size": {total}'])


def test_a_whole_model_lacks_nothing() -> None:
    found = model(parts(1, 2, 3), index(1, 2, 3))
    assert (found.missing, found.weights_bytes, found.index_bytes) == ((), 30, 30)


def test_shards_that_the_index_lists_and_nobody_has_are_named() -> None:
    found = model(parts(1, 3), index(1, 2, 3))
    assert found.missing == ("model-00002-of-00003.safetensors",)
    assert found.weights_bytes == 20


@pytest.mark.parametrize("kind", ["safetensors", "bin", "gguf"])
def test_without_an_index_the_numbers_in_the_names_tell(kind: str) -> None:
    assert model(parts(1, 3, kind=kind)).missing == (f"model-00002-of-00003.{kind}",)
    assert model(parts(1, 2, 3, kind=kind)).missing == ()


def test_the_index_of_a_format_that_was_left_out_does_not_count() -> None:
    bins = './big/pytorch_model.bin.index.json:"pytorch_model-00001-of-00002.bin"'
    assert model("99 ./big/model.safetensors", bins).missing == ()


def test_of_two_sets_of_weights_the_whole_one_counts() -> None:
    found = model(parts(1, 2, 3) + "\n30 ./big/consolidated.safetensors", index(1, 2, 3))
    assert (found.missing, found.weights_bytes) == ((), 30)
    assert model(parts(1) + "\n30 ./big/consolidated.safetensors").missing == ()


def test_what_training_leaves_behind_is_no_model() -> None:
    found = model(parts(1, 3, kind="bin") + "\n5 ./big/training_args.bin")
    assert found.missing == ("model-00002-of-00003.bin",)


def test_files_that_could_not_be_listed_are_unknown_and_not_missing() -> None:
    found = model(None)
    assert (found.missing, found.weights_bytes) == (None, None)


def test_an_index_alone_tells_the_size_of_what_has_to_come() -> None:
    found = model("", index(1, 2, 3, total=140))
    assert (found.index_bytes, found.weights_bytes) == (140, 0)
    assert found.missing is not None
    assert len(found.missing) == 3


def test_the_type_of_the_weights_is_known() -> None:
    assert model("", config='{"torch_dtype": "float32"}').dtype == "float32"
    nested = model("", config='{"text_config": {"dtype": "bfloat16"}, "num_attention_heads": true}')
    assert (nested.dtype, nested.attention_heads) == ("bfloat16", None)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, '{"num_attention_heads": -4}', "[]", "NaN"], ids=range(5)
)
def test_configs_that_are_none_tell_nothing(text: str) -> None:
    assert model("", config=text).attention_heads is None
