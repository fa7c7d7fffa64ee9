"""What a host wrote down of what answered there, read back; and how a release is named."""

import json
from dataclasses import replace
from types import MappingProxyType

import pytest

from fleet.errors import FleetError, UsageError
from fleet.image.release import Release, to_json
from fleet.inventory.settings import Service
from fleet.rollout.goback import named
from fleet.rollout.past import SETTINGS, as_then, settings_of, understand
from fleet.secret import Secret


def release(digit: str, **more: str) -> Release:
    def digest(kind: str) -> str:
        return f"sha256:{digit}{kind * 63}"

    return Release("vllm-rocm", digest("a"), digest("c"), (digest("d"),), (digest("e"),), (5,), "prebuilt", **more)  # type: ignore[arg-type]  # only texts are given


THEN = Service(
    "chat",
    "old-model",
    port=8100,
    args={"max-model-len": 100, "flags": ["x"]},
    env=MappingProxyType({"A": "1"}),
    volumes=("/a:/b:ro",),
    secrets={"KEY": Secret("key", env="KEY")},
)
TODAY = Service("chat", "new-model", secrets={"KEY": Secret("key", env="OTHER")}, progress_deadline=5.0)


def record(service: Service, one: Release) -> str:
    return json.dumps({"schema": 1, "service": service.name, "settings": settings_of(service), "release": to_json(one)})


def test_the_settings_of_then_come_back_and_the_secrets_stay_todays() -> None:
    found, releases = understand([record(THEN, release("1"))], "n1")
    settings = found["chat", release("1").id].settings
    assert releases == {release("1").id: release("1")}
    again = as_then(TODAY, settings)
    assert again is not None
    assert settings_of(again) == settings_of(THEN)
    assert again == replace(THEN, secrets=TODAY.secrets, progress_deadline=5.0)
    assert "KEY" not in json.dumps(settings)


def test_every_setting_is_a_field_of_a_service() -> None:
    assert set(SETTINGS) <= set(vars(TODAY))


@pytest.mark.parametrize("damage", [{"port": "8000"}, {"args": []}, {"volumes": [1]}, {"env": None}, {"model": 3}])
def test_damaged_settings_are_none(damage: dict[str, object]) -> None:
    assert as_then(TODAY, {**settings_of(THEN), **damage}) is None


def test_a_torn_record_is_read_over_and_a_plain_release_counts() -> None:
    lines = [
        "",
        record(THEN, release("1"))[:-9],
        json.dumps(to_json(release("2"))),
        '{"schema": 1, "release": {}}',
        "[]",
    ]
    assert understand(lines, "n1") == ({}, {release("2").id: release("2")})


def test_a_newer_fleets_record_is_one_sentence() -> None:
    with pytest.raises(FleetError, match="a record of n1 was written by a newer fleet"):
        understand([json.dumps({"schema": 2, "service": "chat"})], "a record of n1")


ONE = release("1", content_key="feed01", source_reference="docker.io/rocm/vllm:nightly")
TWO = release("2", content_key="feed02")
KNOWN = {one.id: one for one in (ONE, TWO)}


@pytest.mark.parametrize(
    "text",
    [
        ONE.id, ONE.id[:3], ONE.local_name, ONE.manifest_digest, ONE.manifest_digest[:20], ONE.config_digest,
        ONE.config_digest.removeprefix("sha256:")[:16], "feed01", "docker.io/rocm/vllm:nightly",
        f"registry.corp:5000/vllm-rocm@{ONE.manifest_digest}",
    ],
)  # fmt: skip
def test_a_release_is_named_by_any_of_its_names(text: str) -> None:
    assert named(text, KNOWN) == ONE


def test_an_ambiguous_name_is_refused_with_all_it_may_mean() -> None:
    with pytest.raises(UsageError, match=rf"may mean 2 releases: .*{ONE.id}.*{TWO.id}"):
        named("feed", KNOWN)


def test_an_unknown_name_is_refused_with_all_that_are_known() -> None:
    with pytest.raises(UsageError, match=rf"no release 'b' is known .*{ONE.id}.*{TWO.id}"):
        named("b", KNOWN)
