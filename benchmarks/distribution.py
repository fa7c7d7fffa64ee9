"""How images get to hosts, beside what people do by hand: one slow link, one host without a limit, a bundle.

    .venv/bin/python -m benchmarks.distribution [--hosts 8] [--only link host change bundle memory] [--plot FILE.svg]

Real sshd and Docker engines of a lab, links shaped with tc, images of bytes that do not compress. Rates are of this
machine; what counts are the ratios, each of two figures of one run.

- link: hosts behind one slow link, with a relay that has the registry's image already. Bytes over the link as a share of the
  blobs; the time for all hosts as a multiple of one host's; `docker save | ssh docker load`, four at once.
- host: one host, no limit, from an existing layout. Staging as a share of `ssh HOST 'cat > file'`; the whole sideload and
  save | load; beside them a pull through a reverse tunnel from a registry here.
- change: the same when 20 MB of a large image are new, by the run's journal: from its beginning until the image is there.
- bundle: `bundle.create` beside `skopeo copy` to an OCI layout, `bundle.verify` beside `sha256sum`.
- memory: one layer of `--layer` GB (2 if not given) built, sideloaded and bundled: the most that our processes take together
  with skopeo.
"""

import argparse
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.memory import peak
from benchmarks.ratios import Ratio, drawn
from benchmarks.site import LINK, NAME, Site, on_disk, timed, until_there, well
from fleet.delivery.send import Parcel, Sender
from fleet.delivery.staging import Staging
from fleet.delivery.throttle import Throttle
from fleet.inventory import load
from fleet.lab import Lab, NodeSpec
from fleet.transport import Connector
from fleet.transport.openssh import Bulk, bulk
from tests.lab.cli import Controller
from tests.lab.registry_image import registry_archive
from tests.lab.standin_image import standin_archive

MB = 1_000_000
IMAGE = 280 * MB  # with the stand-in's own 40 MB some 320
CHANGE = 20 * MB
AT_ONCE = 4
ROUNDS = 3  # of ours and its peers, in turn; the best of each counts


def say(what: str, value: float, unit: str, note: str = "") -> None:
    print(f"{what:58} {value:9.2f} {unit:4} {note}", flush=True)


def judge(site: Site, what: str, value: float, target: float, *, at_most: bool = False) -> None:
    ratio = Ratio(what, value, target, at_most)
    site.ratios.append(ratio)
    print(f"  -> {what}: {ratio}", flush=True)


def blobs(controller: Controller) -> int:
    """Bytes of the release's layers."""
    _, document = controller.ask("plan")
    return sum(known["bytes"] for known in document["images"]["releases"].values())


def over_a_link(site: Site) -> None:
    archive = standin_archive(site.folder / "link.tar", mark="link", ballast=IMAGE)
    registry = registry_archive(site.folder / "registry.tar")
    first = site.hosts[0]
    site.load(first, registry)
    alone = site.operator(archive, delivery="sideload")
    well(alone, "build")
    size = blobs(alone)
    with site.slow():
        one = timed(lambda: well(alone, "deploy", "--limit", first))
        site.forget(first)
        relay = {"host": first, "image": {"archive": str(registry)}}
        behind = site.operator(archive, relay=relay)
        before = site.sent()
        everybody = timed(lambda: well(behind, "deploy"))
        moved = site.sent() - before
        say(f"one host over {LINK} Mbit/s", one, "s")
        say(f"{len(site.hosts)} hosts, by a relay", everybody, "s")
        judge(site, f"{len(site.hosts)} hosts by a relay, in times of one host", everybody / one, 1.6, at_most=True)
        say("bytes over the link", moved / MB, "MB")
        judge(site, "bytes over the link, in times of the blobs", moved / size, 1.05, at_most=True)
        site.forget(*site.hosts)
        unpacking = timed(lambda: site.load(first, archive))
        say("of which an engine unpacks, alone and without a network", unpacking, "s")
        site.forget(first)
        site.load(site.desk, archive)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            naive = timed(lambda: list(pool.map(site.by_hand, site.hosts)))
        say(f"{len(site.hosts)} hosts, by hand, {AT_ONCE} at once", naive, "s", f"{naive / everybody:.2f} x ours")
    site.forget(*site.hosts)


def to_a_host(site: Site) -> None:
    host = site.hosts[-1]
    archive = standin_archive(site.folder / "host.tar", mark="host", ballast=IMAGE)
    ours = site.operator(archive)
    well(ours, "build")
    site.load(site.desk, archive)
    blob = max((site.folder / "controller/.fleet").rglob("blobs/sha256/*"), key=lambda path: path.stat().st_size)
    size = blob.stat().st_size

    def cat() -> None:
        with blob.open("rb") as file:
            subprocess.run(site.lab.ssh_argv(host, "cat > /var/tmp/blob"), stdin=file, check=True)
        site.lab.node(host).exec(("rm", "-f", "/var/tmp/blob"))

    plain, staged = min(timed(cat) for _ in range(3)), min(staging(site, host, blob) for _ in range(3))
    say("ssh HOST 'cat > file'", size / plain / MB, "MB/s")
    say("staging of the same bytes", size / staged / MB, "MB/s")
    judge(site, "staging, in times of ssh 'cat > file'", plain / staged, 0.9)
    whole, there, naive = [], [], []
    for _ in range(ROUNDS):
        whole.append(timed(lambda: well(ours, "sideload", "--limit", host)))
        there.append(until_there(ours))
        site.forget(host)
        naive.append(timed(lambda: site.by_hand(host)))
        site.forget(host)
    say("the whole sideload: start, look, staging, load, look again", min(whole), "s")
    say("of it until the image is there", min(there), "s")
    say("docker save | ssh docker load", min(naive), "s")
    judge(site, "sideload, how much faster than save | load", min(naive) / min(whole), 1)
    say("docker pull through a reverse tunnel", tunnelled(site, host), "s")
    site.forget(site.desk, host)


def tunnelled(site: Site, host: str) -> float:
    """Seconds of a pull on the host from a registry of this machine, through the host's own SSH server."""
    layout = max((path.parent for path in (site.folder / "controller/.fleet").rglob("index.json")), key=weight)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = site.folder / "registry.json"
    storage = {"filesystem": {"rootdirectory": str(site.folder / "registry")}}
    config.write_text(json.dumps({"version": "0.1", "storage": storage, "http": {"addr": f"127.0.0.1:{port}"}}))
    name = f"127.0.0.1:{port}/{NAME}:tunnel"
    serve = ("docker-registry", "serve", config)
    with subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as registry:
        try:
            copy = ("skopeo", "copy", "--quiet", "--retry-times", "5", "--dest-tls-verify=false")
            subprocess.run((*copy, f"oci:{layout}", f"docker://{name}"), check=True)
            ssh, *rest = site.lab.ssh_argv(host, "docker", "pull", "--quiet", name)
            pull = (ssh, "-R", f"127.0.0.1:{port}:127.0.0.1:{port}", *rest)
            seconds = timed(lambda: subprocess.run(pull, check=True, stdout=subprocess.DEVNULL))
            site.lab.node(host).exec(("docker", "rmi", "-f", name))
        finally:
            registry.terminate()
    return seconds


def staging(site: Site, host: str, blob: Path) -> float:
    """Seconds until the blob lies whole in the host's staging directory, with the connection that is made for it."""
    there = load((str(site.lab.inventory),)).hosts[host]
    directory = f"/var/tmp/fleet-benchmark-{time.monotonic_ns()}"
    size = blob.stat().st_size
    with Connector() as connector:
        session = connector.connect(there)
        client = bulk(there.connection, session.user)
        sender = Sender(host, session, 60.0, Throttle(0), client if isinstance(client, Bulk) else None)
        sender.command(f"umask 077; mkdir -p {directory}/sideload/blobs")
        parcel = Parcel(f"sha256:{blob.name}", size, blob)
        seconds = timed(lambda: sender.send(directory, parcel, Staging(directory), lambda _count: None))
        sender.command(f"rm -rf {directory}")
    return seconds


def after(site: Site, host: str, old: Path, bring: Callable[[], object]) -> float:
    """Seconds that it takes where the host has only the old image."""
    site.forget(host)
    site.load(host, old)
    return timed(bring)


def of_a_change(site: Site) -> None:
    host = site.hosts[-1]
    for size, target in ((IMAGE, 4), (960 * MB, 8)):
        mark = f"change{size}"
        old = standin_archive(site.folder / "old.tar", mark=mark, ballast=size)
        new = standin_archive(site.folder / "new.tar", mark=mark, ballast=size, change=CHANGE)
        ours = site.operator(new)
        well(ours, "build")
        site.load(site.desk, new)
        commands, there, hands = [], [], []
        for _ in range(ROUNDS):
            commands.append(after(site, host, old, partial(well, ours, "sideload", "--limit", host)))
            there.append(until_there(ours))
            hands.append(after(site, host, old, partial(site.by_hand, host)))
        naive, best = min(hands), min(there)
        words = f"{CHANGE // MB} MB new of {(size + 40 * MB) // MB} MB"
        say(f"{words}: connection, look, staging, load", best, "s", f"by hand {naive:.2f} s")
        whole = min(commands)
        say(f"{words}: the whole command", whole, "s", f"{naive / whole:.2f} x faster than by hand")
        site.forget(host)
        site.load(host, old)
        say(f"{words}: docker pull through a reverse tunnel", tunnelled(site, host), "s")
        judge(site, f"{words}, how much faster than save | load", naive / best, target)
        site.forget(host, site.desk)


def of_a_bundle(site: Site) -> None:
    archive = standin_archive(site.folder / "bundle.tar", mark="bundle", ballast=960 * MB)
    ours = site.operator(archive)
    well(ours, "build")
    folder, copy = site.folder / "bundle", site.folder / "copy"
    layout = max((path.parent for path in (site.folder / "controller/.fleet").rglob("index.json")), key=weight)
    skopeo = ("skopeo", "copy", "--quiet", f"oci:{layout}", f"oci:{copy}:latest")
    key, signers = site.folder / "key", site.folder / "signers"
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key), check=True)
    signers.write_text(f'ops namespaces="fleet-bundle" {key.with_suffix(".pub").read_text()}')
    create = ("bundle.create", "--output", str(folder), "--without-tool", "--sign-key", str(key))
    verify, signed = ("bundle.verify", str(folder)), ("--allowed-signers", str(signers))
    copies, creations, sums, verifications, insides = [], [], [], [], []
    for _ in range(ROUNDS):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        copies.append(on_disk(partial(subprocess.run, skopeo, check=True)))
        creations.append(on_disk(partial(well, ours, *create)))
        files = [str(path) for path in folder.rglob("*") if path.is_file()]
        summing = ("sha256sum", *files)
        sums.append(timed(partial(subprocess.run, summing, check=True, stdout=subprocess.DEVNULL)))
        verifications.append(timed(lambda: well(Controller(ours.directory, ()), *verify, *signed)))
        insides.append(timed(lambda: well(Controller(ours.directory, ()), *verify, "--unsigned")))
    copied, made, summed, seen = min(copies), min(creations), min(sums), min(verifications)
    say("bundle.create", made, "s", f"skopeo copy {copied:.2f} s")
    judge(site, "bundle.create, in times of skopeo copy's rate", copied / made, 0.8)
    say("bundle.verify", seen, "s", f"sha256sum {summed:.2f} s")
    judge(site, "bundle.verify, in times of sha256sum's rate", summed / seen, 0.8)
    say("bundle.verify --unsigned, which looks into the layers", min(insides), "s")


def of_a_large_layer(site: Site) -> None:
    host, folder = site.hosts[-1], site.folder / "large"
    archive = standin_archive(site.folder / "large.tar", mark="large", ballast=site.layer)
    ours, nobody = site.operator(archive), Controller(site.folder / "controller", ())
    words = f"of {site.layer / 1e9:g} GB"
    for controller, command in (
        (ours, ("build",)),
        (ours, ("sideload", "--limit", host)),
        (ours, ("bundle.create", "--output", str(folder), "--without-tool")),
        (nobody, ("bundle.verify", str(folder), "--unsigned")),
        (nobody, ("bundle.load", str(folder), "--unsigned", "--store", str(site.folder / "store"))),
    ):
        most = peak(controller.argv(*command), controller.directory)
        say(f"{command[0]} with a layer {words}: memory at most", most, "MB")
        judge(site, f"{command[0]}, layer {words}, in 300 MB", most / 300, 1, at_most=True)
    site.forget(host)


def weight(layout: Path) -> int:
    """Bytes of its blobs."""
    return sum(blob.stat().st_size for blob in layout.rglob("blobs/sha256/*"))


PARTS: dict[str, Callable[[Site], None]] = {
    "link": over_a_link,
    "host": to_a_host,
    "change": of_a_change,
    "bundle": of_a_bundle,
    "memory": of_a_large_layer,
}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--only", nargs="*", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--layer", type=float, default=2.0, help="GB of the large layer")
    parser.add_argument("--plot", type=Path, help="write the ratios here, as an SVG")
    options = parser.parse_args(words)
    nodes = (NodeSpec(f"mi300x-{number:02d}", profile="mi300x-8") for number in range(1, options.hosts + 1))
    specs = (NodeSpec("desk", role="builder"), *nodes)
    name = "benchdist"
    try:
        with tempfile.TemporaryDirectory(prefix="fleet-distribution-", dir="/var/tmp") as folder:
            site = Site(Lab.up(name, specs, inventories=Path(folder)), Path(folder))
            site.layer = int(options.layer * 1e9)
            for part in options.only:
                PARTS[part](site)
            if options.plot:
                options.plot.write_text(
                    drawn(site.ratios, "Distribution, and what people do by hand"), encoding="utf-8"
                )
    finally:
        Lab.remove(name)


if __name__ == "__main__":
    main()
