"""How fast a replica answers: the same prompt from a few clients at once for some time, over the tunnel to its host."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fleet.errors import FleetError
from fleet.serving.api import Streamed

CLIENTS = 4  # a session has eight channels, and /health and the log want one too
MOST = 20_000  # requests, however short the answers: two numbers are kept of each
MAX_TOKENS = 64
PROMPT = "Write a long story about a lighthouse keeper who counts the ships that pass in the night. The story begins:"


@dataclass(frozen=True)
class Speed:
    """Of one replica under the fixed load. Rates are of single requests, from the question to the last token; `total`
    is of all clients together. Times are seconds. `error` is what the first failed request said.
    """

    requests: int
    errors: int
    seconds: float
    total: float = 0.0  # tokens/s
    tokens_per_s: float = 0.0  # median
    tokens_per_s_p5: float = 0.0
    first_token_s: float = 0.0  # median
    first_token_s_p95: float = 0.0
    error: str = ""


def bodies(model: str) -> Iterator[dict[str, object]]:
    """Requests of one size. A number in front keeps a prefix cache from answering for the GPU."""
    for number in range(MOST):
        yield {
            "model": model,
            "prompt": f"{number + 1}. {PROMPT}",
            "max_tokens": MAX_TOKENS,
            "ignore_eos": True,  # vLLM's own: every answer has the same length
            "temperature": 0,
            "seed": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


def measure(
    model: str,
    ask: Callable[[dict[str, object]], Streamed],
    seconds: float,
    *,
    clock: Callable[[], float],
    stopped: Callable[[], bool] = lambda: False,
    clients: int = CLIENTS,
) -> Speed:
    """Ask for so long; a request under way at the end is waited for. `ask` raises FleetError for one that failed.

    Every client gives up after three failures in a row: a replica that refuses is not asked a thousand times.
    """
    begun, lock, todo = clock(), threading.Lock(), bodies(model)
    done: list[Streamed] = []
    errors: list[str] = []

    def client(_number: int) -> None:
        failed = 0
        while failed < 3 and clock() - begun < seconds and not stopped():
            with lock:
                body = next(todo, None)
            if body is None:
                return
            try:
                answer = ask(body)
            except FleetError as error:
                failed += 1
                with lock:
                    errors.append(error.message if len(errors) < 1 else "")
            else:
                failed = 0
                with lock:
                    done.append(answer)

    with ThreadPoolExecutor(clients, thread_name_prefix="load") as pool:
        list(pool.map(client, range(clients)))
    return summary(done, errors, clock() - begun)


def summary(done: Sequence[Streamed], errors: Sequence[str], seconds: float) -> Speed:
    """Pure."""
    asked, first_error = len(done) + len(errors), errors[0] if errors else ""
    if not done:
        return Speed(asked, len(errors), seconds, error=first_error)
    rates, firsts = [one.rate for one in done], [one.first_s for one in done]
    return Speed(
        asked,
        len(errors),
        seconds,
        sum(one.tokens for one in done) / seconds if seconds > 0 else 0.0,
        quantile(rates, 0.5),
        quantile(rates, 0.05),
        quantile(firsts, 0.5),
        quantile(firsts, 0.95),
        first_error,
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Linear between neighbours; 0 for nothing."""
    if not values:
        return 0.0
    ranked = sorted(values)
    place = share * (len(ranked) - 1)
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)
