"""A build is values first: arguments, labels, argv, and what a failed one said."""

from dataclasses import replace
from pathlib import Path

from fleet.image import build_log
from fleet.image.build_plan import (
    Base,
    BuildPlan,
    build_args,
    command,
    judge,
    labels,
    proxy_secrets,
    without_credentials,
)
from fleet.image.builder_facts import BuilderFacts
from fleet.image.dockerfile import Dockerfile, read
from fleet.inventory.settings import Source

DATA = Path(__file__).parents[2] / "data" / "dockerfiles"
BUILDX = BuilderFacts(cli=(26, 1, 5), engine=(26, 1, 5), buildx=(0, 13, 1), platform="linux/amd64")
OLD = BuilderFacts(cli=(20, 10, 24), engine=(20, 10, 24), platform="linux/amd64")
SOURCE = Source(ref="v0.11.0", base_image="r.corp/base:1", args={"max_jobs": "16"})
PLAN = BuildPlan("vllm:build-k", "docker/Dockerfile.rocm", "final", {"B": "2", "A": "1"}, {"l": "v"}, "why")


def load(name: str) -> Dockerfile:
    return read((DATA / name).read_text(encoding="utf-8"), f"docker/Dockerfile.{name}")


def test_gfx_targets_go_into_the_argument_that_the_file_has() -> None:
    args = build_args(SOURCE, load("rocm"), ("gfx942", "gfx90a"))
    assert args == {"BASE_IMAGE": "r.corp/base:1", "ARG_PYTORCH_ROCM_ARCH": "gfx90a;gfx942", "max_jobs": "16"}
    assert "ARG_PYTORCH_ROCM_ARCH" not in build_args(SOURCE, load("rock_base"), ("gfx942",))


def test_the_settings_own_argument_wins() -> None:
    own = replace(SOURCE, args={"ARG_PYTORCH_ROCM_ARCH": "gfx942"})
    assert build_args(own, load("rocm"), ("gfx90a",))["ARG_PYTORCH_ROCM_ARCH"] == "gfx942"


def test_what_the_file_does_not_offer_is_a_problem() -> None:
    assert not judge(SOURCE, load("rocm"))
    asked = replace(SOURCE, args={"max_job": "1"}, target="vllm-openai", gfx=("gfx942",))
    problems = judge(asked, load("rock_base"))
    assert [problem.path for problem in problems] == ["args.max_job", "target", "gfx"]


def test_buildx_is_asked_for_a_plain_image() -> None:
    assert command(PLAN, BUILDX, "/ctx").argv == (
        *("docker", "buildx", "build", "--load", "--progress=plain", "--provenance=false"),
        *("--file", "/ctx/docker/Dockerfile.rocm", "--tag", "vllm:build-k", "--target", "final"),
        *("--build-arg", "A=1", "--build-arg", "B=2", "--label", "l=v", "/ctx"),
    )


def test_an_old_docker_is_asked_for_its_own_buildkit() -> None:
    asked = command(PLAN, OLD, "/ctx")
    assert (asked.argv[:2], asked.environment) == (("docker", "build"), {"DOCKER_BUILDKIT": "1"})
    assert command(replace(PLAN, buildkit=False), OLD, "/ctx").environment == {"DOCKER_BUILDKIT": "0"}


def test_proxies_travel_by_environment_in_both_spellings_and_show_in_no_argument() -> None:
    proxied = replace(PLAN, proxy={"https_proxy": "http://bob:hidden@p:3128"}, args={"no_proxy": "corp", "A": "1"})
    asked = command(proxied, BUILDX, "/ctx")
    assert asked.environment == {
        "https_proxy": "http://bob:hidden@p:3128",
        "HTTPS_PROXY": "http://bob:hidden@p:3128",
        "no_proxy": "corp",
    }
    named = [asked.argv[at + 1] for at, word in enumerate(asked.argv) if word == "--build-arg"]
    assert named == ["A=1", "HTTPS_PROXY", "https_proxy", "no_proxy"]
    assert "hidden" not in str(asked.argv)


def test_a_proxys_password_is_known_as_written_and_as_meant() -> None:
    assert proxy_secrets({"http_proxy": "http://bob:a%40b@p:1", "no_proxy": "corp"}) == ("a%40b", "a@b")
    assert proxy_secrets({"http_proxy": "http://p:3128", "https_proxy": "http://[broken"}) == ()


def test_a_file_that_declares_the_proxys_argument_would_keep_its_password() -> None:
    file = read("FROM x\nARG HTTP_PROXY\n", "Dockerfile")
    open_proxy = replace(SOURCE, proxy={"http_proxy": "http://p:1"}, args={}, base_image="")
    assert not judge(open_proxy, file)
    (problem,) = judge(replace(open_proxy, proxy={"http_proxy": "http://bob:pw@p:1"}), file)
    assert "history" in problem.message


def test_the_ca_comes_as_a_secret_with_a_file_outside_the_context() -> None:
    argv = command(PLAN, BUILDX, "/ctx", dockerfile="/made/Dockerfile", ca_file="/ca.pem").argv
    assert argv[argv.index("--file") + 1] == "/made/Dockerfile"
    assert argv[-3:] == ("--secret", "id=fleet_ca,src=/ca.pem", "/ctx")


def test_credentials_for_the_base_are_named_by_a_directory_alone() -> None:
    asked = command(PLAN, BUILDX, "/ctx", docker_config="/var/tmp/x")
    assert asked.environment == {"DOCKER_CONFIG": "/var/tmp/x"}


def test_an_image_explains_itself_by_its_labels() -> None:
    said = labels(SOURCE, "c" * 40, "v0.11.0", "key", ("gfx942",), Base("r.corp/base:1", "", "sha256:1"))
    assert said["org.opencontainers.image.revision"] == "c" * 40
    assert said["org.opencontainers.image.base.digest"] == "sha256:1"
    assert said["io.fleet.content-key"] == "key"
    assert said["io.fleet.gfx"] == "gfx942"
    assert said["io.fleet.vllm.version"] == "0.11.0"


def test_no_credentials_in_a_label() -> None:
    assert without_credentials("https://bob:pw@git.corp/x.git") == "https://git.corp/x.git"
    assert without_credentials("git@github.com:x/y.git") == "git@github.com:x/y.git"


def test_a_failed_buildkit_step_is_found_with_its_last_lines() -> None:
    log = [
        "#5 [base 1/2] FROM docker.io/library/x",
        "#5 DONE 0.1s",
        "#6 [build 2/3] RUN make all",
        "#7 [other 1/1] RUN sleep 9",
        "#6 0.321 compiling",
        "#7 0.4 zzz",
        "#6 1.250 cc: write /x: no space left on device",
        '#6 ERROR: process "/bin/sh -c make all" did not complete successfully: exit code: 2',
        "#7 CANCELED",
        "ERROR: failed to solve: …",
    ]
    failure = build_log.explain(log)
    assert failure.step == "[build 2/3] RUN make all"
    assert failure.reason.endswith("exit code: 2")
    assert failure.last == ("compiling", "cc: write /x: no space left on device")
    assert [known.id for known in failure.signatures] == ["load_no_space"]
    assert "full" in failure.hint


def test_a_failed_classic_step_is_found() -> None:
    log = [
        "Step 1/2 : FROM x",
        " ---> 1",
        "Step 2/2 : RUN false",
        "The command '/bin/sh -c false' returned a non-zero code: 1",
    ]
    failure = build_log.explain(log)
    assert failure.step == "RUN false"
    assert failure.reason == log[-1]


def test_a_build_that_failed_before_any_step_gives_its_last_line() -> None:
    assert build_log.explain(["ERROR: no builder"]).reason == "ERROR: no builder"
    assert build_log.explain([]).reason == "it said nothing"


def test_a_log_tells_how_long_its_stages_took() -> None:
    log = [
        "#0 building with default",
        "#1 [internal] load build definition from Dockerfile.rocm",
        "#1 DONE 0.1s",
        "#2 [csrc-build 1/3] COPY a b",
        "#2 CACHED",
        "#3 [csrc-build 2/3] RUN make",
        "#3 12.5 compiling",
        "#3 ...",
        "#4 [linux/amd64 build_vllm 1/1] RUN pip",
        "#4 DONE 61.0s",
        "#3 [csrc-build 2/3] RUN make",
        "#3 DONE 1234.5s",
        "#5 [2/3] RUN one stage without a name",
        "#5 DONE 2.0s",
        "#6 exporting to image",
        "#6 exporting layers 0.1s done",
        "#6 DONE 9.0s",
    ]
    assert build_log.stage_seconds(log) == {"other": 9.1, "csrc-build": 1234.5, "build_vllm": 61.0, "image": 2.0}
    assert build_log.stage_seconds(["Step 1/2 : FROM base", "Step 2/2 : RUN true"]) == {}
