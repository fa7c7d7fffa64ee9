"""The docker SDK over `docker system dial-stdio` channels."""

import contextlib
import hashlib
import io
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import docker
import pytest
import requests

from fleet.engine import _NoAnswerError, docker_client, engine_errors
from fleet.errors import HostError
from fleet.transport import Connector, Session
from fleet.transport.slots import MOST
from tests.ssh.conftest import Keys
from tests.ssh.fake_engine import Engine, running_engine
from tests.ssh.sshd import Sshd


@pytest.fixture
def engine(tmp_path: Path, sshd: Sshd) -> Iterator[Engine]:
    with running_engine(tmp_path, Path(sshd.behaviour.path)) as running:
        yield running


def test_calls_share_one_channel_and_the_servers_version(engine: Engine, session: Session, sshd: Sshd) -> None:
    client = docker_client(session)
    assert client.api.api_version == "1.41"
    assert client.containers.get("c").name == "c"
    assert client.api.inspect_container("c")["Id"] == "c1"
    docker_client(session, timeout=5)
    assert engine.requests.count("/version") == 1
    assert sshd.commands.count("docker system dial-stdio") == 1


def test_the_sdks_own_errors_stay_what_they_are(engine: Engine, session: Session) -> None:
    client = docker_client(session)
    with pytest.raises(docker.errors.NotFound):
        client.images.get("nothing/here")
    with pytest.raises(HostError, match="looking: the engine says no such thing"), engine_errors(session, "looking"):
        client.api.inspect_network("x/y")


def test_a_large_tar_is_streamed_as_it_is_read(engine: Engine, session: Session) -> None:
    class Endless(io.RawIOBase):
        """40 MB that never exist at once; the largest single read is noted."""

        left = 40_000_000
        largest = 0

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            assert size > 0
            Endless.largest = max(Endless.largest, size)
            piece = b"t" * min(size, self.left)
            self.left -= len(piece)
            return piece

    answer = list(docker_client(session).api.load_image(Endless()))  # type: ignore[no-untyped-call]
    assert "Loaded image" in str(answer)
    assert engine.loaded == [(40_000_000, hashlib.sha256(b"t" * 40_000_000).hexdigest())]
    assert Endless.largest <= 1 << 20


def test_followed_logs_come_frame_by_frame(engine: Engine, session: Session) -> None:
    container = docker_client(session).containers.get("c")
    assert list(container.logs(stream=True, follow=True)) == [f"line {n}\n".encode() for n in range(5)]


def test_a_followed_log_may_be_left_before_its_end(engine: Engine, session: Session) -> None:
    stream = docker_client(session).api.logs("c", stream=True, follow=True)
    assert next(stream) == b"line 0\n"
    stream.close()
    assert docker_client(session).containers.get("c").name == "c"


def test_as_many_logs_as_channels_are_followed_at_once(engine: Engine, session: Session, sshd: Sshd) -> None:
    api = docker_client(session).api
    api.inspect_container("c")
    followed: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: followed.extend(api.logs("c", stream=True, follow=True)), daemon=True)
        for _ in range(MOST)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(followed) == MOST * 5
    assert sshd.most_sessions <= MOST
    assert len([path for path in engine.requests if path.endswith("/containers/c/json")]) == 1


def test_exec_takes_the_upgraded_stream_without_losing_its_first_bytes(engine: Engine, session: Session) -> None:
    container = docker_client(session).containers.get("c")
    result = container.exec_run(["x"], demux=True)
    assert result.exit_code == 0
    assert list(result.output) == [b"out\n", b"err\n"]


def test_more_threads_than_max_sessions_share_one_connection(engine: Engine, session: Session, sshd: Sshd) -> None:
    client = docker_client(session)
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda: names.append(str(client.containers.get("c").name)), daemon=True)
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert names == ["c"] * 16
    assert sshd.accepted == 1


def test_a_timeout_is_a_host_error(engine: Engine, session: Session) -> None:
    client = docker_client(session, timeout=0.5)
    with pytest.raises(HostError, match=r"no answer to GET .*/containers/slow/json in 0\.5 s"):
        client.api.inspect_container("slow")


def test_an_answer_that_is_lost_once_is_asked_for_again_on_a_channel_of_its_own(
    engine: Engine, session: Session, sshd: Sshd
) -> None:
    engine.lost = 1
    client = docker_client(session, timeout=2)
    assert client.api.inspect_container("lost")["Id"] == "lost"
    assert sshd.commands.count("docker system dial-stdio") == 2


def test_an_engine_that_hangs_is_asked_once_for_each_thing_until_it_answers_again(
    engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = docker_client(session).api
    limits: list[float] = []
    answers: list[requests.Response | None] = []

    def send(_request: requests.PreparedRequest, options: Mapping[str, float]) -> requests.Response:
        limits.append(options["timeout"])
        answer = answers.pop(0)
        if answer is None:
            raise _NoAnswerError(session.host.name, "no answer")
        return answer

    monkeypatch.setattr(api, "_send", send)
    question = requests.Request("GET", "http://engine/_ping").prepare()
    for given in ([None, None], [None], [requests.Response()], [None, requests.Response()]):
        answers[:] = given
        with contextlib.suppress(HostError):
            api.send(question, timeout=None)
        assert not answers
    assert limits == [60, 60, 10, 10, 60, 60]


def test_what_changes_the_host_is_never_asked_for_twice(engine: Engine, session: Session) -> None:
    client = docker_client(session)
    assert client.containers.get("c").name == "c"  # from here on the request reaches the engine before the time is over
    client.api.timeout = 1
    with pytest.raises(HostError, match="no answer to POST"):
        client.api.start("slow")
    assert len([path for path in engine.requests if path.endswith("/slow/start")]) == 1


def test_the_engine_is_reached_under_sudo(engine: Engine, connector: Connector, sshd: Sshd, keys: Keys) -> None:
    Path(sshd.behaviour.path, "password").write_text("s3cret")
    session = connector.connect(sshd.host(key_file=str(keys.user), become_password="s3cret"))
    assert docker_client(session).containers.get("c").name == "c"


def test_a_missing_docker_command_has_a_hint(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="no docker command") as caught:
        docker_client(session)
    assert "install the docker CLI" in caught.value.hint


def test_a_stopped_engine_has_a_hint(engine: Engine, session: Session, tmp_path: Path) -> None:
    (tmp_path / "docker.sock").unlink()
    with pytest.raises(HostError, match="engine is not running") as caught:
        docker_client(session)
    assert "systemctl" in caught.value.hint
    assert caught.value.tail


def test_an_engine_that_stops_between_two_calls_is_said(
    engine: Engine, session: Session, sshd: Sshd, tmp_path: Path
) -> None:
    client = docker_client(session)
    (tmp_path / "docker.sock").unlink()
    sshd.children[0].kill()
    sshd.children[0].wait()
    with pytest.raises(HostError, match="engine is not running"):
        client.containers.get("c")


def test_a_cut_link_is_a_host_error(engine: Engine, session: Session, sshd: Sshd) -> None:
    client = docker_client(session)
    sshd.cut()
    with pytest.raises(HostError, match="lost"):
        client.containers.get("c")
