"""What a Dockerfile offers: its ARGs, stages, base images and the BuildKit features it uses. Pure.

Which file, ARG and stage exist depends on the vLLM ref, so they are read from the file that was checked out.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from fleet.errors import Problem
from fleet.image import dockerfile_syntax
from fleet.image.dockerfile_syntax import Instruction

GFX_ARGS = ("ARG_PYTORCH_ROCM_ARCH", "PYTORCH_ROCM_ARCH")  # vLLM's file, then its base file
BASE_ARG = "BASE_IMAGE"
# Known to BuildKit without a declaration (docs: "Predefined ARGs").
PREDEFINED = frozenset(
    name
    for lower in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (lower, lower.upper())
)
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?([-+])((?:[^{}]|\{[^{}]*\})*))?\})")


@dataclass(frozen=True)
class Arg:
    """One `ARG`. `default` is None where none is given; `stage` is "" above the first FROM."""

    name: str
    default: str | None
    stage: str
    line: int


@dataclass(frozen=True)
class Stage:
    """One `FROM`. `base` is as written; `copies` are the stages or images named by `--from` and `from=`."""

    name: str  # the AS name, or its index
    base: str
    line: int
    copies: tuple[str, ...] = ()
    args: tuple[Arg, ...] = ()


@dataclass(frozen=True)
class Feature:
    """Something of BuildKit that the file uses, and the first line that does."""

    name: str
    line: int


@dataclass(frozen=True)
class Dockerfile:
    """`args` are the global ones; those of a stage are in the stage."""

    path: str
    syntax: str
    args: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    features: tuple[Feature, ...]

    @property
    def default_target(self) -> str:
        """The stage that is built when none is named: the last."""
        return self.stages[-1].name if self.stages else ""

    @property
    def all_args(self) -> tuple[Arg, ...]:
        return self.args + tuple(arg for stage in self.stages for arg in stage.args)

    @property
    def gfx_arg(self) -> str:
        """The ARG that takes the gfx targets, or "" where the file has none."""
        names = {arg.name for arg in self.all_args}
        return next((name for name in GFX_ARGS if name in names), "")

    def stage(self, name: str) -> Stage | None:
        """By name (case does not count, as in BuildKit) or by index."""
        for index, stage in enumerate(self.stages):
            if name.lower() in {stage.name.lower(), str(index)}:
                return stage
        return None

    def target_flag(self, target: str) -> str:
        """What `--target` is given for a stage: its name, nothing for the last. Measured: BuildKit takes no index."""
        stage = self.stage(target)
        return "" if stage is None or stage == self.stages[-1] else stage.name

    def base_images(self, target: str, args: Mapping[str, str]) -> tuple[str, ...]:
        """Every image from outside that `target` needs, in the order of the stages that need it."""
        values = self.values(args)
        wanted, found = [target or self.default_target], []
        seen: set[str] = set()
        while wanted:
            name = wanted.pop(0)
            stage = self.stage(name)
            if stage is None:
                found.append(name)
            elif stage.name not in seen:
                seen.add(stage.name)
                wanted += [expand(needed, values) for needed in (stage.base, *stage.copies)]
        return tuple(dict.fromkeys(name for name in found if name and name != "scratch"))

    def values(self, args: Mapping[str, str]) -> dict[str, str]:
        """The global ARGs with `args` laid over their defaults, each expanded by those before it."""
        values = {"TARGETARCH": "amd64", "TARGETOS": "linux", "TARGETPLATFORM": "linux/amd64"}
        for arg in self.args:
            values[arg.name] = args.get(arg.name, expand(arg.default or "", values))
        return values


def read(text: str, path: str = "Dockerfile") -> Dockerfile:
    """Read a Dockerfile's text. Anything unknown in it is left to the builder to judge."""
    parsed = dockerfile_syntax.read(text)
    args: list[Arg] = []
    stages: list[Stage] = []
    bodies: list[tuple[list[Arg], list[str]]] = []
    for instruction in parsed.instructions:
        if instruction.keyword == "FROM":
            base, name = _from(instruction, len(stages))
            stages.append(Stage(name, base, instruction.line))
            bodies.append(([], []))
        elif instruction.keyword == "ARG":
            where = bodies[-1][0] if bodies else args
            where.extend(_args(instruction, stages[-1].name if stages else ""))
        elif bodies:
            bodies[-1][1].extend(_sources(instruction))
    whole = tuple(
        Stage(stage.name, stage.base, stage.line, tuple(dict.fromkeys(copies)), tuple(own))
        for stage, (own, copies) in zip(stages, bodies, strict=True)
    )
    features = _features(parsed.instructions)
    return Dockerfile(path, parsed.directives.get("syntax", ""), tuple(args), whole, features)


def check(dockerfile: Dockerfile, *, args: Iterable[str], target: str = "") -> tuple[Problem, ...]:
    """What the settings ask for and this file does not have: ARGs and the target stage."""
    if not dockerfile.stages:
        return (Problem(dockerfile.path, 0, 0, "", "has no FROM, so there is nothing to build"),)
    known = {arg.name for arg in dockerfile.all_args} | PREDEFINED
    problems = [
        Problem(dockerfile.path, 0, 0, f"args.{name}", f"there is no ARG {name} in this file", _suggest(name, known))
        for name in args
        if name not in known
    ]
    if target and dockerfile.stage(target) is None:
        names = [stage.name for stage in dockerfile.stages if not stage.name.isdigit()]
        message = f"there is no stage {target!r} in this file"
        problems.append(
            Problem(dockerfile.path, 0, 0, "target", message, f"its stages: {', '.join(names) or 'unnamed'}")
        )
    return tuple(problems)


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$NAME`, `${NAME}`, `${NAME:-word}` and `${NAME:+word}` replaced as BuildKit does it."""

    def value(match: re.Match[str]) -> str:
        known = values.get(match[1] or match[2], "")
        if match[3] == "-":
            return known or expand(match[4], values)
        if match[3] == "+":
            return expand(match[4], values) if known else ""
        return known

    return _VARIABLE.sub(value, text)


def _suggest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, sorted(known - PREDEFINED if isinstance(known, set) else known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else "the ARGs of a Dockerfile depend on the vLLM ref"


def _from(instruction: Instruction, index: int) -> tuple[str, str]:
    words = instruction.rest.split()
    named = len(words) >= 3 and words[1].upper() == "AS"
    return (words[0] if words else ""), (words[2] if named else str(index))


def _args(instruction: Instruction, stage: str) -> Iterable[Arg]:
    try:
        words = shlex.split(instruction.rest)
    except ValueError:  # an open quote; BuildKit will say so with its own words
        words = instruction.rest.split()
    for word in words:
        name, equals, default = word.partition("=")
        yield Arg(name, default if equals else None, stage, instruction.line)


def _sources(instruction: Instruction) -> Iterable[str]:
    """Stages or images that an instruction copies or mounts from; an ONBUILD carries an instruction of its own."""
    if instruction.keyword == "ONBUILD":
        keyword, _, rest = instruction.rest.partition(" ")
        inner = dockerfile_syntax.read(f"{keyword} {rest}").instructions
        instruction = inner[0] if inner else instruction
    for name, value in instruction.flags:
        if name == "from":
            yield value
        elif name == "mount":
            yield from (part.removeprefix("from=") for part in value.split(",") if part.startswith("from="))


def _features(instructions: Iterable[Instruction]) -> tuple[Feature, ...]:
    found: dict[str, int] = {}
    for instruction in instructions:
        for name in _feature_names(instruction):
            found.setdefault(name, instruction.line)
    return tuple(Feature(name, line) for name, line in found.items())


def _feature_names(instruction: Instruction) -> Iterable[str]:
    """`RUN --mount=type=cache` is "RUN --mount=type=cache", other flags are "KEYWORD --flag", and so on."""
    keyword = instruction.keyword
    if instruction.heredoc:
        yield f"{keyword} heredoc"
    if keyword not in {"RUN", "COPY", "ADD"}:
        return
    for name, value in instruction.flags:
        if name == "mount":
            kind = next((part for part in value.split(",") if part.startswith("type=")), "type=bind")
            yield f"RUN --mount={kind}"
        elif name not in {"chown", "from"}:  # the classic builder has these
            yield f"{keyword} --{name}"
    if keyword == "ADD" and re.match(r"(?:git@|git://|https?://\S+\.git(?:#|\s))", instruction.rest):
        yield "ADD git repository"
