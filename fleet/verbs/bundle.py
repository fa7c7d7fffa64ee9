"""`bundle.*`: what carries a site across an air gap, on both sides of it."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
from docker.errors import DockerException

from fleet.bundle import check, contents, create, debs, have, plan, site, tool
from fleet.bundle import load as loading
from fleet.bundle.manifest import Want
from fleet.bundle.store import SiteStore
from fleet.bundle.supply import wanted
from fleet.delivery.holdings import Holdings
from fleet.delivery.observe import observe
from fleet.delivery.progress import STALL
from fleet.delivery.send import Sender
from fleet.engine import docker_client
from fleet.errors import FleetError, HostError, UsageError
from fleet.facts.dockerd import image_store
from fleet.image import lock as locks
from fleet.image.release import Release
from fleet.image.store import Store
from fleet.image.strategy import fingerprint
from fleet.image.workshop import ensure_layout
from fleet.inventory import load, select
from fleet.inventory.model import Host
from fleet.models.content import File
from fleet.models.look import look
from fleet.models.names import of_service
from fleet.options import Options
from fleet.report import bundle as report
from fleet.report import terminal
from fleet.rollout.imageorders import image_of, orders
from fleet.rollout.relays import registry_images
from fleet.rollout.releases import obtain
from fleet.rollout.stock import Stock
from fleet.survey import each
from fleet.transport import Session
from fleet.verbs import secrets
from fleet.verbs.cargo import Trust, damage, missing
from fleet.verbs.common import ROOT, connected, inventory_and_hosts, narrator, serving
from fleet.verbs.weights import models_of


@dataclass(frozen=True)
class Wishes:
    """`python` is the site's version; "" leaves the tool out. `models` is a directory of models, "" for none. `debs`: carry
    the controller's Debian packages too.
    """

    target: str
    python: str
    models: str = ""
    since: str = ""
    volume_size: str = ""
    sign_key: str = ""
    debs: bool = False


def create_bundle(options: Options, wishes: Wishes) -> int:
    """Make or find the releases of the selected hosts, then write everything."""
    if not wishes.target:
        raise UsageError("where to?", hint="--output DIR")
    volume = plan.volume_bytes(wishes.volume_size)
    since = have.read(Path(wishes.since)) if wishes.since else None
    inventory = load(options.inventory)
    hosts = serving(select(inventory, options.limit))  # those in maintenance too: the site has them tomorrow
    if not hosts:
        raise UsageError("no selected host has a service, so there is nothing to carry")
    secrets.require(hosts, services=False)
    say = narrator(options, loud=terminal.err().is_terminal)
    files: dict[str, Path | bytes] = {}
    models: dict[str, list[str]] = {}
    if wishes.models:
        named = site.models_of(hosts)
        models = {
            one: [host.name for host in hosts if one in site.models_of([host])] for one in named if of_service(one)
        }
        files |= site.model_files(Path(wishes.models).expanduser(), models)
        for other in (one for one in named if one not in models):
            say.line(f"model {other} lies outside models_dir: it has to be on the hosts")
    with connected(options) as connector:
        stock = obtain(inventory, hosts, connector, ROOT, say=say.line, publish=False, moving=say.moving)
        everything = create.with_relays(stock.releases, stock.relays)
        found = {one.id: one for of_host in everything.values() for one in of_host.values()}
        for release in found.values():
            ensure_layout(stock.workshops[release.id], release)
    files |= site.site_files(inventory)  # after obtain, which may have moved the lock
    images = create.carried(everything, stock.store)
    files |= create.record_files(tuple(found.values()), ROOT)
    terms = create.Terms(Path(wishes.target), volume, wishes.sign_key, since)
    with contextlib.ExitStack() as stack:
        tools = stack.enter_context(tool.tool_files(wishes.python, say.line)) if wishes.python else {}
        packages = stack.enter_context(debs.deb_files(tool.PACKAGES, say.line)) if wishes.debs else {}
        made = create.create(
            images,
            {**files, **tools, **packages},
            _wants(hosts, stock),
            terms,
            inventory=[str(source) for source in inventory.sources],
            models=models,
            packages=tool.PACKAGES,
            moving=say.moving,
        )
    if options.json:
        terminal.show_json(report.document(made.manifest, tuple(found.values())))
    else:
        report.show_made(terms.target, made, signed=bool(wishes.sign_key))
    return 0


def _wants(hosts: tuple[Host, ...], stock: Stock) -> list[Want]:
    """A registry's image for relays is wanted by no service: ""."""
    relays = [
        Want(host, "", fingerprint(image), stock.relays[host].id)
        for image, names in registry_images(hosts).items()
        for host in names
    ]
    return relays + [
        Want(host.name, service.name, fingerprint(image), stock.releases[host.name][service.name].id)
        for host in hosts
        for service in host.settings.services.values()
        for image in [image_of(host.settings, service.image, host.name, service.name)]
    ]


def verify_bundle(options: Options, folder: str, store: str, fresh: str, trust: Trust, *, layers: bool) -> int:
    """Is every byte as it was signed, and could the site be deployed from it? `layers`: look into them, signed or not."""
    trust.require()
    bundle = check.open_bundle(Path(folder), trust.allowed_signers)
    wrong = damage(bundle, options, inside=layers or trust.unsigned)
    lacking: tuple[str, ...] = ()
    notes: list[str] = []
    asked = have.read(Path(fresh))[0] if fresh else None
    hosts: tuple[Host, ...] = ()
    if not wrong:
        records = contents.records(bundle)
        releases = contents.distinct(records)
        held, lacking = _held(store, releases, options)
        if options.inventory:
            inventory = load(options.inventory)
            hosts = serving(select(inventory, options.limit))
            ours, theirs = locks.read(inventory.lock_path), contents.lock_of(bundle)
            lacking += contents.unserved(bundle.manifest, releases, hosts, ours, theirs)
            lacking += missing(bundle, wanted(bundle.manifest, records, hosts), held, hosts)
            absent = contents.models_missing(bundle.manifest, hosts)
            notes += [f"model {model} is not in the bundle: it has to be on the hosts" for model in absent]
        else:
            # With a fresh look at the nodes they are asked one by one; else the base's word counts unless the store is.
            lacking += contents.lacking(bundle.manifest, releases, held, nodes=bool(fresh) or not store)
        lacking += contents.models_lack(bundle.manifest, hosts, asked)
        if asked:
            lacking += contents.nodes_lack(bundle.manifest, releases, held, asked)
    if options.json:
        terminal.show_json(report.verdict_document(bundle, wrong, lacking, notes))
    else:
        report.show_verdict(bundle, wrong, lacking, notes, site=bool(options.inventory))
    return 1 if wrong or lacking else 0


def _held(store: str, releases: Sequence[Release], options: Options) -> tuple[frozenset[str], tuple[str, ...]]:
    """The digests of the blobs that a store really has, and those of these releases that its disk has spoilt, in words."""
    if not store:
        return frozenset(), ()
    place = SiteStore(Path(store))
    spoilt = loading.spoilt_blobs(place, releases, narrator(options).moving)
    return place.digests() - spoilt, tuple(f"{place.path(digest)} is damaged" for digest in sorted(spoilt))


def load_bundle(options: Options, folder: str, store: str, trust: Trust) -> int:
    """Check everything, then put the blobs into the store; nothing is loaded when anything is wrong."""
    trust.require()
    bundle = check.open_bundle(Path(folder), trust.allowed_signers)
    wrong = damage(bundle, options, inside=trust.unsigned)
    target = SiteStore(Path(store or ROOT / "store"))
    found = contents.records(bundle) if not wrong else ()
    lacking = contents.lacking(bundle.manifest, contents.distinct(found), target.digests(), nodes=True)
    if wrong or lacking:
        report.show_verdict(bundle, wrong, lacking, [], site=False)
        raise FleetError(
            f"{folder}: nothing was loaded",
            hint="bring the named files again" if wrong else "make it --since a bundle.have of this store, or in full",
        )
    loaded = loading.load(bundle, found, target, Store(ROOT), narrator(options).moving)
    if options.json:
        terminal.show_json(report.loaded_document(loaded))
    else:
        report.show_loaded(target.root, loaded)
    return 0


def list_bundle(options: Options, folder: str) -> int:
    """What the manifest says is in a bundle; nothing is checked."""
    bundle = check.open_bundle(Path(folder))
    if options.json:
        terminal.show_json(report.document(bundle.manifest))
    else:
        report.show_list(bundle)
    return 0


def diff_bundles(options: Options, before: str, after: str) -> int:
    """What the second bundle has otherwise than the first, by their manifests."""
    old, new = (check.open_bundle(Path(one)).manifest for one in (before, after))
    if options.json:
        terminal.show_json(report.diff_document(old, new))
    else:
        report.show_diff(old, new)
    return 0


def have_file(options: Options, output: str, store: str) -> int:
    """Ask the store and every selected host what they hold, and write it down."""
    if not output:
        raise UsageError("where to?", hint="--output have.json")
    hosts = serving(inventory_and_hosts(options)[1])
    names = {order.image.name for order in orders(hosts)}

    def ask(session: Session) -> tuple[Holdings, dict[str, frozenset[File]]]:
        client = docker_client(session, timeout=STALL)
        try:
            containerd = image_store(client.info()) == "containerd"
        except (DockerException, requests.RequestException, OSError) as error:
            raise HostError(session.host.name, f"the Docker engine does not answer: {error}") from error
        held = observe(client, session.host.name, names, (), containerd_store=containerd)
        return held, _models(session)

    with connected(options) as connector:
        answers = each(hosts, connector, ask, forks=options.forks)
    failed = {name: one for name, one in answers.items() if isinstance(one, HostError)}
    held = {name: one for name, one in answers.items() if not isinstance(one, HostError)}
    place = SiteStore(Path(store or ROOT / "store"))
    known = have.Have(
        create.now(),
        create.whoami(),
        place.digests(),
        {name: images for name, (images, _) in held.items()},
        {name: one.message for name, one in failed.items()},
        {name: models for name, (_, models) in held.items() if models},
    )
    try:
        Path(output).write_bytes(have.dumps(known))
    except OSError as error:
        raise FleetError(f"{output} cannot be written: {error.strerror}") from error
    if options.json:
        terminal.show_json({"blobs": len(known.blobs), "hosts": sorted(held), "failed": dict(known.failed)})
    else:
        terminal.show_failures(failed)
        report.show_have(output, known)
    return 1 if failed else 0


def _models(session: Session) -> dict[str, frozenset[File]]:
    """The files of the models that a host serves, as far as the lists beside them tell; nothing is read for that."""
    settings = session.host.settings
    names = models_of(session.host)
    ground = look(Sender.of(session), settings.models_dir, names) if names else None
    return {
        name: frozenset(File(path, one.sizes[path], sha256) for path, sha256 in one.sums.items())
        for name, one in (ground.models.items() if ground else ())
        if one.sums
    }
