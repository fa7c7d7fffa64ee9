"""A model of Hugging Face on its way into a relay's store: by the relay's own curl, else by this controller's, and sent."""

import shutil
from dataclasses import dataclass, field
from functools import cached_property

from fleet.delivery.download import download
from fleet.delivery.persist import SPARE
from fleet.delivery.send import LinkError, Parcel, Sender, Sent
from fleet.errors import HostError
from fleet.models import carry_scripts as scripts
from fleet.models.content import File
from fleet.models.hub import Remote
from fleet.models.local import Local
from fleet.report.units import size


def parcel(remote: Remote, file: File) -> Parcel:
    """`path` is where the file lies while this controller has to get it."""
    return Parcel(f"sha256:{file.sha256}", file.size, remote.folder / file.sha256)


@dataclass
class FromHub:
    """A Courier. A relay that could not get one file is not asked for the next."""

    remote: Remote
    _alone: list[str] = field(default_factory=list)  # why the relay cannot

    def bring(self, sender: Sender, path: str, parcel: Parcel, have: int, sent: Sent) -> None:
        file, address = self._files[parcel.digest], self.remote.address(self._files[parcel.digest])
        if not self._alone:
            try:
                download(sender, file.path, file.size, path, address, have, sent)
            except LinkError:
                raise
            except HostError as error:
                self._alone.append(error.message)
                sender.say(
                    f"cannot get {file.path} by itself, so this controller gets it and sends it: {error.message}"
                )
            else:
                return
        self._get_here(sender, parcel, file)
        sender.complete(path, parcel, have, sent)

    def blame(self, sender: Sender, directory: str, parcel: Parcel) -> None:
        sender.command(scripts.FORGET, directory, parcel.digest.removeprefix("sha256:"))
        parcel.path.unlink(missing_ok=True)

    def done(self, parcels: tuple[Parcel, ...]) -> None:
        """The store has them, so they need not lie here as well."""
        for one in parcels:
            one.path.unlink(missing_ok=True)

    @cached_property
    def _files(self) -> dict[str, File]:
        return {f"sha256:{file.sha256}": file for file in self.remote.content.files}

    def _get_here(self, sender: Sender, parcel: Parcel, file: File) -> None:
        """Complete the parcel's own path. Raises HostError."""
        if parcel.path.is_file() and parcel.path.stat().st_size == parcel.size:
            return
        parcel.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = parcel.path.with_name(f"{parcel.path.name}.part")
        have = part.stat().st_size if part.is_file() else 0
        free = shutil.disk_usage(part.parent).free
        if parcel.size - have + SPARE > free:
            why = f"{part.parent} has {size(free)} free, and {size(parcel.size - have + SPARE)} are needed"
            raise HostError(sender.host, f"{self._alone[0]}; nor can this controller get {file.path}: {why}")
        try:
            local = Local(sender.stall, sender.say)
            download(
                local, file.path, file.size, str(parcel.path), self.remote.address(file), have, lambda _count: None
            )
        except HostError as error:
            message = f"{self._alone[0]}; nor can this controller get {file.path}: {error.message}"
            raise HostError(sender.host, message, hint=error.hint) from error
