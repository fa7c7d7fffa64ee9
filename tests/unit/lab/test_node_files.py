"""What makes a root filesystem into one particular node."""

import json
import struct

import pytest

from fleet.lab.files import accounts, hosts_file, model_files, node_files
from fleet.lab.topology import Topology, default_specs

LAB = Topology("lab", 0, default_specs())
PASSWD = "root:x:0:0:root:/root:/bin/bash\nsomebody:x:1000:1000::/home/somebody:/bin/bash\n"
GROUP = "root:x:0:\nvideo:x:44:\npostgres:x:105:\ndocker:x:123:somebody\nsomebody:x:1000:\n"
SHADOW = "root:!:19000:0:99999:7:::\nsomebody:!:19000:0:99999:7:::\n"


def groups(user: str) -> dict[str, tuple[str, str]]:
    lines = accounts(PASSWD, GROUP, SHADOW, user)[1].splitlines()
    return {name: (gid, members) for name, _, gid, members in (line.split(":") for line in lines)}


def test_only_dev_is_in_the_docker_group() -> None:
    assert groups("dev")["docker"][1] == "dev"
    assert groups("ops")["docker"][1] == ""
    assert groups("root")["docker"][1] == ""


def test_group_numbers_are_given_once() -> None:
    numbers = [number for number, _ in groups("ops").values()]
    assert len(numbers) == len(set(numbers))
    assert groups("ops")["render"][0] == "105"


def test_the_machines_own_user_gives_way_to_the_nodes() -> None:
    passwd, _, _ = accounts(PASSWD, GROUP, SHADOW, "ops")
    assert [line.split(":")[0] for line in passwd.splitlines()] == ["root", "ops"]


@pytest.mark.parametrize("user", ["root", "ops"])
def test_no_login_is_locked_for_sshd_and_none_has_a_password(user: str) -> None:
    shadow = dict(line.split(":")[:2] for line in accounts(PASSWD, GROUP, SHADOW, user)[2].splitlines())
    assert shadow[user] == "*"


def test_a_node_knows_the_names_it_can_reach_and_no_others() -> None:
    offline = hosts_file(LAB, LAB.spec("mi300x-off-01"))
    assert "bastion" in offline
    assert "registry" not in offline
    assert f"{LAB.address('registry')} registry\n" in hosts_file(LAB, LAB.spec("mi300x-01"))


def test_sudo_is_for_ops_alone() -> None:
    having = [
        spec.name
        for spec in LAB.specs
        if any(file.path.startswith("/etc/sudoers.d/") for file in node_files(LAB, spec, "key", "id"))
    ]
    assert having == ["mi250-01"]


def test_the_engine_settings_choose_the_image_store() -> None:
    stores = {}
    for spec in LAB.specs:
        for file in node_files(LAB, spec, "key", "id"):
            if file.path == "/etc/docker/daemon.json":
                stores[spec.name] = json.loads(file.content).get("features", {}).get("containerd-snapshotter", False)
    assert [name for name, containerd in stores.items() if containerd] == ["mi300x-cpx-01"]
    assert len(stores) == 5


def test_keys_go_to_the_users_own_home() -> None:
    spec = LAB.spec("mi300x-cpx-01")
    (keys,) = (file for file in node_files(LAB, spec, "key", "id") if "authorized" in file.path)
    assert (keys.path, keys.mode, keys.uid) == ("/home/dev/.ssh/authorized_keys", 0o600, 1000)


def test_the_tiny_model_is_a_whole_safetensors_file_with_32_heads() -> None:
    config, weights = model_files()
    assert json.loads(config.content)["num_attention_heads"] == 32
    (length,) = struct.unpack("<Q", weights.content[:8])
    header = json.loads(weights.content[8 : 8 + length])
    (start, end) = header["model.embed_tokens.weight"]["data_offsets"]
    assert len(weights.content) == 8 + length + end - start
