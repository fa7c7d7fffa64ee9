"""What hosts of one group have alike, as words out of their facts; what lies under a service is told apart. Pure."""

from collections.abc import Callable, Iterable, Mapping

from fleet.facts import Facts

Read = Callable[[Facts], object]

# Under every service: what a changed answer or a changed speed may come from.
PLATFORM: Mapping[str, Read] = {
    "kernel": lambda facts: facts.system.kernel,
    "amdgpu driver": lambda facts: facts.driver.version or ("in-tree" if facts.driver.in_tree else facts.driver.state),
    "compute partition": lambda facts: _words(gpu.compute_partition for gpu in facts.gpus),
    "memory partition": lambda facts: _words(gpu.memory_partition for gpu in facts.gpus),
}
_MORE: Mapping[str, Read] = {
    "operating system": lambda facts: facts.system.os_name,
    "Docker engine": lambda facts: facts.docker.version,
    "image store": lambda facts: facts.docker.image_store,
    "GPUs": lambda facts: len(facts.gpus) if facts.topology.kfd is not None else None,
    "gfx": lambda facts: _words(gpu.gfx for gpu in facts.gpus),
    "kernel.numa_balancing": lambda facts: facts.tuning.numa_balancing,
    "CPU governor": lambda facts: facts.tuning.governor,
    "transparent hugepages": lambda facts: facts.tuning.transparent_hugepage,
    "cgroup version": lambda facts: facts.tuning.cgroup,
    "SELinux": lambda facts: facts.tuning.selinux,
}


def properties(facts: Facts) -> dict[str, str]:
    """What a host tells of itself that its neighbours should tell too. `SUBJECT: PART` are parts of one subject."""
    read = {name: str(value) for name, of in {**PLATFORM, **_MORE}.items() if (value := of(facts)) not in (None, "")}
    sysctls = {f"kernel settings: {name}": value for name, value in facts.tuning.sysctls.items() if value is not None}
    return read | sysctls | firmware(facts)


def firmware(facts: Facts) -> dict[str, str]:
    """`MI300X firmware: smc` -> 0x00557300. Each model has its own, so cards of two models are never compared."""
    found: dict[str, set[str]] = {}
    for gpu in facts.gpus:
        for name, version in (gpu.firmware or {}).items():
            found.setdefault(f"{gpu.model or gpu.gfx or 'GPU'} firmware: {name}", set()).add(version)
    return {name: _words(versions) for name, versions in found.items()}


def _words(values: Iterable[str | None]) -> str:
    return ", ".join(sorted({one for one in values if one}))
