"""What a command left behind."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """`exit_code` is -1 when the command was ended by a signal. Text is UTF-8 with replacement characters."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    def tail(self, lines: int = 8) -> tuple[str, ...]:
        """The last lines that say something: of stderr, or of stdout where stderr is silent."""
        text = self.stderr.strip() or self.stdout.strip()
        return tuple(text.splitlines()[-lines:])
