"""Models onto a host over real connections: pushed, interrupted, pushed again, repaired, and switched under a reader's eyes.

The server runs real commands of this machine.
"""

import hashlib
import os
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.delivery.throttle import Throttle
from fleet.errors import HostError
from fleet.models import scripts
from fleet.models.execute import Work, carry_out
from fleet.models.look import look
from fleet.models.plan import Adopt, Bring, Keep, Retire, Switch
from fleet.transport import Connector
from tests.ssh.conftest import Keys
from tests.ssh.model_site import MIB, NAME, Connect, Site, cut_under_way, kinds, noise, shards
from tests.ssh.sshd import Sshd

TWICE = 4 * MIB


@pytest.fixture
def connect(connector: Connector, sshd: Sshd, keys: Keys) -> Connect:
    return lambda: connector.connect(sshd.host(key_file=str(keys.user)))


@pytest.fixture
def site(connect: Connect, tmp_path: Path) -> Site:
    return Site(connect, tmp_path, tmp_path / "srv/models")


def test_a_model_is_pushed_listed_and_the_second_push_moves_nothing(site: Site, sshd: Sshd) -> None:
    files = shards(1)
    here = site.source(files)
    plan = site.push(here)
    assert kinds(plan) == [Bring, Switch]
    assert plan.steps[0].size == here.content.size == site.seen[-1]
    assert site.holds(files)
    assert site.at.is_symlink()
    assert {oct(path.stat().st_mode)[-3:] for path in site.at.rglob("*.safetensors")} == {"644"}
    subprocess.run(("sha256sum", "--quiet", "--check", ".fleet.sha256"), cwd=site.at, check=True)
    assert not (site.models / ".fleet").exists()
    sshd.commands.clear()
    assert kinds(site.push(here)) == [Keep]
    assert not [command for command in sshd.commands if "sha256sum <" in command]  # the list was believed


def test_only_files_that_differ_move_and_the_others_are_not_copied(site: Site) -> None:
    files = shards(1)
    site.push(site.source(files))
    inode = (site.at / "model-0.safetensors").stat().st_ino
    files |= {"model-3.safetensors": noise(9, MIB), "added.json": b"1"}
    (site.folder / "source" / NAME / "model-1.safetensors").unlink()
    del files["model-1.safetensors"]
    plan = site.push(site.source(files))
    assert plan.steps[0].size == MIB + 1
    assert site.holds(files)
    assert (site.at / "model-0.safetensors").stat().st_ino == inode
    assert site.settled(site.here())


def test_a_file_that_the_source_has_no_more_goes_without_a_byte_sent(site: Site) -> None:
    files = shards(1)
    site.push(site.source(files))
    (site.folder / "source" / NAME / "model-1.safetensors").unlink()
    del files["model-1.safetensors"]
    assert kinds(site.push(site.here())) == [Switch]
    assert site.holds(files)
    assert not (site.models / ".fleet").exists()


def test_a_link_of_somebody_elses_gives_way_and_what_it_leads_to_stays(site: Site) -> None:
    files = shards(1)
    theirs = site.folder / "theirs"
    theirs.mkdir()
    (theirs / "model-0.safetensors").write_bytes(files["model-0.safetensors"])
    site.at.parent.mkdir(parents=True)
    site.at.symlink_to(theirs)
    here = site.source(files)
    plan = site.push(here)
    assert plan.steps[0].size == here.content.size - MIB
    assert site.holds(files)
    assert [path.name for path in theirs.iterdir()] == ["model-0.safetensors"]


def test_the_version_before_stays_and_older_ones_go(site: Site) -> None:
    known = []
    for release in (1, 2, 3):
        plan = site.push(site.source(shards(release)))
        known.append(str(site.at.readlink()))
    assert kinds(plan) == [Bring, Switch, Retire]
    assert {path.name for path in (site.models / "org").iterdir()} == {"tiny", *known[1:]}
    assert site.settled(site.here())


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_push_goes_on_within_a_file(site: Site, sshd: Sshd, share: float) -> None:
    files = {"config.json": b"{}", "model.safetensors": noise(5, 16 * MIB)}
    here = site.source(files)
    plan = site.look(here)[1]
    part = site.models / f".fleet/blobs/{hashlib.sha256(files['model.safetensors']).hexdigest()}.part"

    gone = threading.Event()

    class Held(Throttle):
        """The last of it is not sent before the link was cut, however busy the machine is."""

        left = min(share * 16 + 1.5, 15.5) * MIB

        def take(self, count: int) -> None:
            super().take(count)
            self.left -= count
            if self.left < 0:
                gone.wait(30)

    def cut() -> None:
        until = time.monotonic() + 30
        while (part.stat().st_size if part.exists() else 0) < share * 16 * MIB and time.monotonic() < until:
            time.sleep(0.001)
        sshd.cut()
        gone.set()

    watcher = threading.Thread(target=cut)
    watcher.start()
    with pytest.raises(HostError, match="the host keeps what arrived"):
        carry_out(plan.steps, Work(str(site.models), {NAME: here}), site.way(throttle=Held(0)))
    watcher.join()
    assert not site.at.exists()
    first, site.seen[:] = site.seen[-1], []
    again = site.push(here)
    assert again.steps[0].size < 16 * MIB * (1.1 - share)
    assert first + site.seen[-1] <= here.content.size + TWICE
    assert site.holds(files)


def test_a_cut_link_is_made_anew_in_the_same_push(site: Site, sshd: Sshd) -> None:
    files = {"config.json": b"{}", "model.safetensors": noise(6, 12 * MIB)}
    here = site.source(files)
    way = site.way(throttle=Throttle(40 * MIB))
    way = replace(way, renew=lambda: replace(way, session=site.connect()))
    with cut_under_way(site, sshd):
        site.push(here, way=way)
    assert any("going on over a new connection" in line for line in site.said)
    assert site.holds(files)


def test_a_file_that_was_edited_on_the_host_is_repaired(site: Site) -> None:
    files = shards(1)
    here = site.source(files)
    site.push(here)
    with (site.at / "model-2.safetensors").open("r+b") as file:
        file.write(b"X")
    plan = site.push(here)
    assert plan.steps[0].size == MIB
    assert "1 differs (model-2.safetensors)" in plan.steps[0].why
    assert site.holds(files)
    assert site.settled(here)


def test_a_flipped_bit_is_seen_when_no_list_is_believed(site: Site) -> None:
    files = shards(1)
    here = site.source(files)
    site.push(here)
    victim = site.at / "model-2.safetensors"
    before = victim.stat()
    with victim.open("r+b") as file:
        file.write(bytes([files["model-2.safetensors"][0] ^ 1]))
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert site.settled(here)
    assert kinds(site.push(here, everything=True)) == [Bring, Switch]
    assert site.holds(files)


def test_what_somebody_copied_by_hand_is_hashed_and_listed_where_it_lies(site: Site) -> None:
    files = shards(1)
    here = site.source(files)
    for path, content in files.items():
        (site.at / path).parent.mkdir(parents=True, exist_ok=True)
        (site.at / path).write_bytes(content)
    assert kinds(site.push(here)) == [Adopt]
    assert not site.at.is_symlink()
    assert site.settled(here)


@pytest.mark.parametrize("plain", [False, True], ids=["a version", "a plain directory"])
def test_a_reader_never_sees_half_a_model(site: Site, plain: bool) -> None:
    old, new = shards(1, size=4096), shards(2, size=4096)
    site.push(site.source(old))
    if plain:
        target = site.at.readlink()
        site.at.unlink()
        (site.models / "org" / target).rename(site.at)
    done = threading.Event()
    wrong: list[str] = []
    seen = set()
    names = sorted(old)

    def read_all() -> None:
        while not done.is_set():
            # A directory that was opened stays the same one, as a service's own working directory would.
            try:
                folder = os.open(site.at, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                wrong.append(f"the model was away: {error}")
                return
            try:
                found = {}
                for name in names:
                    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
                        found[name] = file.read()
            finally:
                os.close(folder)
            if found not in (old, new):
                wrong.append("files of two releases")
                return
            seen.add(found["config.json"])

    reader = threading.Thread(target=read_all)
    reader.start()
    try:
        site.push(site.source(new))
        until = time.monotonic() + 30
        while new["config.json"] not in seen and not wrong and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        done.set()
        reader.join()
    assert wrong == []
    assert seen == {old["config.json"], new["config.json"]}
    assert site.settled(site.here())


def test_a_plain_directory_gives_way_without_an_exchange_too(site: Site, tmp_path: Path) -> None:
    for word in ("perl", "mv"):  # neither can exchange two names here
        tool = tmp_path / "bin" / word
        refuses = 'case "$*" in *--exchange*|*syscall*) exit 1 ;; esac'
        tool.write_text(f'#!/bin/sh\n{refuses}\nexec {shutil.which(word)} "$@"\n')
        tool.chmod(0o755)
    site.at.mkdir(parents=True)
    (site.at / "config.json").write_bytes(b"by hand")
    files = shards(1)
    plan = site.push(site.source(files))
    assert site.holds(files)
    assert (site.models / "org/.tiny.before/config.json").read_bytes() == b"by hand"
    assert kinds(plan) == [Bring, Switch]


def test_a_switch_that_is_not_let_leaves_the_old_one_and_keeps_what_came(site: Site) -> None:
    old, new = shards(1), shards(2)
    site.push(site.source(old))
    here = site.source(new)

    def busy(name: str) -> None:
        raise HostError("node", f"chat-0 is starting and may be reading {name}")

    with pytest.raises(HostError, match="is starting"):
        site.push(here, settled=busy)
    assert site.holds(old)
    assert site.push(here).steps[0].size == 0
    assert site.holds(new)


def test_a_switch_that_outlived_its_controller_ends_before_the_next_one_begins(site: Site, tmp_path: Path) -> None:
    """It is caught where it waits for the disk, which takes minutes for a big model."""
    files = shards(1)
    here = site.source(files)
    bring, switch = site.look(here)[1].steps
    assert isinstance(switch, Switch)
    carry_out((bring,), Work(str(site.models), {NAME: here}), site.way())
    waits, never = tmp_path / "waits", tmp_path / "never"
    for pipe in (waits, never):
        os.mkfifo(pipe)
    disk = tmp_path / "bin/sync"
    disk.parent.mkdir(exist_ok=True)
    disk.write_text(f"#!/bin/sh\necho it waits > {waits}\nread -r line < {never}\n")
    disk.chmod(0o755)
    argv = ("sh", "-c", scripts.SWITCH, "sh", str(site.models), "org", "tiny", switch.version, "")
    words = "".join(f"{one.sha256} b {one.path}\n" for one in here.content.files)
    path = f"{disk.parent}:{os.environ['PATH']}"
    with subprocess.Popen(argv, env={"PATH": path}, stdin=subprocess.PIPE, text=True) as orphan:
        assert orphan.stdin
        orphan.stdin.write(f"{words}end\n")
        orphan.stdin.close()
        waits.read_text()
        disk.unlink()
        try:
            site.push(here)
            assert orphan.poll() == 1
        finally:
            never.write_text("the disk is done\n")
    assert site.holds(files)
    assert site.settled(here)
    assert {path.name for path in (site.models / "org").iterdir()} == {"tiny", switch.version}
    assert not (site.models / ".fleet").exists()


@pytest.mark.parametrize("lines", [0, 3])
def test_a_list_that_breaks_off_with_its_controller_switches_nothing(site: Site, lines: int) -> None:
    here = site.source(shards(1))
    bring, switch = site.look(here)[1].steps
    assert isinstance(switch, Switch)
    carry_out((bring,), Work(str(site.models), {NAME: here}), site.way())
    argv = ("sh", "-c", scripts.SWITCH, "sh", str(site.models), "org", "tiny", switch.version, "")
    words = "".join(f"{one.sha256} b {one.path}\n" for one in here.content.files[:lines])
    assert subprocess.run(argv, input=words, text=True, check=False).returncode == 1
    assert not (site.models / "org").exists()
    assert site.push(here).steps[0].size == 0
    assert site.settled(here)


def test_a_staged_file_that_is_wrong_is_sent_again_from_where_it_is(site: Site) -> None:
    files = {"model.safetensors": noise(3, 4 * MIB)}
    here = site.source(files)
    blobs = site.models / ".fleet/blobs"
    blobs.mkdir(parents=True, mode=0o700)
    blobs.parent.chmod(0o700)
    damaged = bytearray(files["model.safetensors"])
    damaged[-1] ^= 1
    (blobs / here.content.files[0].sha256).write_bytes(damaged)
    site.push(here)
    assert site.holds(files)
    assert any("is damaged on the host" in line for line in site.said)
    assert site.seen[-1] <= 1 << 16


def test_a_source_that_changes_under_way_is_told_and_nothing_is_switched(site: Site) -> None:
    here = site.source({"model.safetensors": noise(3, MIB)})
    (site.folder / "source" / NAME / "model.safetensors").write_bytes(noise(4, MIB))
    with pytest.raises(HostError, match="has other bytes than when it was hashed"):
        site.push(here)
    assert not site.at.exists()


def test_hugging_faces_cache_is_a_source_and_is_known_on_hosts(site: Site) -> None:
    content = noise(1, MIB)
    blob = hashlib.sha256(content).hexdigest()
    for place in (site.folder / "source", site.models):
        repository = place / "models--org--tiny"
        (repository / "blobs").mkdir(parents=True)
        (repository / "snapshots/abc").mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text("abc")
        (repository / "blobs" / blob).write_bytes(content)
        (repository / "blobs/0123").write_bytes(b"{}")
        (repository / "snapshots/abc/model.safetensors").symlink_to(f"../../blobs/{blob}")
        (repository / "snapshots/abc/config.json").symlink_to("../../blobs/0123")
    here = site.here()
    site.push(here)
    assert site.holds({"model.safetensors": content, "config.json": b"{}"})
    found = look(site.way().sender, str(site.models))
    assert sorted(found.models) == ["models--org--tiny/snapshots/abc", NAME]
    cached = found.models["models--org--tiny/snapshots/abc"]
    assert cached.cached == ("org/tiny", "abc")
    assert (cached.refs, cached.bytes) == (("main",), MIB + 2)


def test_a_version_that_something_has_mounted_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.push(site.source(shards(1)))
    version = str(site.at.readlink())
    table = site.folder / "mountinfo"
    table.write_text(f"36 35 98:0 /srv/models/org/{version} /model ro - ext4 /dev/sda1 ro\n")
    monkeypatch.setattr(scripts, "LOOK", scripts.LOOK.replace("/proc/[0-9]*/mountinfo", str(table)))
    (one,) = look(site.way().sender, str(site.models), (NAME,)).models[NAME].versions
    assert (one.folder, one.mounted) == (version, True)
