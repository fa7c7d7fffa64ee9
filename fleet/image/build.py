"""The effects of a build: ask the builder what it can do, build, keep the log, bring the image into a layout."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fleet.errors import FleetError
from fleet.image import build_ca, builder_facts, cancel, convert, skopeo
from fleet.image.build_log import explain
from fleet.image.build_plan import BuildPlan, command, proxy_secrets
from fleet.image.builder_facts import BuilderFacts, missing_features
from fleet.image.convert import Converted
from fleet.image.describe import LABEL_KEY
from fleet.image.dockerfile import Dockerfile
from fleet.image.machine import Machine
from fleet.image.reference import Reference
from fleet.image.scratch import scratch, temporary
from fleet.image.watch import StalledError, spoken
from fleet.inventory.settings import Registry


class BuildError(FleetError):
    """A build that failed: `step` is the failing one, `tail` its last lines, `log` where everything stands.

    `key` is the content key of the image that has none now, set by whoever knows it.
    """

    def __init__(self, message: str, *, hint: str, step: str, tail: tuple[str, ...], log: Path) -> None:
        super().__init__(message, hint=hint)
        self.key = ""
        self.step = step
        self.tail = tail
        self.log = log


def builder_of(machine: Machine) -> BuilderFacts:
    """What docker and buildx on the builder say of themselves."""
    version = machine.run(builder_facts.CLI_COMMAND)
    buildx = machine.run(builder_facts.BUILDX_COMMAND)
    return builder_facts.parse(version.stdout, buildx.stdout if buildx.ok else "", version.stderr)


def require(machine: Machine, builder: BuilderFacts, dockerfile: Dockerfile) -> None:
    """Raises FleetError naming everything that the Dockerfile uses and the builder lacks, before anything starts."""
    missing = missing_features(dockerfile.features, builder, syntax=dockerfile.syntax)
    if missing:
        raise FleetError(f"{machine.name} cannot build {dockerfile.path}: {'; '.join(missing)}")


def image_there(machine: Machine, tag: str, key: str) -> bool:
    """Whether the builder still has the image of this content key under its build tag."""
    answer = machine.run(("docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL_KEY}"}}}}', tag))
    return answer.ok and answer.stdout.strip() == key


def image_id(machine: Machine, reference: str) -> str:
    """The ID of an image that the builder has, or ""."""
    answer = machine.run(("docker", "image", "inspect", "--format", "{{.Id}}", reference))
    return answer.stdout.strip() if answer.ok else ""


def pulled(machine: Machine, wanted: Reference) -> bool:
    """Whether the builder's image may have come from the repository that its name says.

    A containerd store cannot tell: it gives such a digest to every image.
    """
    form = "{{range .RepoDigests}}{{println .}}{{end}}"
    answer = machine.run(("docker", "image", "inspect", "--format", form, wanted.familiar))
    names = {wanted.name, Reference(wanted.domain, wanted.path).familiar}
    return answer.ok and any(line.partition("@")[0] in names for line in answer.stdout.split())


def build(
    plan: BuildPlan,
    builder: BuilderFacts,
    machine: Machine,
    tree: Path,
    log: Path,
    *,
    ca_file: str = "",
    registries: Sequence[Registry] = (),
    stall: float = 0,
    on_line: Callable[[str], None],
) -> None:
    """Run the build; every line goes to `on_line` and to `log`, passwords of proxies taken out. Raises BuildError, also when
    it says nothing for `stall` seconds: then it is ended on the builder.

    `ca_file` is trusted by the RUN steps (fleet.image.build_ca). `registries` are those that base images come from,
    as far as they need our credentials or CA.
    """
    lines: list[str] = []
    hidden = proxy_secrets(plan.proxy)
    log.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        file = stack.enter_context(log.open("w", encoding="utf-8"))
        context = stack.enter_context(machine.place(tree))
        secret, dockerfile = "", ""
        if ca_file:
            folder = stack.enter_context(temporary("fleet-ca-"))
            secret = stack.enter_context(machine.place(build_ca.write_bundle(ca_file, folder)))
            made = build_ca.write_dockerfile(tree / plan.dockerfile, folder)
            dockerfile = f"{stack.enter_context(machine.place(made.parent))}/{made.name}"
        login = stack.enter_context(_login(machine, registries))

        def keep(line: str) -> None:
            for word in hidden:
                line = line.replace(word, "***")
            lines.append(line)
            file.write(f"{line}\n")
            file.flush()
            on_line(line)

        asked = command(plan, builder, context, dockerfile=dockerfile, ca_file=secret, docker_config=login)
        runs_on = plan.buildkit and cancel.runs_on(machine, tree / plan.dockerfile)
        if plan.buildkit and not cancel.declares(tree / plan.dockerfile):
            asked = cancel.cancellable(asked, f"fleet-build-{secrets.token_hex(8)}")
        try:
            code = machine.stream(asked.argv, keep, environment=asked.environment, stall=stall)
        except KeyboardInterrupt as error:
            if runs_on:
                error.add_note(f"{machine.name}: {runs_on}")
            raise
        except StalledError as error:
            failure = explain(lines)
            message = (
                f"the build of {plan.tag} on {machine.name} said nothing for {spoken(error.seconds)} and was ended"
            )
            message += f"; its last word was {failure.reason!r}; the log is {log}"
            hint = "source.stall is its limit; a RUN step that is silent for so long hangs, or needs a longer one"
            hint += f"; {runs_on}" if runs_on else ""
            raise BuildError(message, hint=hint, step=failure.step, tail=failure.last, log=log) from error
    if code:
        failure = explain(lines)
        step = f" at step {failure.step}" if failure.step else ""
        message = f"the build of {plan.tag} failed on {machine.name}{step}: {failure.reason}; the log is {log}"
        raise BuildError(message, hint=failure.hint, step=failure.step, tail=failure.last, log=log)


@contextmanager
def _login(machine: Machine, registries: Sequence[Registry]) -> Iterator[str]:
    """A DOCKER_CONFIG on the builder with the credentials, 0600 and gone afterwards; the CAs in certs.d."""
    for registry in registries:
        if not registry.ca_file:
            continue
        with machine.place(Path(registry.ca_file).expanduser()) as ca_there:
            where = f"/etc/docker/certs.d/{registry.host}/ca.crt"
            if not machine.run(("cmp", "-s", ca_there, where)).ok:
                placed = machine.run(("install", "-D", "-m", "644", ca_there, where))
                if not placed.ok:
                    message = f"{machine.name}: the registry's CA could not be placed at {where}"
                    raise FleetError(message, hint="place it by hand, or let the builder's login use sudo")
    words = skopeo.auth_json(*registries)
    if not words:
        yield ""
        return
    with temporary("fleet-login-") as folder:
        path = folder / "config.json"
        path.touch(mode=0o600)
        path.write_text(words, encoding="utf-8")
        with machine.place(path) as there:
            yield there.rpartition("/")[0]


def export(machine: Machine, tag: str, layout: Path, *, on_line: Callable[[str], None]) -> Converted:
    """The builder's image `tag` as a verified OCI layout here."""
    with scratch(layout.parent) as folder:
        archive = folder / "image.tar"
        on_line(f"bringing {tag} from {machine.name}")
        machine.fetch(("docker", "save", tag), archive)
        return convert.to_layout(f"docker-archive:{archive}", layout, on_line=on_line)
