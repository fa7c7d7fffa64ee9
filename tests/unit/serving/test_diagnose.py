from fleet.serving.diagnose import diagnose


def test_a_refused_limit_names_the_limit_its_cause_and_a_fix() -> None:
    said = "runc create failed: error setting rlimits for ready process: error setting rlimit type 8: operation not permitted"
    known = diagnose(said, "run")
    assert known is not None
    assert known.id == "rlimit_refused"
    assert "memlock" in known.cause
    assert "ulimits.memlock" in known.fix
    assert diagnose(said, "container") is None


def test_a_concrete_signature_goes_before_the_umbrella() -> None:
    both = "RuntimeError: Engine core initialization failed. See root cause above.\nHIP error: invalid device function"
    known = diagnose(both, "container")
    assert known is not None
    assert known.id == "invalid_device_function"


def test_an_ordinary_line_means_nothing() -> None:
    assert diagnose("INFO: Application startup complete.", "container") is None
