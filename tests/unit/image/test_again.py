"""What is tried again, how often, and after which wait."""

from collections.abc import Callable

import pytest

from fleet.errors import FleetError
from fleet.image import proxy
from fleet.image.again import TRIES, TransientError, again, is_transient


class Clock:
    def __init__(self, step: float = 0.0) -> None:
        self.now, self.step, self.slept = 0.0, step, list[float]()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def read(self) -> float:
        return self.now


def failing(clock: Clock, *errors: FleetError | None) -> tuple[list[int], Callable[[], str]]:
    asked = [0]

    def once() -> str:
        clock.now += clock.step
        asked[0] += 1
        error = errors[min(asked[0], len(errors)) - 1]
        if error is not None:
            raise error
        return "well"

    return asked, once


def test_what_passes_is_tried_again_with_growing_pauses_and_told() -> None:
    clock, said = Clock(), list[str]()
    asked, once = failing(clock, TransientError("503"), TransientError("reset"), None)
    assert again(once, say=said.append, pause=1.0, sleep=clock.sleep, clock=clock.read) == "well"
    assert asked == [3]
    first, second = clock.slept
    assert 0.5 <= first <= 1.5
    assert 1.0 <= second <= 3.0
    assert said[0].startswith("503; trying again in ")


def test_it_ends_after_four_tries_and_says_so() -> None:
    clock = Clock()
    asked, once = failing(clock, TransientError("503", hint="a proxy"))
    with pytest.raises(TransientError, match=r"503 \(tried 4 times\)") as caught:
        again(once, sleep=clock.sleep, clock=clock.read)
    assert (asked, caught.value.hint) == ([TRIES], "a proxy")


def test_what_does_not_pass_is_not_tried_again() -> None:
    clock = Clock()
    asked, once = failing(clock, FleetError("denied"))
    with pytest.raises(FleetError, match="denied"):
        again(once, sleep=clock.sleep, clock=clock.read)
    assert (asked, clock.slept) == ([1], [])


def test_the_registrys_own_wait_is_kept_and_one_that_is_too_long_ends_it() -> None:
    clock = Clock()
    _, once = failing(clock, TransientError("429", after=7.0), None)
    again(once, sleep=clock.sleep, clock=clock.read)
    assert clock.slept == [7.0]
    asked, once = failing(clock, TransientError("429", after=3600.0))
    with pytest.raises(TransientError):
        again(once, sleep=clock.sleep, clock=clock.read)
    assert asked == [1]


def test_slow_failures_are_tried_twice() -> None:
    clock = Clock(step=60.0)
    asked, once = failing(clock, TransientError("did not answer in time"))
    with pytest.raises(TransientError, match="tried 2 times"):
        again(once, limit=30.0, sleep=clock.sleep, clock=clock.read)
    assert asked == [2]


@pytest.mark.parametrize(
    "words",
    [
        "received unexpected HTTP status: 503 Service Unavailable",
        'pinging container registry r:5000: Get "https://r:5000/v2/": net/http: TLS handshake timeout',
        "read tcp 10.0.0.1:4->10.0.0.2:5000: read: connection reset by peer",
        'writing blob: Put "http://r/v2/x": EOF',
        "toomanyrequests: You have reached your pull rate limit",
    ],
)  # fmt: skip
def test_words_of_what_passes(words: str) -> None:
    assert is_transient(words)


@pytest.mark.parametrize(
    "words",
    [
        f"reading manifest sha256:{'503a429b' * 8} in r:5000/vllm: manifest unknown",
        "unauthorized: authentication required",
        "requested access to the resource is denied",
        "x509: certificate signed by unknown authority",
        "no space left on device",
        "pinging container registry r:5030: server gave HTTP response to HTTPS client",
    ],
)
def test_words_of_what_does_not_pass(words: str) -> None:
    assert not is_transient(words)


def test_the_proxy_of_the_environment_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert not proxy.hint("https://registry.corp:5000/v2/")
    monkeypatch.setenv("https_proxy", "http://bob:s3cret@proxy.corp:3128")
    said = proxy.hint("https://registry.corp:5000/v2/")
    assert "http://proxy.corp:3128 of $https_proxy; add registry.corp to no_proxy" in said
    assert "s3cret" not in said
    assert not proxy.hint("http://registry.corp:5000/v2/")
    monkeypatch.setenv("no_proxy", ".corp")
    assert not proxy.hint("https://registry.corp:5000/v2/")
