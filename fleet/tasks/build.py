"""Verbs that make images and bring them to registries."""

from fleet.cli import HOSTS, verb
from fleet.options import Options


@verb(
    *HOSTS, "check", "accept_new", "json", "verbose",
    example="invoke build -i prod --update",
    update="Resolve floating refs and tags anew, decide `image.strategy: auto` anew, and move the lock.",
    explain="Show why each image would be had prebuilt, from source or on a base of one's own. Makes nothing.",
)  # fmt: skip
def build(options: Options, update: bool = False, explain: bool = False) -> int:
    """Make the images of the selected hosts, unless they have been made before."""
    from fleet.verbs.images import build as work
    from fleet.verbs.images import explain as reasons

    return reasons(options, update=update) if explain else work(options, update=update, publish=False)


@verb(*HOSTS, "check", "accept_new", "json", "verbose", example="invoke push -i prod")
def push(options: Options) -> int:
    """Push the images to their registries, making them first where that is needed."""
    from fleet.verbs.images import build as work

    return work(options, update=False, publish=True)
