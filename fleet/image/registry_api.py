"""A small client of the OCI distribution API (distribution-spec 1.1): digests of tags, and little records as artifacts.

Images themselves move by the engines and by skopeo. Credentials are sent to the registry, or to the token server that it
names over TLS; they are never logged and stand in no error.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urljoin, urlparse

import requests
from requests.auth import AuthBase, _basic_auth_str

from fleet.errors import FleetError
from fleet.image.again import TransientError, again
from fleet.image.layout import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, pick_platform
from fleet.image.registry_words import LOGIN, DeniedError, passing, refusal, unanswered
from fleet.inventory.settings import Registry

T = TypeVar("T")
RECORD = "application/vnd.io.fleet.release.v1+json"
EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"
_ACCEPT = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_INDEX}"
_TIMEOUT = (10, 60)  # seconds to connect, and between two bytes
_PATIENCE = 30.0  # seconds after which a request that failed twice is given up
_LIMIT = 4 << 20  # bytes of a manifest; the spec asks clients to cope with 4 MiB


class _Authorization(AuthBase):
    """Sets our header, and by being there keeps requests from sending what ~/.netrc says."""

    def __init__(self, header: str) -> None:
        self._header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._header:
            request.headers["Authorization"] = self._header
        return request


class RegistryClient:
    """One registry. Thread-safe only as far as `requests` is: use one per thread."""

    def __init__(
        self,
        registry: Registry,
        *,
        session: requests.Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._registry = registry
        self.host = registry.host
        self._sleep = sleep
        self._session = session or requests.Session()
        # Per request, because $REQUESTS_CA_BUNDLE overrides what a session says.
        self._verify: str | bool = str(Path(registry.ca_file).expanduser()) if registry.ca_file else True
        host = "registry-1.docker.io" if registry.host == "docker.io" else registry.host
        self._base = f"{'http' if registry.insecure else 'https'}://{host}/v2/"
        self._headers: dict[str, str] = {}  # by scope

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._session.close()

    def check(self) -> None:
        """Raises FleetError when the registry cannot be reached, is not trusted or refuses our credentials."""
        self._request("GET", "", "", missing_ok=False)

    def digest(self, name: str, reference: str) -> str:
        """The digest of a tag's manifest or index; "" when the registry has no such image."""
        path, scope = f"{name}/manifests/{reference}", scope_of(name, "pull")
        answer = self._request("HEAD", path, scope, headers={"Accept": _ACCEPT})
        if answer is None:
            return ""
        said = answer.headers.get("Docker-Content-Digest", "")
        if re.fullmatch(r"sha256:[0-9a-f]{64}", said):
            return said
        answer = self._request("GET", path, scope, headers={"Accept": _ACCEPT})
        return _sha256(answer.content) if answer is not None else ""

    def manifest(self, name: str, reference: str) -> tuple[str, bytes] | None:
        """Media type and bytes of a manifest; None when there is none. Raises FleetError when a digest does not fit."""
        answer = self._request(
            "GET", f"{name}/manifests/{reference}", scope_of(name, "pull"), headers={"Accept": _ACCEPT}
        )
        if answer is None:
            return None
        if len(answer.content) > _LIMIT:
            raise FleetError(f"registry {self._registry.host}: the manifest of {name}:{reference} is too large")
        if reference.startswith("sha256:") and _sha256(answer.content) != reference:
            raise FleetError(f"registry {self._registry.host}: the manifest of {name}@{reference} is damaged")
        return answer.headers.get("Content-Type", OCI_MANIFEST).partition(";")[0], answer.content

    def amd64(self, name: str, digest: str) -> tuple[str, str] | None:
        """The digests of manifest and config of the linux/amd64 image that a digest means; None where there is not one."""
        found = self.manifest(name, digest)
        document = object_of(found[1], f"{name}@{digest}") if found else {}
        if "manifests" in document:
            fitting = pick_platform(list(document["manifests"] or ()))
            return self.amd64(name, str(fitting[0].get("digest"))) if len(fitting) == 1 else None
        return (digest, str((document.get("config") or {}).get("digest"))) if document else None

    def may_push(self, name: str) -> bool:
        """Whether our account may push there. An upload is begun for that, and given up at once."""
        scope = scope_of(name, "pull,push")
        try:
            begun = self._request("POST", f"{name}/blobs/uploads/", scope, missing_ok=False)
        except TransientError:
            raise
        except FleetError:
            return False
        with suppress(FleetError):  # a registry clears away by itself what is left of it
            self._once("DELETE", begun.headers.get("Location", "") if begun else "", scope, None, None, missing_ok=True)
        return True

    def put_record(self, name: str, tag: str, content: bytes, annotations: Mapping[str, str]) -> str:
        """Store a small record as an OCI artifact under a tag; gives its manifest's digest."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": RECORD,
            "config": {"mediaType": EMPTY_CONFIG, **self._put_blob(name, b"{}")},
            "layers": [{"mediaType": RECORD, **self._put_blob(name, content)}],
            "annotations": dict(annotations),
        }
        body = json.dumps(manifest, sort_keys=True).encode()
        headers = {"Content-Type": OCI_MANIFEST}
        scope = scope_of(name, "pull,push")
        self._request("PUT", f"{name}/manifests/{tag}", scope, headers=headers, data=body, missing_ok=False)
        return _sha256(body)

    def tag(self, name: str, digest: str, tag: str, *, move: bool = False) -> bool:
        """Let a tag name the manifest of this digest; False when it does already.

        Raises FleetError for a tag that names another one, unless `move`, and for a manifest that is not there.
        """
        before = self.digest(name, tag)
        if before == digest:
            return False
        if before and not move:
            raise FleetError(f"registry {self._registry.host}: {name}:{tag} names {before}, and is never moved")
        found = self.manifest(name, digest)
        if found is None:
            raise FleetError(f"registry {self._registry.host} has no {name}@{digest}")
        kind, body = found
        scope = scope_of(name, "pull,push")
        path = f"{name}/manifests/{tag}"
        self._request("PUT", path, scope, headers={"Content-Type": kind}, data=body, missing_ok=False)
        return True

    def get_record(self, name: str, tag: str) -> bytes | None:
        """A record's bytes, checked; None when there is no such tag or it is no record."""
        found = self.manifest(name, tag)
        layers = object_of(found[1], f"{name}:{tag}").get("layers") if found else None
        if not layers or layers[0].get("mediaType") != RECORD:
            return None
        return self.blob(name, str(layers[0].get("digest")))

    def blob(self, name: str, digest: str) -> bytes | None:
        """A small blob's bytes, checked; None when there is none. Raises FleetError for one that is damaged."""
        answer = self._request("GET", f"{name}/blobs/{digest}", scope_of(name, "pull"))
        if answer is None:
            return None
        if _sha256(answer.content) != digest:
            raise FleetError(f"registry {self._registry.host}: blob {digest} of {name} is damaged")
        return answer.content

    def config(self, name: str, digest: str) -> dict[str, Any] | None:
        """The config document of the linux/amd64 image that a manifest or an index of this digest means, or None."""
        found = self.amd64(name, digest)
        blob = self.blob(name, found[1]) if found else None
        return object_of(blob, f"{name}@{digest}") if blob is not None else None

    def _put_blob(self, name: str, content: bytes) -> dict[str, Any]:
        digest = _sha256(content)
        self._again(lambda: self._upload(name, digest, content))
        return {"digest": digest, "size": len(content)}

    def _upload(self, name: str, digest: str, content: bytes) -> None:
        """Begun anew where its end failed: an upload that was ended cannot be ended once more."""
        scope = scope_of(name, "pull,push")
        if self._request("HEAD", f"{name}/blobs/{digest}", scope) is None:
            started = self._request("POST", f"{name}/blobs/uploads/", scope, missing_ok=False)
            where = started.headers.get("Location", "") if started is not None else ""
            joined = f"{where}{'&' if '?' in where else '?'}digest={digest}"
            headers = {"Content-Type": "application/octet-stream"}
            self._once("PUT", joined, scope, headers, content, missing_ok=False)

    def _request(
        self,
        method: str,
        path: str,
        scope: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        missing_ok: bool = True,
    ) -> requests.Response | None:
        """One request, again where its failure passes. None means 404."""
        return self._again(lambda: self._once(method, path, scope, headers, data, missing_ok=missing_ok))

    def _again(self, once: Callable[[], T]) -> T:
        return again(once, limit=_PATIENCE, sleep=self._sleep)

    def _once(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str] | None,
        data: bytes | None,
        *,
        missing_ok: bool,
    ) -> requests.Response | None:
        """One request, repeated once with credentials when the registry asks for them."""
        url = urljoin(self._base, path)
        if urlparse(url).netloc != urlparse(self._base).netloc:
            raise FleetError(f"registry {self._registry.host} sends uploads to {urlparse(url).netloc}, which is not it")
        answer = self._send(method, url, self._headers.get(scope, ""), headers, data)
        if answer.status_code == requests.codes.unauthorized:
            self._headers[scope] = self._authorize(answer.headers.get("WWW-Authenticate", ""), scope)
            answer = self._send(method, url, self._headers[scope], headers, data)
        if answer.status_code == requests.codes.not_found and missing_ok:
            return None
        if not answer.ok:
            raise refusal(self._registry, answer, path)
        return answer

    def _send(
        self, method: str, url: str, authorization: str, headers: Mapping[str, str] | None, data: bytes | None
    ) -> requests.Response:
        auth = _Authorization(authorization)
        try:
            answer = self._session.request(
                method, url, headers=dict(headers or {}), data=data, auth=auth, timeout=_TIMEOUT, verify=self._verify
            )
        except requests.RequestException as error:
            raise unanswered(self._registry, error, url) from error
        except OSError as error:  # requests says so when the CA file is missing
            message = f"registry {self._registry.host}: ca_file {self._registry.ca_file} cannot be read"
            raise FleetError(message) from error
        if passes := passing(self._registry, answer):
            raise passes
        return answer

    def _authorize(self, challenge: str, scope: str) -> str:
        kind, _, rest = challenge.partition(" ")
        username, password = self._registry.username, self._registry.password
        basic = _basic_auth_str(username.reveal(), password.reveal()) if username and password else ""
        if kind.lower() == "basic":
            if not basic:
                message = f"registry {self._registry.host} asks for credentials (401)"
                raise DeniedError(message, hint=LOGIN)
            return basic
        words = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = words.get("realm", "")
        if kind.lower() != "bearer" or not realm:
            raise FleetError(f"registry {self._registry.host} asks for {kind or 'unknown'} authentication (401)")
        if not self._registry.insecure and urlparse(realm).scheme != "https":
            raise FleetError(f"registry {self._registry.host} sends credentials to {realm}, which is not TLS")
        query = {"service": words.get("service", ""), "scope": words.get("scope") or scope}
        try:
            answer = self._session.get(
                realm, params=query, auth=_Authorization(basic), timeout=_TIMEOUT, verify=self._verify
            )
            token = answer.json() if answer.ok else {}
        except requests.ConnectionError as error:
            raise TransientError(f"registry {self._registry.host}: its token server {realm} did not answer") from error
        except (requests.RequestException, ValueError) as error:
            raise FleetError(f"registry {self._registry.host}: its token server {realm} did not answer well") from error
        if not answer.ok:
            raise passing(self._registry, answer) or refusal(self._registry, answer, "")
        return f"Bearer {token.get('token') or token.get('access_token') or ''}"


def scope_of(name: str, actions: str) -> str:
    return f"repository:{name}:{actions}"


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def object_of(content: bytes, what: str) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except ValueError as error:
        raise FleetError(f"the manifest of {what} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise FleetError(f"the manifest of {what} is no JSON object")
    return data
