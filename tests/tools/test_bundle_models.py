"""A delta of models: files that every host of a model holds stay at home, by name, and whoever lacks one is told."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fleet.bundle import have
from fleet.bundle.check import open_bundle
from fleet.bundle.have import Have
from fleet.models.content import File
from fleet.models.held import Ground, Model
from fleet.models.plan import plan_models
from fleet.models.resolve import left_out
from fleet.verbs.weights import _carried
from tests.tools.test_bundle import MIB, controller, fleet
from tests.tools.test_hostile_bundle import seal

HOSTS = ("n-1.vault", "n-2.vault")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    home = controller(root / "home", 1)
    for model, content in (("tiny", b"w"), ("org/small", b"s")):
        (home / "models" / model).mkdir(parents=True)
        (home / "models" / model / "weights-1").write_bytes(content * MIB)
        (home / "models" / model / "config.json").write_text("{}")
    fleet(home, "bundle.create", "-i", "site.yaml", "--without-tool", "-o", "../full", "--models", "models")
    (home / "models/tiny/weights-2").write_bytes(b"2" * MIB)
    return root


def held(ground: Path, *hosts: str) -> dict[str, dict[str, frozenset[File]]]:
    """As if these hosts had got the models of the full bundle."""
    manifest = open_bundle(ground / "full").manifest
    models = {
        model: frozenset(
            File(one.path.removeprefix(f"models/{model}/"), one.size, one.sha256)
            for one in manifest.files
            if one.path.startswith(f"models/{model}/")
        )
        for model in ("tiny", "org/small")
    }
    return dict.fromkeys(hosts, models)


def delta(ground: Path, tmp_path: Path, *hosts: str) -> Path:
    (tmp_path / "have.json").write_bytes(have.dumps(Have("now", "ops@site", models=held(ground, *hosts))))
    words = ("bundle.create", "-i", "site.yaml", "--without-tool", "--models", "models", "-o", str(tmp_path / "delta"))
    fleet(ground / "home", *words, "--since", str(tmp_path / "have.json"))
    return tmp_path / "delta"


def test_files_that_every_host_of_a_model_holds_stay_away_and_the_base_names_them(ground: Path, tmp_path: Path) -> None:
    bundle = delta(ground, tmp_path, *HOSTS)
    manifest = open_bundle(bundle).manifest
    assert [one.path for one in manifest.files if one.path.startswith("models/")] == ["models/tiny/weights-2"]
    assert manifest.base
    assert {(one.path, one.held_by) for one in manifest.base.files} == {
        (f"models/{name}", HOSTS)
        for name in ("org/small/config.json", "org/small/weights-1", "tiny/config.json", "tiny/weights-1")
    }
    assert manifest.models == ("org/small", "tiny")
    assert "models/tiny/weights-1" in fleet(tmp_path, "bundle.list", str(bundle))
    site = ("-i", str(ground / "home/site.yaml"), "--unsigned")
    assert "could be deployed from it" in fleet(tmp_path, "bundle.verify", str(bundle), *site)
    fresh = Have("now", "ops@site", models=held(ground, HOSTS[0]))
    (tmp_path / "fresh.json").write_bytes(have.dumps(fresh))
    words = ("bundle.verify", str(bundle), *site, "--have", str(tmp_path / "fresh.json"))
    said = fleet(tmp_path, *words, code=1)
    assert f"model tiny: {HOSTS[1]} lacks weights-1 of 1.0 MB, which is left out" in said
    assert f": {HOSTS[0]} lacks" not in said


def test_a_host_more_than_the_base_asked_lacks_what_was_left_out(ground: Path, tmp_path: Path) -> None:
    bundle = delta(ground, tmp_path, *HOSTS)
    shutil.copytree(ground / "home", tmp_path / "wider", ignore=shutil.ignore_patterns("layout"))
    path = tmp_path / "wider/site.yaml"
    path.write_text(path.read_text().replace("n-[1:2]", "n-[1:3]"))
    said = fleet(tmp_path, "bundle.verify", str(bundle), "-i", str(path), "--unsigned", code=1)
    assert "model org/small: n-3.vault lacks weights-1" in said


def test_what_one_host_of_two_lacks_travels_and_an_older_have_file_is_read(ground: Path, tmp_path: Path) -> None:
    manifest = open_bundle(delta(ground, tmp_path, HOSTS[0])).manifest
    assert manifest.base
    assert manifest.base.files == ()
    assert len([one for one in manifest.files if one.path.startswith("models/")]) == 5
    told = json.loads((tmp_path / "have.json").read_text())
    del told["models"]
    (tmp_path / "have.json").write_text(json.dumps(told))
    assert have.read(tmp_path / "have.json")[0].models == {}


def test_a_host_is_brought_what_travelled_and_one_that_lacks_the_rest_is_left_alone(
    ground: Path, tmp_path: Path
) -> None:
    here = _carried(open_bundle(delta(ground, tmp_path, *HOSTS)), "tiny")
    assert here
    sums = {one.path: one.sha256 for one in here.content.files if one.path in ("config.json", "weights-1")}
    sizes = {one.path: one.size for one in here.content.files if one.path in sums}
    model = Model("tiny", "link", sizes=sizes, sums=sums, listed=sums)
    there = Ground("/srv/models", there=True, writable=True, free=1 << 40).with_model(model)
    plan = plan_models(there, {"tiny": here})
    assert plan.steps[0].size == MIB
    assert left_out(plan, {"tiny": here}, there) == ()
    bare = there.with_model(replace(model, sizes={}, sums={}))
    (problem,) = left_out(plan_models(bare, {"tiny": here}), {"tiny": here}, bare)
    assert "leaves out config.json, weights-1" in problem


def lie(path: str, document: dict[str, Any]) -> None:
    document["base"]["files"][0]["path"] = path


def test_a_base_that_lies_about_files_is_named(ground: Path, tmp_path: Path) -> None:
    lies = {
        "../../etc/passwd": "leaves the bundle",
        "tool/evil": "is left out, and of no model of the bundle",
        "models/tiny/weights-2": "is named twice",
    }
    for path, said in lies.items():
        bundle = Path(shutil.copytree(delta(ground, tmp_path, *HOSTS), tmp_path / "lies", dirs_exist_ok=True))
        seal(bundle, partial(lie, path))
        assert said in fleet(tmp_path, "bundle.verify", str(bundle), "--unsigned", code=1)
