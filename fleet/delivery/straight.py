"""From the builder straight into the registry: the layout is made there, once, and pushed from there.

The controller gets the few kilobytes that a release is known by, and none of its layers. Where this does not work the
image comes through the controller, as one that was built here would, and the reason is said.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleet.delivery.progress import Moving, silent
from fleet.delivery.push import push
from fleet.delivery.workbench import FAILURES, made_layout, release_there
from fleet.errors import FleetError
from fleet.image.again import TransientError
from fleet.image.describe import Made
from fleet.image.machine import Here, Machine
from fleet.image.registry_api import RegistryClient
from fleet.image.release import Release
from fleet.image.scratch import scratch
from fleet.inventory.settings import Registry
from fleet.report.units import size

REACH = ("timeout", "10", "bash", "-c", 'exec 3<>"/dev/tcp/$0/$1"')


@dataclass(frozen=True)
class Straight:
    """The way from one builder to one registry. `note` hears which way it went."""

    machine: Machine
    registry: Registry
    on_line: Callable[[str], None]
    note: Callable[[str], None]
    moving: Moving = silent

    def words(self) -> str:
        """The way of an image that has yet to be built, for a plan."""
        why = self.obstacle()
        if not why:
            return f"{self.machine.name} would push it straight to {self.registry.host}"
        return f"it would go to {self.registry.host} through this controller: {why}"

    def obstacle(self) -> str:
        """Why the bytes have to go through the controller, empty when they need not. Changes nothing."""
        if isinstance(self.machine, Here):
            return "the images are built here"
        if not self.machine.run(("skopeo", "--version")).ok:
            return f"{self.machine.name} has no skopeo"
        host, _, port = (
            self.registry.host.rpartition(":") if ":" in self.registry.host else (self.registry.host, "", "443")
        )
        if not self.machine.run((*REACH, host.strip("[]"), port)).ok:
            return f"{self.machine.name} cannot reach {self.registry.host}"
        return ""

    def bring(self, tag: str, name: str, made: Made, root: Path) -> Release | None:
        """Make the layout of the builder's image `tag` there and push it as `name:RELEASE`.

        None where that does not work, with the reason said. `root` is a directory here for the small files. Raises
        TransientError where the registry does not answer here either.
        """
        why = self.obstacle()
        if why:
            self._through_here(name, why)
            return None
        try:
            with made_layout(self.machine, tag, self.on_line) as work, scratch(root) as folder:
                release = release_there(self.machine, work, folder, name, made)
                what = f"push {release.local_name} to {self.registry.host}"
                with self.moving(self.machine.name, what, release.size) as at:
                    push(
                        f"{work}/layout:image",
                        self.registry,
                        name,
                        release.id,
                        machine=self.machine,
                        on_line=self.on_line,
                        at=at,
                    )
        except FAILURES as error:
            self._through_here(name, str(error))
            return None
        way = f"straight to {self.registry.host}"
        self.note(f"{self.machine.name} pushed {release.local_name} ({size(release.size)}) {way}")
        return release

    def _through_here(self, name: str, why: str) -> None:
        """Not for a registry that is down: the whole image would come here for nothing, and the next run finds it built."""
        if silent_to(self.registry):
            raise TransientError(
                f"{name} was built on {self.machine.name} and could not be pushed, and {self.registry.host} does not answer "
                f"this controller either: {why}",
                hint="once the registry answers, the same command goes on with what was built",
            )
        self.note(f"{name} goes to {self.registry.host} through this controller: {why}")


def silent_to(registry: Registry) -> bool:
    """Does the registry not answer this controller, now and for some seconds?"""
    try:
        with RegistryClient(registry) as client:
            client.check()
    except TransientError:
        return True
    except FleetError:
        return False  # it answers, and what it does not like is told by the push
    return False
