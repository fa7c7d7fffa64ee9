"""The stage prune on both kinds of image stores: what nobody needs goes, everything else and everybody else's stays.

The tests of this module are one story and run in their order.
"""

from collections.abc import Iterator

import pytest

from fleet.errors import FleetError
from fleet.image import convert
from fleet.image.registry_shelf import ShelfClient
from fleet.image.registry_words import UnsupportedError
from fleet.inventory import load
from fleet.inventory.settings import Collecting, Registry
from fleet.lab import NodeSpec
from fleet.prune import collecting
from fleet.prune.collect import Way, choose, plan_collect
from fleet.secret import Secret
from fleet.transport import Connector
from tests.lab.conftest import MI300X, REGISTRY
from tests.lab.registry_image import registry_archive
from tests.lab.rolls import Fleet, answers, fleet_of, within
from tests.lab.standin_image import image_text, standin_archive

pytestmark = pytest.mark.lab

CONTAINERD = NodeSpec("mi300x-02", base="trixie", profile="mi300x-8", user="dev", containerd_store=True)
HOSTS = (MI300X.name, CONTAINERD.name)
PLAYBOOK = """\
- {name: bring, hosts: all, stages: [preflight, image, distribute], max_fail: 100%}
- {name: roll, hosts: all, stages: [serve, verify, prune], max_fail: 100%, min_healthy_time: 0s}
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("prune")
    with fleet_of("prune", folder, REGISTRY, MI300X, CONTAINERD, playbook=PLAYBOOK) as made:
        archive = standin_archive(folder / "c.tar", mark="c")
        (folder / "image-c.yaml").write_text(image_text(archive, registry=True))
        yield made


def names(fleet: Fleet, host: str) -> set[str]:
    return set(fleet.docker(host, "images", "--format", "{{.Repository}}:{{.Tag}}").split())


def ours(fleet: Fleet, host: str) -> dict[str, str]:
    """Release name -> image ID on that host."""
    listed = fleet.docker(host, "images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
    pairs = (line.split() for line in listed.splitlines())
    return {name: digest for name, digest in pairs if name.startswith("vllm-rocm:")}


def test_with_two_releases_nothing_is_too_many(fleet: Fleet) -> None:
    for release in "ab":
        code, document = fleet.wants(release).ask("deploy")
        assert (code, document["failed"]) == (0, {})
    for host in HOSTS:
        assert len(ours(fleet, host)) == 2


def test_a_pinned_release_is_no_surplus_until_it_is_unpinned(fleet: Fleet) -> None:
    """What runs shall be `b`, and of `a`, that would go with `c`, the pin is seen on both hosts."""
    running = fleet.docker(MI300X.name, "inspect", "-f", "{{.Config.Image}}", "chat-0")
    (first,) = ours(fleet, MI300X.name).keys() - {running}
    release = first.rpartition(":")[2]
    assert fleet.wants("c").run("push").returncode == 0
    code, document = fleet.wants("c").ask("releases.pin", release, "--check")
    assert (code, sorted(document["changed"])) == (0, sorted(HOSTS))
    code, document = fleet.wants("c").ask("releases.pin", release, "--reason", 'it\'s "the" one')
    assert (code, sorted(document["changed"]), document["failed"]) == (0, sorted(HOSTS), {})
    assert fleet.wants("c").ask("releases.pin", release)[1]["changed"] == []
    code, document = fleet.wants("c").ask("releases.show", release)
    assert {host: place["pinned"].startswith('it\'s "the" one, by ') for host, place in document["hosts"].items()} == (
        dict.fromkeys(HOSTS, True)
    )
    assert f"remove image {first}" not in fleet.wants("c").run("plan").stdout
    code, document = fleet.wants("c").ask("releases.unpin", release)
    assert (code, sorted(document["changed"]), document["failed"]) == (0, sorted(HOSTS), {})
    assert f"remove image {first}" in fleet.wants("c").run("plan").stdout


def test_the_third_shows_and_removes_the_first_and_nothing_else(fleet: Fleet) -> None:
    before = {host: ours(fleet, host) for host in HOSTS}
    running = {host: fleet.docker(host, "inspect", "-f", "{{.Config.Image}}", "chat-0") for host in HOSTS}
    (first,) = before[MI300X.name].keys() - {running[MI300X.name]}
    for host in HOSTS:
        fleet.docker(host, "tag", running[host], "somebody/else:1")
    assert fleet.wants("c").run("push").returncode == 0
    planned = fleet.wants("c").run("plan")
    assert planned.stdout.count(f"remove image {first}") >= 1
    assert ours(fleet, MI300X.name) == before[MI300X.name]
    code, document = fleet.wants("c").ask("deploy")
    assert (code, document["failed"]) == (0, {})
    for host in HOSTS:
        assert first not in ours(fleet, host)
        assert running[host] in ours(fleet, host)
        assert len(ours(fleet, host)) == 2
        assert "somebody/else:1" in names(fleet, host)


def test_a_second_deploy_has_nothing_to_do_and_the_audit_tells_what_went(fleet: Fleet) -> None:
    code, document = fleet.wants("c").ask("deploy")
    assert (code, document["failed"]) == (0, {})
    assert {host: document["hosts"][host]["changed"] for host in HOSTS} == dict.fromkeys(HOSTS, 0)
    code, found = fleet.wants("c").ask("audit", "--last", "0")
    assert code == 0
    gone = [one for one in found["entries"] if one["action"] == "prune"]
    assert {(one["host"], one["outcome"]) for one in gone} == {(host, "done") for host in HOSTS}


def test_an_image_that_a_foreign_container_uses_stays(fleet: Fleet) -> None:
    """Somebody runs something from the release that would go next."""
    host = MI300X.name
    kept = fleet.docker(host, "inspect", "-f", "{{.Config.Image}}", "chat-0")
    (older,) = ours(fleet, host).keys() - {kept}
    fleet.docker(host, "create", "--name", "foreign", "--entrypoint", "sleep", older, "1")
    code, document = fleet.wants("a").ask("deploy")
    assert (code, document["failed"]) == (0, {})
    assert older in ours(fleet, host)
    assert older not in ours(fleet, CONTAINERD.name)
    code, document = fleet.wants("a").ask("deploy")
    assert (code, sum(document["hosts"][one]["changed"] for one in HOSTS)) == (0, 0)


def test_the_way_back_is_still_there(fleet: Fleet) -> None:
    assert fleet.wants("a").run("rollback").returncode == 0
    for host in HOSTS:
        assert "MARK=c" in fleet.docker(host, "inspect", "-f", "{{.Config.Env}}", "chat-0")


def test_images_tell_which_is_which_though_a_name_was_given_to_another(fleet: Fleet) -> None:
    for host in HOSTS:
        running = fleet.docker(host, "inspect", "-f", "{{.Config.Image}}", "chat-0")
        other = min(ours(fleet, host).keys() - {running})
        fleet.docker(host, "tag", other, running)
        try:
            code, document = fleet.wants("c").ask("images")
            assert (code, document["failed"]) == (0, {})
            seen = document["hosts"][host]
            (runs,) = [one for one in seen if any(user["name"] == "chat-0" for user in one["containers"])]
            assert runs["release"]["local_name"] == running
            assert runs["lost_names"] == [running]
            (wrong,) = [one for one in seen if running in one["names"]]
            assert wrong["release"]["local_name"] == other
            assert wrong["before"] == {running: [runs["id"].removeprefix("sha256:")[:12]]}
            assert "and this is another image" in " ".join(wrong["remarks"])
            assert any("somebody/else:1" in one["names"] for one in seen)
            table = fleet.wants("c").run("images", "--limit", host).stdout
            assert f"{running} is the name of release" in " ".join(table.split())
        finally:
            fleet.docker(host, "tag", runs["id"], running)


# invoke prune

PLAIN = "preflight,image,distribute,serve,verify"  # without the stage prune
SIMILAR = "vllm-rocm:nightly"  # a foreign image that is called much like ours


def ids(fleet: Fleet, host: str) -> set[str]:
    return set(fleet.docker(host, "images", "--all", "--no-trunc", "--quiet").split())


def volumes(fleet: Fleet, host: str) -> set[str]:
    return set(fleet.docker(host, "volume", "ls", "--quiet").split())


def state(fleet: Fleet, host: str) -> list[str]:
    boxes = fleet.docker(host, "ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}}")
    return sorted([*names(fleet, host), *ids(fleet, host), *volumes(fleet, host), *boxes.splitlines()])


def marks(fleet: Fleet, host: str) -> dict[str, str]:
    """What each of our images on a host is called, by the letter of its release."""
    envs = {name: fleet.docker(host, "inspect", "-f", "{{.Config.Env}}", name) for name in ours(fleet, host)}
    return {env.partition("MARK=")[2][:1]: name for name, env in envs.items()}


def account(fleet: Fleet) -> Registry:
    paths = fleet.lab.paths
    user, password = (
        Secret("user", file=str(paths.registry_user)),
        Secret("password", file=str(paths.registry_password)),
    )
    return Registry(fleet.lab.registry, str(paths.ca), user, password)


def shelf(fleet: Fleet) -> ShelfClient:
    return ShelfClient(account(fleet))


def in_registry(fleet: Fleet) -> set[str]:
    """All tags of our repository."""
    with shelf(fleet) as client:
        return set(client.tags("vllm-rocm"))


def test_prune_leaves_what_is_needed_and_what_is_not_ours_and_then_has_nothing_to_do(fleet: Fleet) -> None:
    """`a` is pinned, `c` lies there, then `b`, `d` and `e` answered: `e` runs and `d` is the way back."""
    for mark in "de":
        archive = standin_archive(fleet.folder / f"{mark}.tar", mark=mark)
        (fleet.folder / f"image-{mark}.yaml").write_text(image_text(archive, registry=True))
    fleet.docker(MI300X.name, "rm", "foreign")
    for mark in "bde":
        code, document = fleet.wants(mark).ask("deploy", "--stages", PLAIN)
        assert (code, document["failed"]) == (0, {})
    serves = marks(fleet, MI300X.name)
    assert sorted(serves) == list("abcde")
    pinned = serves["a"].rpartition(":")[2]
    assert fleet.wants("e").run("releases.pin", pinned).returncode == 0
    for host in HOSTS:
        fleet.sh(host, f"tar -C /etc -c hostname | docker import - {SIMILAR}")
        fleet.sh(host, "tar -C /etc -c hosts | docker import -")  # without a name
        fleet.docker(host, "tag", serves["b"], "somebody/else:b")
        fleet.docker(host, "volume", "create", "fleet-cache-mine")
    before = {host: state(fleet, host) for host in HOSTS}
    foreign = {host: ids(fleet, host) for host in HOSTS}

    code, planned = fleet.wants("e").ask("prune", "--check")
    assert (code, planned["failed"], planned["notes"]) == (0, {}, [])
    assert {host: state(fleet, host) for host in HOSTS} == before
    code, done = fleet.wants("e").ask("prune")
    assert (code, done["failed"]) == (0, {})
    for host in HOSTS:
        removed = done["hosts"][host]["removed"]
        assert removed == planned["hosts"][host]["planned"]
        assert {f"remove image {serves['c']}", f"take our name off image {serves['b']}"} <= {
            one["what"] for one in removed
        }, (host, done["hosts"][host])
        assert all(one["why"] for one in (*removed, *done["hosts"][host]["kept"]))
        assert set(ours(fleet, host)) == {serves["a"], serves["d"], serves["e"], SIMILAR}
        assert {SIMILAR, "somebody/else:1", "somebody/else:b"} <= names(fleet, host)
        assert len(foreign[host] - ids(fleet, host)) == 1  # of `c`; the one without a name is there
        caches = {name.split("-")[2] for name in volumes(fleet, host)}
        assert caches == {"mine", *(serves[mark].rpartition(":")[2] for mark in "ade")}
        assert done["hosts"][host]["before"]["free"] > 0
        assert done["hosts"][host]["after"]["used"] > 0
    known = {one.rpartition(":")[2] for one in serves.values()}
    stays = {serves[mark].rpartition(":")[2] for mark in "ade"} | set(sorted(known)[-2:])  # all were made on one day
    (place,) = [place for place in done["places"] if place.startswith("registry")]
    would = [one["what"] for one in planned["places"][place]["planned"]]
    assert [one["what"] for one in done["places"][place]["removed"]] == would
    assert would[-1].startswith("collect the garbage of registry ")
    assert in_registry(fleet) & known == stays
    assert len([tag for tag in in_registry(fleet) if tag.startswith("fleet-")]) == len(stays)
    for release in stays:  # and all that is still there can be pulled, whole
        whole = convert.to_layout(
            f"docker://{fleet.lab.registry}/vllm-rocm:{release}",
            fleet.folder / f"pulled-{release}",
            registry=account(fleet),
            on_line=lambda _line: None,
        )
        assert whole.image.manifest.digest.startswith(f"sha256:{release}")
    room = done["places"][place]
    assert room["before"]["used"] > room["after"]["used"] > 0
    assert done["notes"] == []
    layouts = {path.name for path in (fleet.controller.directory / ".fleet/layouts").iterdir()}
    assert layouts & known < known
    after = {host: state(fleet, host) for host in HOSTS}
    code, again = fleet.wants("e").ask("prune")
    assert (code, [again["hosts"][host]["planned"] for host in HOSTS]) == (0, [[], []])
    assert {name: place["planned"] for name, place in again["places"].items() if place["planned"]} == {}
    assert {host: state(fleet, host) for host in HOSTS} == after
    small = {"all": {"vars": {"fleet": {"retention": {"cache_volumes": "1kB"}}}}}
    for host in HOSTS:  # as root and as somebody who has to ask the engine
        everywhere = "/var/lib/docker/volumes/fleet-cache-*/_data"
        fleet.sh(host, f"for place in {everywhere}; do head -c 5000 /dev/urandom > $place/kernels; done")
    code, limited = fleet.wants("e", over=small).ask("prune", "--check")
    assert code == 0
    for host in HOSTS:
        going = {one["what"].split("-")[2]: one["bytes"] for one in limited["hosts"][host]["planned"]}
        assert pinned in going
        assert serves["e"].rpartition(":")[2] not in going
        assert min(going.values()) >= 5000
    told = fleet.wants("e").run("prune", "--check").stdout
    assert "nothing to remove" in told
    assert f"keep image {serves['a']}: pinned" in told


# What starts the registry anew. With /run/hold it stays there once the registry refuses pushes, and says who is waiting.
AGAIN = """#!/bin/sh
service docker-registry stop
while pgrep -x docker-registry; do sleep 0.1; done
service docker-registry start
grep -q readonly /etc/docker/registry/config.yml && [ -e /run/hold ] || exit 0
echo "$PPID $$" > /run/held
while [ -e /run/hold ]; do sleep 0.1; done
"""
BY_AGAIN = {"all": {"vars": {"fleet": {"registry": {"collect": {"restart": ["/srv/again"]}}}}}}


def held(fleet: Fleet) -> str:
    return fleet.sh("registry", "cat /run/held 2>/dev/null || true")


def refuses_pushes(client: ShelfClient) -> bool:
    try:
        client.put_record("somebody/else", "mine", b"somebody's", {})
    except UnsupportedError:
        return True
    except FleetError:  # it is just starting
        return False
    return False


@pytest.mark.parametrize("killed", ["controller", "host"])
def test_a_collection_that_is_killed_leaves_a_registry_that_takes_pushes(fleet: Fleet, killed: str) -> None:
    """Its controller is killed: the host ends it alone. What runs on the host is killed: the next prune puts it right."""
    with shelf(fleet) as client:
        kept = min(tag for tag in client.tags("vllm-rocm") if tag.startswith("fleet-"))
        client.delete("somebody/else", client.put_record("somebody/else", killed, killed.encode() * 10**5, {}))
        program = fleet.lab.node("registry").root / "srv/again"
        program.write_text(AGAIN)
        program.chmod(0o755)
        fleet.sh("registry", "rm -f /run/held; touch /run/hold")
        config = fleet.sh("registry", "cat /etc/docker/registry/config.yml")
        with fleet.wants("e", over=BY_AGAIN).start("prune") as run:
            assert within(120, lambda: bool(held(fleet)) or run.poll() is not None)
            assert held(fleet), run.communicate()
            assert within(30, lambda: refuses_pushes(client))
            assert client.get_record("vllm-rocm", kept)
            if killed == "controller":
                run.kill()
                fleet.sh("registry", "rm /run/hold")
            else:
                fleet.sh("registry", "kill -KILL $(cat /run/held); rm /run/hold")
                assert run.wait(60) == 1
                assert refuses_pushes(client)
                assert fleet.wants("e", over=BY_AGAIN).run("prune").returncode == 0
        # Not asked by pushing: a push that the next start cuts off would look as if somebody still pushed.
        assert within(60, lambda: not fleet.sh("registry", "ls /var/lib/fleet"))
        assert client.put_record("somebody/else", "mine", b"somebody's", {})
        assert client.get_record("vllm-rocm", kept)
    assert fleet.sh("registry", "ls /tmp") == ""
    assert fleet.sh("registry", "cat /etc/docker/registry/config.yml") == config
    code, again = fleet.wants("e").ask("prune", "--check")
    assert (code, [place["planned"] for name, place in again["places"].items() if "registry" in name]) == (0, [[]])


CONFIG = """\
storage: {filesystem: {rootdirectory: /var/lib/registry}, delete: {enabled: true}}
http: {addr: ':5001'}
version: 0.1
"""


def test_a_registry_in_a_container_collects_its_garbage_too(fleet: Fleet) -> None:
    """As the official image runs: nothing of its configuration lies on the host."""
    host = MI300X.name
    root = fleet.lab.node(host).root
    registry_archive(root / "tmp/registry.tar")
    (root / "tmp/config.yml").write_text(CONFIG)
    fleet.docker(host, "load", "--input", "/tmp/registry.tar")
    fleet.docker(host, "create", "--name", "registry", "--publish", "5001:5001", "registry:2", "serve", "/config.yml")
    fleet.docker(host, "cp", "/tmp/config.yml", "registry:/config.yml")
    fleet.docker(host, "start", "registry")
    plain = Registry(f"{fleet.address(host)}:5001", insecure=True)
    try:
        with Connector() as connector, ShelfClient(plain) as client:
            assert within(30, lambda: answers(fleet.address(host), port=5001, path="/v2/"))
            client.delete("a", client.put_record("a", "old", b"x" * 10**6, {}))
            session = connector.connect(load([str(fleet.lab.inventory)]).hosts[host])
            seen = collecting.look(session)
            way = choose(seen, Collecting())
            assert isinstance(way, Way), way
            (step,) = plan_collect(plain.host, host, seen, way, collecting.measure(session, way), 0)
            before, after = collecting.collect(step, session)
            assert before.used - after.used >= 10**6
            assert client.put_record("a", "new", b"y", {})
            assert fleet.docker(host, "exec", "registry", "/bin/registry", "--version")
            way = choose(collecting.look(session), Collecting())
            assert isinstance(way, Way), way
            assert collecting.measure(session, way).blobs == ()
    finally:
        fleet.docker(host, "rm", "--force", "--volumes", "registry")
        fleet.docker(host, "rmi", "registry:2")
        for name in ("registry.tar", "config.yml"):
            (root / "tmp" / name).unlink()


def test_prune_touches_no_host_that_another_run_holds(fleet: Fleet) -> None:
    host = MI300X.name
    (pinned,) = set(fleet.sh(host, "ls /var/lib/fleet/releases/pinned").split())
    release = pinned.removesuffix(".json")
    assert fleet.wants("e").run("releases.unpin", release).returncode == 0
    holds = "exec 9</run; flock -n 9; echo $$ > /run/held; exec sleep 600"
    fleet.sh(host, f"setsid sh -c '{holds}' >/dev/null 2>&1 </dev/null &")
    try:
        assert within(30, lambda: bool(fleet.sh(host, "cat /run/held 2>/dev/null || true")))
        before = state(fleet, host)
        code, document = fleet.wants("e").ask("prune")
        assert code == 1
        assert "locked" in document["failed"][host]["message"]
        assert state(fleet, host) == before
        assert f"vllm-rocm:{release}" not in ours(fleet, CONTAINERD.name)
    finally:
        fleet.sh(host, "kill $(cat /run/held); rm -f /run/held")
    code, document = fleet.wants("e").ask("prune", "--lock-wait", "30s")
    assert (code, document["failed"]) == (0, {})
    assert f"vllm-rocm:{release}" not in ours(fleet, host)


def test_a_host_that_cannot_be_reached_keeps_what_it_needs_and_nothing_else_from_going(fleet: Fleet) -> None:
    """Somebody's garbage is collected all the same, and no release goes: all that are left are the two newest or needed."""
    before = in_registry(fleet)
    with shelf(fleet) as client:
        client.delete("somebody/else", client.put_record("somebody/else", "away", b"away" * 10**5, {}))
    fleet.lab.node(CONTAINERD.name).stop_sshd()
    try:
        code, document = fleet.wants("e").ask("prune")
        assert (code, sorted(document["failed"])) == (1, [CONTAINERD.name])
    finally:
        fleet.lab.node(CONTAINERD.name).start_sshd()
    (note,) = document["notes"]
    assert note.startswith(f"{CONTAINERD.name} cannot be asked: what it needed on ")
    (place,) = (place for name, place in document["places"].items() if name.startswith("registry "))
    assert [step["what"].split(" of ")[0] for step in place["removed"]] == ["collect the garbage"]
    assert in_registry(fleet) == before


def test_the_way_back_is_there_after_a_prune(fleet: Fleet) -> None:
    assert fleet.wants("e").run("rollback").returncode == 0
    for host in HOSTS:
        assert "MARK=d" in fleet.docker(host, "inspect", "-f", "{{.Config.Env}}", "chat-0")


def test_a_host_with_little_room_is_pruned_before_an_image_is_brought_and_that_is_said(fleet: Fleet) -> None:
    """`d` serves, and `e` was rolled away from; `c` is brought again, from where it came from."""
    retention = {"all": {"vars": {"fleet": {"retention": {"free": "900TB", "keep": 1}}}}}
    before = {host: set(ours(fleet, host)) for host in HOSTS}
    planned = fleet.wants("c", over=retention).run("deploy", "--stages", PLAIN, "--check")
    assert planned.stderr.count("would be pruned first") == len(HOSTS)
    assert {host: set(ours(fleet, host)) for host in HOSTS} == before
    done = fleet.wants("c", over=retention).run("deploy", "--stages", PLAIN)
    assert done.returncode == 0, done.stderr
    for host in HOSTS:
        assert f"{host}: is pruned first" in done.stderr
        assert "MARK=c" in fleet.docker(host, "inspect", "-f", "{{.Config.Env}}", "chat-0")
        assert len(ours(fleet, host).keys() - {SIMILAR}) == 2
    again = fleet.wants("c", over=retention).run("deploy", "--stages", PLAIN)
    assert again.returncode == 0, again.stderr
    assert "pruned first" not in again.stderr
