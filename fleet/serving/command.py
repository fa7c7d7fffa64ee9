"""The vLLM command line of a replica, fitted to the image's ENTRYPOINT. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from fleet.inventory.settings import Service
from fleet.serving.placement import Replica

MODELS = "/app/models"
SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh"})
API_MODULE = "vllm.entrypoints.openai.api_server"
MEMORY_SHARE = 0.9  # of a GPU, vLLM's own default of gpu-memory-utilization
OWN_FLAGS = {"port": "port", "host": "host", "served-model-name": "served_name"}  # flags that are settings of a service


@dataclass(frozen=True)
class Command:
    """`entrypoint` None leaves the image's own in place. `whole` is all that runs, the image's part included."""

    entrypoint: tuple[str, ...] | None
    arguments: tuple[str, ...]
    whole: tuple[str, ...]
    note: str = ""


def serve_arguments(service: Service, replica: Replica) -> tuple[str, ...]:
    """What follows `vllm serve`: the model first, then our flags, then the inventory's in its order."""
    args = {flag: value for flag, value in service.args.items() if not _is_auto(flag, value)}
    taken = {flag.replace("_", "-") for flag in args}
    ours: dict[str, object] = {
        "served-model-name": service.served_name or service.model,
        "host": service.host,
        "port": replica.port,
        "tensor-parallel-size": replica.tensor_parallel,
    }
    own = {flag: value for flag, value in ours.items() if flag not in taken}
    return (f"{MODELS}/{service.model}", *_flags(own), *_flags(args))


def _is_auto(flag: str, value: object) -> bool:
    """Ours to fill in: vLLM knows no such word there."""
    return flag.replace("_", "-") == "tensor-parallel-size" and value == "auto"


def problems(service: Service) -> tuple[str, ...]:
    """Arguments that belong elsewhere, because this program needs to know them or nobody else may."""
    found = []
    for flag in (name.replace("_", "-") for name in service.args):
        if flag == "api-key":
            found.append("args api-key would show in `docker inspect`: put VLLM_API_KEY under secrets")
        elif flag == "model":
            found.append("args model is the service's own `model`")
        elif flag in OWN_FLAGS:
            found.append(f"args {flag} is the service's own `{OWN_FLAGS[flag]}`: verification has to know it")
    return tuple(found)


def fit(entrypoint: tuple[str, ...], arguments: tuple[str, ...]) -> Command:
    """Put `arguments` of `vllm serve` behind an image's entrypoint.

    Images differ: vllm/vllm-openai-rocm has ["vllm", "serve"], rocm/vllm none or a shell, others a start script that
    runs what it is given, as most do.
    """
    last = PurePosixPath(entrypoint[-1]).name if entrypoint else ""
    if entrypoint[-2:] and last == "serve" and PurePosixPath(entrypoint[-2]).name == "vllm":
        return Command(None, arguments, (*entrypoint, *arguments))
    if last == "vllm":
        return Command(None, ("serve", *arguments), (*entrypoint, "serve", *arguments))
    if last == API_MODULE:
        named = ("--model", *arguments)
        return Command(None, named, (*entrypoint, *named))
    whole = ("vllm", "serve", *arguments)
    if not entrypoint:
        return Command(None, whole, whole)
    if last in SHELLS:
        note = f"the image's entrypoint {' '.join(entrypoint)} is a shell and is replaced by vllm serve"
        return Command(whole[:2], whole[2:], whole, note)
    note = f"the image's entrypoint {' '.join(entrypoint)} is taken to run the command it is given"
    return Command(None, whole, (*entrypoint, *whole), note)


def memory_share(words: Sequence[str]) -> float:
    """The gpu-memory-utilization of a vLLM command line: so much of each GPU has to be free when it starts."""
    text = ""
    for before, word in zip(("", *words), words, strict=False):
        if re.fullmatch(r"--gpu[-_]memory[-_]utilization", before):
            text = word
        elif found := re.fullmatch(r"--gpu[-_]memory[-_]utilization=(.*)", word):
            text = found[1]
    try:
        share = float(text)
    except ValueError:
        return MEMORY_SHARE
    return share if 0 < share <= 1 else MEMORY_SHARE


def _flags(args: Mapping[str, object]) -> list[str]:
    """A true value is a bare flag, false its `--no-` form, a list several words, a mapping JSON; null is left out."""
    words: list[str] = []
    for name, value in args.items():
        flag = f"--{name.lstrip('-')}"
        if value is None:
            continue
        if value is True:
            words.append(flag)
        elif value is False:
            words.append(f"--no-{name.lstrip('-')}")
        elif isinstance(value, list | tuple):
            words += [flag, *(_word(item) for item in value)]
        else:
            words += [flag, _word(value)]
    return words


def _word(value: object) -> str:
    if isinstance(value, Mapping):
        return json.dumps(dict(value), sort_keys=True)
    return str(value)
