"""`models.push`, `models.list` and `models.verify`."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from fleet.delivery.send import Sender
from fleet.errors import HostError, UsageError
from fleet.models.content import Content
from fleet.models.disk import PREFIX
from fleet.models.held import Ground
from fleet.models.look import hashed, look
from fleet.models.names import checked
from fleet.models.verify import Verdict, expected, judge
from fleet.options import Options
from fleet.playbook import Models, Play, Playbook
from fleet.report import errors, terminal
from fleet.report import models as report
from fleet.survey import each
from fleet.transport import Session
from fleet.verbs.common import active, connected, narrator, selected
from fleet.verbs.order import Order
from fleet.verbs.roll import roll
from fleet.verbs.weights import models_of, read_here

T = TypeVar("T")
DEFAULT = "models"  # where a model is looked for when nothing is said


@dataclass(frozen=True)
class From:
    """Where a model comes from: a directory, here or (`host:/DIR`) on the hosts, or a repository of Hugging Face."""

    source: str = ""
    revision: str = ""
    hf: str = ""
    token_file: str = ""
    endpoint: str = ""
    update: bool = False


def push(
    options: Options,
    name: str,
    origin: From,
    *,
    rehash: bool,
    wait: float,
    lock_wait: float,
    include_quarantined: bool,
) -> int:
    """A roll of the one stage. Findings keep no host out: weights may come before the GPUs are well."""
    stage = Models(names=(checked(name),), wait=wait, **asdict(origin))
    if not origin.source and not origin.hf:
        stage = replace(stage, source=DEFAULT)
    plays = Playbook(Path("models.push"), (Play("push", (stage,)),))
    order = Order(
        "models.push",
        "",
        plays=plays,
        rehash=rehash,
        gate=False,
        lock_wait=lock_wait,
        include_quarantined=include_quarantined,
    )
    return roll(options, order)


def show_models(options: Options) -> int:
    """What lies in each host's models_dir."""

    def ask(session: Session) -> Ground:
        return look(Sender.of(session), session.host.settings.models_dir)

    found, failed = _ask(options, "models", ask)
    serves = {host.name: frozenset(models_of(host)) for host in selected(options)} if found else {}
    if options.json:
        terminal.show_json({**report.document(found, serves), "failed": errors.document(failed)})
    else:
        report.show(found, serves)
        terminal.show_failures(failed)
    return 1 if failed else 0


def verify_models(options: Options, name: str, source: str) -> int:
    """Read every file of every model (or of one) on the hosts. Exit 1 also where a model that a service or the caller
    names cannot be told to be right.
    """
    content = None
    if source:
        if not name:
            raise UsageError("--source is of one model", hint="--model NAME")
        if source.startswith(PREFIX):
            hint = "without --source the lists on the hosts count; models.push compares with a disk of the host"
            raise UsageError("--source is a directory on this controller here", hint=hint)
        here = read_here(Path(source).expanduser(), name, narrator(options).moving)
        if here is None:
            raise UsageError(f"{source} has no model {name}")
        content = here.content
    names = (checked(name),) if name else ()

    def ask(session: Session) -> tuple[Verdict, ...]:
        sender = Sender.of(session)
        ground = look(sender, session.host.settings.models_dir, names)
        return tuple(_verified(sender, ground, one, content) for one in ground.models)

    found, failed = _ask(options, "models", ask)
    serves = {host.name: frozenset(models_of(host)) for host in selected(options)} if found else {}
    asked = {host: frozenset(names) or serves.get(host, frozenset()) for host in found}
    bad = {
        host: [one for one in verdicts if not one.well and (one.known or one.name in asked[host])]
        for host, verdicts in found.items()
    }
    if options.json:
        terminal.show_json({**report.verdicts_document(found), "failed": errors.document(failed)})
    else:
        report.show_verdicts(found, bad)
        terminal.show_failures(failed)
    return 1 if failed or any(bad.values()) else 0


def _verified(sender: Sender, ground: Ground, name: str, content: Content | None) -> Verdict:
    model = ground.model(name)
    wanted = expected(model, content)
    paths = sorted((wanted or {}).keys() & model.sizes.keys())
    sums = hashed(sender, ground.directory, name, paths) if paths else {}
    if content is not None and not model.there:
        wanted = {one.path: one.sha256 for one in content.files}
    elif not model.there and wanted is None:
        raise HostError(sender.host, f"there is no model {name} in {ground.directory}", hint="invoke models.list")
    return judge(model, wanted, sums)


def _ask(options: Options, title: str, ask: Callable[[Session], T]) -> tuple[dict[str, T], dict[str, HostError]]:
    """Answers and failures of every host that `fleet:` gives a part."""
    chosen = selected(options)
    hosts = active(chosen) or chosen
    with connected(options) as connector, terminal.counting(title, len(hosts)) as done:
        answers = each(hosts, connector, ask, forks=options.forks, on_done=done)
    failed = {name: one for name, one in answers.items() if isinstance(one, HostError)}
    return {name: one for name, one in answers.items() if not isinstance(one, HostError)}, failed
