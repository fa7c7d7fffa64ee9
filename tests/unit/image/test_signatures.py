"""The catalogue of known failures tells them apart."""

import pytest

from fleet.signatures import PLACES, Signature, catalogue, match


def name(signature: Signature) -> str:
    return signature.id


def test_there_are_49_entries_with_names_of_their_own() -> None:
    assert len({signature.id for signature in catalogue()}) == len(catalogue()) == 49


@pytest.mark.parametrize("signature", catalogue(), ids=name)
def test_every_example_shows_its_own_entry_and_no_other(signature: Signature) -> None:
    assert match(signature.example) == (signature,)
    assert match(signature.example, signature.where) == (signature,)


@pytest.mark.parametrize("signature", catalogue(), ids=name)
def test_every_entry_is_whole(signature: Signature) -> None:
    assert signature.where in PLACES
    assert signature.verified in {"issue", "doc", "infer"}
    assert signature.cause
    assert signature.fix
    assert signature.source


@pytest.mark.parametrize("signature", catalogue(), ids=name)
def test_a_pointer_to_another_entry_leads_somewhere(signature: Signature) -> None:
    ids = {entry.id for entry in catalogue()}
    words = f"{signature.cause} {signature.fix}".replace("See ", "see ").split("see ")[1:]
    pointers = [word.split()[0].rstrip(".;,") for word in words if "_" in word.split()[0]]
    assert set(pointers) <= ids - {signature.id}


def test_a_place_limits_the_search() -> None:
    line = "write /x: no space left on device"
    assert [found.id for found in match(line, "load")] == ["load_no_space"]
    assert match(line, "container") == ()


def test_the_first_seen_comes_first_so_that_the_umbrella_is_last() -> None:
    log = "RuntimeError: No HIP GPUs are available\n…\nRuntimeError: Engine core initialization failed. See above."
    assert [found.id for found in match(log, "container")] == ["no_hip_gpus", "engine_core_failed"]


def test_an_ordinary_log_shows_nothing() -> None:
    assert match("INFO 11-23 Application startup complete.\nINFO: 127.0.0.1 - GET /health 200 OK") == ()
