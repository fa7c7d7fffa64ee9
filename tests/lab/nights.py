"""A small fleet with an upstream of its own, for nights: a real git repository, real builds of the stand-in, a registry.

The calendar alone is pretended: the first night was so many days ago, the last one is today's.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.image.registry_shelf import ShelfClient
from fleet.inventory import load
from fleet.lab import Lab, NodeSpec
from fleet.report.units import bytes_of
from tests.lab.cli import Controller
from tests.lab.conftest import MI300X, REGISTRY, lab_name
from tests.lab.rolls import BASIC, answers
from tests.lab.small import Site

BUILDER = NodeSpec("builder", role="builder", base="trixie")
CANARY, OTHER = MI300X.name, "mi300x-02"
NIGHTLY = """\
- {name: canary, hosts: all, stages: [preflight, image, distribute, serve, verify], min_healthy_time: 1s}
- {name: bring, hosts: all, stages: [preflight, image, distribute], max_fail: 100%}
- {name: promote, hosts: all, stages: [serve, verify], max_fail: 100%, min_healthy_time: 1s}
"""
LAST = "ENV HIP_FORCE_DEV_KERNARG=1\n"  # a line of the stand-in's Dockerfile, in its last stage
# Seconds for a token: so much that a busy machine changes tokens/s by little, and what is slow is slower by far.
USUAL, SLOW = "ENV STANDIN_SLOW_TOKENS=0.02\n", "ENV STANDIN_SLOW_TOKENS=0.3\n"
WEIGHT = 8  # MB of every build's own, which do not compress: what piles up is seen in bytes
DAY = 86400.0
LOGS = 3  # days that the controller keeps its journals and logs
CACHE = "20MB"  # of the builder's build cache: what two builds leave there, beside their images
DRIVER = Path(__file__).with_name("calendar_driver.py")


@dataclass(frozen=True)
class Nights(Site):
    """The lab with an upstream of its own, on whose branch `main` commits are made."""

    upstream: Path

    def day(self, ago: int) -> None:
        """Let it be so many days ago for every command to come."""
        self._age()
        self._calendar.write_text(f"{-ago * DAY}")

    def _age(self) -> None:
        """Files of this day are as old as its date; those of earlier days have got it already."""
        if not (offset := float(self._calendar.read_text())):
            return
        for place in ("runs", "logs", "layouts"):
            for path in (self.controller.directory / ".fleet" / place).rglob("*"):
                when = path.lstat().st_mtime
                if when > time.time() - DAY / 2:
                    os.utime(path, (when + offset, when + offset), follow_symlinks=False)

    @property
    def _calendar(self) -> Path:
        return self.folder / "calendar"

    def commit(self, said: str, *, last: str = "") -> str:
        """A commit whose Dockerfile has these lines in its last stage; its id."""
        path = self.upstream / "docker/Dockerfile.rocm"
        head = path.read_text(encoding="utf-8").partition(LAST)[0]
        weight = f"ARG PAYLOAD_MB={WEIGHT}\nARG PAYLOAD_SEED={self.git('rev-parse', 'HEAD')}\n"
        head = re.sub(r"ARG PAYLOAD_MB=.*\nARG PAYLOAD_SEED=.*\n", weight, head)
        path.write_text(
            f'{head}{LAST}{USUAL}{last}CMD ["/bin/bash"]\n\nFROM final AS vllm-openai\nENTRYPOINT ["vllm", "serve"]\n'
        )
        (self.upstream / "NEWS").write_text(f"{said}\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", said)
        return self.git("rev-parse", "HEAD")

    def git(self, *words: str) -> str:
        person = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        done = subprocess.run(("git", *person, *words), cwd=self.upstream, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def night(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Exit code and report."""
        done = self.controller.run("nightly", *words)
        assert "Traceback" not in done.stderr
        report = self.reports()[-1]
        assert json.loads((self.folder / "hooked.json").read_text())["id"] == report["id"], done.stderr
        return done.returncode, {**report, "told": done.stdout + done.stderr}

    @property
    def nights(self) -> list[Path]:
        """Their directories, the oldest first."""
        return sorted(path.parent for path in (self.controller.directory / ".fleet/nights").glob("*/report.json"))

    def reports(self) -> list[dict[str, Any]]:
        return [json.loads((path / "report.json").read_text()) for path in self.nights]

    def phases(self) -> list[str]:
        return [phase["name"] for phase in self.reports()[-1]["phases"]]

    @property
    def lock(self) -> str:
        path = next(self.folder.glob("*.lock.yaml"), None)
        return path.read_text() if path else ""

    # What there really is

    def running(self) -> list[str]:
        """The commits that the two hosts really run."""
        label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
        return [self.docker(host, "inspect", "-f", label, "chat-0") for host in (CANARY, OTHER)]

    def state_of(self, host: str) -> str:
        """Containers with their ids."""
        return self.docker(host, "ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}")

    def answers_on(self, host: str) -> bool:
        return answers(self.lab.topology.address(host))

    def images(self, host: str) -> set[str]:
        """The releases that lie there, by their local names; <none> for what has lost its name."""
        listed = self.docker(host, "images", "--format", "{{.Repository}}:{{.Tag}}").split()
        dangling = self.docker(host, "images", "--filter", "dangling=true", "--quiet").split()
        return {one for one in listed if one.startswith("vllm-rocm:")} | {f"<none> {one}" for one in dangling}

    def shelved(self) -> set[str]:
        """The manifests in the registry, by their digests, without the records beside them."""
        registry = load([str(path) for path in self.controller.inventories]).hosts[CANARY].settings.registry
        assert registry is not None
        with ShelfClient(registry) as client:
            tags = [tag for tag in client.tags("vllm-rocm") if not tag.startswith("fleet-")]
            return {client.digest("vllm-rocm", tag) for tag in tags}

    def uploads(self) -> bool:
        """Has more than a megabyte of a layer come to the registry, and not all of it?"""
        uploads = "/var/lib/registry/docker/registry/v2/repositories/vllm-rocm/_uploads"
        return bool(self.sh("registry", f"find {uploads} -name data -size +1M 2>/dev/null || true"))

    @contextmanager
    def slow_registry(self, *, slow: bool = True) -> Iterator[None]:
        """What the builder sends takes its time: a build's own megabytes some ten seconds. Uploads that were broken off go, as
        the registry itself lets them go after a week of real days.
        """
        link = "tc qdisc {} dev eth0 root"
        if slow:
            self.sh(BUILDER.name, f"{link.format('replace')} tbf rate 8mbit burst 32kb latency 400ms")
        try:
            yield
        finally:
            if slow:
                self.sh(BUILDER.name, link.format("del"))
                self.sh("registry", "rm -rf /var/lib/registry/docker/registry/v2/repositories/*/_uploads/*")

    def build_cache(self) -> int:
        """Bytes, as the builder's engine counts them."""
        rows = self.docker(BUILDER.name, "system", "df", "--format", "{{.Type}}:{{.Size}}").splitlines()
        return bytes_of(next(row.partition(":")[2] for row in rows if row.startswith("Build Cache:")))

    def disk(self) -> dict[str, int]:
        """Bytes of Docker's file systems, of the registry and of the controller's `.fleet`.

        BuildKit's own books are apart: databases that grow by doubling, and the records of its last fifty builds.
        """
        used = {}
        for name in (BUILDER.name, CANARY, OTHER):
            stat = os.statvfs(self.lab.node(name).root / "var/lib/docker")
            used[name] = (stat.f_blocks - stat.f_bfree) * stat.f_frsize
        used["books"] = _bytes_below(self.lab.node(BUILDER.name).root / "var/lib/docker/buildkit")
        used[BUILDER.name] -= used["books"]
        used[REGISTRY.name] = _bytes_below(self.lab.node(REGISTRY.name).root / "var/lib/registry")
        return used | {"controller": _bytes_below(self.controller.directory / ".fleet")}


def _bytes_below(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


@contextmanager
def night_site(word: str, folder: Path) -> Iterator[Nights]:
    """A lab of its own, which goes at the end."""
    name = lab_name(word)
    try:
        lab = Lab.up(name, (BUILDER, REGISTRY, MI300X, NodeSpec(OTHER, profile="mi300x-8")), inventories=folder)
        upstream = folder / "upstream"
        subprocess.run(
            ("git", "clone", "--quiet", "--branch", "main", str(lab.paths.source), str(upstream)), check=True
        )
        service = {"env": {"STANDIN_START_SECONDS": "0.3"}}
        nightly = {"load": 0, "regression": "85%", "hook": ["sh", "-c", f"cat > {folder}/hooked.json"]}
        source = {"repository": str(upstream), "ref": "main"}
        fleet = {"image": {"source": source}, "nightly": nightly, "retention": {"logs": LOGS, "cache": CACHE}}
        over = {
            "all": {"vars": {"fleet": fleet}, "children": {"gpu": {"vars": {"fleet": {"services": {"chat": service}}}}}}
        }
        (folder / "over.yaml").write_text(json.dumps(over))
        (folder / "calendar").write_text("0")
        work = folder / "controller"
        (work / "playbooks").mkdir(parents=True)
        (work / "playbooks/deploy.yaml").write_text(BASIC)
        (work / "playbooks/nightly.yaml").write_text(NIGHTLY)
        program = (sys.executable, "-P", str(DRIVER), str(folder / "calendar"))
        controller = Controller(work, (lab.inventory, folder / "over.yaml"), program)
        yield Nights(lab, controller, folder, upstream)
    finally:
        Lab.remove(name)
