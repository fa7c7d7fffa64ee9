"""Seeded random inventories with everything that decides Ansible's precedence, as files in a directory."""

import json
import random
from pathlib import Path
from typing import Any

import yaml

HOSTS = ["a1", "b[1:3]", "c[01:04:2]-x", "d[a:c]", "e.dc1:2222", "f", "10.0.0.[1:2]", "a1", "[fe80::1]:22"]
EXPANDED = ["a1", "b2", "c03-x", "db", "e.dc1", "f"]
GROUPS = ["g1", "g2", "g3", "g4", "g5", "g6"]


def make(seed: int, root: Path) -> list[str]:
    """Write one inventory below `root`; its sources."""
    rng = random.Random(seed)  # noqa: S311  a generator of tests
    root.mkdir(parents=True)
    sources = []
    for number in range(rng.choice([1, 1, 2])):
        text = yaml.safe_dump(_file(rng), sort_keys=False)
        if rng.random() < 0.4:
            place = root / f"site{number}"
            place.mkdir()
            (place / "00-first.yml").write_text(text, encoding="utf-8")
            (place / "README.md").write_text("not an inventory", encoding="utf-8")
            (place / "10-second.json").write_text(_json(_file(rng)), encoding="utf-8")
            base, source = place, place
        else:
            source = root / f"inventory{number}.yaml"
            source.write_text(text, encoding="utf-8")
            base = root
        _vars_files(rng, base)
        sources.append(str(source))
    return sources


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent="\t")


def _file(rng: random.Random) -> dict[str, Any]:
    document: dict[str, Any] = {"all": {}}
    if rng.random() < 0.7:
        document["all"]["vars"] = _variables(rng)
    if rng.random() < 0.5:
        document["all"]["hosts"] = {"solo": None, "f": _variables(rng)}
    names = GROUPS[:]
    rng.shuffle(names)
    names.sort(key=lambda _: rng.random() < 0.3)
    for name in names[: rng.randint(2, 6)]:
        document[name] = _group(rng, name)
    return document


def _group(rng: random.Random, name: str) -> dict[str, Any]:
    group: dict[str, Any] = {"hosts": {host: rng.choice([None, _variables(rng)]) for host in rng.sample(HOSTS, 3)}}
    deeper = [other for other in GROUPS if other > name]  # no cycle, and depth up to six
    if deeper and rng.random() < 0.7:
        group["children"] = dict.fromkeys(rng.sample(deeper, rng.randint(1, min(2, len(deeper)))))
    if rng.random() < 0.8:
        group["vars"] = _variables(rng)
        if rng.random() < 0.3:
            group["vars"]["ansible_group_priority"] = rng.randint(1, 20)
    return group


def _vars_files(rng: random.Random, base: Path) -> None:
    for kind, names in (("group_vars", ["all", "ungrouped", *GROUPS]), ("host_vars", EXPANDED)):
        for name in rng.sample(names, 3):
            directory = base / kind
            directory.mkdir(exist_ok=True)
            text = yaml.safe_dump(_variables(rng))
            shape = rng.randrange(4)
            if shape == 0 and not (directory / name).exists():
                (directory / name / "deeper").mkdir(parents=True)
                (directory / name / "b.yml").write_text(text, encoding="utf-8")
                (directory / name / "a.yaml~").write_text("{broken", encoding="utf-8")
                (directory / name / "deeper" / "c").write_text(yaml.safe_dump(_variables(rng)), encoding="utf-8")
            elif not (directory / name).exists():
                suffix = ("", ".yml", ".yaml", ".json")[shape]
                (directory / f"{name}{suffix}").write_text(text, encoding="utf-8")


def _variables(rng: random.Random) -> dict[str, Any]:
    words: list[Any] = [1, "two", None, [1, 2], {"x": 1}, {"y": {"z": 2}}, True, "on", 1.5, "010"]
    found: dict[str, Any] = {name: rng.choice(words) for name in rng.sample(["v1", "v2", "v3", "v4"], 2)}
    if rng.random() < 0.6:
        found["fleet"] = _fleet(rng)
    return found


def _fleet(rng: random.Random) -> dict[str, Any]:
    choices: dict[str, Any] = {
        "gpus": rng.choice([{"count": rng.randint(1, 8)}, {"model": rng.choice(["MI300X", "MI250"])}, None]),
        "delivery": rng.choice(["registry", "sideload", None]),
        "accept": rng.choice([{rng.choice("pqr"): "reason"}, {"p": None}, None]),
        "services": {
            "chat": {"model": "m", **rng.choice([{}, {"args": {"a": rng.randint(1, 3), "b": [1]}}, {"env": None}])}
        },
    }
    return {key: choices[key] for key in rng.sample(sorted(choices), 2)}
