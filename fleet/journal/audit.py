"""The audit on the hosts: one line for each change, written over the session that made it, in one round trip.

It lies in /var/lib/fleet/audit.jsonl where we are root there, or where root has made that file writable to us; else in
the login's own state directory, beside the secrets. A Docker volume would be shared by all logins, but nothing can be
appended to one without a container, and `docker system prune --volumes` deletes what no container mounts.
"""

import getpass
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from fleet.journal.header import SCHEMA, iso, parse, seconds_of
from fleet.shell import STATE_DIR, Shell

# One printf of a shell's builtin is one write(2) as long as it fits its buffer, which POSIX's PIPE_BUF (512…4096)
# bounds from below; O_APPEND then keeps lines of two controllers apart.
LINE = 2048  # bytes of what we say; the host adds its time and our address
ROTATE = 8 << 20  # bytes; one older file is kept, so a host holds at most twice this
READ = 20_000  # lines at most of each file

PLACE = f"""
place() {{
{STATE_DIR}
  if [ -w /var/lib/fleet/audit.jsonl ]; then dir=/var/lib/fleet; fi
  file="$dir/audit.jsonl"
}}
"""
# sudo clears SSH_CONNECTION, but the processes above us still have it, and root may look.
APPEND = (
    PLACE
    + r"""
rotate=$1; shift
place
umask 022
[ -d "$dir" ] || mkdir -p "$dir" || exit 1
from=${SSH_CONNECTION%% *}
pid=$PPID
for _ in 1 2 3 4; do
  [ -z "$from" ] && [ "${pid:-0}" -gt 1 ] || break
  from=$(tr '\0' '\n' < "/proc/$pid/environ" | sed -n 's/^SSH_CONNECTION=\([^ ]*\).*/\1/p') 2>/dev/null
  pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null)
done
from=$(printf %s "$from" | tr -cd '0-9a-zA-Z.:%')
# A line that a power cut tore must not swallow the next one.
start=
[ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ] && start='
'
for line in "$@"; do
  now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  printf '%s%s,"host_at":"%s","address":"%s"}\n' "$start" "$line" "$now" "$from" >> "$file" || exit 1
  start=
done
# Whoever makes the directory rotates; two at once would move the new file over the old one.
size=$(wc -c < "$file")
if [ "$size" -gt "$rotate" ] && [ -w "$dir" ] && mkdir "$file.rotating" 2>/dev/null; then
  [ "$(wc -c < "$file")" -gt "$rotate" ] && mv -f "$file" "$file.1"
  rmdir "$file.rotating"
fi
printf '%s\n' "$file"
"""
)
# Root reads what every login wrote.
READ_ALL = (
    PLACE
    + r"""
lines=$1
place
show() {
  for one in "$1.1" "$1"; do
    [ -r "$one" ] && tail -n "$lines" "$one" && echo
  done
}
show /var/lib/fleet/audit.jsonl
[ "$dir" = /var/lib/fleet ] || show "$file"
if [ "$(id -u)" = 0 ]; then
  for home in /root /home/*; do show "$home/.local/state/fleet/audit.jsonl"; done
fi
exit 0
"""
)


@dataclass(frozen=True)
class AuditEntry:
    """One change of one host. `at` and `host_at` are seconds since the epoch, by the controller's and the host's clock.

    `action` says what was done, for example `replace`; `outcome` is `done`, `failed` or `put back`; `spec` is the
    container's specification hash. `address` is where the SSH connection came from, as the host saw it.
    """

    run: str
    verb: str
    action: str
    outcome: str
    service: str = ""
    replica: str = ""
    release: str = ""
    spec: str = ""
    message: str = ""
    ssh_user: str = ""
    local_user: str = ""
    controller: str = ""
    at: float = 0.0
    host: str = ""
    host_at: float = 0.0
    address: str = ""


@dataclass(frozen=True)
class Audit:
    """A host's lines in the order of its files; `torn` counts unreadable ones."""

    entries: tuple[AuditEntry, ...]
    torn: int = 0


def signed(entry: AuditEntry, ssh_user: str) -> AuditEntry:
    """The entry with who acts and from where: the login on the host, our own user, this machine's name."""
    try:
        local = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        local = ""
    return replace(entry, ssh_user=ssh_user, local_user=local, controller=platform.node())


def append(session: Shell, entries: Sequence[AuditEntry]) -> str:
    """Append a line for each entry on the host; returns the file. Raises HostError, and then says that it is missing.

    Entries hold no secrets: pass `message` through the run's redactor.
    """
    if not entries:
        return ""
    lines = [_open_line(replace(entry, host=session.host.name)) for entry in entries]
    output = session.script(APPEND, args=(str(ROTATE), *lines), sudo=True)
    return output.stdout.strip()


def read_all(session: Shell) -> Audit:
    """Every line that the login (or root, where we become it) may read. Raises FleetError for a newer fleet's line."""
    text = session.script(READ_ALL, args=(str(READ),), sudo=True).stdout
    return understand(session.host.name, text.splitlines())


def understand(host: str, lines: Iterable[str]) -> Audit:
    """Lines of a host's file as entries; torn ones are read over."""
    found = [parse(line, f"the audit of {host}") for line in lines if line.strip()]
    entries = tuple(_entry(host, record) for record in found if record is not None and "run" in record)
    return Audit(entries, len(found) - len(entries))


def merge(audits: Mapping[str, Audit]) -> tuple[AuditEntry, ...]:
    """All hosts' entries by the controllers' clocks: a host whose clock is off by a day spoils no order."""
    entries = [entry for audit in audits.values() for entry in audit.entries]
    return tuple(sorted(entries, key=lambda entry: (entry.at, entry.run, entry.host)))


def document(entry: AuditEntry) -> dict[str, object]:
    """An entry for machines, times as ISO 8601 in UTC."""
    return {"schema": SCHEMA, **asdict(entry), "at": iso(entry.at), "host_at": iso(entry.host_at)}


def _open_line(entry: AuditEntry) -> str:
    """The entry as JSON without its closing brace, at most LINE bytes: the message gives way, then every text."""
    longest = max(LINE // 2, 1)
    while True:
        texts = {key: value[:longest] if isinstance(value, str) else value for key, value in asdict(entry).items()}
        known = {"schema": SCHEMA, **texts, "at": iso(entry.at)}
        kept = {key: value for key, value in known.items() if value not in ("", 0.0)}
        line = json.dumps(kept)[:-1]  # ASCII: characters are bytes
        if len(line) <= LINE:
            return line
        longest //= 2


def _entry(host: str, record: Mapping[str, Any]) -> AuditEntry:
    texts = {field.name: str(record.get(field.name, "")) for field in fields(AuditEntry) if field.type is str}
    if not texts.get("host"):
        texts["host"] = host
    return AuditEntry(**texts, at=seconds_of(record.get("at")), host_at=seconds_of(record.get("host_at")))
