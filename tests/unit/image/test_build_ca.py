"""A Dockerfile is added to so that its RUN steps trust a private CA, and otherwise stays what it was."""

from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.image import build_ca, dockerfile

DATA = Path(__file__).parents[2] / "data" / "dockerfiles"
TEXT = """# syntax=docker/dockerfile:1.7
ARG BASE=x
FROM ${BASE} \\
  AS base
# a comment
run --mount=type=cache,target=/c \\
    pip install a
COPY --from=other a b
RUN <<END
RUN is only a word here
END
FROM base
RUN --mount=type=secret,id=fleet_ca cat /run/secrets/fleet_ca
"""


def test_every_stage_gets_the_arguments_and_every_run_the_mount() -> None:
    lines = build_ca.with_ca(TEXT).splitlines()
    mount = "--mount=type=secret,id=fleet_ca,required=true,mode=0444"
    assert [number for number, line in enumerate(lines) if line.startswith("ARG CARGO")] == [5, 13]
    assert lines[6] == f"run {mount} --mount=type=cache,target=/c \\"
    assert lines[9:12] == [f"RUN {mount} <<END", "RUN is only a word here", "END"]
    assert lines[-1] == "RUN --mount=type=secret,id=fleet_ca cat /run/secrets/fleet_ca"


@pytest.mark.parametrize("path", sorted(DATA.iterdir()), ids=lambda path: path.name)
def test_upstreams_files_keep_their_stages_arguments_and_bases(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    before, after = dockerfile.read(text), dockerfile.read(build_ca.with_ca(text))
    assert [(stage.name, stage.base, stage.copies) for stage in after.stages] == [
        (stage.name, stage.base, stage.copies) for stage in before.stages
    ]
    own = {arg.name for arg in after.all_args} - set(build_ca.VARIABLES)
    assert own == {arg.name for arg in before.all_args} - set(build_ca.VARIABLES)
    runs = sum(line.lstrip().upper().startswith("RUN ") for line in text.splitlines())
    assert not runs or "RUN --mount=type=secret" in {feature.name for feature in after.features}


def test_a_file_without_a_certificate_is_said(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    with pytest.raises(FleetError, match="cannot be read: No such file"):
        build_ca.bundle(str(path))
    for content in (b"", b"hello", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        path.write_bytes(content)
        with pytest.raises(FleetError, match="holds no certificate"):
            build_ca.bundle(str(path))
