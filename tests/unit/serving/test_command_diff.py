"""What differs between two command lines, as a person is told."""

import pytest

from fleet.serving.command_diff import differing

OLD = "vllm serve /m --served-model-name a b --port 8000 --tensor-parallel-size 8 --enable-prefix-caching"


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (OLD, []),
        (OLD.replace("size 8", "size 2"), [("--tensor-parallel-size 8", "--tensor-parallel-size 2")]),
        (OLD + " --max-num-seqs 7", [("", "--max-num-seqs 7")]),
        (OLD.replace(" --port 8000", ""), [("--port 8000", "")]),
        (OLD.replace("a b", "a c"), [("--served-model-name a b", "--served-model-name a c")]),
        (OLD.replace("/m", "/n").replace("8000", "8001"), [("/m", "/n"), ("--port 8000", "--port 8001")]),
        ("sleep 1000", [(OLD, "sleep 1000")]),
        (OLD + " --api-key abc", [("", "--api-key ***")]),
        (OLD + " --hf-token=abc", [("", "--hf-token=***")]),
        (OLD + " --max-num-batched-tokens 9 --tokenizer x", [("", "--max-num-batched-tokens 9 --tokenizer x")]),
    ],
)
def test_only_options_that_differ_are_told(new: str, told: list[tuple[str, str]]) -> None:
    assert list(differing(OLD.split(), new.split())) == told
