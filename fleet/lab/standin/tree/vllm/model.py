"""The model's directory and what its config.json demands."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODELS = Path("/app/models")


class ConfigError(Exception):
    """The last line of the traceback with which vLLM refuses a model."""


@dataclass(frozen=True)
class Model:
    """`longest` in tokens."""

    tag: str
    directory: Path
    architecture: str
    longest: int
    size: int


def directory_of(tag: str) -> Path | None:
    """A path as it stands, or a name below /app/models."""
    return next((path for path in (Path(tag), MODELS / tag) if path.is_dir()), None)


def load(tag: str, arguments: argparse.Namespace) -> Model:
    """Raises ConfigError in the words of transformers or vLLM."""
    directory = directory_of(tag)
    if directory is None:
        if tag.startswith("/"):
            raise ConfigError(
                f"huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
                f"'namespace/repo_name': '{tag}'. Use `repo_type` argument if needed."
            )
        raise ConfigError(
            "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the "
            f"cached files. {tag} is not the path to a directory containing a file named config.json."
        )
    try:
        config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    except OSError as error:
        raise ConfigError(
            f"ValueError: Invalid repository ID or local directory specified: '{directory}'. "
            "Please verify that it holds a config.json."
        ) from error
    except ValueError as error:
        raise ConfigError(f"OSError: It looks like '{directory}/config.json' is not a valid JSON file.") from error
    heads, parallel = int(config.get("num_attention_heads", 1)), arguments.tensor_parallel_size
    if heads % parallel:
        raise ConfigError(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig: Value error, "
            f"Total number of attention heads ({heads}) must be divisible by tensor parallel size ({parallel})."
        )
    derived = int(config.get("max_position_embeddings", 2048))
    longest = arguments.max_model_len or derived
    if longest > derived:
        raise ConfigError(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig: Value error, "
            f"User-specified max_model_len ({longest}) is greater than the derived max_model_len "
            f"(max_position_embeddings={derived} or model_max_length=None in model's config.json)."
        )
    size = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    return Model(tag, directory, (config.get("architectures") or ["LlamaForCausalLM"])[0], longest, size)
