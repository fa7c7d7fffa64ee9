"""docs/playbooks.md from the schema: `python -m fleet.playbook.reference > docs/playbooks.md` says it anew."""

import sys

from fleet.inventory.reference import table
from fleet.playbook.load import schema
from fleet.playbook.model import STAGES
from fleet.preflight import catalogue
from fleet.prepare.plan import FIXES

HEAD = """# Playbooks

Made from `fleet/playbook/schema.yaml` by `python -m fleet.playbook.reference`. A playbook is a YAML list of plays; each does
its stages for the hosts of a pattern, batch by batch. `invoke deploy` runs [deploy.yaml](../playbooks/deploy.yaml), with
`--bundle` [airgap.yaml](../playbooks/airgap.yaml), a [night](nightly.md) [nightly.yaml](../playbooks/nightly.yaml),
`invoke play FILE` any other. FILE is looked up as given, then in
`playbooks/`, then among those that come with the package, each with or without `.yaml`.

A key that is not listed here is an error, and so is one that is there twice. There are no templates and no variables: what
differs between hosts belongs in the [inventory](inventory.md).

```yaml
- name: roll
  hosts: mi300x
  canary: 1
  serial: [1, 25%, 100%]
  min_available: 75%
  stages: [serve, {verify: {load: 30s}}]
```

## How hosts are put into batches

- The hosts of the pattern, narrowed by `--limit`, in the inventory's order.
- The canaries are the first batch, alone. A batch is begun when the one before it has been through all stages, and `pause`
  has passed.
- The others follow by `serial`, with Ansible's meaning: size after size, the last one repeats. A percentage counts all hosts
  of the play, canaries too, is rounded down, and is at least one host. With `[1, 25%, 100%]`, a canary and 12 hosts the
  batches are 1, 1, 3 and 7 hosts.
- `max_fail` in percent is rounded down, `min_available` up: doubt is decided for what serves.

## Durations

A number is seconds; `90s`, `2m`, `1h30m` and `1.5s` are what they say.
"""
STAGE_WORDS = """## Stages

A stage is its name (`verify`) or its name with arguments (`verify: {load: 30s}`). A stage stands once in a play; for a second
time make another play.
"""
MENDS = """## What prepare mends

Findings of these checks, where they are open and not accepted, and only as root (`ansible_become`). Nothing is restarted, no
reboot is needed, and everything else is left as it is. `--check` shows every fix with its reason, its commands and how it is
undone. A file that is changed is kept beside itself as `FILE.before-fleet.N`. After the fixes the facts are read again: a fix
counts only when its finding is gone. Where somebody else must be root, the same lines are shown for them to type.

| fix | check | what is done |
|---|---|---|
"""


def reference() -> str:
    """The whole page as Markdown."""
    document = schema()
    parts = document["$defs"]
    lines = [HEAD, *table("Plays", parts["play"], document), STAGE_WORDS]
    for stage in STAGES:
        part = parts[stage.name]
        if part["properties"]:
            lines += (f"#{line}" if line.startswith("## ") else line for line in table(stage.name, part, document))
        else:
            lines.append(f"### {stage.name}\n\n{part['description']} It has no arguments.\n")
    rows = (
        f"| `{entry.prepare}` | [{entry.id}](checks.md#{entry.id}) | {FIXES[entry.prepare].__doc__} |\n"
        for entry in catalogue().values()
        if entry.prepare
    )
    return "\n".join(lines) + "\n" + MENDS + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(reference())
