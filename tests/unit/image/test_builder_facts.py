"""A builder's versions decide what it can build; the outputs are those of Debian 12's and 13's packages."""

import json

import pytest

from fleet.image.builder_facts import BuilderFacts, missing_features, parse
from fleet.image.dockerfile import Feature

OLD = BuilderFacts(cli=(20, 10, 24), engine=(20, 10, 24), platform="linux/amd64")
NEW = BuilderFacts(cli=(26, 1, 5), engine=(26, 1, 5), buildx=(0, 13, 1), platform="linux/amd64")
UPSTREAM = (
    Feature("RUN --mount=type=cache", 3),
    Feature("RUN --network", 9),
    Feature("ADD --checksum", 12),
    Feature("COPY --link", 20),
    Feature("RUN heredoc", 30),
)


def versions(client: str, server: str | None) -> str:
    engine = {"Version": server, "Os": "linux", "Arch": "amd64"} if server else None
    return json.dumps({"Client": {"Version": client}, "Server": engine})


def test_reads_debian_13() -> None:
    facts = parse(versions("26.1.5+dfsg1", "26.1.5+dfsg1"), "github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3\n")
    assert facts == NEW


def test_reads_debian_12_which_has_no_buildx() -> None:
    facts = parse(versions("20.10.24+dfsg1", "20.10.24+dfsg1"), "docker: 'buildx' is not a docker command.\n")
    assert facts == OLD


def test_reads_upstream_buildx_with_its_v() -> None:
    assert parse("{}", "github.com/docker/buildx v0.29.1 a32761aeb3").buildx == (0, 29, 1)


def test_keeps_the_engines_reason_not_to_answer() -> None:
    facts = parse(versions("28.0.1", None), "", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.\n")
    (words,) = missing_features(UPSTREAM, facts)
    assert words.startswith("the Docker engine does not answer: Cannot connect")


@pytest.mark.parametrize("text", ["", "[]", "null", "<html>"])
def test_text_that_is_no_version_means_no_docker(text: str) -> None:
    (words,) = missing_features(UPSTREAM, parse(text, ""))
    assert "docker CLI is not installed" in words


def test_buildx_builds_everything() -> None:
    assert missing_features(UPSTREAM, NEW) == ()
    assert NEW.provenance_flag


def test_the_buildkit_of_20_10_lacks_four_things_that_upstream_uses() -> None:
    findings = missing_features(UPSTREAM, OLD)
    assert [words.split("`")[1] for words in findings] == [
        "RUN --network",
        "ADD --checksum",
        "COPY --link",
        "RUN heredoc",
    ]
    assert "line 9" in findings[0]


def test_a_syntax_directive_brings_what_20_10_lacks() -> None:
    assert missing_features(UPSTREAM, OLD, syntax="docker/dockerfile:1") == ()
    assert missing_features(UPSTREAM, OLD, syntax="docker/dockerfile:1.2")


def test_a_newer_cli_without_buildx_cannot_use_buildkit() -> None:
    builder = BuilderFacts(cli=(28, 0, 1), engine=(28, 0, 1), platform="linux/amd64")
    (words,) = missing_features(UPSTREAM, builder)
    assert "28.0.1" in words
    assert "buildx" in words
    assert missing_features((), builder) == ()


def test_an_engine_of_another_platform_is_refused() -> None:
    (words,) = missing_features((), BuilderFacts(cli=(26,), engine=(26,), buildx=(0, 13), platform="linux/arm64"))
    assert "linux/arm64" in words
