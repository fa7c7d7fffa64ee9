"""Where a build runs: this machine, or a builder host over its open SSH session."""

import os
import secrets
import shlex
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import IO, Protocol

from fleet.errors import FleetError, HostError
from fleet.image.watch import judged, watched
from fleet.transport import Output, Session

_CHUNK = 1 << 18
NOTHING: Mapping[str, str] = MappingProxyType({})
# What a killed controller left; nobody builds for two days.
_SWEEP = """find "$1" -maxdepth 1 -name 'build-*' -mtime +2 -exec rm -rf -- {} + 2>/dev/null"""


class Machine(Protocol):
    """What a build needs of the machine it runs on."""

    @property
    def name(self) -> str:
        """For people."""

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        """A command's output, whatever its exit code; 127 where there is no such command.

        `stall` as in `stream`.
        """

    def stream(
        self,
        argv: Sequence[str],
        on_line: Callable[[str], None],
        *,
        environment: Mapping[str, str] = NOTHING,
        stdin: bytes = b"",
        stall: float = 0,
    ) -> int:
        """Run a command, every line of its stdout and stderr handed on; gives its exit code.

        `environment` is added to the command's own and shows in no argv; it and `stdin` exclude each other. After `stall`
        seconds without a byte (0: never) it is ended, with its children, and StalledError raised; it gets no `stdin` then.
        """

    def fetch(self, argv: Sequence[str], into: Path) -> None:
        """A command's stdout as a file here. Raises FleetError when it fails."""

    def place(self, path: Path) -> AbstractContextManager[str]:
        """A local file or tree at a path of the machine, gone afterwards."""


class Here:
    """The controller itself."""

    name = "this machine"

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        asked = watched(argv, stall)
        try:
            done = subprocess.run(asked, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            return Output(127, "", f"{argv[0]}: {error.strerror}")
        return Output(judged(done.returncode, stall, argv[0]), done.stdout, done.stderr)

    def stream(
        self,
        argv: Sequence[str],
        on_line: Callable[[str], None],
        *,
        environment: Mapping[str, str] = NOTHING,
        stdin: bytes = b"",
        stall: float = 0,
    ) -> int:
        with (
            _file_of(stdin) as source,
            subprocess.Popen(
                watched(argv, stall),
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, **environment},
            ) as process,
        ):
            try:
                for line in process.stdout or ():
                    on_line(line.rstrip("\n"))
            except BaseException:
                process.terminate()
                raise
        return judged(process.returncode, stall, argv[0])

    def fetch(self, argv: Sequence[str], into: Path) -> None:
        with into.open("wb") as file:
            done = subprocess.run(tuple(argv), stdout=file, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            raise FleetError(f"`{' '.join(argv)}` failed here: {_last(done.stderr.decode(errors='replace'))}")

    def place(self, path: Path) -> AbstractContextManager[str]:
        return nullcontext(str(path.absolute()))


class There:
    """A builder host. Docker is called through sudo where `become` is set; `staging` is a directory on it."""

    def __init__(self, session: Session, staging: str) -> None:
        self._session = session
        self._staging = staging

    @property
    def name(self) -> str:
        return self._session.host.name

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        done = self._session.run(watched(argv, stall), sudo=True, check=False)
        judged(done.exit_code, stall, f"{argv[0]} on {self.name}")
        return done

    def stream(
        self,
        argv: Sequence[str],
        on_line: Callable[[str], None],
        *,
        environment: Mapping[str, str] = NOTHING,
        stdin: bytes = b"",
        stall: float = 0,
    ) -> int:
        what = f"{argv[0]} on {self.name}"
        argv = watched(argv, stall)
        if not environment:
            return judged(self._session.stream(argv, sudo=True, on_line=on_line, stdin=stdin), stall, what)
        # sshd takes no variables and sudo drops them, but a shell reads its script from stdin, where nobody looks.
        lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
        script = "\n".join((*lines, f"exec {shlex.join(argv)} </dev/null\n"))
        return judged(
            self._session.stream(("sh", "-s"), sudo=True, on_line=on_line, stdin=script.encode()), stall, what
        )

    def fetch(self, argv: Sequence[str], into: Path) -> None:
        with self._session.open_process(argv, sudo=True) as channel, into.open("wb") as file:
            channel.shutdown_write()
            while chunk := channel.recv(_CHUNK):
                file.write(chunk)
            code = channel.exit_code()
            said = channel.recv_stderr(4096).decode(errors="replace") if code else ""
        if code:
            raise HostError(self.name, f"`{' '.join(argv)}` exited with {code}: {_last(said)}")

    @contextmanager
    def place(self, path: Path) -> Iterator[str]:
        target = f"{self._staging}/build-{secrets.token_hex(6)}"
        self._session.script(_SWEEP, args=(self._staging,), sudo=True, check=False)
        try:
            self._session.run(("mkdir", "-p", target), sudo=True)
            if path.is_dir():
                self._unpack(path, target)
                yield target
            else:
                with path.open("rb") as file:
                    self._session.upload(file, f"{target}/{path.name}", mode=0o600, sudo=True)
                yield f"{target}/{path.name}"
        finally:
            self._session.run(("rm", "-rf", "--", target), sudo=True, check=False)

    def _unpack(self, tree: Path, target: str) -> None:
        archive = f"{target}.tar"
        with tempfile.TemporaryFile() as spool:
            with tarfile.open(fileobj=spool, mode="w") as tar:
                tar.add(tree, arcname=".", filter=_owned_by_root)
            spool.seek(0)
            self._session.upload(spool, archive, sudo=True)
        try:
            self._session.run(("tar", "-xf", archive, "-C", target), sudo=True)
        finally:
            self._session.run(("rm", "-f", "--", archive), sudo=True, check=False)


@contextmanager
def _file_of(content: bytes) -> Iterator[IO[bytes]]:
    """A file that a child can read from its start."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Our user's number means nothing on the builder, and git there would call the tree somebody else's."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "without a word"
