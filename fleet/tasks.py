"""The Invoke namespace: one short task a verb; flags, one library call, exit code.

Imports of the library stand inside the tasks: `invoke --list` answers before paramiko and docker could be imported.
"""

from invoke.collection import Collection

from fleet.cli import CHANGE, CONNECT, HOSTS, Options, duration, verb, words
from fleet.lab.tasks import namespace as lab
from fleet.release_tasks import namespace as releases


@verb(*HOSTS, "json", example="invoke inventory -i prod --limit 'mi300x:!vault'", default=True, name="show")
def inventory_show(options: Options) -> None:
    """Show the selected hosts, their resolved settings and where each value came from."""
    from fleet.inventory import describe, load, select
    from fleet.report import inventory, terminal

    loaded = load(options.inventory)
    document = describe(loaded, select(loaded, options.limit))
    if options.json:
        terminal.show_json(document)
    else:
        inventory.show(document)


@verb(example="invoke inventory.schema > fleet.schema.json")
def schema() -> None:
    """Print the JSON Schema of `fleet:`, for editors."""
    from fleet.inventory import schema as fleet_schema
    from fleet.report import terminal

    terminal.show_json(fleet_schema())


@verb(
    *CONNECT,
    example="invoke facts -i prod --limit mi300x-01 --json",
    root="Read a captured tree (DIR/sys/…, DIR/proc/…) instead of hosts.",
    capture="Also write each host into DIR/HOST (`--capture bug`), which `--root bug/HOST` reads back. No secrets in it.",
)
def facts(options: Options, root: str = "", capture: str = "") -> int:
    """Show what each host says about itself: GPUs, driver, Docker, limits, models; or capture it for a bug report."""
    from fleet.verbs.look import facts_of_hosts, facts_of_tree

    return facts_of_tree(root, options) if root else facts_of_hosts(options, capture)


@verb(
    *CONNECT,
    example="invoke preflight -i prod --limit '!canary' --strict",
    strict="Warnings fail too.",
)
def preflight(options: Options, strict: bool = False) -> int:
    """Check that every host can serve what its inventory asks for, with evidence and a fix for each finding."""
    from fleet.verbs.look import preflight_hosts

    return preflight_hosts(options, strict=strict)


_TAKE_OVER = (
    "A foreign container to replace; it is stopped, kept and put back like our own. Several with commas between."
)
_SERVICE = "Service to act on."


_ROLL = {
    "lock_wait": "How long to wait for hosts that another run holds: 90s, 5m.",
    "include_quarantined": "Take in hosts that an earlier run could not reach.",
}
_AGAIN = {
    "resume": "Go on where a killed run stopped: its id, or nothing for the last one.",
    "only_failed": "Only the hosts that failed or were not reached in the last run.",
}
_ALLOWED = "Whose signature counts: an allowed_signers file of OpenSSH."
_UNSIGNED = "Ask for no signature; checksums are compared all the same."
_STORE = "The site's blob store (default .fleet/store)."
_BUNDLE = {
    "bundle": "Take the releases from this bundle alone, after checking it whole: nothing is built and nothing looked up.",
    "store": _STORE,
    "allowed_signers": _ALLOWED,
    "unsigned": _UNSIGNED,
}
_LISTS = {
    "stages": "Only these stages, with commas between.",
    "list_stages": "Show the plays and their stages, and do nothing.",
    "list_hosts": "Show the plays and their hosts, and do nothing.",
}


@verb(
    *CHANGE,
    example="invoke deploy -i prod --limit 'mi300x:!canary' --check --diff",
    optional=("resume",),
    prune="Remove containers of ours that no service asks for.",
    take_over=_TAKE_OVER,
    late=_BUNDLE,
    shared={**_LISTS, **_AGAIN, **_ROLL, **_BUNDLE},
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
    take_over=_TAKE_OVER,
    stages=_LISTS["stages"],
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
    late=_BUNDLE,
    shared={**_LISTS, **_AGAIN, **_ROLL, **_BUNDLE},
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
    shared=_ROLL,
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


@verb(
    *HOSTS, "check", "accept_new", "json", "verbose",
    example="invoke build -i prod --update",
    update="Resolve floating refs and tags anew, and move the lock.",
)  # fmt: skip
def build(options: Options, update: bool = False) -> int:
    """Make the images of the selected hosts, unless they have been made before."""
    from fleet.verbs.images import build as work

    return work(options, update=update, publish=False)


@verb(*HOSTS, "check", "accept_new", "json", "verbose", example="invoke push -i prod")
def push(options: Options) -> int:
    """Push the images to their registries, making them first where that is needed."""
    from fleet.verbs.images import build as work

    return work(options, update=False, publish=True)


@verb(*CHANGE, example="invoke sideload -i prod --limit vault", shared=_ROLL)
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


@verb(*CONNECT, example="invoke staging -i prod --limit vault")
def staging(options: Options) -> int:
    """Show which sideloads were begun and not ended: host, image, bytes that lie there, since when."""
    from fleet.verbs.staging import staging as work

    return work(options)


@verb(
    *CONNECT,
    example="invoke images -i prod --limit mi300x-01",
    late=("all",),
    all="List foreign images that nothing uses, too.",
)
def images(options: Options, all: bool = False) -> int:  # noqa: A002  the flag's name
    """Show which image is which on every host, by digest: its names, its release, and the containers made from it."""
    from fleet.verbs.census import show_images

    return show_images(options, everything=all)


@verb(*CONNECT, example="invoke drift -i prod --json")
def drift(options: Options) -> int:
    """Show where hosts differ from the inventory, and from most of their group. Exit 1 when something does."""
    from fleet.verbs.drift import show_drift

    return show_drift(options)


@verb(
    *CHANGE,
    example="invoke serve -i prod --limit mi300x-01",
    prune="Remove containers of ours that no service asks for.",
    take_over=_TAKE_OVER,
    shared=_ROLL,
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


@verb(*CONNECT, "check", example="invoke stop -i prod --limit mi300x-01 --service chat", service="Only this service.")
def stop(options: Options, service: str = "") -> int:
    """Stop containers gracefully; they stay, and the next deploy starts them again."""
    from fleet.verbs.services import stop as work

    return work(options, sorted(words(service)))


@verb(
    *CONNECT,
    example="invoke verify -i prod --load 30s",
    load="Measure every replica for so long under a fixed load, and name slow ones: 30s, 2m.",
)
def verify(options: Options, load: str = "") -> int:
    """Ask every replica for a real answer and compare it with those of its likes, changing nothing."""
    from fleet.verbs.services import verify as work

    return work(options, load=duration(load, "--load"))


@verb(*CONNECT, example="invoke status -i prod")
def status(options: Options) -> int:
    """Show every replica: state, release that really runs, age, health, GPUs, drift, orphans."""
    from fleet.verbs.services import show_status

    return show_status(options)


@verb(
    *CONNECT,
    example="invoke endpoints -i prod --prometheus > /etc/prometheus/vllm.json",
    prometheus="Print Prometheus file_sd instead.",
)
def endpoints(options: Options, prometheus: bool = False) -> int:
    """Print the endpoints of every serving replica as JSON."""
    from fleet.verbs.services import show_endpoints

    return show_endpoints(options, prometheus=prometheus)


@verb(
    *HOSTS, "forks", "accept_new",
    example="invoke logs chat -i prod --limit mi300x-01 --follow",
    service="A service, or one of its containers (chat-0). Several with commas between.",
    follow="Go on with what comes.",
    tail="Lines to begin with; -1 for all.",
)  # fmt: skip
def logs(options: Options, service: str, follow: bool = False, tail: int = 100) -> int:
    """Show the logs of a service's containers, each line with its host."""
    from fleet.verbs.containers import logs as work

    return work(options, tuple(service.split(",")), follow=follow, tail=tail)


@verb(
    *HOSTS, "accept_new",
    example="invoke shell chat -i prod --limit mi300x-01",
    service="A service (its first container), or one of its containers (chat-1).",
)  # fmt: skip
def shell(options: Options, service: str) -> int:
    """Open an interactive bash in a service's container on one host."""
    from fleet.verbs.containers import shell as work

    return work(options, service)


@verb("json", example="invoke runs", default=True, name="list")
def runs_list(options: Options) -> int:
    """List every run of this controller that could change something, and how it ended; the newest comes last."""
    from fleet.verbs.history import list_runs

    return list_runs(options)


@verb(
    "json", "verbose",
    example="invoke runs.show last --timeline",
    name="show",
    run="A run's id, the beginning of one, or `last`.",
    timeline="Draw the run again into its directory: timeline.html, hosts over time.",
)  # fmt: skip
def runs_show(options: Options, run: str, timeline: bool = False) -> int:
    """Tell a run's story: what is broken and why, what was left, what went well, and what to type next."""
    from fleet.verbs.history import show_run

    return show_run(options, run, picture=timeline)


@verb(
    *CONNECT,
    example="invoke audit -i prod --service chat --last 20",
    service="Only changes of this service.",
    last="How many of the newest lines to show; 0 shows all.",
)
def audit(options: Options, service: str = "", last: int = 50) -> int:
    """Show what was changed on the hosts, by whom, from where and when, as the hosts themselves wrote it down."""
    from fleet.verbs.history import show_audit

    return show_audit(options, service=service, last=last)


@verb(
    *HOSTS, "accept_new", "json", "verbose",
    example="invoke bundle.create -i site -o /media/disk/bundle --sign-key ~/.ssh/release --volume-size 32G",
    name="create",
    output="The directory to write; what an earlier try left there is gone on with.",
    models="Also the services' models, from this directory: DIR/MODEL/….",
    since="A file of `bundle.have`: leave out what the site holds.",
    volume_size="Split into volumes of at most this size: 700M, 32G.",
    sign_key="Private key, or public key whose other half an agent holds, to sign with.",
    python="The site's Python, for which wheels are carried (default 3.11).",
    without_tool="Do not carry the tool itself.",
)  # fmt: skip
def bundle_create(
    options: Options,
    output: str = "",
    models: str = "",
    since: str = "",
    volume_size: str = "",
    sign_key: str = "",
    python: str = "3.11",
    without_tool: bool = False,
) -> int:
    """Write a directory that carries the selected hosts' releases, their inventory and the tool across an air gap."""
    from fleet.verbs.bundle import Wishes, create_bundle

    return create_bundle(options, Wishes(output, "" if without_tool else python, models, since, volume_size, sign_key))


@verb(
    *HOSTS, "json",
    example="invoke bundle.verify /media/disk/bundle -i site --allowed-signers signers",
    name="verify",
    folder="The bundle.",
    store="Complete a delta from this blob store.",
    have="Complete a delta from what the nodes hold by this fresh file of `bundle.have`.",
    allowed_signers=_ALLOWED,
    unsigned=_UNSIGNED,
)  # fmt: skip
def bundle_verify(
    options: Options, folder: str, store: str = "", have: str = "", allowed_signers: str = "", unsigned: bool = False
) -> int:
    """Check signature, checksums and completeness; with an inventory, say whether that site could be deployed from it."""
    from fleet.verbs.bundle import verify_bundle
    from fleet.verbs.cargo import Trust

    return verify_bundle(options, folder, store, have, Trust(allowed_signers, unsigned))


@verb(
    "json",
    example="invoke bundle.load /media/disk/bundle --allowed-signers signers",
    name="load",
    folder="The bundle.",
    store=_STORE,
    allowed_signers=_ALLOWED,
    unsigned=_UNSIGNED,
)
def bundle_load(
    options: Options, folder: str, store: str = "", allowed_signers: str = "", unsigned: bool = False
) -> int:
    """Check a bundle and put its releases into the site's store, where deploys find them."""
    from fleet.verbs.bundle import load_bundle
    from fleet.verbs.cargo import Trust

    return load_bundle(options, folder, store, Trust(allowed_signers, unsigned))


@verb("json", example="invoke bundle.list /media/disk/bundle", name="list", folder="The bundle.")
def bundle_list(options: Options, folder: str) -> int:
    """Show what a bundle says of itself, checking nothing."""
    from fleet.verbs.bundle import list_bundle

    return list_bundle(options, folder)


@verb("json", example="invoke bundle.diff old new", name="diff", before="A bundle.", after="Another one.")
def bundle_diff(options: Options, before: str, after: str) -> int:
    """Show which files a bundle has more, less or otherwise than another."""
    from fleet.verbs.bundle import diff_bundles

    return diff_bundles(options, before, after)


@verb(
    *CONNECT,
    example="invoke bundle.have -i site -o have.json",
    name="have",
    output="The file to write, for `bundle.create --since`.",
    store=_STORE,
)
def bundle_have(options: Options, output: str = "", store: str = "") -> int:
    """Write down what the site's store and nodes hold, so that the next bundle carries only what is new."""
    from fleet.verbs.bundle import have_file

    return have_file(options, output, store)


def _latest(resume: str | bool) -> str:
    """`--resume` alone comes from Invoke as True."""
    return "last" if resume is True else str(resume or "")


def _collection() -> Collection:
    inventory = Collection("inventory")
    inventory.add_task(inventory_show, default=True)
    inventory.add_task(schema)
    runs = Collection("runs")
    runs.add_task(runs_list, default=True)
    runs.add_task(runs_show)
    bundle = Collection("bundle")
    for task in (bundle_create, bundle_verify, bundle_load, bundle_list, bundle_diff, bundle_have):
        bundle.add_task(task)
    verbs = (
        deploy,
        plan,
        play,
        rollback,
        unlock,
        build,
        push,
        sideload,
        staging,
        images,
        drift,
        serve,
        stop,
        verify,
        status,
        endpoints,
        logs,
        shell,
        facts,
        preflight,
        audit,
    )
    maintenance = Collection("maintenance", maintenance_set, maintenance_list)
    root = Collection(*verbs)
    root.add_collection(inventory)
    root.add_collection(runs)
    root.add_collection(maintenance)
    root.add_collection(bundle)
    root.add_collection(releases)
    root.add_collection(lab, name="lab")
    return root


namespace = _collection()
