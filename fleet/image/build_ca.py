"""A private CA that the RUN steps of a build trust, with the Dockerfile as upstream wrote it and no trace in the image.

The Dockerfile that the builder gets is the checked-out one with two additions: every RUN mounts a bundle of certificates
as a BuildKit secret, and every stage declares ARGs that point pip, git, curl, uv, cargo and Python's ssl at it. An ARG is
in the environment of RUN and not in the image's, and a secret is in no layer: so what is built does not depend on how it
was fetched, and the content key needs no word of it. apt and wget look into the image's own store and see none of this.
"""

import re
import shutil
from pathlib import Path

import certifi
from cryptography import x509

from fleet.errors import FleetError
from fleet.image import dockerfile_syntax

SECRET = "fleet_ca"  # noqa: S105  its name, not its content
PATH = f"/run/secrets/{SECRET}"  # where a secret lies unless told otherwise (docs: RUN --mount=type=secret)
VARIABLES = (
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)
LIMIT = 500 << 10  # bytes; BuildKit takes no larger secret (session/secrets, MaxSecretSize)
_MOUNT = f"--mount=type=secret,id={SECRET},required=true,mode=0444"
_ARGS = "ARG " + " ".join(f"{name}={PATH}" for name in VARIABLES)


def with_ca(text: str) -> str:
    """A Dockerfile's text with the mounts and ARGs added. Pure. A RUN that mounts the secret itself is left alone."""
    lines = text.removeprefix("\ufeff").splitlines()
    instructions = dockerfile_syntax.read(text).instructions
    ends = [*(following.line - 1 for following in instructions[1:]), len(lines)]
    for instruction, end in reversed(list(zip(instructions, ends, strict=True))):
        at = instruction.line - 1
        if instruction.keyword == "FROM":
            lines.insert(end, _ARGS)
        elif instruction.keyword == "RUN" and not any(f"id={SECRET}" in value for _, value in instruction.flags):
            lines[at] = re.sub(r"^(\s*run)\b", rf"\1 {_MOUNT}", lines[at], count=1, flags=re.IGNORECASE)
    return "\n".join((*lines, ""))


def bundle(ca_file: str) -> bytes:
    """The public roots and the private CA, PEM: the variables replace a program's own roots. Raises FleetError."""
    try:
        own = Path(ca_file).expanduser().read_bytes()
    except OSError as error:
        raise FleetError(f"source.ca_file {ca_file} cannot be read: {error.strerror}") from error
    try:
        if not x509.load_pem_x509_certificates(own):
            raise ValueError
    except ValueError as error:
        raise FleetError(
            f"source.ca_file {ca_file} holds no certificate in PEM",
            hint="openssl x509 -in FILE -inform DER -out ca.pem makes one of a DER file",
        ) from error
    content = b"\n".join((Path(certifi.where()).read_bytes(), own, b""))
    if len(content) > LIMIT:
        raise FleetError(
            f"source.ca_file {ca_file} is too large: with the public roots {len(content)} bytes of {LIMIT}",
            hint="name only the CA that signed your servers' certificates",
        )
    return content


def write_bundle(ca_file: str, folder: Path) -> Path:
    path = folder / "ca.pem"
    path.write_bytes(bundle(ca_file))
    return path


def write_dockerfile(original: Path, folder: Path) -> Path:
    """The added-to Dockerfile in a directory of its own, outside the context, whose git tree must stay clean."""
    target = folder / "dockerfile" / original.name
    target.parent.mkdir()
    target.write_text(with_ca(original.read_text(encoding="utf-8")), encoding="utf-8")
    ignored = original.with_name(f"{original.name}.dockerignore")  # BuildKit looks for it beside the Dockerfile
    if ignored.is_file():
        shutil.copy(ignored, target.parent)
    return target
