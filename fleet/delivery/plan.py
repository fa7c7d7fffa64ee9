"""How a release gets to one host: what is missing, which way it goes, how many bytes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet.delivery.holdings import Holdings
from fleet.delivery.relay import Distrust, Fill, FillModel, StartRelay, StopRelay
from fleet.delivery.staging import Staging
from fleet.report.units import size as size_words

HERE = "from this controller"
NOTHING_STAGED = Staging()


@dataclass(frozen=True)
class Wanted:
    """The release that a host must hold under `name` (`NAME:RELEASE`)."""

    name: str
    manifest_digest: str
    config_digest: str
    diff_ids: tuple[str, ...]
    layer_sizes: tuple[int, ...]  # compressed bytes, as they lie in the layout
    layer_digests: tuple[str, ...] = ()  # of the same
    left_out: frozenset[str] = frozenset()  # digests of layers that a bundle counts on the hosts for

    @property
    def digests(self) -> tuple[str, str]:
        return (self.config_digest, self.manifest_digest)


@dataclass(frozen=True)
class Keep:
    """Nothing moves. `way` of any step says how its bytes go, for people; empty where none do."""

    name: str
    why: str
    changes = False
    size = 0
    way = ""

    @property
    def what(self) -> str:
        return f"keep image {self.name}"


@dataclass(frozen=True)
class Pull:
    """The host pulls by digest from `repository` itself; `relay` is the host that serves it, where one does."""

    repository: str  # registry.corp:5000/vllm-rocm
    digest: str
    size: int  # bytes at most; layers that the host has are not pulled again
    why: str
    relay: str = ""
    changes = True

    @property
    def what(self) -> str:
        return f"pull {self.repository}@{self.digest}"

    @property
    def registry(self) -> str:
        return self.repository.partition("/")[0]

    @property
    def way(self) -> str:
        return f"from relay {self.relay}" if self.relay else f"from {self.registry}"


@dataclass(frozen=True)
class Load:
    """The layers at `layers` come over SSH, or from the builder, and the engine loads them with those it has.

    `size` is in bytes to send; `there` are more bytes of these layers, which an earlier transfer left on the host.
    """

    name: str
    layers: tuple[int, ...]
    size: int
    why: str
    way: str = HERE
    there: int = 0
    absent: tuple[str, ...] = ()  # of these layers, the digests of those that are not here to be sent
    straight: bool = False  # the host gets them from the builder itself
    detour: str = ""  # why it does not, where it might
    changes = True

    @property
    def what(self) -> str:
        return f"sideload {self.name} ({len(self.layers)} layer{'' if len(self.layers) == 1 else 's'})"


@dataclass(frozen=True)
class Tag:
    """Give the image its local name."""

    image: str  # an ID or a reference that the engine finds
    name: str
    why: str
    changes = True
    size = 0
    way = ""

    @property
    def what(self) -> str:
        return f"tag {self.name}"


@dataclass(frozen=True)
class PlaceCa:
    """Let the host's engine trust the registry: its CA in certs.d, which the engine reads at each pull."""

    registry: str
    why: str
    changes = True
    size = 0
    way = ""

    @property
    def what(self) -> str:
        return f"write {ca_path(self.registry)}"


@dataclass(frozen=True)
class Sweep:
    """Remove a staged transfer that nobody goes on with. `config` is the image's config digest."""

    directory: str
    name: str
    config: str
    why: str
    changes = True
    size = 0
    way = ""

    @property
    def what(self) -> str:
        return f"remove what is staged of {self.name} in {self.directory}"


Step = Keep | Pull | Load | Tag | PlaceCa | Sweep | Fill | FillModel | StartRelay | StopRelay | Distrust


def ca_path(registry: str) -> str:
    """Where Docker looks for a registry's CA. Source: docs.docker.com, "Verify repository client with certificates"."""
    return f"/etc/docker/certs.d/{registry}/ca.crt"


def plan_ca(registry: str, wanted: str, found: str | None) -> tuple[Step, ...]:
    """`wanted` is the CA's PEM text, empty when the registry needs none; `found` what the host has, None = no file."""
    if not wanted or (found is not None and found.strip() == wanted.strip()):
        return ()
    why = "the registry's CA is not there" if found is None else "another CA is there"
    return (PlaceCa(registry, why),)


def sideload_way(bastions: Sequence[str], origin: str = "") -> str:
    """How the bytes of a sideload go that comes through this controller, for people.

    `origin` is the registry or the builder that it has to fetch them from first, empty where it has them.
    """
    start = f"from {origin} over this controller" if origin else HERE
    return f"{start} through bastion {', then '.join(bastions)}" if bastions else start


def plan(
    wanted: Wanted,
    holdings: Holdings,
    *,
    repository: str = "",
    way: str = HERE,
    staging: Staging = NOTHING_STAGED,
) -> tuple[Step, ...]:
    """Steps after which the host holds `wanted` under its name; `repository` empty means sideload, which goes by `way`.

    Planning again on the result gives a single Keep.
    """
    held = holdings.find(wanted.digests, wanted.diff_ids)
    if held and wanted.name in held.names:
        return (Keep(wanted.name, "the host holds this release under this name"),)
    moved = any(wanted.name in image.names for image in holdings.images)
    retag = "the name points to another image" if moved else "the name is not there"
    if held:
        return (Tag(held.id, wanted.name, retag),)
    layers = holdings.missing_layers(wanted.diff_ids)
    if repository:
        reference = f"{repository}@{wanted.manifest_digest}"
        pull = Pull(repository, wanted.manifest_digest, _bytes(wanted, layers), "the host does not hold this release")
        return (pull, Tag(reference, wanted.name, retag))
    blobs = {wanted.layer_digests[at]: wanted.layer_sizes[at] for at in layers} if wanted.layer_digests else {}
    there = sum(staging.there(digest, size) for digest, size in blobs.items())
    why = ["the host does not hold this release and has no registry"]
    if len(layers) < len(wanted.diff_ids):
        store = "containerd" if holdings.containerd_store else "classic"
        why.append(f"its {store} store has {len(wanted.diff_ids) - len(layers)} of {len(wanted.diff_ids)} layers")
    if there:
        why.append(f"{size_words(there)} are staged in {staging.directory}")
    elif staging.directory:
        why.append(f"staged in {staging.directory}")
    # The archive carries the name, so loading is also the tagging.
    absent = tuple(digest for digest in blobs if digest in wanted.left_out)
    return (Load(wanted.name, layers, _bytes(wanted, layers) - there, "; ".join(why), way, there, absent),)


def plan_sweep(staging: Staging, keep: float, wanted: Mapping[str, str], steps: Sequence[Step]) -> tuple[Step, ...]:
    """What is staged and of no use: of images that the host holds, and of others after `keep` seconds.

    `wanted` are the names of the releases of this host by config digest, `steps` what is planned for them.
    """
    loading = {step.name for step in steps if isinstance(step, Load)}
    going = {config for config, name in wanted.items() if name in loading}
    found: list[Step] = []
    for image in staging.images:
        if image.config not in going and (image.config in wanted or image.age > keep):
            why = "the host holds it" if image.config in wanted else f"left for {image.age / 86400:.0f} days"
            found.append(Sweep(staging.directory, image.name, image.config, why))
    return tuple(found)


def _bytes(wanted: Wanted, layers: Sequence[int]) -> int:
    """Of these layers; one that occurs twice moves once."""
    names = wanted.layer_digests or tuple(map(str, range(len(wanted.layer_sizes))))
    return sum({names[index]: wanted.layer_sizes[index] for index in layers}.values())
