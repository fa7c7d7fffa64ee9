"""The amdgpu driver and its fit with the image's ROCm."""

from fleet.facts.model import Facts
from fleet.preflight import compat
from fleet.preflight.checks.images import of_each
from fleet.preflight.needs import Needs, Targets
from fleet.preflight.registry import Blind, Result, checks


@checks("amdgpu_state")
def amdgpu_state(facts: Facts, _needs: Needs) -> Result:
    state = facts.driver.state
    if state is None:
        return Blind("/sys/module/amdgpu/initstate")
    if state in ("live", "builtin"):
        return None
    bus = [card for card in facts.topology.pci or () if not card.bound]
    seen = f"; {len(bus)} AMD accelerators on the PCI bus wait for it" if bus else ""
    return f"amdgpu is {'not loaded' if state == 'absent' else state}{seen}"


@checks("driver_in_tree")
def driver_in_tree(facts: Facts, _needs: Needs) -> Result:
    if facts.driver.in_tree is None:
        return Blind("the driver's version")
    return f"amdgpu of kernel {facts.system.kernel}, without a version of its own" if facts.driver.in_tree else None


@checks("driver_pending_reboot")
def driver_pending_reboot(facts: Facts, _needs: Needs) -> Result:
    driver = facts.driver
    if driver.pending_reboot is None:
        return Blind("the module's version on disk (modinfo amdgpu)")
    if not driver.pending_reboot:
        return None
    loaded, disk = driver.version or driver.srcversion, driver.disk_version or driver.disk_srcversion
    return f"loaded is {loaded}, on disk lies {disk}"


@checks("driver_rocm")
def driver_rocm(facts: Facts, needs: Needs) -> Result:
    version = facts.driver.version
    if not version:
        return None

    def judge(image: Targets) -> str | Blind | None:
        if not image.rocm or compat.window(version, image.rocm) != "contradicted":
            return None
        known, line = ", ".join(compat.listed(version)), compat.driver_line(version)
        return f"driver {line} (module {version}) carries ROCm {known}; the image has {image.rocm}"

    return of_each(needs, judge)


@checks("driver_rocm_unknown")
def driver_rocm_unknown(facts: Facts, needs: Needs) -> Result:
    version = facts.driver.version

    def judge(image: Targets) -> str | Blind | None:
        if not image.rocm:
            return Blind("the image does not tell its ROCm version")
        if not version:
            return Blind("the driver does not tell its version")
        if compat.window(version, image.rocm) != "unknown":
            return None
        line = compat.driver_line(version)
        named = f"driver {line}" if line else "this driver"
        return f"no document pairs {named} (module {version}) with ROCm {image.rocm}"

    return of_each(needs, judge)


@checks("image_rocm_minimum")
def image_rocm_minimum(facts: Facts, needs: Needs) -> Result:
    gfx = tuple(sorted({gpu.gfx for gpu in facts.gpus if gpu.gfx}))

    def judge(image: Targets) -> str | Blind | None:
        if not image.rocm:
            return Blind("the image does not tell its ROCm version")
        return compat.below_minimum(image.rocm, gfx) or None

    return of_each(needs, judge)
