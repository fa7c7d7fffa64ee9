"""Blobs of a built image that a host gets from the builder itself, and from this controller where that does not work."""

from collections.abc import Callable
from dataclasses import dataclass

from fleet.delivery.depot import Depot
from fleet.delivery.download import download
from fleet.delivery.send import AnotherWayError, LinkError, Parcel, Sender, Sent
from fleet.errors import HostError
from fleet.image.layout import LayoutImage, blob_path
from fleet.image.release import Release


@dataclass
class FromBuilder:
    """A Courier for one host. `here()` gives the layout with all its layers on this controller, fetched if need be."""

    depot: Depot
    release: Release
    here: Callable[[], LayoutImage]
    given_up: bool = False

    def bring(self, sender: Sender, path: str, parcel: Parcel, have: int, sent: Sent) -> None:
        """What came from the builder before it failed stays: this controller sends the rest."""
        if parcel.path.is_file():
            sender.complete(path, parcel, have, sent)
        elif self.given_up:
            local = Parcel(parcel.digest, parcel.size, blob_path(self.here().path, parcel.digest))
            sender.complete(path, local, have, sent)
        else:
            address = self.depot.blob(self.release, parcel.digest)
            try:
                download(sender, self.release.local_name, parcel.size, path, address, have, sent)
            except LinkError:
                raise
            except HostError as error:
                self._give_up(sender, error.message.removeprefix(f"{address.url}: "))
                raise AnotherWayError(sender.host, error.message) from error

    def blame(self, sender: Sender, directory: str, parcel: Parcel) -> None:  # noqa: ARG002  nobody looks which one
        """What is wrong of it comes from here, where the layout was verified."""
        if not self.given_up:
            self._give_up(sender, "a blob arrived damaged")

    def done(self, parcels: tuple[Parcel, ...]) -> None:
        """The builder keeps what it has."""

    def _give_up(self, sender: Sender, why: str) -> None:
        self.given_up = True
        name, builder = self.release.local_name, self.depot.name
        sender.say(f"{name}: it does not come from {builder}: {why}; this controller brings what is missing")
