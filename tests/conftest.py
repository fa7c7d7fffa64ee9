"""What every test stands on."""

import signal

import hypothesis
import pytest

# No test asserts a time, on a busy machine least of all.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

# Whoever starts the tests in the background of a shell has Ctrl-C ignored, and so would every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# So that what they assert is told with its values, as in the tests' own modules.
pytest.register_assert_rewrite(
    "tests.lab.faults", "tests.lab.rolls", "tests.lab.small", "tests.lab.night_events", "tests.lab.night_promise"
)

# Workers take whole files in this order, so that no long one is begun last: longest first, the rest as they come.
LONGEST = (
    "tests/lab/test_crash.py",
    "tests/lab/test_nights.py",
    "tests/lab/test_roll_faults.py",
    "tests/lab/test_prune.py",
    "tests/lab/test_delivery.py",
    "tests/lab/test_rollback.py",
    "tests/lab/test_deploy.py",
    "tests/lab/test_bundle.py",
    "tests/ssh/test_simulated_faults.py",
    "tests/lab/test_resume.py",
    "tests/lab/test_night_ways.py",
    "tests/lab/test_availability.py",
    "tests/lab/test_second_controller.py",
    "tests/lab/test_models.py",
    "tests/lab/test_relays.py",
    "tests/lab/test_failures.py",
    "tests/lab/test_history.py",
    "tests/lab/test_interrupts.py",
    "tests/lab/test_drain.py",
    "tests/lab/test_take_over.py",
    "tests/lab/test_preflight.py",
    "tests/ssh/test_simulated_roll.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by file; the order within each stays."""
    items.sort(key=lambda item: _rank(item.nodeid.partition("::")[0]))


def _rank(file: str) -> int:
    return LONGEST.index(file) if file in LONGEST else len(LONGEST)
