from dataclasses import replace
from datetime import UTC, datetime

from fleet.serving.inspection import predict
from fleet.serving.status import endpoints, file_sd, rows
from tests.unit.serving.make import built, image, service, serving, stranger

NOW = datetime(2026, 11, 23, 2, 0, 0, tzinfo=UTC)
SPEC = built(service()).spec
REAL = serving(SPEC, started_at="2026-11-23T01:59:30.123456789Z")


def test_a_serving_replica_shows_release_age_health_and_gpus() -> None:
    (row,) = rows("n1", [SPEC], [REAL, stranger("x")], healthy={"chat-0": True}, written=frozenset(), now=NOW)
    assert (row.state, row.release, row.age_s, row.health) == ("running", "r1", 30.0, "ok")
    assert (row.model, row.gpus, row.port, row.role, row.drift) == ("Llama-3.1-8B", "all", 8000, "serving", ())


def test_drift_orphans_candidates_held_kept_and_missing_ones_are_told_apart() -> None:
    other = built(service("other", port=9000, replicas=2)).spec
    old = built(service(), of=image("r0")).spec
    found = [
        replace(serving(old), restart="no", state="exited"),
        predict(SPEC, name="chat-0-new", state="running"),
        predict(old, name="chat-0-previous", state="exited"),
        replace(serving(built(service("gone", replicas=2)).spec)),
    ]
    shown = {row.name: row for row in rows("n1", [SPEC, other], found, healthy={}, written=frozenset(), now=NOW)}
    assert {name: row.role for name, row in shown.items()} == {
        "chat-0": "held",
        "chat-0-new": "candidate",
        "chat-0-previous": "kept",
        "gone-0": "orphan",
        "other-0": "missing",
    }
    assert shown["chat-0"].drift[0].startswith("image: r0")
    assert shown["chat-0-previous"].drift == ()
    assert shown["chat-0"].age_s is None
    assert shown["gone-0"].gpus == "renderD128,renderD136,renderD144,renderD152"


def test_endpoints_and_file_sd_list_what_serves_only() -> None:
    shown = rows("n1", [SPEC], [REAL], healthy={"chat-0": True}, written=frozenset(), now=NOW)
    down = rows("n2", [SPEC], [replace(REAL, state="exited")], healthy={}, written=frozenset(), now=NOW)
    addresses = {"n1": "fd00::1", "n2": "10.0.0.2"}
    assert endpoints(addresses, {"n1": shown, "n2": down}) == [
        {
            "host": "n1",
            "service": "chat",
            "replica": "chat-0",
            "model": "Llama-3.1-8B",
            "url": "http://[fd00::1]:8000/v1",
            "healthy": True,
        }
    ]
    assert file_sd(addresses, {"n1": shown, "n2": down}) == [
        {
            "targets": ["[fd00::1]:8000"],
            "labels": {"host": "n1", "service": "chat", "replica": "chat-0", "release": "r1"},
        }
    ]
