"""`facts --root`: what is no captured tree is refused, not told to be a host without GPUs."""

from pathlib import Path

import pytest

from fleet.errors import UsageError
from fleet.options import Options
from fleet.verbs.look import facts_of_tree


@pytest.mark.parametrize("name", ["gone", "file", "empty"])
def test_a_directory_without_a_captured_tree_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty/class/kfd").mkdir(parents=True)
    with pytest.raises(UsageError, match="--root") as refused:
        facts_of_tree(str(tmp_path / name), Options())
    assert refused.value.hint == "it holds sys/ and proc/ as captured from a host"


def test_sys_alone_is_enough(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    assert facts_of_tree(str(tmp_path), Options()) == 0
