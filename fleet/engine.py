"""The docker SDK over the SSH connection that is already open.

Every HTTP connection of the SDK is one channel that runs `docker system dial-stdio` on the host, under sudo where
become is set: no second SSH connection, no exposed socket, no tunnel. At most one idle channel is kept.
What cannot work: `docker build` through the SDK (it has no BuildKit; builds use the docker CLI).
"""

import contextlib
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import docker
import requests
import urllib3
from docker.api.client import APIClient

from fleet.engine_wire import Adapter
from fleet.errors import HostError
from fleet.transport import Session

BASE_URL = "http+docker://ssh"  # docker-py finds an attached stream at `.channel` under this address
ANSWER = 60.0  # seconds for a question whose answer is read whole
SILENT = 10.0  # the same, and asked once, while the engine has left the last one unanswered: it may hang for hours
_versions: weakref.WeakKeyDictionary[Session, str] = weakref.WeakKeyDictionary()


def docker_client(session: Session, *, timeout: float | tuple[float, float] = 60) -> docker.DockerClient:
    """A DockerClient for the host's engine; its API version is asked for once a session.

    `timeout` is in seconds without an answer, for each call, or a pair: while sending, and while waiting for words. Make
    another client where a call needs another one (it costs no round trip). Raises HostError with a hint: no docker
    command, not running, forbidden.
    """
    api = _Api(session, timeout)
    client = docker.DockerClient.__new__(docker.DockerClient)
    client.api = api
    return client


@contextlib.contextmanager
def engine_errors(session: Session, doing: str) -> Iterator[None]:
    """Turn what the SDK and its HTTP libraries raise into a HostError that says what was being done."""
    host = session.host.name
    try:
        yield
    except docker.errors.APIError as error:
        raise HostError(host, f"{doing}: the engine says {error.explanation or error}") from error
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError) as error:
        raise HostError(host, f"{doing}: the engine gave no sign in time") from error
    except docker.errors.DockerException as error:
        raise HostError(host, f"{doing}: {error}") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise HostError(host, f"{doing}: the connection to the engine broke") from error


class _NoAnswerError(HostError):
    """The engine said nothing within the limit."""


class _Api(APIClient):
    """docker-py's client with our way to the engine mounted before its first request."""

    def __init__(self, session: Session, timeout: float | tuple[float, float]) -> None:
        # A version is given so that nothing is asked before the adapter is in place.
        super().__init__(base_url="tcp://127.0.0.1:1", version="1.24", timeout=timeout)  # type: ignore[arg-type]
        self._session = session
        self._terminals: dict[str, bool] = {}
        self._silent = False
        self.trust_env = False  # no proxies and no .netrc between us and the engine
        self.base_url = BASE_URL
        self._custom_adapter = Adapter(session)
        self.mount(BASE_URL, self._custom_adapter)
        version = _versions.get(session)
        if version is None:
            version = _versions[session] = self._ask_version()
        self._version = version

    def _ask_version(self) -> str:
        with engine_errors(self._session, "asking the Docker engine for its version"):
            answer = self.version(api_version=False)
        return str(answer["ApiVersion"])

    def inspect_container(self, container: Any) -> dict[str, Any]:
        value: dict[str, Any] = super().inspect_container(container)
        self._terminals[str(getattr(container, "id", container))] = bool(value.get("Config", {}).get("Tty"))
        return value

    def _check_is_tty(self, container: str) -> bool:
        """docker-py inspects the container for every log; whether it has a terminal does not change.

        Who follows many logs has looked at the containers first: no channel would be left for it afterwards.
        """
        if container not in self._terminals:
            self.inspect_container(container)
        return self._terminals[container]

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """A question whose answer is lost on the way is asked once more, on a channel of its own."""
        if request.method != "GET" or options.get("stream"):
            return self._send(request, options)
        options["timeout"] = _shorter(options.get("timeout"), SILENT if self._silent else ANSWER)
        try:
            answer = self._ask(request, options)
        except _NoAnswerError:
            self._silent = True
            raise
        self._silent = False
        return answer

    def _ask(self, request: requests.PreparedRequest, options: Mapping[str, Any]) -> requests.Response:
        if not self._silent:
            with contextlib.suppress(_NoAnswerError):
                return self._send(request, options)
        return self._send(request, options)

    def _send(self, request: requests.PreparedRequest, options: Mapping[str, Any]) -> requests.Response:
        host = self._session.host.name
        what = f"{request.method} {request.path_url.partition('?')[0]}"
        try:
            return super().send(request, **options)
        except requests.exceptions.Timeout as error:
            limit = options.get("timeout")
            seconds = min(limit) if isinstance(limit, tuple) else limit
            message = f"the Docker engine gave no answer to {what} in {seconds:g} s"
            raise _NoAnswerError(
                host, message, hint="is the host overloaded, or does dockerd hang? journalctl -u docker -n 50"
            ) from error
        except requests.exceptions.ConnectionError as error:
            raise HostError(host, f"the connection to the Docker engine broke during {what}") from error


def _shorter(limit: Any, most: float) -> Any:
    """At most so many seconds of each part of a time limit."""
    if isinstance(limit, tuple):
        return tuple(min(part, most) for part in limit)
    return most if limit is None else min(limit, most)
