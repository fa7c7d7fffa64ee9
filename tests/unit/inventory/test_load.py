"""Resolved hosts: settings, connections, origins, look-up, and what ships with the project."""

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import UsageError
from fleet.inventory import describe, load, schema, select
from fleet.inventory.reference import reference
from fleet.inventory.settings import (
    Drain,
    Gpus,
    Image,
    Nightly,
    OwnBase,
    Registry,
    Retention,
    Service,
    Settings,
    Source,
    Verify,
)

ROOT = Path(__file__).parents[3]
TWINS: dict[str, type[Any]] = {
    "base": OwnBase,
    "drain": Drain,
    "gpus": Gpus,
    "nightly": Nightly,
    "retention": Retention,
    "source": Source,
    "image": Image,
    "registry": Registry,
    "verify": Verify,
    "service": Service,
}


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", ["prod.example", "airgap.example"])
def test_examples_load(name: str) -> None:
    inventory = load([name], search=ROOT / "inventories")
    assert select(inventory, "all")
    assert json.dumps(describe(inventory, inventory.hosts.values()))


def test_builder_serves_nothing_unless_it_declares_gpus(tmp_path: Path) -> None:
    text = "all: {hosts: {a: , b: %s}, vars: {fleet: {builder: b, gpus: {count: 8}, services: {x: {model: m}}}}}"
    bare = load([write(tmp_path / "1.yaml", text % "")])
    assert [list(host.settings.services) for host in bare.hosts.values()] == [["x"], []]
    serving = load([write(tmp_path / "2.yaml", text % "{fleet: {gpus: {count: 1}}}")])
    assert list(serving.hosts["b"].settings.services) == ["x"]


def test_null_removes_a_service_and_hosts_choose_by_pattern(tmp_path: Path) -> None:
    text = """
all:
  vars: {fleet: {services: {x: {model: m}, y: {model: m, port: 8001, hosts: 'all:!a'}}}}
  hosts: {a: , b: {fleet: {services: {x: null}}}}
"""
    hosts = load([write(tmp_path / "i.yaml", text)]).hosts
    assert {name: list(host.settings.services) for name, host in hosts.items()} == {"a": ["x"], "b": ["y"]}


def test_paths_count_from_the_file_that_set_them(tmp_path: Path) -> None:
    source = write(
        tmp_path / "i.yaml", "all: {hosts: {a: }, vars: {fleet: {registry: {host: r.corp, ca_file: ca.pem}}}}"
    )
    vars_file = "fleet: {registry: {password: {file: pw}}, image: {name: n, source: {ref: x, repository: ../vllm}}}"
    write(tmp_path / "host_vars/a.yml", vars_file)
    host = load([source]).hosts["a"]
    assert host.settings.registry is not None
    assert host.settings.registry.ca_file == str(tmp_path / "ca.pem")
    assert host.settings.registry.password is not None
    assert host.settings.registry.password.file == str(tmp_path / "host_vars/pw")
    assert host.settings.image is not None
    assert host.settings.image.source is not None
    assert host.settings.image.source.repository == str(tmp_path / "vllm")


def test_connection_variables_are_honoured(tmp_path: Path) -> None:
    text = """
all: {hosts: {"a:2022": {ansible_host: 10.0.0.1, ansible_user: ops, ansible_become: yes, ansible_become_pass: pw,
  ansible_ssh_common_args: "-o ProxyJump='a b'", ansible_ssh_extra_args: -v, ansible_password: {env: X}}}}
"""
    connection = load([write(tmp_path / "i.yaml", text)]).hosts["a"].connection
    assert (connection.address, connection.port, connection.user) == ("10.0.0.1", 2022, "ops")
    assert connection.common_args == ("-o", "ProxyJump=a b", "-v")
    assert connection.become.enabled
    assert connection.become.password is not None
    assert connection.become.password.reveal() == "pw"
    assert connection.password is not None
    assert connection.password.env == "X"


def test_registries_are_described_once_by_their_hosts(tmp_path: Path) -> None:
    source = write(
        tmp_path / "i.yaml",
        """all:
  vars:
    fleet:
      registries:
        r.corp:5000: {ca_file: r.pem, username: {env: U}, password: {env: P}}
        mirror.corp: {insecure: true}
      registry: {host: "r.corp:5000", ca_file: other.pem, parallel_pulls: 9}
      services:
        x: {model: m, registry: {host: mirror.corp}}
        y: {model: m, port: 8001, registry: {host: elsewhere.corp}}
  hosts: {a: {}}
  children: {g: {hosts: {b: {}}, vars: {fleet: {registries: {mirror.corp: {insecure: false}}}}}}
""",
    )
    settings = {name: host.settings for name, host in load([source]).hosts.items()}
    first = settings["a"].registries["r.corp:5000"]
    assert (first.host, first.ca_file) == ("r.corp:5000", str(tmp_path / "r.pem"))
    assert first.password is not None
    assert (first.password.env, first.password.label) == ("P", "fleet.registries.r.corp:5000.password")
    own = settings["a"].registry
    assert own is not None
    assert (own.username, own.password, own.parallel_pulls) == (first.username, first.password, 9)
    assert own.ca_file == str(tmp_path / "other.pem")
    assert settings["a"].services["x"].registry == Registry("mirror.corp", insecure=True)
    assert settings["a"].services["y"].registry == Registry("elsewhere.corp")
    assert settings["b"].registries["mirror.corp"] == Registry("mirror.corp")


def test_describe_says_where_values_came_from_and_hides_secrets(tmp_path: Path) -> None:
    source = write(tmp_path / "i.yaml", "all:\n  hosts: {a: {ansible_password: geheim}}\n")
    write(
        tmp_path / "group_vars/all.yml", "fleet:\n  models_dir: /m\n  registry: {host: r.corp, password: {env: PW}}\n"
    )
    inventory = load([source])
    host = describe(inventory, inventory.hosts.values())["hosts"]["a"]
    assert host["origins"]["fleet.models_dir"] == f"{tmp_path}/group_vars/all.yml:2:15"
    assert host["fleet"]["registry"]["password"] == "***"
    assert host["fleet"]["delivery"] == "registry"
    assert "geheim" not in json.dumps(host)
    assert host["connection"]["password"] == "***"


def test_describe_says_where_each_part_of_a_connection_came_from(tmp_path: Path) -> None:
    source = write(
        tmp_path / "i.yaml",
        "all:\n"
        "  vars: {ansible_ssh_common_args: -o A=1, ansible_become: true, ansible_ssh_host: null}\n"
        "  hosts:\n"
        "    a: {ansible_ssh_user: x, ansible_user: y, ansible_ssh_extra_args: -o B=2}\n",
    )
    inventory = load([source])
    host = describe(inventory, inventory.hosts.values())["hosts"]["a"]
    found = {path: place for path, place in host["origins"].items() if path.startswith("connection.")}
    assert found == {
        "connection.user": f"{source}:4:27",  # where a variable has two names the last one counts
        "connection.common_args": f"{source}:2:35, {source}:4:71",
        "connection.become.enabled": f"{source}:2:59",
    }


def test_hooks_are_of_all_services_or_of_one(tmp_path: Path) -> None:
    source = write(
        tmp_path / "i.yaml",
        "all:\n  vars:\n    fleet:\n      drain: {out: [lb, out], back: [lb, back], limit: 120}\n      services:\n"
        "        own: {model: m, drain: {out: [x], back: [y], where: host}}\n  hosts: {a: {}}\n",
    )
    settings = load([source]).hosts["a"].settings
    assert settings.drain == Drain(("lb", "out"), ("lb", "back"), limit=120.0)
    assert settings.services["own"].drain == Drain(("x",), ("y",), where="host")


def test_comma_list_makes_hosts() -> None:
    assert list(load(["a,b:22,"]).hosts) == ["a", "b"]


def test_limit_file_gives_patterns(tmp_path: Path) -> None:
    limit = write(tmp_path / "limit", "b\na\n")
    assert [host.name for host in select(load(["a,b,c"]), f"@{limit}")] == ["b", "a"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("n[1:3].dc1", ["n1.dc1", "n2.dc1", "n3.dc1"]),
        ("gpu-[01:02], n7.dc1", ["n7.dc1", "gpu-01", "gpu-02"]),
        ("n[1:3].dc1:!n2.dc1", ["n1.dc1", "n3.dc1"]),
        ("all[0:1]", ["n1.dc1", "n2.dc1"]),  # Ansible's slice of a group
    ],
)
def test_hosts_can_be_named_as_reports_name_them(pattern: str, names: list[str]) -> None:
    inventory = load(["n1.dc1,n2.dc1,n3.dc1,n7.dc1,gpu-01,gpu-02"])
    assert sorted(host.name for host in select(inventory, pattern)) == sorted(names)


@pytest.mark.parametrize("pattern", [",", " ", "[", ":", ""])
def test_a_pattern_that_names_nothing_is_never_every_host(pattern: str) -> None:
    with pytest.raises(UsageError, match="names nothing"):
        select(load(["a,b,c"]), pattern)


@pytest.mark.parametrize("name", TWINS)
def test_schema_and_dataclasses_have_the_same_keys_and_defaults(name: str) -> None:
    properties = schema()["$defs"][name]["properties"]
    twin = {item.name.rstrip("_"): item for item in fields(TWINS[name])}  # `pass` is no name in Python
    assert set(properties) == set(twin) - ({"name"} if name == "service" else set())
    compare(properties, twin)


def test_schema_and_settings_have_the_same_keys_and_defaults() -> None:
    twin = {item.name: item for item in fields(Settings)}
    assert set(schema()["properties"]) == set(twin)
    compare(schema()["properties"], twin)


def compare(properties: dict[str, Any], twin: dict[str, Any]) -> None:
    for key, rule in properties.items():
        if "default" in rule:
            item = twin[key]
            value = item.default_factory() if item.default is MISSING else item.default
            shown = dict(value) if hasattr(value, "keys") else list(value) if isinstance(value, tuple) else value
            assert rule["default"] == shown, key


def test_every_key_of_the_schema_has_a_description_and_an_example() -> None:
    document = schema()
    for part in (document, *document["$defs"].values()):
        for key, rule in part.get("properties", {}).items():
            full = {**document["$defs"].get(rule.get("$ref", "").rpartition("/")[2], {}), **rule}
            assert full["description"], key
            assert full["examples"], key


def test_reference_page_is_in_step_with_the_schema() -> None:
    assert (ROOT / "docs/inventory.md").read_text(encoding="utf-8") == reference()
