"""A model on a disk of the host itself: found there, and hashed there as far as nothing else tells its checksums."""

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass

from fleet.delivery.send import Sender
from fleet.errors import HostError, UsageError
from fleet.models import carry_scripts as scripts
from fleet.models.content import Content, File
from fleet.models.look import STALL, hashed, look
from fleet.models.names import cache_folder, path_problem, split
from fleet.models.source import snapshot

PREFIX = "host:"
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class OnHost:
    """A directory of every host, as a source: what of a model lies there shows only there. `asked`: it has to be in it."""

    directory: str
    revision: str = ""
    asked: bool = False


@dataclass(frozen=True)
class There:
    """A model in a directory of one host."""

    content: Content
    directory: str
    root: str  # the model's own directory, relative to `directory`

    @property
    def way(self) -> str:
        return f"from {self.directory} on the host"

    def path(self, file: File) -> str:
        return f"{self.directory}/{self.root}/{file.path}"


def read(sender: Sender, models_dir: str, name: str, source: OnHost, *, everything: bool = False) -> There | None:
    """A model of a directory of the host; None where it is not in it. Raises HostError, also for one that is not whole.

    A checksum is taken from a list beside the files, from the name of a cache's blob, or from the host's own model, where
    that has the same file of the same size and time; `everything`: all files are read. What arrives is checked anyway.
    """
    root = _find(sender, name, source)
    if not root:
        return None
    model = look(sender, source.directory, (root,)).model(root)
    paths = [path for path in model.sizes if "__pycache__" not in path.split("/")]
    problems = [f"{path} is a link to nothing: its download did not end" for path in model.broken]
    problems += [problem for path in paths if (problem := path_problem(path))]
    if problems or not paths:
        why = "; ".join(problems) or "it holds no files"
        raise HostError(sender.host, f"{source.directory}/{root} cannot be a source: {why}")
    known = {} if everything else {**_alike(sender, models_dir, name, source, root, paths), **model.sums}
    unknown = [path for path in paths if path not in known]
    sums = {**known, **(hashed(sender, source.directory, root, unknown) if unknown else {})}
    if unread := [path for path in paths if not sums.get(path)]:
        raise HostError(sender.host, f"{source.directory}/{root}/{unread[0]} could not be read")
    files = (File(path, model.sizes[path], sums[path]) for path in paths)
    return There(Content.of(name, files), source.directory.rstrip("/"), root)


def _find(sender: Sender, name: str, source: OnHost) -> str:
    """Where the model is, relative to the directory; "" where it is not."""
    pattern = cache_folder(name) if "/" in name else f"models--*--{name}"
    said = sender.command(scripts.FIND, source.directory, name, pattern, split(name)[1])
    told = [line.partition(" ")[2].split(" ", 2) for line in said.splitlines() if line.startswith(scripts.MARK)]
    if ["there"] not in told:
        raise HostError(sender.host, f"{source.directory} is no directory there", hint="is the disk mounted?")
    caches = [words[1] for words in told if words[0] == "repository"]
    if len(caches) > 1:
        message = f"{source.directory} has several models called {name}: {', '.join(caches)}"
        raise HostError(sender.host, message, hint="say ORG/NAME")
    if caches:
        known = [words[1] for words in told if words[0] == "snapshot"]
        refs = {words[2]: words[1] for words in told if words[0] == "ref" and len(words) == 3}
        try:
            return f"{caches[0]}/snapshots/{snapshot(f'{source.directory}/{caches[0]}', source.revision, known, refs)}"
        except UsageError as error:
            raise HostError(sender.host, error.message, hint=error.hint) from error
    return next((words[1] for words in told if words[0] == "root"), "")


def _alike(
    sender: Sender, models_dir: str, name: str, source: OnHost, root: str, paths: Iterable[str]
) -> dict[str, str]:
    """Checksums that need no reading."""
    mine = look(sender, models_dir, (name,)).model(name)
    words = io.BytesIO("".join(f"{path}\n" for path in paths).encode())
    places = (f"{source.directory}/{root}", f"{models_dir.rstrip('/')}/{name}")
    code, said, complaint = sender.run(scripts.SAME, places, words, STALL)
    if code:
        raise HostError(sender.host, f"{source.directory} could not be looked at (exit {code})", tail=(complaint,))
    found = {}
    for line in said.splitlines():
        match line.split(" ", 2):
            case ("named", blob, path) if _HEX.fullmatch(blob):
                found[path] = blob
            case ("same", path) if path in mine.sums:
                found.setdefault(path, mine.sums[path])
    return found
