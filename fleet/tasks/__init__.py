"""The Invoke namespace: one short task a verb; flags, one library call, exit code.

Imports of the library stand inside the tasks: `invoke --list` answers before paramiko and docker could be imported.
"""

from invoke.collection import Collection

from fleet.lab.tasks import namespace as lab
from fleet.tasks import build, bundles, change, history, look, nightly, prune, releases

namespace = Collection(
    *(change.deploy, change.plan, change.play, change.rollback, change.sideload, change.serve, change.stop),
    *(change.unlock, build.build, build.push, nightly.promote, prune.prune),
    *(look.facts, look.preflight, look.verify, look.status, look.endpoints, look.logs, look.shell),
    *(look.staging, look.images, look.drift, history.audit),
    Collection("inventory", look.inventory_show, look.schema),
    Collection("runs", history.runs_list, history.runs_show),
    Collection("maintenance", change.maintenance_set, change.maintenance_list),
    bundles.namespace,
    nightly.namespace,
    releases.namespace,
)
namespace.add_collection(lab, name="lab")
