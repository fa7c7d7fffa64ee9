"""Push a release from its OCI layout to a registry, by skopeo on the machine where the layout lies.

The digest in the registry is the layout's own. Credentials and CA travel by stdin into a private directory that ends
with the script, whatever ends it; argv, environment and the builder's disk never keep them.
"""

import io
import re
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from fleet.delivery.progress import STALL, At
from fleet.errors import FleetError
from fleet.image import skopeo
from fleet.image.again import TransientError, again, is_transient
from fleet.image.machine import Here, Machine
from fleet.image.registry_words import helps
from fleet.inventory.settings import Registry

# $1 seconds without progress, $2 source, $3 target, then flags. skopeo tells no bytes when nobody watches, so they are
# read from the kernel's account of it (proc(5), /proc/PID/io); small change, such as a runtime's wake-ups, is no progress.
SCRIPT = r"""
umask 077
command -v skopeo >/dev/null || exit 127
work=$(mktemp -d "${TMPDIR:-/tmp}/fleet-push-XXXXXX") || exit 1
copy=
finish() { [ -z "$copy" ] || kill "$copy" 2>/dev/null; rm -rf -- "$work"; }
trap finish EXIT
trap 'exit 129' HUP INT TERM PIPE
tar -x -C "$work" -f - || exit 1
limit=$1 source=$2 target=$3
shift 3
[ ! -f "$work/auth.json" ] || set -- --dest-authfile "$work/auth.json" "$@"
[ ! -d "$work/certs" ] || set -- --dest-cert-dir "$work/certs" "$@"
skopeo --override-os linux --override-arch amd64 copy --preserve-digests "$@" "$source" "$target" </dev/null 2>&1 &
copy=$!
last=0 still=0
while sleep 0.5 && now=$(sed -n 's/^rchar: //p' "/proc/$copy/io" 2>/dev/null) && [ -n "$now" ]; do
  if [ $((now - last)) -ge 4096 ]; then
    last=$now still=0
    echo "fleet-bytes $now"
  else
    still=$((still + 1))
  fi
  [ "$still" -lt $((limit * 2)) ] || exit 75
done
wait "$copy"
code=$?
copy=
exit "$code"
"""
STALLED, NO_SKOPEO = 75, 127
TOLD = "fleet-bytes "


def push(
    layout: Path | str,
    registry: Registry,
    name: str,
    tag: str,
    *,
    machine: Machine | None = None,
    on_line: Callable[[str], None],
    at: At = lambda _done: None,
    stall: float = STALL,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Copy the one image of `layout`, a path on `machine` (default: here), to `registry/name:tag`.

    `stall` is in seconds without progress. Tried again where the registry or the line to it failed. Raises FleetError
    with skopeo's reason; what the registry has by then, it keeps, and the next push goes on from there.
    """
    machine = machine or Here()
    insecure = ("--dest-tls-verify=false",) if registry.insecure else ()
    target = f"docker://{registry.host}/{name}:{tag}"
    argv = ("sh", "-c", SCRIPT, "sh", str(int(stall)), f"oci:{layout}", target, *insecure)
    what = f"could not push {name}:{tag} from {machine.name} to {registry.host}"

    def once() -> None:
        lines: list[str] = []

        def take(line: str) -> None:
            if line.startswith(TOLD):
                at(int(line.removeprefix(TOLD)))
            else:
                lines.append(line)
                on_line(line)

        code = machine.stream(argv, take, stdin=_access(registry))
        said = _reason(code, lines, stall)
        passes = code == STALLED or (code != NO_SKOPEO and is_transient(said))
        if code:
            raise (TransientError if passes else FleetError)(f"{what}: {said}", hint=_hint(code, said, machine))

    again(once, say=on_line, pause=skopeo.PAUSE, sleep=sleep)


def _access(registry: Registry) -> bytes:
    """What skopeo needs to be let in, as a tar: `auth.json`, `certs/ca.crt`."""
    files: dict[str, bytes] = {}
    if login := skopeo.auth_json(registry):
        files["auth.json"] = login.encode()
    if registry.ca_file:
        try:
            files["certs/ca.crt"] = Path(registry.ca_file).expanduser().read_bytes()
        except OSError as error:
            raise FleetError(f"registry.ca_file {registry.ca_file} cannot be read: {error.strerror}") from error
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o600
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def _reason(code: int, lines: list[str], stall: float) -> str:
    if code == STALLED:
        return f"nothing moved for {stall:.0f} s"
    if code == NO_SKOPEO:
        return "skopeo is not installed there"
    return skopeo.reason(lines)


def _hint(code: int, said: str, machine: Machine) -> str:
    if code == NO_SKOPEO:
        return f"apt-get install skopeo on {machine.name}"
    if re.search(r"denied|unauthorized|forbidden|authentication required", said, re.IGNORECASE):
        return "the account of fleet.registry may not push there"
    return helps(said) or "the same command again goes on"
