"""`nightly.install`, `nightly.status` and `nightly.uninstall`: what starts a night, and what the last ones came to."""

import os
import platform
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from fleet.errors import UsageError
from fleet.inventory import load
from fleet.inventory.model import Inventory
from fleet.inventory.settings import Nightly
from fleet.nightly import install as effects
from fleet.nightly.install import Place, Written, files, here
from fleet.nightly.nights import nights
from fleet.nightly.timer import Timer, unit_name, upcoming
from fleet.options import Options
from fleet.report import nightly as report
from fleet.report import terminal
from fleet.verbs.common import ROOT
from fleet.verbs.secrets import variables

NIGHTS = "nights"  # below ROOT


def install(options: Options, *, how: str, user: str, root: Path = Path("/")) -> int:
    """Write the files and start the timer; with `check`, print them."""
    place = here(root)
    inventory = load(options.inventory)
    if user and not place.system:
        raise UsageError("only root can say who runs it", hint="leave --user out")
    if user:
        effects.require_user(user)
    timer = timer_of(options, inventory, place, user)
    cron = _cron(how, place)
    written = files(timer, place, platform.node(), cron=cron)
    effects.judge(written, timer)
    if options.check:
        report.show_files(written)
        return 0
    changed = effects.install(timer, place, written, cron=cron)
    report.show_installed(changed, upcoming(timer.schedule, _now()), timer.jitter)
    _tell(timer, place, written, cron=cron)
    return 0


def uninstall(options: Options, *, root: Path = Path("/")) -> int:
    """Remove what `install` wrote, whichever way it was."""
    place = here(root)
    timer = timer_of(options, load(options.inventory), place, "")
    there = tuple(str(one.path) for one in effects.present(timer, place))
    report.show_removed(there if options.check else effects.uninstall(timer, place), check=options.check)
    return 0


def status(options: Options, *, last: int, root: Path = Path("/")) -> int:
    """The timer's files, the next start, and the last nights."""
    place = here(root)
    inventory = load(options.inventory)
    timer = timer_of(options, inventory, place, "")
    there = [str(one.path) for one in effects.present(timer, place)]
    starts = any(not path.endswith(".env") for path in there)
    following = upcoming(timer.schedule, _now()) if starts else None
    if effects.outdated(timer, place):
        terminal.event(
            timer.name, f"starts otherwise than the inventory says ({timer.schedule}): invoke nightly.install"
        )
    past = nights(ROOT / NIGHTS, str(inventory.sources[0].resolve()))[-last or None :]
    if options.json:
        terminal.show_json(report.status_document(timer, there, following, past))
    else:
        report.show_status(timer, there, following, past)
    return 0


def timer_of(options: Options, inventory: Inventory, place: Place, user: str) -> Timer:
    """The inventory's timer, with the program of this installation and today's directory."""
    missing = [str(source) for source in inventory.sources if not source.exists()]
    if missing:
        raise UsageError(f"{', '.join(missing)} is no file: a timer needs an inventory that lies somewhere")
    sources = [str(source.resolve()) for source in inventory.sources]
    name = unit_name(inventory.sources[0])
    settings = nightly_of(inventory)
    beside = Path(sys.executable).with_name("fleet")
    program = (str(beside), "nightly", *(word for source in sources for word in ("--inventory", source)))
    return Timer(
        name,
        (*program, "--limit", options.limit) if options.limit != "all" else program,
        Path(sources[0]),
        Path.cwd(),
        settings.schedule,
        settings.jitter,
        place.environment / f"{name}.env",
        user,
        variables(inventory.hosts.values()),
    )


def nightly_of(inventory: Inventory) -> Nightly:
    """`fleet.nightly`, which is one for all. Raises UsageError where hosts have it differently."""
    found: dict[Nightly, str] = {}
    for host in inventory.hosts.values():
        found.setdefault(host.settings.nightly, host.name)
    if len(found) > 1:
        names = " and ".join(list(found.values())[:2])
        raise UsageError(f"fleet.nightly differs between {names}", hint="it holds for all: set it once, at all")
    return next(iter(found), Nightly())


def _cron(how: str, place: Place) -> bool:
    if how not in ("auto", "systemd", "cron"):
        raise UsageError(f"--how {how!r} is not known", hint="auto, systemd or cron")
    return how == "cron" or (how == "auto" and not place.booted)


def _tell(timer: Timer, place: Place, written: Iterable[Written], *, cron: bool) -> None:
    environment = next(one.path for one in written if one.keep)
    unset = effects.unset(environment, timer.secrets)
    if unset:
        terminal.event(str(environment), f"fill in {', '.join(unset)}: the nights read it, and nothing else does")
    if cron:
        why = "" if place.booted else ": no systemd runs here"
        terminal.event(timer.name, f"cron starts it{why}; a random delay is a fixed one then")
    elif not place.booted:
        terminal.event(timer.name, "systemd is not running here: the timer starts when this machine boots with it")
    elif not place.system:
        user = os.environ.get("USER", "")
        terminal.event(
            timer.name, f"it runs only while you are logged in, unless `loginctl enable-linger {user}` was said"
        )


def _now() -> datetime:
    return datetime.now().astimezone()
