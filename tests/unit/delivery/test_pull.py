"""A pull follows the engine's events, tries again after a bad line and stops where another try would not help."""

from collections.abc import Iterator
from typing import Any

import pytest

from fleet.delivery.plan import Pull
from fleet.delivery.pull import TRIES, Progress, pull
from fleet.errors import HostError

STEP = Pull("registry.corp:5000/vllm-rocm", "sha256:abc", 100, "")
GOOD: list[dict[str, Any]] = [
    {"status": "Downloading", "id": "a", "progressDetail": {"current": 5, "total": 10}},
    {"status": "Pull complete"},
]


class FakeApi:
    """Gives one list of events a call; refuses more calls than it has lists."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.auth: dict[str, str] | None = None

    def pull(self, repository: str, *, tag: str, stream: bool, decode: bool, auth_config: Any) -> Iterator[Any]:
        assert (repository, tag, stream, decode) == (STEP.repository, STEP.digest, True, True)
        self.auth = auth_config
        return iter(self.answers.pop(0))


class FakeClient:
    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.api = FakeApi(*answers)


def run(client: Any, **auth: str) -> list[float]:
    pauses: list[float] = []
    pull(client, "n1", STEP, auth or None, sleep=pauses.append)
    return pauses


def test_a_good_pull_is_done_once() -> None:
    client = FakeClient(GOOD)
    assert run(client, username="u", password="p") == []
    assert client.api.auth == {"username": "u", "password": "p"}


def test_a_bad_line_is_tried_again_with_growing_pauses() -> None:
    broken = [{"error": "unexpected EOF"}]
    assert run(FakeClient(broken, broken, GOOD)) == [2.0, 4.0]


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        ("unauthorized: authentication required", "credentials"),
        ("manifest unknown: manifest unknown", "invoke push"),
        ("x509: certificate signed by unknown authority", "ca_file"),
        ("write /var/lib/docker/x: no space left on device", "free space"),
    ],
)
def test_what_another_try_cannot_mend_ends_at_once_with_a_hint(error: str, hint: str) -> None:
    with pytest.raises(HostError) as caught:
        run(FakeClient([{"error": error}]))
    assert hint in caught.value.hint
    assert "tried" not in caught.value.message


def test_gives_up_after_the_last_try_and_says_how_often() -> None:
    broken = [{"error": "connection reset by peer"}]
    with pytest.raises(HostError, match=f"tried {TRIES} times"):
        run(FakeClient(*[broken] * TRIES))


def test_progress_counts_layers_that_are_complete_in_full() -> None:
    progress = Progress()
    progress.take({"status": "Downloading", "id": "a", "progressDetail": {"current": 5, "total": 10}})
    progress.take({"status": "Downloading", "id": "b", "progressDetail": {"current": 1, "total": 4}})
    progress.take({"status": "Download complete", "id": "a", "progressDetail": {}})
    progress.take({"status": "Extracting", "id": "a", "progressDetail": {"current": 1, "total": 10}})
    assert progress.bytes_done == 11
