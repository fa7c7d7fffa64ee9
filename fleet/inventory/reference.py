"""docs/inventory.md from the schema: `python -m fleet.inventory.reference > docs/inventory.md` says it anew."""

import json
import sys
from collections.abc import Iterator
from typing import Any

from fleet.inventory.validate import schema

HEAD = """# Inventory

Made from `fleet/inventory/schema.yaml` by `python -m fleet.inventory.reference`. The inventory itself is Ansible's YAML
format: groups, ranges, `group_vars/`, `host_vars/` and precedence are Ansible's. Everything below stands in one variable,
`fleet:`, which is merged deeply along that order; a null unsets what was inherited. A key that is not listed is an error.
Relative paths count from the file that sets them. Secrets are references and never values.
"""


def reference() -> str:
    """The whole page as Markdown."""
    document = schema()
    parts = [HEAD, *table("fleet", document, document)]
    for name, part in document["$defs"].items():
        if "properties" in part:
            parts += table(name, part, document)
    return "\n".join(parts)


def table(title: str, part: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    """One section: what the part is, and its keys with type, default, meaning and an example."""
    yield f"## {title}\n\n{part['description']}\n"
    yield "| key | type | default | meaning | example |\n|---|---|---|---|---|"
    for key, rule in part["properties"].items():
        name = rule.get("$ref", "").rpartition("/")[2]
        full = {**document["$defs"].get(name, {}), **rule}
        kind = f"[{name}](#{name})" if "properties" in full else _kind(full)
        default = _code(full["default"]) if "default" in rule and full["default"] not in ("", {}, []) else ""
        if key in part.get("required", ()):
            default = "required"
        yield f"| `{key}` | {kind} | {default} | {full['description']} | {_code(full['examples'][0])} |"
    yield ""


def _kind(rule: dict[str, Any]) -> str:
    if "expects" in rule and "title" not in rule:
        return str(rule["expects"])
    if "enum" in rule:
        return ", ".join(f"`{word}`" for word in rule["enum"])
    return str(rule["type"]).replace("object", "mapping").replace("array", "list")


def _code(value: object) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
