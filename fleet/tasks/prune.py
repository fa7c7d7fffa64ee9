"""`prune`: take away what nothing needs."""

from fleet.cli import CONNECT, verb
from fleet.options import Options, duration
from fleet.tasks.shared import ROLL


@verb(
    *CONNECT, "check",
    example="invoke prune -i prod --check",
    keep="The newest releases of each image that stay on a host (default: fleet.retention.keep).",
    lock_wait=ROLL["lock_wait"],
)  # fmt: skip
def prune(options: Options, keep: int = 0, lock_wait: str = "") -> int:
    """Remove what this tool built or brought and nothing needs: old images, kept containers, caches, staging, logs.

    What runs, is pinned, is last-good or would be gone back to stays, and so does everything that is not ours.
    """
    from fleet.verbs.prune import prune as work

    return work(options, keep=keep, lock_wait=duration(lock_wait, "--lock-wait"))
