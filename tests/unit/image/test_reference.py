"""References parse as the Distribution project's own table says."""

import pytest

from fleet.errors import UsageError
from fleet.image.reference import Reference, parse

DIGEST = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest"),
    [
        ("redis", "docker.io", "library/redis", "", ""),
        ("redis:7", "docker.io", "library/redis", "7", ""),
        ("docker.io/redis", "docker.io", "library/redis", "", ""),
        ("index.docker.io/library/redis", "docker.io", "library/redis", "", ""),
        ("vllm/vllm-openai-rocm:v0.11.0", "docker.io", "vllm/vllm-openai-rocm", "v0.11.0", ""),
        ("rocm/vllm-dev:base", "docker.io", "rocm/vllm-dev", "base", ""),
        ("localhost/a", "localhost", "a", "", ""),
        ("localhost:5000/a:b", "localhost:5000", "a", "b", ""),
        ("registry.corp:5000/team/vllm", "registry.corp:5000", "team/vllm", "", ""),
        ("registry.corp/team/x/y:1", "registry.corp", "team/x/y", "1", ""),
        (f"registry.corp:5000/vllm@{DIGEST}", "registry.corp:5000", "vllm", "", DIGEST),
        (f"registry.corp:5000/vllm:v1@{DIGEST}", "registry.corp:5000", "vllm", "v1", DIGEST),
        ("192.168.1.1:5000/a", "192.168.1.1:5000", "a", "", ""),
        ("[2001:db8::1]:5000/a/b:c", "[2001:db8::1]:5000", "a/b", "c", ""),
        ("[2001:db8::1]/a", "[2001:db8::1]", "a", "", ""),
        ("a__b/c-d--e:_t.x-1", "docker.io", "a__b/c-d--e", "_t.x-1", ""),
        ("foo_bar.com:8080", "docker.io", "library/foo_bar.com", "8080", ""),
        ("Upper/lower", "Upper", "lower", "", ""),
    ],
)
def test_reads_every_form(text: str, domain: str, path: str, tag: str, digest: str) -> None:
    assert parse(text) == Reference(domain, path, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "a:",
        "Redis",
        "a/B",
        "a//b",
        "a/",
        "/a",
        "a:b@sha256:12",
        "a@md5:" + "1" * 32,
        "a:" + "x" * 129,
        "a b",
        "-a/b",
        "a..b",
        "https://registry/a",
        "a" * 256,
        "a1" * 32,
        "registry.corp:port/a",
        "[fe80::1%eth0]:5000/a",
    ],
)
def test_refuses_what_is_no_reference(text: str) -> None:
    with pytest.raises(UsageError, match="image reference"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("docker.io/library/redis:7", "redis:7"),
        ("docker.io/rocm/vllm", "rocm/vllm"),
        ("registry.corp:5000/a:b", "registry.corp:5000/a:b"),
    ],
)
def test_the_familiar_form_leaves_the_defaults_out(text: str, familiar: str) -> None:
    assert parse(text).familiar == familiar


def test_writing_and_reading_again_gives_the_same() -> None:
    for text in ("redis", "a/b:c", f"r.corp:5000/x/y@{DIGEST}"):
        assert parse(str(parse(text))) == parse(text)


def test_a_pinned_reference_has_no_tag() -> None:
    assert str(parse("r.corp/a:v1").pinned(DIGEST)) == f"r.corp/a@{DIGEST}"
