"""Whether and how a registry on a host of the inventory collects its garbage."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from fleet.inventory.model import Connection, Host, Inventory
from fleet.inventory.settings import Collecting, Settings
from fleet.prune import collecting
from fleet.prune.collect import (
    Garbage,
    RegistryHost,
    Way,
    choose,
    host_of,
    parse,
    parse_garbage,
    plan_collect,
    read_only,
)
from fleet.prune.facts import Room
from fleet.transport import Output

CONFIG = "/etc/docker/registry/config.yml"
TEXT = "storage:\n  filesystem: {rootdirectory: /srv/registry}\nhttp: {addr: ':5000', secret: hush}\n"
SERVICE = f"""\
uid 0
systemd
init cron
process 812
word /usr/bin/docker-registry
word serve
word {CONFIG}
program /usr/bin/docker-registry
cgroup 0::/system.slice/docker-registry.service
guarded
here
config {TEXT.rstrip().replace(chr(10), chr(10) + "config ")}
"""
ID = "c" * 64


def container(*mounts: dict[str, str], labels: dict[str, str] | None = None, number: int = 99) -> str:
    """As docker runs the official image."""
    told = {"Id": ID, "Name": "/registry", "Mounts": list(mounts), "Config": {"Labels": labels or {}}}
    return f"""\
process {number}
word registry
word serve
word {CONFIG}
program /bin/registry
cgroup 0::/system.slice/docker-{ID}.scope
variable REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/data
container {json.dumps(told)}
config {TEXT.rstrip().replace(chr(10), chr(10) + "config ")}
"""


def way(text: str, said: Collecting | None = None) -> Way:
    found = choose(parse(text), said or Collecting())
    assert isinstance(found, Way), found
    return found


def test_a_service_of_systemd_is_started_anew_by_its_unit_and_collects_by_its_own_program() -> None:
    found = way(SERVICE)
    assert (found.stop, found.start) == ((), ("systemctl", "restart", "docker-registry.service"))
    assert found.program == ("/usr/bin/docker-registry", "garbage-collect", CONFIG)
    assert (found.path, found.storage, found.port) == (CONFIG, "/srv/registry", 5000)
    assert found.arguments[:7] == ("812", CONFIG, CONFIG, "", "docker-registry.service", "1388", "/srv/registry")
    assert "hush" not in repr(found.arguments)


def test_without_systemd_debians_script_stops_it_and_then_starts_it() -> None:
    text = SERVICE.replace("systemd\n", "init docker-registry\n", 1).replace(
        "/system.slice/docker-registry.service", "/"
    )
    assert (way(text).stop, way(text).start) == (
        ("service", "docker-registry", "stop"),
        ("service", "docker-registry", "start"),
    )


def test_a_container_is_started_anew_by_docker_and_its_own_variables_count() -> None:
    """Its configuration is mounted from the host, or lies in the container alone."""
    found = way(f"uid 0\n{container()}")
    assert found.start == ("docker", "restart", ID[:12])
    assert found.program == ("docker", "exec", ID, "registry", "garbage-collect", CONFIG)
    assert (found.path, found.storage) == ("", "/data")
    assert found.arguments[3:5] == (ID, ID)
    mount = {"Source": "/srv/conf", "Destination": "/etc/docker/registry"}
    mounted = f"uid 0\n{container(mount).replace('config storage', 'guarded' + chr(10) + 'config storage')}"
    assert way(mounted).path == "/srv/conf/config.yml"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SERVICE.replace("uid 0", "uid 1000"), "takes root"),
        ("uid 0\nsystemd\n", "no process"),
        (SERVICE.replace("guarded\n", ""), "others than root may write"),
        (SERVICE.replace("here\n", ""), "not in one of Docker's"),
        (SERVICE.replace("config storage", "config store"), "cannot be read"),
        (SERVICE.replace("config http", "config   cache: {blobdescriptor: redis}\nconfig http"), "Redis"),
        (SERVICE.replace("/system.slice/", "/user.slice/user-1000.slice/"), "set registry.collect.restart"),
        (SERVICE + container(), "2 registries run there"),
    ],
)
def test_where_it_cannot_be_told_how_nothing_is_done_and_why_is_said(text: str, why: str) -> None:
    found = choose(parse(text), Collecting())
    assert isinstance(found, str)
    assert why in found


def test_the_inventory_can_say_which_registry_is_meant_and_what_starts_it_anew() -> None:
    other = SERVICE.replace(CONFIG, "/srv/other.yml")
    said = Collecting("/srv/other.yml", ("supervisorctl", "restart", "registry"))
    found = way(other + container(), said)
    assert (found.running.pid, found.start) == (812, said.restart)


def test_a_relay_of_ours_is_not_the_registry_that_is_meant() -> None:
    assert way(SERVICE + container(labels={"io.fleet.relay": "1"})).running.pid == 812


def test_the_configuration_for_the_time_being_differs_in_nothing_else() -> None:
    document = {**yaml.safe_load(TEXT), "version": 0.1}
    made = yaml.safe_load(read_only(document))
    assert made["storage"].pop("maintenance") == {"readonly": {"enabled": True}}
    assert made == document
    purging = {"storage": {"maintenance": {"uploadpurging": {"enabled": False}}, "s3": None}}
    assert yaml.safe_load(read_only(purging))["storage"]["maintenance"]["uploadpurging"] == {"enabled": False}


def test_it_is_done_where_there_is_garbage_or_will_be_or_where_one_was_cut_off() -> None:
    found, here = way(SERVICE), RegistryHost(root=True)
    garbage = parse_garbage("room 2048 4096\nblob 700\nblob 300\n")
    assert garbage == Garbage((700, 300), Room(2 << 20, 4 << 20), busy=False)
    (step,) = plan_collect("reg:5000", "store", here, found, garbage, 0)
    assert (step.size, step.why) == (1000, "1.0 kB there belong to no image")
    assert "on store, which refuses pushes meanwhile" in step.what
    assert "systemctl restart docker-registry.service" in step.what
    assert plan_collect("reg:5000", "store", here, found, Garbage(), 0) == ()
    (step,) = plan_collect("reg:5000", "store", here, found, Garbage(), 10**9)
    assert step.why == "1.0 GB there belong to no image once what is planned is deleted"
    (step,) = plan_collect("reg:5000", "store", replace(here, left=(found.before,)), found, Garbage(), 0)
    assert "was cut off there" in step.why
    assert parse_garbage("room 1 1\nbusy\n").busy


@pytest.mark.parametrize(
    ("registry", "host"),
    [
        ("10.0.0.7:5000", "store"),
        ("STORE", "store"),
        ("[fd00::7]:5000", "six"),
        ("10.0.0.70:5000", ""),
        ("registry.corp", ""),
    ],
)
def test_a_registry_is_on_the_host_that_has_its_name_or_its_address(registry: str, host: str) -> None:
    addresses = {"store": "10.0.0.7", "six": "fd00::7"}
    hosts = {name: Host(name, (), Connection(address), Settings()) for name, address in addresses.items()}
    assert host_of(Inventory(hosts, {}, (Path("prod.yaml"),)), registry) == host


def test_the_configuration_travels_by_standard_input_and_never_as_an_argument() -> None:
    sent: list[tuple[str, tuple[str, ...]]] = []

    def script(text: str, *, args: tuple[str, ...], **_how: Any) -> Output:
        sent.append((text, args))
        return Output(0, "before 10 1\nafter 4 7\n", "")

    session = cast("Any", SimpleNamespace(host=SimpleNamespace(name="store"), script=script))
    (step,) = plan_collect("reg:5000", "store", RegistryHost(), way(SERVICE), Garbage((1,)), 0)
    assert collecting.collect(step, session) == (Room(10240, 1024), Room(4096, 7168))
    ((text, args),) = sent
    assert "secret: hush" in text
    assert "hush" not in repr(args)
