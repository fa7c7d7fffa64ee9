"""What a registry answered, or why it did not, in words."""

import email.utils
import re
import time

import requests

from fleet.errors import FleetError
from fleet.image import proxy
from fleet.image.again import TransientError
from fleet.inventory.settings import Registry

LOGIN = "set its username and password: fleet.registry, or fleet.registries for one that images come from"
_PLAIN = "set registry.insecure: true if that is meant (fleet.registry or fleet.registries)"
_PASSING = frozenset({429, 500, 502, 503, 504})  # 500: its own storage failed it, which mostly passes


class UnsupportedError(FleetError):
    """The registry does not offer what was asked of it (405, or its own word UNSUPPORTED)."""


class DeniedError(FleetError):
    """The registry knows us and does not let us do that, or wants to know us first (401, 403)."""


def passing(registry: Registry, answer: requests.Response) -> TransientError | None:
    """The answer as an error that passes; None where it is none."""
    host, code = registry.host, answer.status_code
    if code not in _PASSING:
        return None
    after = _seconds(answer.headers.get("Retry-After", ""))
    asks = f" and asks to come back in {after:.0f} s" if after else ""
    if code == requests.codes.too_many_requests:
        return TransientError(
            f"registry {host} limits its callers (429){asks}", hint="wait, or use credentials", after=after
        )
    said = f"registry {host} answers {code} {answer.reason}{asks}{_said(answer)}"
    return TransientError(said, hint=proxy.hint(str(answer.url)), after=after)


def refusal(registry: Registry, answer: requests.Response, path: str) -> FleetError:
    host, code = registry.host, answer.status_code
    if code == requests.codes.unauthorized:
        given = registry.username is not None
        hint = "check its username and password" if given else LOGIN
        return DeniedError(f"registry {host} {'refuses our' if given else 'asks for'} credentials (401)", hint=hint)
    if code == requests.codes.forbidden:
        hint = proxy.hint(str(answer.url)) or "ask for pull or push rights"
        return DeniedError(f"registry {host} denies access to {_image(path)} (403)", hint=hint)
    if code == requests.codes.not_found:
        return FleetError(f"registry {host} has no {_image(path)} (404)")
    if code == requests.codes.not_allowed or _code(answer) == "UNSUPPORTED":
        return UnsupportedError(f"registry {host} does not allow that for {_image(path)} ({code})")
    said = f"registry {host} answers {code} {answer.reason} for {_image(path)}{_said(answer)}"
    return FleetError(said, hint=proxy.hint(str(answer.url)))


def unanswered(registry: Registry, error: requests.RequestException, url: str) -> FleetError:
    """A request without an answer. What helps is part of the sentence, for callers that pass on the message alone."""
    host, text = registry.host, str(error)
    if isinstance(error, requests.exceptions.SSLError):
        if "wrong version number" in text.lower() or "record layer failure" in text.lower():
            return FleetError(f"registry {host} does not speak TLS; {_PLAIN}")
        if "no certificate or crl found" in text.lower() or "pem lib" in text.lower():
            return FleetError(f"registry {host}: ca_file {registry.ca_file} holds no certificate in PEM")
        reason = re.search(r"certificate verify failed: (.+?)\.?(?: \(_ssl|\"|'\)|$)", text)
        if reason or "EOF" not in text:
            said = reason[1] if reason else "TLS failed"
            return FleetError(f"registry {host} is not trusted: {said}; {_trust(said)}", hint=proxy.hint(url))
    hint = proxy.hint(url)
    if isinstance(error, requests.exceptions.Timeout):
        return TransientError(f"registry {host} did not answer in time", hint=hint)
    for sign, words in (
        ("Cannot connect to proxy", "the proxy does not let us through"),
        ("Name or service not known", "its name is not known"),
        ("Temporary failure in name resolution", "its name cannot be resolved"),
        ("NameResolutionError", "its name cannot be resolved"),
        ("Connection refused", "connection refused; is it running?"),
        ("No route to host", "no route to host"),
        ("Connection reset", "it closed the connection"),
        ("Remote end closed", "it closed the connection"),
        ("Connection aborted", "it closed the connection"),
    ):
        if sign in text:
            return TransientError(f"registry {host} cannot be reached: {words}", hint=hint)
    said = f"registry {host} cannot be reached: {type(error).__name__}"
    passes = isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError)
    return TransientError(said, hint=hint) if passes else FleetError(said, hint=hint)


def helps(said: str) -> str:
    """What helps where skopeo did not get as far as an answer of the registry's; "" where it did."""
    if "x509" in said:
        return _trust(said)
    if re.search("does not look like a TLS handshake|HTTP response to HTTPS client", said, re.IGNORECASE):
        return _PLAIN
    if "docker://[" in said and "invalid reference format" in said:
        return "give the registry a name: this skopeo, and older engines, read no IPv6 address in an image's name"
    return ""


def _trust(said: str) -> str:
    """What helps against a certificate that was refused, in OpenSSL's words or Go's. No CA makes a date or a name right."""
    if "expired" in said:
        return "renew its certificate, if the clock here is right"
    if "not yet valid" in said:
        return "set the clock here, if its certificate is right"
    if re.search(r"mismatch|doesn't contain any|not valid for any|certificate is valid for", said):
        return "name it as its certificate does, or have that name added to the certificate"
    return "set registry.ca_file to the CA that signed its certificate, or that of fleet.registries"


def _seconds(text: str) -> float:
    """Retry-After (RFC 9110, 10.2.3): seconds, or a date."""
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _image(path: str) -> str:
    return re.sub(r"/(?:manifests|blobs)/", " ", path) or "its API"


def _said(answer: requests.Response) -> str:
    """The first error of the registry's own JSON, if it sent any."""
    try:
        return f": {answer.json()['errors'][0]['message']}"
    except (ValueError, LookupError, TypeError):
        return ""


def _code(answer: requests.Response) -> str:
    try:
        return str(answer.json()["errors"][0]["code"])
    except (ValueError, LookupError, TypeError):
        return ""
