"""A Llama of some hundred kilobytes with random weights, as files: what a real engine loads, answers with and knows nothing.

The formats are Hugging Face's: config.json, tokenizer.json (a byte-level BPE without merges) and safetensors. The same
bytes come out every time, so that a model directory is only written when something changed.
"""

import json
import random
import struct
from functools import cache

NAME = "tiny-llama"
HIDDEN, INTERMEDIATE, HEADS, LAYERS, LONGEST = 128, 256, 4, 2, 2048  # heads of 32: vLLM's CPU kernels know none smaller
SEED = 20
UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
WORDS = (
    "the a of to in and is was for on as by with at from it that this be are or an not which have has had were but one "
    "city river house tree stone water light night morning winter summer road bridge garden window paper letter story "
    "small large old new long short good high early late open quiet green white black red north south east west first "
    "goes comes stands runs reads writes sings holds finds keeps turns opens grows falls rises shows gives takes makes"
)


@cache
def files() -> dict[str, bytes]:
    """File name -> content of a model directory."""
    vocabulary = _vocabulary()
    return {
        "config.json": _json(_config(len(vocabulary))),
        "generation_config.json": _json({"bos_token_id": 1, "eos_token_id": 2}),
        "tokenizer.json": _json(_tokenizer(vocabulary)),
        "tokenizer_config.json": _json(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": BEGIN,
                "eos_token": END,
                "unk_token": UNKNOWN,
                "model_max_length": LONGEST,
                "clean_up_tokenization_spaces": False,
            }
        ),
        "model.safetensors": _weights(len(vocabulary)),
    }


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _config(size: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "vocab_size": size,
        "max_position_embeddings": LONGEST,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
    }


def _vocabulary() -> dict[str, int]:
    """Token -> number. Printable ASCII takes in any prompt; whole words make an answer pleasant to look at.

    Byte-level BPE writes a space as Ġ. No token is a part of a character, so no answer holds half of one.
    """
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokens = [UNKNOWN, BEGIN, END, "Ġ", "Ċ", *letters, *(f"Ġ{word}" for word in WORDS.split() if len(word) > 1)]
    return {token: number for number, token in enumerate(tokens)}


def _tokenizer(vocabulary: dict[str, int]) -> dict[str, object]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary[token], "content": token, **plain} for token in (UNKNOWN, BEGIN, END)],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }


def _shapes(size: int) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape, as LlamaForCausalLM calls them."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (size, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        found |= {f"{prefix}self_attn.{kind}_proj.weight": (HIDDEN, HIDDEN) for kind in "qkvo"}
        found |= {f"{prefix}mlp.{kind}_proj.weight": (INTERMEDIATE, HIDDEN) for kind in ("gate", "up")}
        found[f"{prefix}mlp.down_proj.weight"] = (HIDDEN, INTERMEDIATE)
        found |= {f"{prefix}{kind}_layernorm.weight": (HIDDEN,) for kind in ("input", "post_attention")}
    return found | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (size, HIDDEN)}


def _weights(size: int) -> bytes:
    """The safetensors format: the header's length in 8 bytes, the header, then all numbers as bfloat16."""
    dice = random.Random(SEED)  # noqa: S311  weights, no secret
    header: dict[str, dict[str, object]] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, shape in _shapes(size).items():
        begin = len(body)
        if len(shape) == 1:
            body += _bfloat16(1.0) * shape[0]
        elif name == "lm_head.weight":  # the three special tokens are never the answer
            body += bytes(3 * 2 * HIDDEN)
            body += b"".join(_bfloat16(dice.gauss(0.0, 1.0)) for _ in range((shape[0] - 3) * shape[1]))
        else:
            spread = shape[1] ** -0.5 if name.startswith("model.layers") else 1.0
            body += b"".join(_bfloat16(dice.gauss(0.0, spread)) for _ in range(shape[0] * shape[1]))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, len(body)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers begin at a multiple of eight
    return struct.pack("<Q", len(text)) + text + bytes(body)


def _bfloat16(value: float) -> bytes:
    """The upper half of a little-endian float32."""
    return struct.pack("<f", value)[2:]
