"""What is staged, for a person and for machines."""

import pytest

from fleet.delivery.staging import StagedImage, Staging
from fleet.report import staging

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
FOUND = Staging(
    "/var/tmp/fleet",
    10**9,
    {A: 30_000_000},
    {B: 5_000_000},
    (StagedImage("sha256:c", "vllm-rocm:r1", 90, {A: 30_000_000, B: 70_000_000}),),
)


def test_each_image_has_a_line_with_its_bytes_and_its_age(capsys: pytest.CaptureFixture[str]) -> None:
    staging.show({"node-1": FOUND, "node-2": Staging("/var/tmp/fleet")})
    said = capsys.readouterr().out
    assert "node-1" in said
    assert "vllm-rocm:r1: 35 MB of 100 MB (35 %) in /var/tmp/fleet, last tried 90 s ago" in said
    assert "node-2" not in said


def test_nothing_is_said_where_nothing_is_staged(capsys: pytest.CaptureFixture[str]) -> None:
    staging.show({"node-2": Staging("/var/tmp/fleet")})
    assert "nothing is staged" in capsys.readouterr().out


def test_machines_get_bytes_and_seconds() -> None:
    assert staging.document({"node-1": FOUND}) == {
        "hosts": {
            "node-1": {
                "directory": "/var/tmp/fleet",
                "free": 10**9,
                "images": [
                    {"name": "vllm-rocm:r1", "config": "sha256:c", "bytes": 35_000_000, "size": 100_000_000, "age": 90}
                ],
            }
        }
    }
