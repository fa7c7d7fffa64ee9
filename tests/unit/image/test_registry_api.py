"""The registry client speaks the protocol and puts refusals into words; a fake adapter answers, nothing is sent."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter

from fleet.errors import FleetError
from fleet.image.layout import OCI_MANIFEST
from fleet.image.registry_api import RECORD, RegistryClient
from fleet.inventory.settings import Registry
from fleet.secret import Secret
from tests.unit.image.layouts import digest_of

PLAIN = Registry("registry.test:5000")
LOGIN = Registry("registry.test:5000", username=Secret("u", literal="bob"), password=Secret("p", literal="s3cret"))
TAG = "https://registry.test:5000/v2/vllm/manifests/v1"
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
MANIFEST = digest_of(b"{}")
Answer = tuple[int, Mapping[str, str], bytes]


class Fake(BaseAdapter):
    """Answers by a function of (method, url, Authorization) and writes down what was asked."""

    def __init__(self, answer: Callable[[str, str, str], Answer]) -> None:
        super().__init__()
        self.answer = answer
        self.asked: list[tuple[str, str, str]] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        asked = (str(request.method), str(request.url), str(request.headers.get("Authorization", "")))
        self.asked.append(asked)
        code, headers, body = self.answer(*asked)
        response = requests.Response()
        response.status_code = code
        response.reason = "Reason"
        response.headers.update(headers)
        response._content = body
        response.url = asked[1]
        response.request = request
        return response

    def close(self) -> None:
        pass


def client(answer: Callable[[str, str, str], Answer], registry: Registry = PLAIN) -> tuple[RegistryClient, Fake]:
    fake = Fake(answer)
    session = requests.Session()
    session.mount("https://", fake)
    session.mount("http://", fake)
    return RegistryClient(registry, session=session, sleep=lambda _seconds: None), fake


def test_a_tag_gives_its_digest_by_head_alone() -> None:
    registry, fake = client(lambda *_: (200, {"Docker-Content-Digest": DIGEST}, b""))
    assert registry.digest("vllm", "v1") == DIGEST
    assert fake.asked == [("HEAD", TAG, "")]


def test_a_registry_that_does_not_say_the_digest_is_read() -> None:
    registry, _ = client(lambda method, *_: (200, {}, b"" if method == "HEAD" else b"{}"))
    assert registry.digest("vllm", "v1") == digest_of(b"{}")


def test_a_missing_tag_is_no_error() -> None:
    registry, _ = client(lambda *_: (404, {}, b""))
    assert not registry.digest("vllm", "v1")


def test_basic_credentials_are_sent_only_when_asked_for() -> None:
    def answer(_method: str, _url: str, auth: str) -> Answer:
        good = auth.startswith("Basic ")
        return (
            (200, {"Docker-Content-Digest": DIGEST}, b"") if good else (401, {"WWW-Authenticate": "Basic realm=x"}, b"")
        )

    registry, fake = client(answer, LOGIN)
    assert registry.digest("vllm", "v1") == DIGEST
    assert [bool(auth) for _, _, auth in fake.asked] == [False, True]
    registry.digest("vllm", "v1")
    assert len(fake.asked) == 3


def test_a_token_is_fetched_for_the_scope() -> None:
    def answer(_method: str, url: str, auth: str) -> Answer:
        if url.startswith("https://auth.test/token"):
            return 200, {}, b'{"token": "t0k"}'
        challenge = 'Bearer realm="https://auth.test/token",service="registry.test",scope="repository:vllm:pull"'
        good = auth == "Bearer t0k"
        return (200, {"Docker-Content-Digest": DIGEST}, b"") if good else (401, {"WWW-Authenticate": challenge}, b"")

    registry, fake = client(answer, LOGIN)
    assert registry.digest("vllm", "v1") == DIGEST
    (_, url, auth) = fake.asked[1]
    assert "service=registry.test" in url
    assert "scope=repository%3Avllm%3Apull" in url
    assert auth.startswith("Basic ")


def test_credentials_do_not_go_to_a_token_server_without_tls() -> None:
    registry, fake = client(lambda *_: (401, {"WWW-Authenticate": 'Bearer realm="http://auth.test/token"'}, b""), LOGIN)
    with pytest.raises(FleetError, match="not TLS"):
        registry.digest("vllm", "v1")
    assert len(fake.asked) == 1


def test_uploads_do_not_follow_the_registry_elsewhere() -> None:
    def answer(method: str, _url: str, _auth: str) -> Answer:
        return (202, {"Location": "https://evil.test/upload"}, b"") if method == "POST" else (404, {}, b"")

    registry, fake = client(answer, LOGIN)
    with pytest.raises(FleetError, match=r"evil\.test"):
        registry.put_record("vllm", "fleet-1", b"x", {})
    assert not [url for _, url, _ in fake.asked if "evil" in url]


@pytest.mark.parametrize(
    ("registry", "code", "headers", "words"),
    [
        (PLAIN, 401, {"WWW-Authenticate": 'Basic realm="x"'}, "asks for credentials"),
        (LOGIN, 401, {"WWW-Authenticate": 'Basic realm="x"'}, "refuses our credentials"),
        (LOGIN, 403, {}, "denies access to vllm v1"),
        (LOGIN, 429, {}, "limits its callers"),
        (LOGIN, 500, {}, "answers 500 Reason"),
        (LOGIN, 401, {}, "unknown authentication"),
    ],
)
def test_refusals_are_said_without_the_password(
    registry: Registry, code: int, headers: dict[str, str], words: str
) -> None:
    one, _ = client(lambda *_: (code, headers, b""), registry)
    with pytest.raises(FleetError, match=words) as caught:
        one.digest("vllm", "v1")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            requests.exceptions.SSLError(
                "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed (_ssl.c)"
            ),
            "not trusted: self-signed; set registry.ca_file",
        ),
        (
            requests.exceptions.SSLError("certificate verify failed: certificate has expired (_ssl.c:1006)"),
            "not trusted: certificate has expired; renew",
        ),
        (
            requests.exceptions.SSLError(
                "certificate verify failed: IP address mismatch, certificate is not valid for '10.0.0.1'. (_ssl.c:1006)"
            ),
            "certificate is not valid for '10.0.0.1'; name it as its certificate does",
        ),
        (requests.exceptions.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), "does not speak TLS"),
        (requests.exceptions.ConnectionError("[Errno 111] Connection refused"), "connection refused"),
        (requests.exceptions.ConnectionError("[Errno -2] Name or service not known"), "its name is not known"),
        (requests.exceptions.ReadTimeout("x"), "did not answer in time"),
        (
            requests.exceptions.SSLError("[X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found"),
            "no certificate in",
        ),
        (OSError("Could not find a suitable TLS CA certificate bundle"), "ca_file"),
    ],
)
def test_a_registry_that_cannot_be_talked_to_is_said(error: Exception, words: str) -> None:
    def fail(*_: str) -> Answer:
        raise error

    registry, _ = client(fail)
    with pytest.raises(FleetError, match=words):
        registry.digest("vllm", "v1")


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("failing", ["HEAD", "POST", "PUT", "GET"])
def test_one_bad_answer_to_any_request_of_a_record_changes_nothing(code: int, failing: str) -> None:
    failed: list[str] = []

    def answer(method: str, url: str, _auth: str) -> Answer:
        kind = "manifests" if "manifests" in url else "blobs"
        if method == failing and kind not in failed:
            failed.append(kind)
            return code, {}, b""
        if method == "POST":
            return 202, {"Location": f"/v2/vllm/blobs/uploads/{len(failed)}"}, b""
        if "manifests" in url and method == "GET":
            return 200, {}, b"{}"
        return (404, {}, b"") if method == "HEAD" else (201, {}, b"")

    registry, fake = client(answer)
    assert registry.put_record("vllm", "fleet-1", b"x", {}).startswith("sha256:")
    assert registry.get_record("vllm", "fleet-1") is None
    assert failed
    ends = [url for method, url, _ in fake.asked if method == "PUT" and "uploads" in url]
    assert len(ends) == len(set(ends)), "an upload was ended twice"


@pytest.mark.parametrize("asked", ["20", "Mon, 01 Jan 2024 00:00:00 GMT", "soon", ""])
def test_what_the_registry_asks_to_wait_is_waited(asked: str) -> None:
    answers = iter([(503, {"Retry-After": asked}, b""), (404, {}, b"")])
    waits: list[float] = []
    fake = Fake(lambda *_: next(answers))
    session = requests.Session()
    session.mount("https://", fake)
    assert not RegistryClient(PLAIN, session=session, sleep=waits.append).digest("vllm", "v1")
    (waited,) = waits
    assert waited == 20.0 if asked == "20" else waited < 1.0


@pytest.mark.parametrize(("code", "may"), [(202, True), (401, False), (403, False), (404, False), (405, False)])
def test_whether_we_may_push_is_asked_by_an_upload_that_is_given_up(code: int, may: bool) -> None:
    def answer(method: str, _url: str, _auth: str) -> Answer:
        if method == "DELETE":
            return 204, {}, b""
        return code, {"Location": "/v2/vllm/blobs/uploads/1", "WWW-Authenticate": 'Basic realm="x"'}, b""

    registry, fake = client(answer, LOGIN)
    assert registry.may_push("vllm") is may
    given_up = ("DELETE", "https://registry.test:5000/v2/vllm/blobs/uploads/1")
    assert (given_up in [asked[:2] for asked in fake.asked]) is may


def test_a_token_server_that_is_busy_is_asked_again() -> None:
    codes = iter([503, 200])

    def answer(_method: str, url: str, auth: str) -> Answer:
        if url.startswith("https://token.test"):
            return next(codes), {}, b'{"token": "t"}'
        bearer = {"WWW-Authenticate": 'Bearer realm="https://token.test/t"'}
        return (200, {"Docker-Content-Digest": DIGEST}, b"") if auth == "Bearer t" else (401, bearer, b"")

    registry, _ = client(answer, LOGIN)
    assert registry.digest("vllm", "v1") == DIGEST


def test_the_proxy_that_was_used_is_in_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.corp:3128")
    monkeypatch.setenv("no_proxy", "")
    for code in (503, 403, 500):
        registry, _ = client(lambda *_, code=code: (code, {}, b""))
        with pytest.raises(FleetError) as caught:
            registry.digest("vllm", "v1")
        assert "proxy.corp:3128" in caught.value.hint


def test_a_manifest_that_is_not_its_digest_is_refused() -> None:
    registry, _ = client(lambda *_: (200, {}, b"{}"))
    with pytest.raises(FleetError, match="damaged"):
        registry.manifest("vllm", DIGEST)


def test_an_ordinary_image_under_the_tag_is_no_record() -> None:
    manifest = json.dumps({"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": DIGEST}]})
    registry, _ = client(lambda *_: (200, {"Content-Type": OCI_MANIFEST}, manifest.encode()))
    assert registry.get_record("vllm", "fleet-1") is None


def test_a_damaged_record_is_refused() -> None:
    manifest = json.dumps({"layers": [{"mediaType": RECORD, "digest": DIGEST}]}).encode()
    registry, _ = client(lambda _m, url, _a: (200, {}, b"other" if "/blobs/" in url else manifest))
    with pytest.raises(FleetError, match=r"blob sha256:a+ of vllm is damaged"):
        registry.get_record("vllm", "fleet-1")


def test_docker_hub_has_a_host_of_its_own() -> None:
    registry, fake = client(lambda *_: (404, {}, b""), Registry("docker.io"))
    registry.digest("library/redis", "7")
    assert fake.asked[0][1].startswith("https://registry-1.docker.io/v2/library/redis/")


@pytest.mark.parametrize(("before", "move", "puts"), [("", False, 1), (MANIFEST, False, 0), (OTHER, True, 1)])
def test_a_tag_is_set_once_and_moved_only_when_asked(before: str, move: bool, puts: int) -> None:
    registry, fake = client(tagged(before))
    assert registry.tag("vllm", MANIFEST, "v1", move=move) is bool(puts)
    assert [url for method, url, _ in fake.asked if method == "PUT"] == [TAG] * puts


def test_a_tag_of_another_image_is_never_moved_by_itself() -> None:
    registry, fake = client(tagged(OTHER))
    with pytest.raises(FleetError, match="is never moved"):
        registry.tag("vllm", MANIFEST, "v1")
    assert "PUT" not in {method for method, _, _ in fake.asked}


def tagged(before: str) -> Callable[[str, str, str], Answer]:
    """A registry whose tag v1 names `before`, "" for nothing, and which has the manifest."""

    def answer(method: str, url: str, _auth: str) -> Answer:
        if method == "PUT":
            return 201, {}, b""
        if url == TAG:
            return (200, {"Docker-Content-Digest": before}, b"") if before else (404, {}, b"")
        return 200, {"Content-Type": OCI_MANIFEST}, b"{}"

    return answer


def test_the_config_of_an_index_is_that_of_our_platform() -> None:
    config = json.dumps({"config": {"Env": ["A=b"]}}).encode()
    manifest = json.dumps({"config": {"digest": digest_of(config)}}).encode()
    entries = [
        {"digest": digest_of(manifest), "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": DIGEST, "platform": {"os": "linux", "architecture": "arm64"}},
        {"digest": OTHER, "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    index = json.dumps({"manifests": entries}).encode()
    bodies = {digest_of(one): one for one in (config, manifest, index)}

    def answer(_method: str, url: str, _authorization: str) -> Answer:
        body = bodies.get(url.rpartition("/")[2])
        return (404, {}, b"") if body is None else (200, {}, body)

    registry, _ = client(answer)
    assert registry.config("vllm", digest_of(index)) == {"config": {"Env": ["A=b"]}}
    assert registry.config("vllm", digest_of(manifest)) == {"config": {"Env": ["A=b"]}}
    assert registry.config("vllm", DIGEST) is None
