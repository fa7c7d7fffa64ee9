"""docs/checks.md out of the catalogue: `python -m fleet.preflight.page > docs/checks.md`."""

import sys

from fleet.preflight.finding import Entry, catalogue

HEAD = """\
# Checks

What `invoke preflight` looks at, causes before what follows from them. This page is made from `fleet/preflight/catalogue.yaml`
(`python -m fleet.preflight.page > docs/checks.md`); a test compares them.

`fail` stops a deploy, `warn` does so with `--strict`, `info` is only told. *Unread* is the severity when the facts for
a check are missing: silence is never a pass. A finding that you can live with is accepted by its id, with a reason:

```yaml
fleet:
  accept:
    driver_in_tree: tried on mi300x-01 with ROCm 7.2, works
```

| id | what must hold | severity | unread | GPUs | reboot |
|---|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    entries = catalogue().values()
    return HEAD + "".join(map(_row, entries)) + "\n" + "\n".join(map(_section, entries))


def _row(entry: Entry) -> str:
    gpus, reboot = ", ".join(entry.gpus) or "all", "yes" if entry.needs_reboot else ""
    return f"| [{entry.id}](#{entry.id}) | {entry.title} | {entry.severity} | {entry.unread} | {gpus} | {reboot} |\n"


def _section(entry: Entry) -> str:
    safe = "\n\nThe fix may be applied while services run." if entry.safe_fix else ""
    ready = f"\n\nThe stage `prepare` does it, as `{entry.prepare}`." if entry.prepare else ""
    return (
        f"## {entry.id}\n\n{entry.why}\n\nFix: {entry.fix}{safe}{ready}\n\nSee it mended:\n\n"
        f"    {entry.verify}\n\nSource: {entry.source}\n"
    )


if __name__ == "__main__":
    sys.stdout.write(page())
