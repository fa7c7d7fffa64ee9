"""A pull follows the engine's events, tries again after a bad line and stops where another try would not help."""

from collections.abc import Iterator
from typing import Any

import pytest
from docker.errors import NotFound
from urllib3.exceptions import ProtocolError

from fleet.delivery.plan import Pull
from fleet.delivery.pull import TRIES, Progress, pull
from fleet.errors import HostError

STEP = Pull("registry.corp:5000/vllm-rocm", "sha256:abc", 100, "")
GOOD: list[dict[str, Any]] = [
    {"status": "Downloading", "id": "a", "progressDetail": {"current": 5, "total": 10}},
    {"status": "Pull complete"},
]


class FakeApi:
    """Gives one list of events a call; refuses more calls than it has lists. `arrived` are the answers of inspections."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.auth: dict[str, str] | None = None
        self.arrived: list[bool] = []

    def inspect_image(self, name: str) -> None:
        assert name == f"{STEP.repository}@{STEP.digest}"
        if self.arrived and not self.arrived.pop(0):
            raise NotFound("No such image")

    def pull(self, repository: str, *, tag: str, stream: bool, decode: bool, auth_config: Any) -> Iterator[Any]:
        assert (repository, tag, stream, decode) == (STEP.repository, STEP.digest, True, True)
        self.auth = auth_config
        return iter(self.answers.pop(0))


class FakeClient:
    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.api = FakeApi(*answers)


def run(client: Any, **auth: str) -> list[float]:
    pauses: list[float] = []
    pull(client, "n1", STEP, auth or None, sleep=pauses.append, jitter=lambda: 1.0)
    return pauses


def events_of(layer: str, *pieces: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"status": status, "id": layer, "progressDetail": {"current": at, "total": 9}} for status, at in pieces]


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
        ("pull access denied for vllm-rocm, repository does not exist", "may not read"),
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


@pytest.mark.parametrize(
    "words", ["server gave HTTP response to HTTPS client", "first record does not look like a TLS handshake"]
)
def test_plain_http_is_told_at_once(words: str) -> None:
    with pytest.raises(HostError) as caught:
        run(FakeClient([{"error": f"failed to do request: {words}"}]))
    assert "insecure-registries" in caught.value.hint


@pytest.mark.parametrize(
    "error",
    [
        "toomanyrequests: You have reached your pull rate limit",
        "received unexpected HTTP status: 503 Service Unavailable",
        "unexpected EOF",
        "read tcp 10.0.0.1:443: connection reset by peer",
        "dial tcp 10.0.0.1:5000: connect: connection refused",
        "net/http: TLS handshake timeout",
    ],
)
def test_what_passes_by_itself_is_tried_again(error: str) -> None:
    assert run(FakeClient([{"error": error}], GOOD)) == [2.0]


def test_an_engine_that_ends_early_without_an_error_is_asked_again() -> None:
    client = FakeClient([], GOOD)
    client.api.arrived = [False, True]
    assert run(client) == [2.0]


def test_a_pull_in_which_nothing_moves_is_given_up_by_the_limit() -> None:
    moment = iter(range(0, 10_000, 100))
    still = events_of("a", ("Downloading", 5)) + [{"status": "Retrying in 5 seconds", "id": "a"}] * 9
    client: Any = FakeClient(*[still] * TRIES)
    with pytest.raises(HostError, match=r"nothing moved for 300 s \(tried 4 times\)"):
        pull(client, "n1", STEP, None, sleep=lambda _seconds: None, clock=lambda: next(moment))


def test_a_slow_pull_that_moves_is_left_alone() -> None:
    moment = iter(range(0, 100_000, 250))
    slow = events_of("a", *(("Downloading", at) for at in range(9)), *(("Extracting", at) for at in range(9)))
    seen: list[int] = []
    client: Any = FakeClient(slow)
    pull(client, "n1", STEP, None, clock=lambda: next(moment), at=seen.append)
    assert max(seen) == 8


def test_pauses_of_hosts_differ() -> None:
    pauses: list[float] = []
    for _ in range(8):
        client: Any = FakeClient([{"error": "EOF"}], GOOD)
        pull(client, "n1", STEP, None, sleep=pauses.append)
    assert len(set(pauses)) > 1
    assert all(1.0 <= pause <= 3.0 for pause in pauses)


def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    def broken() -> Iterator[Any]:
        yield GOOD[0]
        raise ProtocolError("Connection broken: IncompleteRead(0 bytes read)")

    client: Any = FakeClient(GOOD)
    client.api.answers.insert(0, broken())
    assert run(client) == [2.0]
