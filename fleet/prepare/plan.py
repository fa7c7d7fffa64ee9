"""Findings to the fixes that the catalogue marks safe, and to nothing else. Pure."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fleet.delivery.plan import ca_path
from fleet.facts.model import Facts
from fleet.inventory.settings import Settings
from fleet.preflight import Finding, catalogue
from fleet.preflight.checks.devices import device_groups
from fleet.prepare.fix import Fix, MergeJson, Place, SetKey

SYSCTL = "/etc/sysctl.d/90-fleet.conf"
DAEMON = "/etc/docker/daemon.json"
LOG_OPTS = MappingProxyType({"max-size": "50m", "max-file": "3"})
VALIDATES = 23  # dockerd --validate is there from this version on

Maker = Callable[[Finding, Facts, Settings], Iterator[Fix]]


def plan(
    findings: Sequence[Finding], facts: Facts, settings: Settings, *, only: Collection[str] = ()
) -> tuple[Fix, ...]:
    """The fixes for open findings, in the catalogue's order; `only` keeps those with these ids.

    Accepted findings are left alone, and so is a host on which we are not root: see `by_hand`. Planning on the findings
    that remain after the fixes gives nothing.
    """
    return _fixes(findings, facts, settings, only) if facts.user.uid == 0 else ()


def by_hand(
    findings: Sequence[Finding], facts: Facts, settings: Settings, *, only: Collection[str] = ()
) -> tuple[Fix, ...]:
    """What `plan` would have done were we root: for somebody who is."""
    return () if facts.user.uid == 0 else _fixes(findings, facts, settings, only)


def _fixes(findings: Sequence[Finding], facts: Facts, settings: Settings, only: Collection[str]) -> tuple[Fix, ...]:
    entries = catalogue()
    found: list[Fix] = []
    for finding in findings:
        name = entries[finding.id].prepare if finding.id in entries else ""
        if name and not finding.accepted and (not only or name in only):
            found += FIXES[name](finding, facts, settings)
    return tuple(found)


def _amdgpu(finding: Finding, facts: Facts, _settings: Settings) -> Iterator[Fix]:
    """`modprobe amdgpu`; what keeps the driver from loading at boot is left. Undone by `modprobe -r amdgpu`."""
    if facts.driver.state != "absent":  # one that comes or goes is somebody's work
        return
    yield Fix(
        "amdgpu",
        finding.id,
        "load the amdgpu driver",
        finding.evidence,
        commands=(("modprobe", "amdgpu"),),
        undo=(("modprobe", "-r", "amdgpu"),),
        note="until the next boot: what keeps it from loading then is left as it is",
    )


def _numa_balancing(finding: Finding, facts: Facts, _settings: Settings) -> Iterator[Fix]:
    """`kernel.numa_balancing = 0`, now and in `/etc/sysctl.d/90-fleet.conf`. Undone by the former value."""
    value = facts.tuning.numa_balancing
    if not value:
        return
    yield Fix(
        "numa_balancing",
        finding.id,
        "switch automatic NUMA balancing off",
        finding.evidence,
        edits=(SetKey(SYSCTL, "kernel.numa_balancing", "0"),),
        commands=(("sysctl", "-q", "-w", "kernel.numa_balancing=0"),),
        undo=(("sysctl", "-q", "-w", f"kernel.numa_balancing={value}"),),
    )


def _user_groups(finding: Finding, facts: Facts, _settings: Settings) -> Iterator[Fix]:
    """`usermod -aG` with the groups of the devices, for whoever logs in. Undone by `gpasswd -d`."""
    user = facts.user
    login, groups = (user.sudo_user, user.login_groups) if user.sudo_user else (user.name, user.groups)
    missing = sorted(device_groups(facts) - set(groups or ()))
    if groups is None or not missing or login in ("", "root"):
        return
    yield Fix(
        "user_groups",
        finding.id,
        f"add {login} to {', '.join(missing)}",
        finding.evidence,
        commands=(("usermod", "-a", "-G", ",".join(missing), login),),
        undo=tuple(("gpasswd", "-d", login, group) for group in missing),
        note="it counts from the next login",
    )


def _docker_logs(finding: Finding, facts: Facts, _settings: Settings) -> Iterator[Fix]:
    """`log-opts` (50m, 3 files) merged into `/etc/docker/daemon.json`, for containers made after dockerd's next start."""
    config = facts.docker.config
    if config is None or config.log_max_size or config.log_driver not in ("", "json-file"):
        return
    if config.flags:  # dockerd refuses to start when a flag and the file set the same
        return
    major = re.match(r"\d+", facts.docker.version or "")
    check = ("dockerd", "--validate", f"--config-file={DAEMON}")
    yield Fix(
        "docker_logs",
        finding.id,
        "limit the logs of new containers",
        finding.evidence,
        edits=(MergeJson(DAEMON, {"log-opts": dict(LOG_OPTS)}),),
        commands=(check,) if major and int(major[0]) >= VALIDATES else (),
        note="dockerd is neither restarted nor reloaded (a reload does not read log-opts): it counts for containers made "
        "after its next start",
    )


def _registry_ca(finding: Finding, facts: Facts, settings: Settings) -> Iterator[Fix]:
    """The inventory's `ca_file` as `/etc/docker/certs.d/REGISTRY/ca.crt`, where there is none."""
    placed = facts.docker.config.cas if facts.docker.config else ()
    for registry, source in _cas(settings).items():
        if facts.docker.config is not None and registry not in placed:
            yield Fix(
                "registry_ca",
                finding.id,
                f"let the engine trust {registry}",
                finding.evidence,
                edits=(Place(ca_path(registry), Path(source)),),
                note="the engine reads it at the next pull",
            )


def _cas(settings: Settings) -> dict[str, str]:
    """CA file by registry, of those that services pull from."""
    asked = [service.registry or settings.registry for service in settings.services.values()]
    return {one.host: one.ca_file for one in asked if one is not None and one.ca_file}


FIXES: Mapping[str, Maker] = {
    "amdgpu": _amdgpu,
    "numa_balancing": _numa_balancing,
    "user_groups": _user_groups,
    "docker_logs": _docker_logs,
    "registry_ca": _registry_ca,
}
