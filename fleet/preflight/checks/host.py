"""Kernel settings and limits. Sources: AMD's MI200, MI300A and MI300X system optimisation guides, ROCm/cvs."""

from fleet.facts.model import Facts
from fleet.preflight.checks.words import GIB, size, some
from fleet.preflight.needs import Needs
from fleet.preflight.registry import Blind, Result, checks, roles

UNLIMITED = -1
SHM_LEAST = 16 * GIB
NOFILE_LEAST = 65536
SKEW_MOST = 10.0  # seconds; the host's clock is read in whole seconds, and a probe takes a few


@checks("no_role")
def no_role(facts: Facts, needs: Needs) -> Result:
    return "no GPUs, no services, not the builder" if roles(facts, needs) == {"none"} else None


@checks("numa_balancing")
def numa_balancing(facts: Facts, _needs: Needs) -> Result:
    if facts.tuning.numa_balancing is None:
        return Blind("/proc/sys/kernel/numa_balancing")
    return f"kernel.numa_balancing is {facts.tuning.numa_balancing}" if facts.tuning.numa_balancing else None


def _flags(facts: Facts) -> list[str] | None:
    return None if facts.system.cmdline is None else facts.system.cmdline.split()


@checks("iommu_pt")
def iommu_pt(facts: Facts, _needs: Needs) -> Result:
    flags = _flags(facts)
    if flags is None:
        return Blind("/proc/cmdline")
    off = [flag for flag in flags if flag in ("iommu=off", "amd_iommu=off", "intel_iommu=off")]
    if off and (facts.system.cpus or 0) >= 256:
        return f"{off[0]} on a host with {facts.system.cpus} hardware threads, which needs its IOMMU"
    return None if "iommu=pt" in flags else "the kernel's command line has no iommu=pt"


@checks("pci_realloc")
def pci_realloc(facts: Facts, _needs: Needs) -> Result:
    flags = _flags(facts)
    if flags is None:
        return Blind("/proc/cmdline")
    options = [option for flag in flags if flag.startswith("pci=") for option in flag[4:].split(",")]
    return None if "realloc=off" in options else "the kernel's command line has no pci=realloc=off"


@checks("governor")
def governor(facts: Facts, _needs: Needs) -> Result:
    word = facts.tuning.governor
    if word is None:
        return Blind("the scaling governor (there is none in a virtual machine)")
    return None if word == "performance" else f"the scaling governor of CPU 0 is {word}"


@checks("transparent_hugepage")
def transparent_hugepage(facts: Facts, _needs: Needs) -> Result:
    word = facts.tuning.transparent_hugepage
    if word is None:
        return Blind("/sys/kernel/mm/transparent_hugepage/enabled")
    return None if word == "always" else f"transparent huge pages are set to {word}"


@checks("memlock")
def memlock(facts: Facts, _needs: Needs) -> Result:
    limit = facts.tuning.memlock_kib
    if limit is None:
        return Blind("the limit of locked memory (ulimit -l)")
    return None if limit == UNLIMITED else f"locked memory is limited to {size(limit * 1024)}"


@checks("nofile")
def nofile(facts: Facts, _needs: Needs) -> Result:
    limit = facts.tuning.nofile_hard
    if limit is None:
        return Blind("the limit of open files (ulimit -Hn)")
    return f"at most {limit} open files" if limit != UNLIMITED and limit < NOFILE_LEAST else None


@checks("shm")
def shm(facts: Facts, needs: Needs) -> Result:
    if needs.services and not any(service.host_ipc for service in needs.services):
        return None
    total = facts.tuning.shm_bytes
    if total is None:
        return Blind("the size of /dev/shm")
    return f"shared memory holds {size(total)}" if total < SHM_LEAST else None


@checks("selinux")
def selinux(facts: Facts, _needs: Needs) -> Result:
    if facts.tuning.selinux is None:
        return Blind("the state of SELinux")
    return "SELinux is enforcing" if facts.tuning.selinux == "enforcing" else None


@checks("cgroup")
def cgroup(facts: Facts, _needs: Needs) -> Result:
    if facts.tuning.cgroup is None:
        return Blind("/sys/fs/cgroup")
    return "control groups are version 1" if facts.tuning.cgroup == 1 else None


@checks("time_skew")
def time_skew(facts: Facts, needs: Needs) -> Result:
    if facts.system.epoch_s is None or needs.epoch is None:
        return Blind("the host's clock")
    skew = facts.system.epoch_s - needs.epoch
    return (
        f"the host's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}" if abs(skew) > SKEW_MOST else None
    )


@checks("flock")
def flock(facts: Facts, _needs: Needs) -> Result:
    if facts.system.flock is None:
        return Blind("whether there is a flock command")
    return None if facts.system.flock else "there is no flock command"


@checks("unread")
def unread(facts: Facts, _needs: Needs) -> Result:
    denied = [f"{entry.path}: {entry.error}" for entry in facts.unread if entry.error != "ENOENT"]
    return some(denied, 6) or None
