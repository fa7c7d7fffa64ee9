"""What every test stands on."""

import signal

import pytest

# Whoever starts the tests in the background of a shell has Ctrl-C ignored, and so would every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# So that what they assert is told with its values, as in the tests' own modules.
pytest.register_assert_rewrite("tests.lab.roll_faults", "tests.lab.rolls", "tests.lab.small")
