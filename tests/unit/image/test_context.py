"""What a base's Dockerfile takes from the tree is all of the tree that its content key knows of."""

from pathlib import Path

import pytest

from fleet.image.context import context_paths
from fleet.lab.vllm_repo import SOURCE

DATA = Path(__file__).parents[2] / "data" / "dockerfiles"


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        ("COPY requirements/ ./tools/a.py /app/", ("requirements", "tools/a.py")),
        ('COPY ["a b", "/app"]', ("a b",)),
        ("COPY --from=build /x /y", ()),
        ("COPY <<END /app/x\nCOPY no /y\nEND", ()),
        ("ADD https://example.org/x.tar /x", ()),
        ("ADD setup.py /x", ("setup.py",)),
        ("ONBUILD COPY setup.py /x", ("setup.py",)),
        ("RUN --mount=type=cache,target=/c true", ()),
        ("RUN --mount=type=bind,from=build,src=/a,target=/b true", ()),
        ("RUN --mount=type=bind,source=pyproject.toml,target=/p true", ("pyproject.toml",)),
        ("RUN --mount=target=/src true", None),
        ("COPY . /src", None),
        ("COPY ./ /src", None),
        ("COPY req*.txt /src", None),
        ("COPY ${WHAT} /src", None),
        ("COPY ../x /src", None),
    ],
)
def test_copies_and_mounts_are_found(line: str, paths: tuple[str, ...] | None) -> None:
    assert context_paths(f"FROM x\n{line}\n") == paths


def test_a_base_file_takes_nothing_of_the_tree_and_the_images_own_file_takes_all() -> None:
    bases = [SOURCE / "tree/docker/Dockerfile.rocm_base", *DATA.glob("*_base")]
    assert [context_paths(path.read_text(encoding="utf-8")) for path in bases] == [()] * len(bases)
    assert context_paths((DATA / "rocm").read_text(encoding="utf-8")) is None
