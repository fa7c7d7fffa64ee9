"""The environment of a replica: defaults by GPU kind (gfx_env.yaml), caches, then what the inventory says. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from fleet.packaged import table

CACHE_ROOT = "/var/cache/fleet"


@dataclass(frozen=True)
class Rule:
    """One line of gfx_env.yaml: `value` is set for these `gfx`, from `min_gpus` on, with the environment `when`."""

    name: str
    why: str
    source: str
    value: str = ""
    gfx: tuple[str, ...] = ()
    min_gpus: int = 1
    when: Mapping[str, str] = field(default_factory=dict)

    def fits(self, gfx: str, gpus: int, env: Mapping[str, str]) -> bool:
        return gfx in self.gfx and gpus >= self.min_gpus and all(env.get(k) == v for k, v in self.when.items())


@dataclass(frozen=True)
class Rules:
    defaults: tuple[Rule, ...]
    forbidden: tuple[Rule, ...]
    refused: tuple[Rule, ...]
    caches: Mapping[str, str]


@cache
def rules() -> Rules:
    data = table("fleet.serving", "gfx_env.yaml")

    def read(part: str) -> tuple[Rule, ...]:
        return tuple(Rule(**{**entry, "gfx": tuple(entry.get("gfx", ()))}) for entry in data[part])

    return Rules(read("defaults"), read("forbidden"), read("refused"), data["caches"])


def environment(gfx: str, gpus: int, chosen: Mapping[str, str], *, hardened: bool = False) -> dict[str, str]:
    """Everything but secrets, sorted by name. `chosen` is the inventory's and wins."""
    env = {name: f"{CACHE_ROOT}/{folder}" for name, folder in rules().caches.items()}
    if hardened:  # the root file system is read-only, so home is the tmpfs
        env |= {"HOME": "/tmp", "XDG_CONFIG_HOME": "/tmp/config"}  # noqa: S108  inside the container
    for rule in rules().defaults:
        if rule.fits(gfx, gpus, {**env, **chosen}):
            env[rule.name] = rule.value
    return dict(sorted({**env, **chosen}.items()))


def problems(gfx: str, chosen: Mapping[str, str]) -> tuple[str, ...]:
    """What the inventory's environment must not say for this kind of GPU, each in words."""
    found = [f"env {rule.name} must not be set: {rule.why}" for rule in rules().forbidden if rule.name in chosen]
    found += [
        f"env {rule.name}={rule.value} cannot work on {gfx}: {rule.why} (see {rule.source})"
        for rule in rules().refused
        if gfx in rule.gfx and chosen.get(rule.name) == rule.value
    ]
    return tuple(found)
