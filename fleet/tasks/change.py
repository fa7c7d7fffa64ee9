"""Verbs that change hosts: rolls of every kind, and who may be touched."""

from fleet.cli import CHANGE, CONNECT, verb
from fleet.options import Options, duration, words
from fleet.tasks.shared import AGAIN, BUNDLE, LISTS, ROLL, TAKE_OVER


@verb(
    *CHANGE,
    example="invoke deploy -i prod --limit 'mi300x:!canary' --check --diff",
    optional=("resume",),
    prune="Remove containers of ours that no service asks for.",
    take_over=TAKE_OVER,
    shared={**LISTS, **AGAIN, **ROLL, **BUNDLE},
)
def deploy(
    options: Options,
    prune: bool = False,
    take_over: str = "",
    stages: str = "",
    list_stages: bool = False,
    list_hosts: bool = False,
    resume: str = "",
    only_failed: bool = False,
    lock_wait: str = "",
    include_quarantined: bool = False,
    bundle: str = "",
    store: str = "",
    allowed_signers: str = "",
    unsigned: bool = False,
) -> int:
    """Check the hosts, build the image once, bring it to them, serve, and prove that every replica answers.

    Runs playbooks/deploy.yaml, with --bundle playbooks/airgap.yaml: the canary first, then batch after batch.
    """
    from fleet.verbs.cargo import PLAYBOOK, cargo_of
    from fleet.verbs.order import Order
    from fleet.verbs.roll import roll

    cargo = cargo_of(bundle, store, allowed_signers, unsigned=unsigned)
    order = Order(
        "deploy",
        PLAYBOOK if cargo else "deploy",
        prune=prune,
        take_over=words(take_over),
        stages=words(stages),
        list_stages=list_stages,
        list_hosts=list_hosts,
        resume=_latest(resume),
        only_failed=only_failed,
        lock_wait=duration(lock_wait, "--lock-wait"),
        include_quarantined=include_quarantined,
        cargo=cargo,
    )
    return roll(options, order)


@verb(
    *CHANGE,
    example="invoke plan -i prod --diff",
    prune="Plan to remove containers of ours that no service asks for.",
    take_over=TAKE_OVER,
    stages=LISTS["stages"],
)
def plan(options: Options, prune: bool = False, take_over: str = "", stages: str = "") -> int:
    """Show what a deploy would do and why; the same as `deploy --check`."""
    from dataclasses import replace

    from fleet.verbs.order import Order
    from fleet.verbs.roll import roll

    order = Order("plan", prune=prune, take_over=words(take_over), stages=words(stages))
    return roll(replace(options, check=True), order)


@verb(
    *CHANGE,
    example="invoke play prepare.yaml -i prod --check",
    optional=("resume",),
    file="A playbook, or a name below playbooks/.",
    shared={**LISTS, **AGAIN, **ROLL, **BUNDLE},
)
def play(
    options: Options,
    file: str,
    stages: str = "",
    list_stages: bool = False,
    list_hosts: bool = False,
    resume: str = "",
    only_failed: bool = False,
    lock_wait: str = "",
    include_quarantined: bool = False,
    bundle: str = "",
    store: str = "",
    allowed_signers: str = "",
    unsigned: bool = False,
) -> int:
    """Run a playbook: ordered stages for host patterns, with batches and limits."""
    from fleet.verbs.cargo import cargo_of
    from fleet.verbs.order import Order
    from fleet.verbs.roll import roll

    cargo = cargo_of(bundle, store, allowed_signers, unsigned=unsigned)
    order = Order(
        "play",
        file,
        stages=words(stages),
        list_stages=list_stages,
        list_hosts=list_hosts,
        resume=_latest(resume),
        only_failed=only_failed,
        lock_wait=duration(lock_wait, "--lock-wait"),
        include_quarantined=include_quarantined,
        cargo=cargo,
    )
    return roll(options, order)


@verb(
    *CHANGE,
    example="invoke rollback -i prod --service chat --check",
    to="This release instead of the last one before: the beginning of its id, digest or content key, or its reference.",
    service="Only this service. Several with commas between.",
    prune="Remove containers of ours that no service asked for then.",
    shared=ROLL,
)
def rollback(
    options: Options,
    to: str = "",
    service: str = "",
    prune: bool = False,
    lock_wait: str = "",
    include_quarantined: bool = False,
) -> int:
    """Put each service back to the release that answered on its host before the present one, with the settings of then.

    The hosts tell what that was, so no registry is asked while the image is still there. Runs playbooks/deploy.yaml.
    """
    from fleet.verbs.rollback import rollback as work

    return work(
        options,
        to=to,
        services=words(service),
        prune=prune,
        lock_wait=duration(lock_wait, "--lock-wait"),
        include_quarantined=include_quarantined,
    )


@verb(*CHANGE, example="invoke sideload -i prod --limit vault", shared=ROLL)
def sideload(options: Options, lock_wait: str = "", include_quarantined: bool = False) -> int:
    """Bring the images to the selected hosts over SSH, whatever delivery the inventory names."""
    from fleet.verbs.order import Order
    from fleet.verbs.roll import roll

    order = Order(
        "sideload",
        stages=frozenset({"preflight", "image", "distribute"}),
        sideload=True,
        lock_wait=duration(lock_wait, "--lock-wait"),
        include_quarantined=include_quarantined,
    )
    return roll(options, order)


@verb(
    *CHANGE,
    example="invoke serve -i prod --limit mi300x-01",
    prune="Remove containers of ours that no service asks for.",
    take_over=TAKE_OVER,
    shared=ROLL,
)
def serve(
    options: Options,
    prune: bool = False,
    take_over: str = "",
    lock_wait: str = "",
    include_quarantined: bool = False,
) -> int:
    """Start or replace containers from images that are on the hosts already."""
    from fleet.verbs.order import Order
    from fleet.verbs.roll import roll

    order = Order(
        "serve",
        stages=frozenset({"preflight", "serve", "verify"}),
        prune=prune,
        take_over=words(take_over),
        lock_wait=duration(lock_wait, "--lock-wait"),
        include_quarantined=include_quarantined,
    )
    return roll(options, order)


@verb(
    *CONNECT, "check",
    example="invoke stop -i prod --limit mi300x-01 --service chat",
    service="Only this service.",
    lock_wait=ROLL["lock_wait"],
)  # fmt: skip
def stop(options: Options, service: str = "", lock_wait: str = "") -> int:
    """Stop containers gracefully; they stay, and the next deploy starts them again."""
    from fleet.verbs.stop import stop as work

    return work(options, sorted(words(service)), lock_wait=duration(lock_wait, "--lock-wait"))


@verb(*CONNECT, example="invoke unlock -i prod --limit mi300x-01")
def unlock(options: Options) -> int:
    """End the lock that a run holds on the selected hosts; what it was replacing is put back there."""
    from fleet.verbs.hosts import unlock as work

    return work(options)


@verb(
    "inventory", "json",
    example="invoke maintenance mi300x-03 -i prod --reason 'new HBM' --until 3d",
    name="set",
    default=True,
    host="A host or a host pattern: mi300x-03, 'mi300x-03,mi300x-07', 'rack7:!canary'.",
    reason="Why; shown by every command that leaves the host out.",
    until="2026-12-01, 2026-12-01T18:00, 18:00, 4h or 3d; open end without it.",
    end="Take the host back in.",
)  # fmt: skip
def maintenance_set(options: Options, host: str, reason: str = "", until: str = "", end: bool = False) -> int:
    """Take hosts out for every command until a time, or back in."""
    from fleet.verbs.hosts import maintenance as work

    return work(options, host, reason=reason, until=until, end=end)


@verb("inventory", "json", example="invoke maintenance.list -i prod", name="list")
def maintenance_list(options: Options) -> int:
    """Show which hosts are out, in maintenance or in quarantine, and why."""
    from fleet.verbs.hosts import show_maintenance

    return show_maintenance(options)


def _latest(resume: str | bool) -> str:
    """`--resume` alone comes from Invoke as True."""
    return "last" if resume is True else str(resume or "")
