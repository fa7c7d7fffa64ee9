"""The amdgpu driver and its fit with the image's ROCm."""

from fleet.facts.model import Facts
from fleet.preflight import compat
from fleet.preflight.needs import Needs
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
    version, image = facts.driver.version, needs.image
    if image is None or not image.rocm or not version or compat.window(version, image.rocm) != "contradicted":
        return None
    known = ", ".join(compat.listed(version))
    return f"driver {compat.driver_line(version)} (module {version}) carries ROCm {known}; the image has {image.rocm}"


@checks("driver_rocm_unknown")
def driver_rocm_unknown(facts: Facts, needs: Needs) -> Result:
    version, image = facts.driver.version, needs.image
    if image is None:
        return None  # asked again once the image is known
    if not image.rocm:
        return Blind("the image does not tell its ROCm version")
    if not version:
        return Blind("the driver does not tell its version")
    if compat.window(version, image.rocm) != "unknown":
        return None
    line = compat.driver_line(version)
    return f"no document pairs {f'driver {line}' if line else 'this driver'} (module {version}) with ROCm {image.rocm}"


@checks("image_rocm_minimum")
def image_rocm_minimum(facts: Facts, needs: Needs) -> Result:
    if needs.image is None:
        return None
    if not needs.image.rocm:
        return Blind("the image does not tell its ROCm version")
    gfx = tuple(sorted({gpu.gfx for gpu in facts.gpus if gpu.gfx}))
    return compat.below_minimum(needs.image.rocm, gfx) or None
