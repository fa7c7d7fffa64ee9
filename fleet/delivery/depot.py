"""From the builder to the hosts: what was built stays there as a layout, and hosts that reach the builder get its blobs by curl.

STAGING/build-depot/RELEASE/      0700, on the builder: `layout`, for a day; whoever builds or prunes there sweeps what is older

A server hands them out while the controller is connected. It runs in a container of the built image, read-only, with nothing
but that directory, behind TLS and a password that are made for the run and are in no file there. Where this does not work
the bytes come through the controller, and the reason is said.
"""

import io
import json
import re
import shutil
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from fleet.delivery import scripts
from fleet.delivery.curl_scripts import NO_CURL
from fleet.delivery.depot_door import Door, open_door
from fleet.delivery.download import Address
from fleet.delivery.relay import location
from fleet.delivery.send import Sender
from fleet.delivery.workbench import FAILURES, fetch_small, made_layout, release_there
from fleet.errors import FleetError
from fleet.image.convert import Converted
from fleet.image.describe import Made
from fleet.image.layout import LayoutImage, read, verify
from fleet.image.machine import There
from fleet.image.recipe import tag_of
from fleet.image.release import Release
from fleet.image.scratch import scratch, temporary
from fleet.image.store import Store
from fleet.image.workshop import take

ANSWER = 30.0  # seconds for a host to ask
DEPOT = "build-depot"  # swept by whoever sweeps what killed builds left
TRIES = 2  # in a row in which nothing came: there is another way

# $1 staging directory, $2 what was made there, $3 release
KEEP = (
    scripts.SAFE
    + r"""
umask 077
depot=$1/build-depot
mkdir -p -- "$depot" && safe "$depot" || exit 67
find "$depot" -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf -- {} +
rm -rf -- "$depot/$3" && mv -- "$2" "$depot/$3"
"""
)

# $1 an address, $2 the certificate that is trusted. Standard input: more of curl's settings. Leaves nothing behind.
PROBE = r"""
command -v curl >/dev/null || exit 69
umask 077
crt=$(mktemp) || exit 1
trap 'rm -f -- "$crt"' EXIT
trap 'exit 1' HUP INT TERM PIPE
printf '%s\n' "$2" > "$crt"
curl --config - --silent --show-error --fail --proto =https --cacert "$crt" --connect-timeout 5 --max-time 20 \
  --output /dev/null -- "$1"
"""


class Depot:
    """One builder's. `where` is its address for hosts and the port; `rate` in bytes a second for all hosts, 0 = no limit.

    Thread-safe: hosts are looked at side by side.
    """

    def __init__(
        self, machine: There, staging: str, where: tuple[str, int], rate: float, say: Callable[[str], None]
    ) -> None:
        self.machine, self.staging, self.rate, self._say = machine, staging, rate, say
        self.address, self.port = where
        self._folder: Path | None = None
        self._files = ExitStack()
        self._door: Door | str = ""  # why there is none
        self._offered: dict[str, str] = {}  # by release id
        self._reached: dict[str, str] = {}  # by host
        self._lock, self._making = threading.Lock(), threading.Lock()

    @property
    def name(self) -> str:
        return self.machine.name

    @property
    def place(self) -> str:
        return location(self.address, self.port)

    def words(self) -> str:
        """The way of an image that has yet to be built, for a plan."""
        if why := self.obstacle():
            return f"it would go to the hosts through this controller: {why}"
        return f"hosts that reach {self.name} at {self.place} would get it from there, others through this controller"

    def obstacle(self) -> str:
        """Why no layout can be made there, "" where it can."""
        return "" if self.machine.run(("skopeo", "--version")).ok else f"{self.name} has no skopeo"

    def keep(self, tag: str, name: str, made: Made, root: Path) -> Release | None:
        """The release of the builder's image `tag`, whose layout stays there. None where that does not work, with the reason
        said. `root` is a directory here for the small files.
        """
        why = self.obstacle()
        try:
            if not why:
                with made_layout(self.machine, tag, self._say) as work, scratch(root) as folder:
                    release = release_there(self.machine, work, folder, name, made)
                    self._put(work, release.id)
                return release
        except FAILURES as error:
            why = str(error)
        self._say(f"{name} goes to the hosts through this controller: {why}")
        return None

    def has(self, release: Release) -> bool:
        """Does its layout lie there?"""
        index = self.machine.run(("cat", f"{self._home(release)}/layout/index.json"))
        try:
            return bool(json.loads(index.stdout)["manifests"][0]["digest"] == release.manifest_digest)
        except (ValueError, KeyError, IndexError, TypeError):
            return False

    def reach(self, sender: Sender, release: Release) -> str:
        """Why a host cannot get the release from here, "" where it can. The server is started for that, and asked."""
        with self._lock:
            door = self._offered.get(release.id) or self._door
            try:
                if release.id not in self._offered:
                    door = self._offered[release.id] = self._offers(release)
                if not door:
                    door = self._door = self._door or self._open(release)
            except (FleetError, OSError) as error:
                door = self._door = f"{self.name} cannot hand it out: {error}"
        if isinstance(door, str):
            return door
        if sender.host not in self._reached:
            args = (f"https://{self.place}/", door.ca)
            code, _, complaint = sender.run(PROBE, args, io.BytesIO(door.settings.encode()), ANSWER)
            lines = [re.sub(r"^curl: (\(\d+\) )?", "", line) for line in complaint.splitlines()]
            why = "there is no curl on the host" if code == NO_CURL else (lines or [f"exit {code}"])[-1]
            self._reached[sender.host] = f"it does not reach {self.name} at {self.place}: {why}" if code else ""
        return self._reached[sender.host]

    def image(self, release: Release) -> LayoutImage:
        """Manifest and config here, the layers there: the layout is made again where it is gone. Raises one of FAILURES."""
        with self._making:
            if self._folder is None:
                self._folder = self._files.enter_context(temporary("fleet-depot-"))
            folder = self._folder / release.id
            if not folder.is_dir() or not self.has(release):
                shutil.rmtree(folder, ignore_errors=True)
                if not self.has(release):
                    self._make_again(release)
                fetch_small(self.machine, f"{self._home(release)}/layout", folder)
            return read(folder)

    def blob(self, release: Release, digest: str) -> Address:
        """Where a host that reaches it gets a blob."""
        url = f"https://{self.place}/{release.id}/{digest.removeprefix('sha256:')}"
        settings, ca = (self._door.settings, self._door.ca) if isinstance(self._door, Door) else ("", "")
        return Address(url, settings=settings, ca=ca, tries=TRIES)

    def bring(self, store: Store, release: Release) -> None:
        """The layout into the store here, as it lies there. Raises FleetError."""
        if not self.has(release):
            raise FleetError(f"{self.name} does not keep {release.local_name}")
        self._say(f"bringing {release.local_name} from {self.name}")
        with scratch(store.root / "layouts") as folder, store.fresh_layout(release.id) as fresh:
            there = f"{self._home(release)}/layout"
            image = fetch_small(self.machine, there, folder / "layout")
            for layer in dict.fromkeys(image.layers):
                path = image.blob_path(layer)
                self.machine.fetch(("cat", f"{there}/{path.relative_to(image.path)}"), path)
            verify(image)
            image.path.rename(fresh)
            take(store, Converted(read(fresh), ()), release, self.name)

    def forget(self, release: Release) -> None:
        """Remove a layout that is damaged; the next one is made of the image."""
        self.machine.run(("rm", "-rf", "--", self._home(release)))

    def close(self) -> None:
        """End the server."""
        door, self._door = self._door, f"{self.name} hands out nothing any more"
        if isinstance(door, Door):
            door.channel.close()
        self._files.close()

    def _home(self, release: Release) -> str:
        return f"{self.staging}/{DEPOT}/{release.id}"

    def _put(self, work: str, name: str) -> None:
        done = self.machine.run(("sh", "-c", KEEP, "sh", self.staging, work, name))
        if not done.ok:
            raise FleetError(f"{self.staging}/{DEPOT} on {self.name} cannot be written: {done.stderr.strip()}")

    def _make_again(self, release: Release) -> None:
        """Packed again, an image has the same digests, unless the tools there are others by now."""
        with made_layout(self.machine, tag_of(release.name, release.content_key), self._say) as work:
            index = json.loads(self.machine.run(("cat", f"{work}/layout/index.json")).stdout)
            found = index["manifests"][0]["digest"]
            if found != release.manifest_digest:
                raise FleetError(f"packed again on {self.name} it is {found}")
            self._put(work, release.id)

    def _open(self, release: Release) -> Door:
        """Start the server. Raises FleetError, OSError."""
        tag = tag_of(release.name, release.content_key)
        return open_door(self.machine, (self.staging, tag), (self.address, self.port), self.rate)

    def _offers(self, release: Release) -> str:
        """Why it cannot give the release, "" where its engine has the very layers: the server runs in a container of them."""
        tag = tag_of(release.name, release.content_key)
        told = self.machine.run(("docker", "image", "inspect", "--format", "{{json .RootFS.Layers}}", tag))
        if told.ok and told.stdout.strip() == json.dumps(release.diff_ids, separators=(",", ":")):
            return ""
        return f"{self.name} does not have it any more"
