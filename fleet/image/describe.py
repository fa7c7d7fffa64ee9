"""What an image says about itself: vLLM, ROCm and gfx targets from its config, its labels and two of its files.

No label or variable for the ROCm version is guaranteed by upstream (FACTS of vLLM's Dockerfiles), so several places are
asked in turn: our own labels, `/app/versions.txt`, `/opt/rocm/.info/version`, the base image's tag.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.image.image_files import Found, find
from fleet.image.layout import LayoutImage
from fleet.image.release import Release

LABEL_GFX = "io.fleet.gfx"
LABEL_ROCM = "io.fleet.rocm"
LABEL_VLLM = "io.fleet.vllm.version"
LABEL_COMMIT = "org.opencontainers.image.revision"
LABEL_BASE = "org.opencontainers.image.base.name"
LABEL_BASE_DIGEST = "org.opencontainers.image.base.digest"
LABEL_KEY = "io.fleet.content-key"
LABEL_BASE_KEY = "io.fleet.base-key"  # the content key of a base of our own

VERSIONS = "versions"
ROCM_INFO = "rocm"
DIST_INFO = "vllm"
FILES: Mapping[str, re.Pattern[str]] = {
    VERSIONS: re.compile(r"app/versions\.txt"),
    ROCM_INFO: re.compile(r"opt/rocm(?:-[\d.]+)?/\.info/version"),
    DIST_INFO: re.compile(r"(?:.*/)?vllm-[^/]+\.dist-info/METADATA"),
}


@dataclass(frozen=True)
class Made:
    """How an image came to be, as far as the image itself cannot know."""

    source: str  # source | prebuilt | archive
    reference: str
    digest: str = ""
    gfx: tuple[str, ...] = ()  # said by hand in the inventory; wins over the image's words
    rocm: str = ""
    dropped: tuple[str, ...] = ()
    args: Mapping[str, str] = field(default_factory=dict)


def release_of(image: LayoutImage, name: str, made: Made) -> Release:
    """The release of an image in a layout. Its layers are searched for its versions, and for what labels leave open."""
    config = image.document.get("config") or {}
    labels = config.get("Labels") or {}
    wanted = [VERSIONS] if labels.get(LABEL_ROCM) and labels.get(LABEL_GFX) else [VERSIONS, ROCM_INFO]
    wanted += [] if labels.get(LABEL_VLLM) else [DIST_INFO]
    return compose(image, name, made, find(image, {key: FILES[key] for key in wanted}))


def compose(image: LayoutImage, name: str, made: Made, files: Mapping[str, Found]) -> Release:
    """The same, from files that were found already. Pure."""
    config: Mapping[str, Any] = image.document.get("config") or {}
    labels = {str(key): str(value) for key, value in (config.get("Labels") or {}).items()}
    env = _environment(config.get("Env") or ())
    versions = parse_versions(_text(files.get(VERSIONS)))
    return Release(
        name=name,
        manifest_digest=image.manifest.digest,
        config_digest=image.config.digest,
        diff_ids=image.diff_ids,
        layer_digests=tuple(layer.digest for layer in image.layers),
        layer_sizes=tuple(layer.size for layer in image.layers),
        source=made.source,
        source_reference=made.reference,
        source_digest=made.digest,
        content_key=labels.get(LABEL_KEY, ""),
        created=str(image.document.get("created") or ""),
        vllm_version=labels.get(LABEL_VLLM) or _dist_version(files.get(DIST_INFO)),
        vllm_commit=labels.get(LABEL_COMMIT, ""),
        base=labels.get(LABEL_BASE) or versions.get("VLLM_BASE_IMAGE") or versions.get("BASE_IMAGE", ""),
        base_digest=labels.get(LABEL_BASE_DIGEST, ""),
        gfx=made.gfx or gfx_targets(labels, env, versions),
        rocm=made.rocm or rocm_version(labels, versions, _text(files.get(ROCM_INFO))),
        entrypoint=_words(config.get("Entrypoint")),
        cmd=_words(config.get("Cmd")),
        user=str(config.get("User") or ""),
        env=env,
        labels=labels,
        dropped=made.dropped,
        args=dict(made.args),
        versions=versions,
    )


def told_by_config(document: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """The gfx targets and the ROCm version of an image of which only the config was fetched; empty is "not said".

    What its files would say is told by the build arguments too, which BuildKit keeps in the history of a RUN
    (`RUN |2 BASE_IMAGE=rocm/dev-ubuntu-22.04:7.2.3-complete …`).
    """
    config: Mapping[str, Any] = document.get("config") or {}
    labels = {str(key): str(value) for key, value in (config.get("Labels") or {}).items()}
    steps = " ".join(str(step.get("created_by", "")) for step in document.get("history") or ())
    said = dict(re.findall(r"\b(BASE_IMAGE|ROCM_SDK_VERSION|PYTORCH_ROCM_ARCH)=(\S+)", steps))
    return gfx_targets(labels, _environment(config.get("Env") or ()), said), rocm_version(labels, said, "")


def gfx_targets(labels: Mapping[str, str], env: Mapping[str, str], versions: Mapping[str, str]) -> tuple[str, ...]:
    """Sorted targets without features (`gfx90a:xnack+` counts as gfx90a); empty when nothing tells."""
    said = labels.get(LABEL_GFX) or env.get("PYTORCH_ROCM_ARCH") or versions.get("PYTORCH_ROCM_ARCH", "")
    return tuple(sorted(set(re.findall(r"gfx[0-9a-f]+", said))))


def rocm_version(labels: Mapping[str, str], versions: Mapping[str, str], info: str) -> str:
    """`7.2.3` from a label, TheRock's SDK version, /opt/rocm/.info/version (`7.2.3-66`) or the base's tag."""
    base = re.search(r"rocm/dev-[^:\s]*:(\d+(?:\.\d+)+)", versions.get("BASE_IMAGE", ""))
    for said in (labels.get(LABEL_ROCM, ""), versions.get("ROCM_SDK_VERSION", ""), info, base[1] if base else ""):
        match = re.match(r"\s*(\d+(?:\.\d+)+)", said)
        if match:
            return match[1]
    return ""


def parse_versions(text: str) -> dict[str, str]:
    """`/app/versions.txt`: lines `KEY: VALUE` from the base image, then `KEY=VALUE` from vLLM's own file."""
    matches = (re.match(r"\s*([A-Z][A-Z0-9_]*)\s*[:=]\s*(.*?)\s*$", line) for line in text.splitlines())
    return {match[1]: match[2] for match in matches if match}


def dropped_by_conversion(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """What Docker's config had and OCI's has no word for; `before` and `after` are whole config documents."""
    names = {"Healthcheck": "HEALTHCHECK", "OnBuild": "ONBUILD", "Shell": "SHELL"}
    old, new = before.get("config") or {}, after.get("config") or {}
    return tuple(word for key, word in names.items() if old.get(key) and not new.get(key))


def _environment(lines: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _words(value: Any) -> tuple[str, ...]:
    return tuple(str(word) for word in value or ())


def _text(found: Found | None) -> str:
    return found.content.decode(errors="replace") if found else ""


def _dist_version(found: Found | None) -> str:
    match = re.search(r"vllm-([^/]+)\.dist-info/", found.path) if found else None
    return match[1] if match else ""
