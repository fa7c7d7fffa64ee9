"""Does an image that was just built or brought start at all? Asked on the builder, without GPUs and without a network."""

import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.errors import FleetError
from fleet.image.describe import parse_versions, rocm_version
from fleet.image.machine import Machine
from fleet.image.watch import StalledError, spoken
from fleet.serving.command import MODELS, fit
from fleet.transport import Output

ROCM = "/opt/rocm/.info/version"
VERSIONS = "/app/versions.txt"
ARCH = "PYTORCH_ROCM_ARCH"
STALL = 1800.0  # seconds without a word: a first import over a slow disk takes minutes
_IMPORT = "import vllm; print('fleet-version', vllm.__version__)"
_HELP = (f"{MODELS}/smoke", "--help")  # what stands behind `vllm serve`: a model's place, and a flag that ends it
# vLLM's own words where it finds no device, which some releases ask for before they print their help (vllm#23967).
NO_DEVICE = "Failed to infer device type"


@dataclass(frozen=True)
class Said:
    """What the inventory says of an image by hand. `built`: we built it, so that it has to tell its ROCm itself."""

    gfx: tuple[str, ...] = ()
    rocm: str = ""
    built: bool = True


@dataclass(frozen=True)
class Smoke:
    """What the image said of itself; `notes` are what it does not say, in words."""

    version: str
    rocm: str
    gfx: tuple[str, ...]
    notes: tuple[str, ...] = ()


class SmokeError(FleetError):
    """The image was built and is not fit. `key` is its content key, set by whoever knows it."""

    key = ""


def smoke(machine: Machine, tag: str, gfx: Collection[str], said: Said) -> Smoke:
    """Import vLLM, ask its command for its version, run the entry point, read ROCm's version and the gfx list.

    Raises SmokeError.
    """
    imported = _ask(machine, tag, "python3", "-c", _IMPORT)
    version = next((line.split()[1] for line in imported.splitlines() if line.startswith("fleet-version ")), "")
    told = _ask(machine, tag, "vllm", "--version")
    config = config_of(machine.run(("docker", "image", "inspect", "--format", "{{json .Config}}", tag)).stdout)
    command = fit(tuple(config.get("Entrypoint") or ()), _HELP)
    head, *rest = (*(command.entrypoint or ("",)), *command.arguments)
    note = answered(tag, command.whole, _run(machine, tag, head, *rest))
    info = _run(machine, tag, "cat", ROCM)
    rocm = info.stdout.strip() if info.ok else ""
    if not rocm:
        versions = _run(machine, tag, "cat", VERSIONS)
        rocm = rocm_version({}, parse_versions(versions.stdout), "") if versions.ok else ""
    found = judge(tag, version, told, rocm, gfx_of(config), gfx, said)
    return Smoke(found.version, found.rocm, found.gfx, (*((note,) if note else ()), *found.notes))


def judge(
    tag: str, version: str, told: str, rocm: str, built: Collection[str], wanted: Collection[str], said: Said
) -> Smoke:
    """Pure. `built` empty: the image does not tell its gfx targets."""
    if not version:
        raise SmokeError(f"smoke test of {tag}: its vllm has no version")
    if version not in told:
        raise SmokeError(f"smoke test of {tag}: `vllm --version` says {told.strip()[-80:]!r}, its package {version}")
    # Of one that we built, its own word is what came of the build; of another the inventory may know better.
    targets = tuple(built or said.gfx) if said.built else tuple(said.gfx or built)
    missing = sorted(set(wanted) - set(targets))
    if targets and missing:
        raise SmokeError(f"smoke test of {tag}: it is built for {', '.join(targets)} and not for {', '.join(missing)}")
    if not rocm and said.built:
        raise SmokeError(f"smoke test of {tag}: it has no {ROCM}, and {VERSIONS} names no ROCm")
    notes = []
    if not targets:
        whom = f"whether it runs on {', '.join(sorted(wanted))}" if wanted else "what it runs on"
        notes.append(f"it does not say its gfx targets (no {ARCH}), so nobody knows {whom}; image.gfx says it")
    if not (rocm or said.rocm):
        notes.append("it does not say its ROCm version; image.rocm says it")
    return Smoke(version, rocm or said.rocm, targets, tuple(notes))


def answered(tag: str, whole: Collection[str], done: Output) -> str:
    """What is to be said of the entry point as serving runs it, "" for nothing. Raises SmokeError."""
    words = f"{done.stdout}\n{done.stderr}"
    if done.ok and "vllm" in words.lower():
        return ""
    if NO_DEVICE in words:
        return "its entry point reaches vLLM, which wants a GPU before it prints its help, and the builder has none"
    last = words.strip().splitlines()[-1:] or ["no word of vLLM"]
    how = "says" if done.ok else f"exits with {done.exit_code}:"
    raise SmokeError(f"smoke test of {tag}: its entry point, `{' '.join(whole)}`, {how} {last[0][-120:]}")


def config_of(text: str) -> Mapping[str, Any]:
    """An image's config, as `docker image inspect` shows it in JSON."""
    try:
        config = json.loads(text)
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def gfx_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The gfx targets in an image's environment."""
    words = dict(line.partition("=")[::2] for line in config.get("Env") or ())
    return tuple(word for word in words.get(ARCH, "").replace(",", ";").split(";") if word)


def _ask(machine: Machine, tag: str, program: str, *words: str) -> str:
    done = _run(machine, tag, program, *words)
    if done.exit_code:
        last = (done.stderr or done.stdout).strip().splitlines()
        said = last[-1] if last else str(done.exit_code)
        raise SmokeError(f"smoke test of {tag}: `{program} {words[0][:40]}` failed: {said}")
    return done.stdout


def _run(machine: Machine, tag: str, program: str, *words: str) -> Output:
    """One container of the image, gone afterwards; `program` "" leaves the image's own entry point in place."""
    name = f"fleet-smoke-{secrets.token_hex(4)}"
    entry = ("--entrypoint", program) if program else ()
    asked = ("docker", "run", "--rm", "--name", name, "--network", "none", *entry, tag, *words)
    try:
        return machine.run(asked, stall=STALL)
    except BaseException as error:
        machine.run(("docker", "rm", "--force", name))  # the command has ended, and its container may not have
        if isinstance(error, StalledError):
            what = f"`{program} {words[0][:40]}`" if program else "its entry point"
            raise SmokeError(f"smoke test of {tag}: {what} said nothing for {spoken(STALL)} and was ended") from error
        raise
