"""The flags of `vllm serve` that operators use, refused as argparse refuses them."""

import argparse
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

TEXTS = (
    "allowed-origins", "chat-template", "chat-template-content-format", "compilation-config", "config-format",
    "download-dir", "generation-config", "hf-overrides", "kv-cache-dtype", "kv-transfer-config", "limit-mm-per-prompt",
    "load-format", "master-addr", "override-generation-config", "quantization", "reasoning-parser", "revision",
    "root-path", "speculative-config", "ssl-certfile", "ssl-keyfile", "tokenizer", "tool-call-parser",
    "uvicorn-log-level", "convert", "data-parallel-address", "model",
)  # fmt: skip
NUMBERS = (
    "api-server-count", "block-size", "data-parallel-rpc-port", "data-parallel-size-local", "long-prefill-token-threshold",
    "master-port", "max-num-batched-tokens", "max-num-seqs", "max-logprobs", "nnodes", "node-rank", "seed",
)  # fmt: skip
SWITCHES = (
    "async-scheduling", "disable-log-stats", "enable-auto-tool-choice", "enable-chunked-prefill",
    "enable-expert-parallel", "enable-log-requests", "enable-lora", "enable-prefix-caching", "enforce-eager", "headless",
    "trust-remote-code", "disable-custom-all-reduce", "enable-server-load-tracking",
)  # fmt: skip
CHOICES = {
    "dtype": ("auto", "bfloat16", "float", "float16", "float32", "half"),
    "runner": ("auto", "draft", "generate", "pooling"),
    "distributed-executor-backend": ("external_launcher", "mp", "ray", "uni"),
}
UNITS = {"k": 10**3, "K": 2**10, "m": 10**6, "M": 2**20}


def release() -> dict[str, Any]:
    """What this release does its own way: `flags` that only it has, `logs_api_key`, the `lines` of its log."""
    found: dict[str, Any] = json.loads(files(__package__).joinpath("release.json").read_text())
    return found


def parse(words: Sequence[str]) -> argparse.Namespace:
    """What follows `vllm serve`. Exits with 2 and argparse's words for what is not known."""
    parser = argparse.ArgumentParser(prog="vllm serve", usage="vllm serve [model_tag] [options]", allow_abbrev=False)
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--api-key", nargs="*")
    parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    parser.add_argument("--pipeline-parallel-size", "-pp", type=int, default=1)
    parser.add_argument("--data-parallel-size", "-dp", type=int, default=1)
    parser.add_argument("--max-model-len", type=length)
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.9)
    parser.add_argument("--cpu-offload-gb", type=float, default=0.0)
    for name, choices in CHOICES.items():
        parser.add_argument(f"--{name}", choices=choices)
    for name in (*TEXTS, *release()["flags"]):
        parser.add_argument(f"--{name}")
    for name in NUMBERS:
        parser.add_argument(f"--{name}", type=int)
    for name in SWITCHES:
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    return parser.parse_args([dashed(word) for word in words])


def dashed(word: str) -> str:
    """`--max_model_len=1` is `--max-model-len=1`, as vLLM's own parser has it."""
    name, mark, value = word.partition("=")
    return name.replace("_", "-") + mark + value if word.startswith("--") else word


def length(text: str) -> int:
    """32768, 32k (thousands) or 32K (1024s)."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"invalid human_readable_int value: {text!r}")
    return int(float(found[1]) * UNITS.get(found[2], 1))


def named(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given other than the defaults, as vLLM logs it."""
    usual = vars(parse(()))
    return {name: value for name, value in vars(arguments).items() if value != usual[name]}
