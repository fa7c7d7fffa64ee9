"""become = sudo. The password is sent only when sudo itself asks, so no command can ever read or run it."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Marks:
    """Random words that sudo and the wrapper print on stderr, so that nothing depends on a language's wording."""

    prompt: str = field(default_factory=lambda: f"[fleet-prompt-{secrets.token_hex(12)}]")
    ready: str = field(default_factory=lambda: f"[fleet-ready-{secrets.token_hex(12)}]")


def without_password(argv: Sequence[str], user: str) -> tuple[str, ...]:
    return ("sudo", "-n", "-u", user, "--", *argv)


def with_password(argv: Sequence[str], user: str, marks: Marks) -> tuple[str, ...]:
    """Let sudo ask with our prompt; the wrapper says ready before the command gets stdin."""
    wrapper = 'printf %s "$0" >&2; exec "$@"'
    return ("sudo", "-k", "-S", "-p", marks.prompt, "-u", user, "--", "sh", "-c", wrapper, marks.ready, *argv)
