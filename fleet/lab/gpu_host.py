"""What surrounds the GPUs on a lab node: the driver module, kernel settings, and modinfo, modprobe and dmesg.

The three commands are small scripts in /usr/local, in front of the real ones: the lab's kernel is its host's, which has
no amdgpu and whose log is not the node's business.
"""

from fleet.lab.gpu_model import Machine

MODULE = "/sys/module/amdgpu"
MODULE_INFO = "/usr/local/lib/amdgpu/modinfo"
ABSENT = "/usr/local/lib/amdgpu/absent"
UNLOADED = "/usr/local/lib/amdgpu/unloaded.tar"
KERNEL_LOG = "/var/log/dmesg"
IN_TREE_PATH = "kernel/drivers/gpu/drm/amd/amdgpu/amdgpu.ko"
DKMS_PATH = "updates/dkms/amdgpu.ko"


def files(machine: Machine) -> dict[str, str]:
    """The module's directory, files of /proc and /sys/devices, and the commands."""
    found = {
        "/proc/cmdline": f"{machine.cmdline}\n",
        "/proc/sys/kernel/numa_balancing": f"{int(machine.numa_balancing)}\n",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
        "/usr/local/sbin/modinfo": MODINFO,
        "/usr/local/sbin/modprobe": MODPROBE,
        "/usr/local/bin/dmesg": DMESG,
        KERNEL_LOG: _kernel_log(machine),
    }
    if machine.product is None:
        return found
    if machine.driver.loaded is None:
        found[ABSENT] = "amdgpu is not loaded\n"
    else:
        found |= _module(machine.driver.loaded)
    return found | {MODULE_INFO: _module_info(machine.driver.on_disk)}


def _module(version: str) -> dict[str, str]:
    found = {
        f"{MODULE}/initstate": "live\n",
        f"{MODULE}/refcnt": "0\n",
        f"{MODULE}/srcversion": _source_version(version),
        f"{MODULE}/parameters/noretry": "-1\n",
        f"{MODULE}/parameters/vm_fragment_size": "-1\n",
        f"{MODULE}/parameters/ras_enable": "-1\n",
    }
    return found | ({f"{MODULE}/version": f"{version}\n"} if version else {})


def _module_info(version: str) -> str:
    """The text that modinfo prints; the in-tree module has no version line."""
    lines = [f"filename:       /lib/modules/@KERNEL@/{DKMS_PATH if version else IN_TREE_PATH}"]
    if version:
        lines.append(f"version:        {version}")
    lines += [
        "license:        GPL and additional rights",
        "description:    AMD GPU",
        "author:         AMD linux driver team",
        f"srcversion:     {_source_version(version).strip()}",
    ]
    return "\n".join(lines) + "\n"


def _source_version(version: str) -> str:
    digits = version.replace(".", "") or "0"
    return f"{int(digits) * 2654435761 % 16**15:X}".rjust(23, "7") + "\n"


def _kernel_log(machine: Machine) -> str:
    if not machine.uncorrectable or not machine.gpus:
        return ""
    return (
        f"[ 1804.233119] amdgpu {machine.gpus[0].address}: amdgpu: "
        f"{machine.uncorrectable} uncorrectable hardware errors detected in umc block\n"
    )


MODINFO = f"""#!/bin/sh
# modinfo for amdgpu: what the driver on disk says. Other modules have none here.
field=
while [ $# -gt 0 ]; do
    case $1 in
        -F | --field) field=$2; shift ;;
        --field=*) field=${{1#--field=}} ;;
        -n | --filename) field=filename ;;
        -*) ;;
        *) module=$1 ;;
    esac
    shift
done
if [ "$module" != amdgpu ] || [ ! -r {MODULE_INFO} ]; then
    echo "modinfo: ERROR: Module $module not found." >&2
    exit 1
fi
sed "s/@KERNEL@/$(uname -r)/" {MODULE_INFO} | if [ -n "$field" ]; then sed -n "s/^$field: *//p"; else cat; fi
"""

MODPROBE = f"""#!/bin/sh
# modprobe: `amdgpu` comes back if it was taken away; every other module is the host kernel's own affair.
for module; do :; done
if [ "$module" != amdgpu ]; then
    [ -x /sbin/modprobe ] && exec /sbin/modprobe "$@"
    exit 0
fi
if [ -r {UNLOADED} ]; then
    tar -xpf {UNLOADED} -C / && rm -f {ABSENT} {UNLOADED}
elif [ -e {ABSENT} ]; then
    echo "modprobe: ERROR: could not insert 'amdgpu': No such device" >&2
    exit 1
fi
"""

DMESG = f"""#!/bin/sh
# dmesg: the node's own kernel log, for root only as on a Debian with kernel.dmesg_restrict=1.
if [ "$(id -u)" != 0 ]; then
    echo "dmesg: read kernel buffer failed: Operation not permitted" >&2
    exit 1
fi
cat {KERNEL_LOG} 2>/dev/null || true
"""
