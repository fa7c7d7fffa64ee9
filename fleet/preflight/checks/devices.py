"""/dev/kfd and the render nodes. Sources: systemd's 50-udev-default.rules, ROCm's container guide."""

from fleet.facts.model import DeviceNode, Facts
from fleet.preflight.checks.words import some
from fleet.preflight.needs import Needs
from fleet.preflight.registry import Blind, Result, checks

GROUP_RW = 0o060
WORLD_RW = 0o006


@checks("kfd_present")
def kfd_present(facts: Facts, _needs: Needs) -> Result:
    if facts.devices.kfd_present is None:
        return Blind("/dev was not looked into")
    return None if facts.devices.kfd_present else "there is no /dev/kfd"


@checks("kfd_char_device")
def kfd_char_device(facts: Facts, _needs: Needs) -> Result:
    if facts.devices.kfd is None:
        return Blind("/dev/kfd could not be examined")
    return None if facts.devices.kfd.is_char else "/dev/kfd is an ordinary file, not a character device"


@checks("kfd_permission")
def kfd_permission(facts: Facts, _needs: Needs) -> Result:
    if facts.devices.kfd is None:
        return Blind("mode and group of /dev/kfd")
    return _closed(facts.devices.kfd)


@checks("render_present")
def render_present(facts: Facts, _needs: Needs) -> Result:
    if facts.devices.render is None:
        return Blind("/dev/dri was not looked into")
    return None if facts.devices.render else "there is no /dev/dri/renderD*"


@checks("render_count")
def render_count(facts: Facts, _needs: Needs) -> Result:
    if facts.devices.render is None or not facts.gpus:
        return Blind("the render nodes of the GPUs")
    if any(gpu.render_minor is None for gpu in facts.gpus):
        return Blind("the render minor of some GPUs")
    there = {node.path for node in facts.devices.render}
    missing = [path for gpu in facts.gpus if (path := f"/dev/dri/renderD{gpu.render_minor}") not in there]
    return f"{len(facts.gpus)} GPUs, but missing: {some(missing)}" if missing else None


@checks("render_permission")
def render_permission(facts: Facts, _needs: Needs) -> Result:
    if not facts.devices.render:
        return Blind("mode and group of the render nodes")
    wanted = {f"/dev/dri/renderD{gpu.render_minor}" for gpu in facts.gpus}
    ours = [node for node in facts.devices.render if not wanted or node.path in wanted]
    return some(problem for node in ours if (problem := _closed(node))) or None


@checks("user_groups")
def user_groups(facts: Facts, _needs: Needs) -> Result:
    """Asked of whoever logs in; root needs no group."""
    user, devices = facts.user, facts.devices
    login = user.sudo_user or user.name
    if user.uid is None or devices.render is None:
        return Blind("who logged in, or the devices")
    if login == "root" or (user.uid == 0 and not user.sudo_user):
        return None
    groups = user.login_groups if user.sudo_user else user.groups
    if groups is None:
        return Blind(f"the groups of {login}")
    missing = sorted(device_groups(facts) - set(groups))
    return f"{login} is not in {', '.join(missing)}" if missing else None


def device_groups(facts: Facts) -> frozenset[str]:
    """The named groups without which /dev/kfd or a render node stays closed; root's is none of them."""
    nodes = [node for node in (facts.devices.kfd, *(facts.devices.render or ())) if node is not None]
    closed = [node for node in nodes if node.mode & WORLD_RW != WORLD_RW and node.mode & GROUP_RW == GROUP_RW]
    return frozenset(node.group for node in closed if node.gid and node.group != "UNKNOWN")


def _closed(node: DeviceNode) -> str | None:
    """A container gets in by the device's numeric group, so the group (or everybody) must read and write."""
    if node.mode & GROUP_RW == GROUP_RW or node.mode & WORLD_RW == WORLD_RW:
        return None
    return f"{node.path} has mode {node.mode:04o}, owner {node.owner} ({node.uid}), group {node.group} ({node.gid})"
