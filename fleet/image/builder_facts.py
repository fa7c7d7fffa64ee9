"""What a builder can do, from the versions that it reports, and what a Dockerfile needs beyond that. Pure."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from fleet.image.dockerfile import Feature

CLI_COMMAND = ("docker", "version", "--format", "{{json .}}")
BUILDX_COMMAND = ("docker", "buildx", "version")

# The BuildKit inside Docker 20.10 with the built-in Dockerfile frontend. Measured on 20.10.24: it takes these and
# refuses RUN --network, ADD --checksum, COPY --link and here-documents.
_OLD_KNOWS = re.compile(r"RUN --mount=type=(?:bind|cache|tmpfs|secret|ssh)|(?:COPY|ADD) --chmod|RUN --security")
_WITH_BUILDX_REASON = "install the buildx plugin (Debian 13: apt-get install docker-buildx)"


@dataclass(frozen=True)
class BuilderFacts:
    """Versions as numbers; empty means absent. Source: `docker version` and `docker buildx version`."""

    cli: tuple[int, ...] = ()
    engine: tuple[int, ...] = ()
    buildx: tuple[int, ...] = ()
    platform: str = ""  # of the engine: linux/amd64
    problem: str = ""  # why there is no engine, in docker's own words

    @property
    def provenance_flag(self) -> bool:
        """Buildx 0.10 and later would wrap the image into an index with an attestation unless told not to."""
        return self.buildx >= (0, 10)


def parse(version_json: str, buildx_text: str, problem: str = "") -> BuilderFacts:
    """From the two commands' output; text that is not understood counts as absent.

    Shapes: `{"Client": {"Version": "26.1.5+dfsg1"}, "Server": {"Version": …, "Os": …, "Arch": …}}` (Server null when the
    engine does not answer), and `github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3`.
    """
    try:
        data = json.loads(version_json)
    except ValueError:
        data = {}
    if not isinstance(data, dict):
        data = {}
    client, server = data.get("Client") or {}, data.get("Server") or {}
    match = re.search(r"buildx\S*\s+v?(\d+(?:\.\d+)+)", buildx_text)
    platform = f"{server.get('Os', '')}/{server.get('Arch', '')}" if server else ""
    return BuilderFacts(
        cli=_numbers(client.get("Version", "")),
        engine=_numbers(server.get("Version", "")),
        buildx=_numbers(match[1]) if match else (),
        platform=platform,
        problem="" if server else problem.strip(),
    )


def missing_features(features: Iterable[Feature], builder: BuilderFacts, *, syntax: str = "") -> tuple[str, ...]:
    """Why this builder cannot build such a file, in words; empty when it can.

    `syntax` is the file's own directive: BuildKit then fetches that frontend, which knows more than the built-in one.
    """
    if not builder.cli:
        return ("the docker CLI is not installed (Debian: apt-get install docker.io)",)
    if not builder.engine:
        said = f": {builder.problem.splitlines()[-1]}" if builder.problem else ""
        return (f"the Docker engine does not answer{said}",)
    found = []
    if builder.platform and builder.platform != "linux/amd64":
        found.append(f"the engine builds for {builder.platform}; MI250 and MI300 hosts run linux/amd64")
    used = tuple(features)
    if builder.buildx or not used:
        return tuple(found)
    if builder.cli >= (23,):
        version = ".".join(map(str, builder.cli))
        found.append(
            f"docker CLI {version} builds with BuildKit only through the buildx plugin, which is missing, and the "
            f"Dockerfile uses {used[0].name} (line {used[0].line}): {_WITH_BUILDX_REASON}"
        )
    elif not _own_frontend(syntax):
        version = ".".join(map(str, builder.engine))
        found += [
            f"the BuildKit inside Docker {version} does not know `{feature.name}` (line {feature.line}): build on a "
            f"host with buildx, or {_WITH_BUILDX_REASON}"
            for feature in used
            if not _OLD_KNOWS.fullmatch(feature.name)
        ]
    return tuple(found)


def _own_frontend(syntax: str) -> bool:
    """Whether the directive names a frontend image that BuildKit can fetch (1.6 has them all)."""
    match = re.search(r"docker/dockerfile:(\d+)(?:\.(\d+))?", syntax)
    return match is not None and (int(match[1]), int(match[2] or 99)) >= (1, 6)


def _numbers(text: str) -> tuple[int, ...]:
    match = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in match[1].split(".")) if match else ()
