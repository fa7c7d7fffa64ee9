"""`<inventory>.lock.yaml`: what floating refs and tags meant when they were resolved. Written whole, read strictly.

schema: 1
commits:
  https://github.com/vllm-project/vllm.git v0.11.0: <40 hexadecimal digits>
images:
  docker.io/rocm/vllm-dev:base: sha256:<64 hexadecimal digits>
archives:
  vllm-rocm brought.tar.gz: sha256:<64 hexadecimal digits of the file>
local:  # base images that no registry has: the builder's image ID
  docker.io/team/rocm-base:6.4: sha256:<64 hexadecimal digits>
models:
  https://huggingface.co meta-llama/Llama-3.1-70B-Instruct main: <40 hexadecimal digits>
choices:  # of `image.strategy: auto`
  vllm-rocm <20 hexadecimal digits of what the inventory asks for> gfx90a,gfx942: prebuilt
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from fleet import whole
from fleet.errors import FleetError, InputError, Problem

SCHEMA = 1
_HEADER = """\
# Written by fleet: what refs and tags meant when they were resolved, so that every deploy means the same.
# Commit it with the inventory. `fleet build --update` moves it.
"""
_VALUES = {
    "commits": (re.compile(r"[0-9a-f]{40}"), "a commit of 40 hexadecimal digits"),
    "images": (re.compile(r"sha256:[0-9a-f]{64}"), "a digest, sha256: and 64 hexadecimal digits"),
    "archives": (re.compile(r"sha256:[0-9a-f]{64}"), "a digest, sha256: and 64 hexadecimal digits"),
    "local": (re.compile(r"sha256:[0-9a-f]{64}"), "an image ID, sha256: and 64 hexadecimal digits"),
    "models": (re.compile(r"[0-9a-f]{40}"), "a commit of 40 hexadecimal digits"),
    "choices": (re.compile(r"prebuilt|source|own_base"), "prebuilt, source or own_base"),
}


@dataclass(frozen=True)
class Lock:
    """`commits` by "REPOSITORY REF", `images` and `local` by full reference with its tag, `archives` by "NAME FILE".

    A base image is in one of `images` and `local`: what a registry says it is, or what lies on the builder alone.
    `models` go by "ENDPOINT ORG/NAME REVISION".
    `choices` go by fleet.image.strategy.key_of.
    """

    commits: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    archives: Mapping[str, str] = field(default_factory=dict)
    local: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)

    def commit(self, repository: str, ref: str) -> str:
        """The locked commit, or ""."""
        return self.commits.get(f"{repository} {ref}", "")

    def image(self, reference: str) -> str:
        """The locked digest, or ""."""
        return self.images.get(reference, "")

    def with_commit(self, repository: str, ref: str, commit: str) -> "Lock":
        return replace(self, commits={**self.commits, f"{repository} {ref}": commit})

    def with_image(self, reference: str, digest: str) -> "Lock":
        return replace(self, images={**self.images, reference: digest}, local=_without(self.local, reference))

    def local_id(self, reference: str) -> str:
        """The locked ID of a base image that lies on the builder alone, or ""."""
        return self.local.get(reference, "")

    def with_local(self, reference: str, identity: str) -> "Lock":
        return replace(self, images=_without(self.images, reference), local={**self.local, reference: identity})

    def archive(self, name: str, file: str) -> str:
        """The locked digest of an image's archive, or ""."""
        return self.archives.get(f"{name} {file}", "")

    def with_archive(self, name: str, file: str, digest: str) -> "Lock":
        return replace(self, archives={**self.archives, f"{name} {file}": digest})

    def model(self, key: str) -> str:
        """The locked commit of a model's repository, or ""."""
        return self.models.get(key, "")

    def with_model(self, key: str, commit: str) -> "Lock":
        return replace(self, models={**self.models, key: commit})

    def choice(self, key: str) -> str:
        """The locked choice of a strategy, or ""."""
        return self.choices.get(key, "")

    def with_choice(self, key: str, kind: str) -> "Lock":
        return replace(self, choices={**self.choices, key: kind})


def read(path: Path) -> Lock:
    """The lock, empty when there is no file. Raises InputError with every problem and its line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Lock()
    except (OSError, UnicodeDecodeError) as error:
        raise FleetError(f"{path} cannot be read: {error}") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Lock:
    """The lock in a text. Strict: a person may have merged or edited it, and it decides what runs."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"(?:<{7}|={7}|>{7})(?:\s|$)", line):
            message = "holds a merge conflict"
            raise InputError(Problem(name, number, 1, "", message, "keep one side, or delete it and build --update"))
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise InputError(Problem(name, *at, "", f"is no YAML: {error.problem}")) from error
    except yaml.YAMLError as error:
        raise InputError(Problem(name, 0, 0, "", f"is no YAML: {error}")) from error
    return _lock(root, name)


def dumps(lock: Lock) -> str:
    data: dict[str, object] = {
        "schema": SCHEMA,
        "commits": dict(sorted(lock.commits.items())),
        "images": dict(sorted(lock.images.items())),
    }
    rest = (("archives", lock.archives), ("local", lock.local), ("models", lock.models), ("choices", lock.choices))
    for part, found in rest:
        if found:
            data[part] = dict(sorted(found.items()))
    body: str = yaml.safe_dump(data, sort_keys=False, width=1000, allow_unicode=True)
    return _HEADER + body


def write(path: Path, lock: Lock) -> bool:
    """Replace the file in one step; False (and nothing written) when it says the same already."""
    text = dumps(lock)
    try:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return False
        whole.write(path, text, mode=0o644)
    except OSError as error:
        raise FleetError(f"{path} cannot be written: {error.strerror}") from error
    return True


def _without(found: Mapping[str, str], key: str) -> dict[str, str]:
    return {name: value for name, value in found.items() if name != key}


def _lock(root: yaml.Node | None, name: str) -> Lock:
    if root is None:
        return Lock()
    problems: list[Problem] = []
    parts: dict[str, dict[str, str]] = {part: {} for part in _VALUES}
    schema = None
    for key, node in _pairs(root, "", name, problems):
        if key == "schema":
            schema = node.value
            if schema != str(SCHEMA):
                problems.append(
                    _problem(name, node, key, f"is {schema}, and this fleet reads {SCHEMA}", "upgrade fleet")
                )
        elif key in _VALUES:
            parts[key] = _part(key, node, name, problems)
        else:
            problems.append(_problem(name, node, key, "is an unknown key", f"schema, {', '.join(_VALUES)} are known"))
    if schema is None and not problems:
        problems.append(Problem(name, 1, 1, "schema", "is missing"))
    if problems:
        raise InputError(*problems)
    return Lock(**parts)


def _part(part: str, node: yaml.Node, name: str, problems: list[Problem]) -> dict[str, str]:
    pattern, words = _VALUES[part]
    found: dict[str, str] = {}
    for key, value in _pairs(node, part, name, problems):
        if not isinstance(value, yaml.ScalarNode) or not pattern.fullmatch(value.value):
            problems.append(_problem(name, value, f"{part}.{key}", f"is not {words}"))
        else:
            found[key] = value.value
    return found


def _pairs(node: yaml.Node, path: str, name: str, problems: list[Problem]) -> list[tuple[str, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        problems.append(_problem(name, node, path, "must be a mapping"))
        return []
    seen: dict[str, yaml.Node] = {}
    for key, value in node.value:
        word = key.value if isinstance(key, yaml.ScalarNode) else ""
        if word in seen:
            problems.append(_problem(name, key, path, f"names {word!r} twice", "keep one of the two"))
        seen[word] = value
    return list(seen.items())


def _problem(name: str, node: yaml.Node, path: str, message: str, hint: str = "") -> Problem:
    return Problem(name, node.start_mark.line + 1, node.start_mark.column + 1, path, message, hint)
