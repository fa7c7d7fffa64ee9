"""All that the steps of a delivery need on one host."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import docker

from fleet.delivery.progress import STALL, Moving, silent
from fleet.delivery.pull import TRIES
from fleet.delivery.relay import Access, Courier
from fleet.delivery.send import Line, Sender
from fleet.delivery.throttle import Throttle
from fleet.image.layout import LayoutImage
from fleet.inventory.settings import Registry, Sideload
from fleet.seam import Bare, Seam
from fleet.transport.openssh import Bulk


@dataclass(frozen=True)
class Way:
    """The way to one host.

    `registries` go by repository (`registry.corp:5000/vllm-rocm`), so that every step has its own one's credentials and
    CA. `layout` gives the image of a name to sideload, `straight` the same with who brings the layers from the builder.
    `slot(registry)` is held during a pull. `renew` gives the same way over a new connection, where there may be one. `bulk`
    carries large blobs over a connection of its own; `no_bulk` says why there is none.
    """

    host: str
    session: Line
    client: docker.DockerClient
    registries: Mapping[str, Registry] = field(default_factory=dict)
    layout: Callable[[str], LayoutImage] | None = None
    straight: Callable[[str], tuple[LayoutImage, Courier | None]] | None = None
    moving: Moving = silent
    slot: Callable[[str], AbstractContextManager[object]] = lambda _registry: nullcontext()
    stall: float = STALL  # seconds, of a pull
    tries: int = TRIES  # of a pull
    seam: Seam = field(default_factory=Bare)
    staging_dir: str = "/var/tmp/fleet"  # noqa: S108  the setting's own default
    sideload: Sideload = field(default_factory=Sideload)
    throttle: Throttle = field(default_factory=lambda: Throttle(0))
    say: Callable[[str], None] = lambda _line: None
    renew: Callable[[], "Way"] | None = None
    bulk: Bulk | None = None
    no_bulk: str = ""
    access: Access | None = None  # what a relay that is started here runs with

    @property
    def sender(self) -> Sender:
        return Sender(self.host, self.session, self.sideload.stall, self.throttle, self.bulk, self.say)
