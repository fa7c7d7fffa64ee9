"""From settings and a Dockerfile to one `docker build`: arguments, labels, argv, environment. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from fleet.errors import Problem
from fleet.image import describe
from fleet.image.build_ca import SECRET
from fleet.image.builder_facts import BuilderFacts
from fleet.image.dockerfile import BASE_ARG, PREDEFINED, Dockerfile, check
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


@dataclass(frozen=True)
class Command:
    """What is run. `environment` holds what must not stand in argv, which everybody on the builder can read."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


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
    if any(proxy_secrets(source.proxy)):
        declared = sorted({arg.name for arg in dockerfile.all_args} & PREDEFINED)
        # BuildKit keeps the predefined ARGs out of the history only as long as the file does not declare them.
        problems += [
            Problem(
                dockerfile.path,
                0,
                0,
                "proxy",
                f"the file declares ARG {name}, so the proxy's password would stand in the image's history",
                "use a proxy without a password, or take the ARG out by a patch",
            )
            for name in declared
        ]
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


def base_labels(source: Source, key: str, gfx: tuple[str, ...], base: Base) -> dict[str, str]:
    """What a base of our own says of itself. It is of no commit of vLLM's: many share it."""
    said = {
        "org.opencontainers.image.source": without_credentials(source.repository),
        describe.LABEL_BASE: base.reference,
        describe.LABEL_BASE_DIGEST: base.identity,
        describe.LABEL_KEY: key,
        describe.LABEL_GFX: ",".join(sorted(set(gfx))),
    }
    return {name: value for name, value in said.items() if value}


def command(
    plan: BuildPlan,
    builder: BuilderFacts,
    context: str,
    *,
    dockerfile: str = "",
    ca_file: str = "",
    docker_config: str = "",
) -> Command:
    """The build on this builder. `context`, `dockerfile` (empty = the plan's, inside the context), `ca_file` and
    `docker_config` (a directory) are paths there.

    `--build-arg NAME` without a value takes the value from the CLI's environment: so proxies, which may carry a
    password, travel.
    """
    environment = {"DOCKER_CONFIG": docker_config} if docker_config else {}
    if builder.buildx:
        head: tuple[str, ...] = ("docker", "buildx", "build", "--load", "--progress=plain")
        head += ("--provenance=false",) if builder.provenance_flag else ()
    else:
        environment["DOCKER_BUILDKIT"] = "1" if plan.buildkit else "0"
        head = ("docker", "build", "--progress=plain") if plan.buildkit else ("docker", "build")
    words = [*head, "--file", dockerfile or f"{context}/{plan.dockerfile}", "--tag", plan.tag]
    words += ["--target", plan.target] if plan.target else []
    proxies = {spelling: value for name, value in plan.proxy.items() for spelling in (name.lower(), name.upper())}
    proxies |= {name: value for name, value in plan.args.items() if name in PREDEFINED}
    for name, value in sorted(plan.args.items()):
        words += ["--build-arg", f"{name}={value}"] if name not in PREDEFINED else []
    for name in sorted(proxies):
        words += ["--build-arg", name]
    for name, value in sorted(plan.labels.items()):
        words += ["--label", f"{name}={value}"]
    if ca_file:
        words += ["--secret", f"id={SECRET},src={ca_file}"]
    return Command((*words, context), {**environment, **proxies})


def proxy_secrets(proxy: Mapping[str, str]) -> tuple[str, ...]:
    """The passwords in proxies' URLs, as written and as meant; what has none, or is no URL, gives nothing."""
    found: list[str] = []
    for value in proxy.values():
        try:
            password = urlsplit(value).password
        except ValueError:
            continue
        found += [password, unquote(password)] if password else []
    return tuple(dict.fromkeys(found))


def without_credentials(url: str) -> str:
    """A URL without `user:password@`, for a label that everybody can read."""
    return re.sub(r"^([a-z+]+://)[^/@]*@", r"\1", url)
