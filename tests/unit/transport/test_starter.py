"""How commands are named to people."""

import pytest

from fleet.transport.starter import describe


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("docker", "ps"), "`docker ps`"),
        (("sh", "-c", "\nset -e\ndocker ps\n", "sh"), "`sh -c 'set -e …' sh`"),
        (("echo", "", "a b\n"), "`echo '' 'a b'`"),
        (("echo", "x" * 200), f"`echo {'x' * 94}…`"),
    ],
)
def test_a_command_is_one_line_and_a_script_its_first(argv: tuple[str, ...], named: str) -> None:
    assert describe(argv) == named
