import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import FleetError
from fleet.serving.secrets import Redactor, choose_slot, content, digest, wrap


def test_the_file_exports_each_value_quoted_and_sorted() -> None:
    assert content({"B": "it's $HOME", "A": "x"}) == b"export A=x\nexport B='it'\"'\"'s $HOME'\n"


@pytest.mark.parametrize("values", [{"A-B": "x"}, {"1A": "x"}, {"": "x"}, {"A": "nul\0"}])
def test_what_no_environment_can_carry_is_refused_without_showing_it(values: dict[str, str]) -> None:
    with pytest.raises(FleetError) as caught:
        content(values)
    assert "nul" not in str(caught.value)


def test_the_wrapper_becomes_the_command() -> None:
    entrypoint, arguments = wrap(("vllm", "serve"))
    assert entrypoint == ("/bin/sh", "-c", '. "$0" && exec "$@"', "/run/fleet/secrets")
    assert arguments == ("vllm", "serve")


@pytest.mark.parametrize(
    ("in_use", "on_host", "chosen"),
    [
        ("", {}, "s.a"),
        ("s.a", {"s.a": "new"}, "s.a"),
        ("s.a", {"s.a": "old"}, "s.b"),
        ("s.b", {"s.b": "old", "s.a": "new"}, "s.a"),
        ("s.b", {"s.b": "new", "s.a": "new"}, "s.b"),
        ("elsewhere", {"s.b": "new"}, "s.a"),
    ],
)
def test_changed_values_go_to_the_other_file(in_use: str, on_host: dict[str, str], chosen: str) -> None:
    assert choose_slot("s", in_use, on_host, "new") == chosen


def test_known_secrets_are_hidden_in_every_form_they_are_written_in() -> None:
    secret = 'top "secret" & more'
    redact = Redactor([secret])
    forms = [secret, json.dumps({"k": secret}), "top%20%22secret%22%20%26%20more", base64.b64encode(secret.encode())]
    assert all("***" in redact(str(form)) and "secret" not in redact(str(form)) for form in forms)


def test_lines_of_a_key_are_hidden_one_by_one() -> None:
    assert Redactor(["-----BEGIN-----\nabcdefghij"])("x abcdefghij y") == "x *** y"


def test_nothing_known_changes_nothing() -> None:
    assert Redactor([])("text") == Redactor([""])("text") == "text"


# What quoting, JSON, URLs and base64 write in their own ways, and letters; all of Unicode would take a second to be listed.
LETTERS = "ab:/+=&%?#*.$'\"\\ \n\t\0\x7f\x85éß漢😀\u2028"


@given(st.text(LETTERS, min_size=1), st.text(LETTERS))
def test_a_secret_never_survives(secret: str, around: str) -> None:
    if secret.strip() and secret not in "***":
        assert secret not in Redactor([secret])(f"{around}{secret}").replace("***", "")


def test_the_digest_is_that_of_sha256sum() -> None:
    assert digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
