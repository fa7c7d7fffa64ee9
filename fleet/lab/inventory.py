"""The inventory of a lab, as text: an Ansible YAML file like a team's own."""

from pathlib import Path
from typing import Any

import yaml

from fleet.lab import base_image, tiny_llama, vllm_cpu
from fleet.lab.files import MODEL
from fleet.lab.paths import Paths
from fleet.lab.topology import NodeSpec, Topology

SOURCE_REF = "v0.11.0"  # a tag of the stand-in repository
PROMISES: dict[str, dict[str, Any]] = {
    "mi300x-8": {"model": "MI300X", "count": 8, "compute_partition": "SPX", "memory_partition": "NPS1"},
    "mi300x-8-cpx": {"model": "MI300X", "count": 64, "compute_partition": "CPX", "memory_partition": "NPS4"},
    "mi250-4": {"model": "MI250", "count": 8},
}
GROUPS = {"mi300x-8": "mi300x", "mi300x-8-cpx": "mi300x_cpx", "mi250-4": "mi250"}


def inventory_text(topology: Topology, paths: Paths, real_image: Path | None = None) -> str:
    """The whole file: connections, what the GPUs promise, where images come from and go to, and one service.

    `real_image` is the archive with the real vLLM, for the one node that serves with it.
    """
    everything: dict[str, Any] = {
        "all": {
            "vars": _common(topology, paths),
            "children": {"gpu": _gpu(topology, real_image), "infra": _infra(topology)},
        }
    }
    head = f"# Written by `invoke lab.up`, removed by `invoke lab.down`: the lab {topology.name!r}.\n"
    return head + yaml.safe_dump(everything, sort_keys=False, width=120)


def _common(topology: Topology, paths: Paths) -> dict[str, Any]:
    fleet: dict[str, Any] = {
        "image": {"name": "vllm-rocm", "source": {"repository": str(paths.source), "ref": SOURCE_REF}},
        "models_dir": "/srv/models",
    }
    builder = topology.role("builder")
    if builder:
        fleet["builder"] = builder.name
    if topology.registry:
        fleet["registry"] = {
            "host": topology.registry,
            "ca_file": str(paths.ca),
            "username": {"file": str(paths.registry_user)},
            "password": {"file": str(paths.registry_password)},
        }
    return {
        "ansible_ssh_private_key_file": str(paths.client_key),
        # A file rather than options: OpenSSH hands only -F on to the connection to a jump host.
        "ansible_ssh_common_args": f"-F {paths.ssh_config}",
        "fleet": fleet,
    }


def _gpu(topology: Topology, real_image: Path | None) -> dict[str, Any]:
    children: dict[str, Any] = {}
    for spec in topology.specs:
        if spec.role == "gpu":
            group = GROUPS.get(spec.profile, "other")
            promise = PROMISES.get(spec.profile)
            settings = {"vars": {"fleet": {"gpus": promise}}} if promise else {}
            host = _host(topology, spec)
            if spec == topology.real and real_image:
                host.setdefault("fleet", {})["services"] = {"chat": _real_service(real_image)}
            children.setdefault(group, {"hosts": {}} | settings)["hosts"][spec.name] = host
    # The lab's machines refuse unlimited memlock (no CAP_SYS_RESOURCE), which fleet's own default asks for.
    service = {"model": MODEL, "port": 8000, "ulimits": {}}
    return {"vars": {"fleet": {"services": {"chat": service}}}, "children": children}


def _real_service(image: Path) -> dict[str, Any]:
    """What the one node has otherwise: another model, an image that says nothing of GPUs, one process, a small cache."""
    return {
        "model": tiny_llama.NAME,
        "gpus": 1,
        "image": {"name": vllm_cpu.NAME, "archive": str(image), "gfx": ["gfx90a", "gfx942"], "rocm": base_image.ROCM},
        "args": {"max-model-len": 512},
        "env": {"VLLM_CPU_KVCACHE_SPACE": "1"},  # GiB
    }


def _infra(topology: Topology) -> dict[str, Any]:
    """Builder, registry and bastion: hosts that no service reaches."""
    return {"hosts": {spec.name: _host(topology, spec) for spec in topology.specs if spec.role != "gpu"}}


def _host(topology: Topology, spec: NodeSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"ansible_host": topology.address(spec.name), "ansible_user": spec.user}
    if spec.user == "ops":
        found["ansible_become"] = True
    if spec.offline:
        bastion = topology.role("bastion")
        if bastion:
            jump = f"-o ProxyJump={bastion.user}@{topology.address(bastion.name)}"
            found["ansible_ssh_extra_args"] = jump
        found["fleet"] = {"delivery": "sideload"}
    return found
