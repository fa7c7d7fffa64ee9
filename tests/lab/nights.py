"""A small fleet with an upstream of its own, for nights: a real git repository, real builds of the stand-in, a registry."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.lab import Lab, NodeSpec
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
USUAL, SLOW = "ENV STANDIN_SLOW_TOKENS=0.1\n", "ENV STANDIN_SLOW_TOKENS=0.8\n"


@dataclass(frozen=True)
class Nights(Site):
    """The lab with an upstream of its own, on whose branch `main` commits are made."""

    upstream: Path

    def commit(self, said: str, *, last: str = "") -> str:
        """A commit whose Dockerfile has these lines in its last stage; its id."""
        path = self.upstream / "docker/Dockerfile.rocm"
        head = path.read_text(encoding="utf-8").partition(LAST)[0]
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

    def reports(self) -> list[dict[str, Any]]:
        paths = sorted((self.controller.directory / ".fleet/nights").glob("*/report.json"))
        return [json.loads(path.read_text()) for path in paths]

    def running(self) -> list[str]:
        """The commits that the two hosts really run."""
        label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
        return [self.docker(host, "inspect", "-f", label, "chat-0") for host in (CANARY, OTHER)]

    def state_of(self, host: str) -> str:
        """Containers with their ids."""
        return self.docker(host, "ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}")

    def answers_on(self, host: str) -> bool:
        return answers(self.lab.topology.address(host))

    def phases(self) -> list[str]:
        return [phase["name"] for phase in self.reports()[-1]["phases"]]

    @property
    def lock(self) -> str:
        path = next(self.folder.glob("*.lock.yaml"), None)
        return path.read_text() if path else ""


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
        nightly = {"load": 0, "regression": "75%", "hook": ["sh", "-c", f"cat > {folder}/hooked.json"]}
        source = {"repository": str(upstream), "ref": "main"}
        fleet = {"image": {"source": source}, "nightly": nightly}
        over = {
            "all": {"vars": {"fleet": fleet}, "children": {"gpu": {"vars": {"fleet": {"services": {"chat": service}}}}}}
        }
        (folder / "over.yaml").write_text(json.dumps(over))
        work = folder / "controller"
        (work / "playbooks").mkdir(parents=True)
        (work / "playbooks/deploy.yaml").write_text(BASIC)
        (work / "playbooks/nightly.yaml").write_text(NIGHTLY)
        yield Nights(lab, Controller(work, (lab.inventory, folder / "over.yaml")), folder, upstream)
    finally:
        Lab.remove(name)
