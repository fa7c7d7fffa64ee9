"""Does an image that was just built start at all? Asked on the builder, without GPUs and without a network."""

import json
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from fleet.errors import FleetError
from fleet.image.machine import Machine
from fleet.image.watch import StalledError, spoken

ROCM = "/opt/rocm/.info/version"
ARCH = "PYTORCH_ROCM_ARCH"
STALL = 1800.0  # seconds without a word: a first import over a slow disk takes minutes
_IMPORT = "import vllm; print('fleet-version', vllm.__version__)"


@dataclass(frozen=True)
class Smoke:
    """What the image said of itself."""

    version: str
    rocm: str
    gfx: tuple[str, ...]


class SmokeError(FleetError):
    """The image was built and is not fit. `key` is its content key, set by whoever knows it."""

    key = ""


def smoke(machine: Machine, tag: str, gfx: Collection[str]) -> Smoke:
    """Import vLLM, ask its command for its version, read ROCm's version and the gfx list. Raises SmokeError."""
    imported = _run(machine, tag, "python3", "-c", _IMPORT)
    version = next((line.split()[1] for line in imported.splitlines() if line.startswith("fleet-version ")), "")
    said = _run(machine, tag, "vllm", "--version")
    rocm = _run(machine, tag, "cat", ROCM).strip()
    shown = machine.run(("docker", "image", "inspect", "--format", "{{json .Config.Env}}", tag))
    return judge(tag, version, said, rocm, gfx_of(shown.stdout), gfx)


def judge(tag: str, version: str, said: str, rocm: str, built: Collection[str], wanted: Collection[str]) -> Smoke:
    """Pure. `built` empty: the image does not tell its gfx targets."""
    if not version:
        raise SmokeError(f"smoke test of {tag}: its vllm has no version")
    if version not in said:
        raise SmokeError(f"smoke test of {tag}: `vllm --version` says {said.strip()[-80:]!r}, its package {version}")
    missing = sorted(set(wanted) - set(built)) if built else []
    if missing:
        raise SmokeError(f"smoke test of {tag}: it is built for {', '.join(built)} and not for {', '.join(missing)}")
    if not rocm:
        raise SmokeError(f"smoke test of {tag}: {ROCM} is empty")
    return Smoke(version, rocm, tuple(built))


def gfx_of(environment: str) -> tuple[str, ...]:
    """The gfx targets in an image's environment, as `docker image inspect` shows it in JSON."""
    try:
        lines = json.loads(environment)
    except ValueError:
        return ()
    words = dict(line.partition("=")[::2] for line in lines or ())
    return tuple(word for word in words.get(ARCH, "").replace(",", ";").split(";") if word)


def _run(machine: Machine, tag: str, program: str, *words: str) -> str:
    what, name = f"`{program} {words[0][:40]}`", f"fleet-smoke-{secrets.token_hex(4)}"
    asked = ("docker", "run", "--rm", "--name", name, "--network", "none", "--entrypoint", program, tag, *words)
    try:
        done = machine.run(asked, stall=STALL)
    except BaseException as error:
        machine.run(("docker", "rm", "--force", name))  # the command has ended, and its container may not have
        if isinstance(error, StalledError):
            raise SmokeError(f"smoke test of {tag}: {what} said nothing for {spoken(STALL)} and was ended") from error
        raise
    if done.exit_code:
        last = (done.stderr or done.stdout).strip().splitlines()
        raise SmokeError(f"smoke test of {tag}: {what} failed: {last[-1] if last else done.exit_code}")
    return done.stdout
