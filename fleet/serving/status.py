"""Rows for `status` and `endpoints`. Pure."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleet.serving.inspection import Inspection, replica_of
from fleet.serving.planning import differences
from fleet.serving.spec import LABEL, ContainerSpec


@dataclass(frozen=True)
class Row:
    """One replica, kept container or orphan. `release` is what really runs; `age_s` is seconds since its start."""

    host: str
    name: str
    service: str
    state: str
    release: str
    image_id: str
    age_s: float | None
    health: str  # ok | no answer | -
    model: str
    gpus: str
    port: int
    drift: tuple[str, ...] = ()
    role: str = "serving"  # serving | candidate | held | kept | orphan | missing

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "drift": list(self.drift)}


def rows(
    host: str,
    desired: Iterable[ContainerSpec],
    found: Iterable[Inspection],
    *,
    healthy: Mapping[str, bool],
    written: frozenset[str],
    now: datetime,
) -> tuple[Row, ...]:
    """`healthy` maps a container to whether /health answered; who was not asked is not in it."""
    wanted = {spec.name: spec for spec in desired}
    ours = {one.name: one for one in found if one.owned}
    made = [_row(host, one, wanted.get(replica_of(one)), healthy, written, now) for one in ours.values()]
    made += [
        Row(host, name, spec.service, "missing", "-", "", None, "-", _model(spec.arguments), "-", spec.port,
            ("no container is there",), "missing")
        for name, spec in wanted.items()
        if name not in ours
    ]  # fmt: skip
    return tuple(sorted(made, key=lambda row: row.name))


def _row(
    host: str,
    one: Inspection,
    spec: ContainerSpec | None,
    healthy: Mapping[str, bool],
    written: frozenset[str],
    now: datetime,
) -> Row:
    drift = tuple(map(str, differences(spec, one, written))) if spec and not one.kept else ()
    held = one.restart == "no" and one.policy != "no" and not one.candidate
    role = (
        "orphan"
        if spec is None
        else "kept"
        if one.kept
        else "candidate"
        if one.candidate
        else "held"
        if held
        else "serving"
    )
    health = {True: "ok", False: "no answer", None: "-"}[healthy.get(one.name)]
    return Row(
        host=host,
        name=one.name,
        service=one.service,
        state=one.state,
        release=one.labels.get(f"{LABEL}release", "-"),
        image_id=one.image_id,
        age_s=_age(one, now),
        health=health,
        model=_model(one.arguments),
        gpus="all" if one.gpus is None else ",".join(f"renderD{minor}" for minor in sorted(one.gpus)) or "-",
        port=one.port,
        drift=drift,
        role=role,
    )


def endpoints(addresses: Mapping[str, str], rows_of: Mapping[str, Iterable[Row]]) -> list[dict[str, Any]]:
    """Every serving replica as JSON-able dicts. `addresses` maps a host to the address that clients use."""
    return [
        {
            "host": host,
            "service": row.service,
            "replica": row.name,
            "model": row.model,
            "url": f"http://{_bracketed(addresses[host])}:{row.port}/v1",
            "healthy": row.health == "ok",
        }
        for host, rows_here in rows_of.items()
        for row in rows_here
        if row.role == "serving" and row.state == "running"
    ]


def file_sd(addresses: Mapping[str, str], rows_of: Mapping[str, Iterable[Row]]) -> list[dict[str, Any]]:
    """Prometheus file_sd: one group a replica; /metrics is Prometheus' default path and vLLM's."""
    return [
        {
            "targets": [f"{_bracketed(addresses[host])}:{row.port}"],
            "labels": {"host": host, "service": row.service, "replica": row.name, "release": row.release},
        }
        for host, rows_here in rows_of.items()
        for row in rows_here
        if row.role == "serving" and row.state == "running"
    ]


def _age(one: Inspection, now: datetime) -> float | None:
    """Engines write nanoseconds, which Python's parser does not take."""
    text = one.started_at[:19]
    if one.state != "running" or not text or text.startswith("0001"):
        return None
    return max((now - datetime.fromisoformat(text).replace(tzinfo=UTC)).total_seconds(), 0.0)


def _model(arguments: tuple[str, ...]) -> str:
    words = dict(itertools.pairwise(arguments))
    return words.get("--served-model-name", "-")


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
