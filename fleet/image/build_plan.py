"""From settings and a Dockerfile to one `docker build`: arguments, labels, argv. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.errors import Problem
from fleet.image import describe
from fleet.image.builder_facts import BuilderFacts
from fleet.image.dockerfile import BASE_ARG, Dockerfile, check
from fleet.inventory.settings import Source


@dataclass(frozen=True)
class Base:
    """The image that a build starts from. `pinned` is what the build is told; `identity` a digest or an image ID."""

    reference: str = ""
    pinned: str = ""
    identity: str = ""


@dataclass(frozen=True)
class BuildPlan:
    """One build as values. `context` is where the tree lies on the builder; `what` and `why` are for people."""

    tag: str
    dockerfile: str  # path inside the tree
    target: str
    args: Mapping[str, str]
    labels: Mapping[str, str]
    why: str
    proxy: Mapping[str, str] = field(default_factory=dict)
    buildkit: bool = True
    changes = True

    @property
    def what(self) -> str:
        return f"build {self.tag} from {self.dockerfile}"


def judge(source: Source, dockerfile: Dockerfile) -> tuple[Problem, ...]:
    """Everything that the settings ask for and this Dockerfile does not offer."""
    names = [*source.args, *([BASE_ARG] if source.base_image else [])]
    problems = list(check(dockerfile, args=names, target=source.target))
    if source.gfx and not dockerfile.gfx_arg and dockerfile.stages:
        problems.append(
            Problem(
                dockerfile.path, 0, 0, "gfx", "takes no gfx targets (no ARG_PYTORCH_ROCM_ARCH)", "leave source.gfx out"
            )
        )
    return tuple(problems)


def build_args(source: Source, dockerfile: Dockerfile, gfx: tuple[str, ...]) -> dict[str, str]:
    """The build arguments: the settings' own win over base_image and the gfx targets."""
    args = {BASE_ARG: source.base_image} if source.base_image else {}
    if gfx and dockerfile.gfx_arg:
        args[dockerfile.gfx_arg] = ";".join(sorted(set(gfx)))
    return {**args, **source.args}


def labels(source: Source, commit: str, described: str, key: str, gfx: tuple[str, ...], base: Base) -> dict[str, str]:
    """What the image says of itself afterwards; empty values are left out."""
    said = {
        describe.LABEL_COMMIT: commit,
        "org.opencontainers.image.source": without_credentials(source.repository),
        "org.opencontainers.image.version": described,
        describe.LABEL_BASE: base.reference,
        describe.LABEL_BASE_DIGEST: base.identity,
        describe.LABEL_KEY: key,
        describe.LABEL_GFX: ",".join(sorted(set(gfx))),
        describe.LABEL_VLLM: described.removeprefix("v"),
        "io.fleet.ref": source.ref,
    }
    return {name: value for name, value in said.items() if value}


def command(
    plan: BuildPlan, builder: BuilderFacts, context: str, *, ca_file: str = "", docker_config: str = ""
) -> tuple[str, ...]:
    """The argv of the build on this builder. `context`, `ca_file` and `docker_config` (a directory) are paths there."""
    environment = [f"DOCKER_CONFIG={docker_config}"] if docker_config else []
    if builder.buildx:
        head: tuple[str, ...] = ("docker", "buildx", "build", "--load", "--progress=plain")
        head += ("--provenance=false",) if builder.provenance_flag else ()
    elif plan.buildkit:
        environment.append("DOCKER_BUILDKIT=1")
        head = ("docker", "build", "--progress=plain")
    else:
        environment.append("DOCKER_BUILDKIT=0")
        head = ("docker", "build")
    head = ("env", *environment, *head) if environment else head
    words = [*head, "--file", f"{context}/{plan.dockerfile}", "--tag", plan.tag]
    words += ["--target", plan.target] if plan.target else []
    for name, value in sorted(plan.args.items()):
        words += ["--build-arg", f"{name}={value}"]
    for name, value in sorted(plan.proxy.items()):
        words += ["--build-arg", f"{name.lower()}={value}", "--build-arg", f"{name.upper()}={value}"]
    for name, value in sorted(plan.labels.items()):
        words += ["--label", f"{name}={value}"]
    if ca_file:
        words += ["--secret", f"id=fleet_ca,src={ca_file}"]
    return (*words, context)


def without_credentials(url: str) -> str:
    """A URL without `user:password@`, for a label that everybody can read."""
    return re.sub(r"^([a-z+]+://)[^/@]*@", r"\1", url)
