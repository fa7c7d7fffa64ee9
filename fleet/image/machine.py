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
from fleet.image import watch
from fleet.image.bench import bench
from fleet.image.scratch import temporary
from fleet.image.watch import judged, waiting, watched
from fleet.transport import Output, Session
from fleet.transport.channel import Channel

_CHUNK = 1 << 18
NOTHING: Mapping[str, str] = MappingProxyType({})


class Machine(Protocol):
    """What a build needs of the machine it runs on."""

    @property
    def name(self) -> str:
        """For people."""

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        """A command's output, whatever its exit code; 127 where there is no such command.

        With `stall` it is ended as in `stream`.
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
        seconds without a byte (0: never) it is ended, with its children, and StalledError raised; so it is when we end,
        whatever ends us. A command with a `stdin` sees to that itself.
        """

    def fetch(self, argv: Sequence[str], into: Path) -> None:
        """A command's stdout as a file here. Raises FleetError when it fails."""

    def place(self, path: Path) -> AbstractContextManager[str]:
        """A local file or tree at a path of the machine, gone afterwards, also when we are killed."""

    def bench(self) -> AbstractContextManager[str]:
        """A directory of the machine's own to work in, gone afterwards, also when we are killed."""


class Here:
    """The controller itself."""

    name = "this machine"

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        if stall:
            done = watch.run(argv, stall)
            return Output(judged(done.returncode, stall, argv[0]), done.stdout, done.stderr)
        try:
            done = subprocess.run(tuple(argv), capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            return Output(127, "", f"{argv[0]}: {error.strerror}")
        return Output(done.returncode, done.stdout, done.stderr)

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
            _file_of(stdin) if stdin else waiting() as source,
            subprocess.Popen(
                argv if stdin else watched(argv, stall),
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

    @contextmanager
    def bench(self) -> Iterator[str]:
        with temporary("fleet-bench-") as folder:
            yield str(folder)


class There:
    """A builder host. Docker is called through sudo where `become` is set; `staging` is a directory on it."""

    def __init__(self, session: Session, staging: str) -> None:
        self._session = session
        self._staging = staging
        self._bench = ""

    @property
    def name(self) -> str:
        return self._session.host.name

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        if not stall:
            return self._session.run(argv, sudo=True, check=False)
        done = self._session.run(watched(argv, stall), sudo=True, check=False, waited_for=True)
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
        if stdin:
            return self._session.stream(argv, sudo=True, on_line=on_line, stdin=stdin)
        what = f"{argv[0]} on {self.name}"
        argv = watched(argv, stall)
        if environment:
            # sshd takes no variables and sudo drops them, but a shell reads its script from stdin, where nobody looks.
            lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
            stdin = "\n".join((*lines, f"exec {shlex.join(argv)}\n")).encode()
            argv = ("sh", "-s")
        code = self._session.stream(argv, sudo=True, on_line=on_line, stdin=stdin, waited_for=True)
        return judged(code, stall, what)

    def start(self, argv: Sequence[str]) -> Channel:
        """A command that lasts until the caller closes its channel, or the connection ends."""
        return self._session.open_process(argv, sudo=True, lasting=True)

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
        with self.bench() as bench:
            target = f"{bench}/{secrets.token_hex(6)}"
            self._session.run(("mkdir", target), sudo=True)
            try:
                if path.is_dir():
                    self._unpack(path, target)
                    yield target
                else:
                    with path.open("rb") as file:
                        self._session.upload(file, f"{target}/{path.name}", mode=0o600, sudo=True)
                    yield f"{target}/{path.name}"
            finally:
                self._session.run(("rm", "-rf", "--", target), sudo=True, check=False)

    @contextmanager
    def bench(self) -> Iterator[str]:
        if self._bench:  # one for all that is placed together: each takes a channel of the connection
            yield self._bench
            return
        with bench(self._session, self._staging) as made:
            self._bench = made
            try:
                yield made
            finally:
                self._bench = ""

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
