"""What a night's report says first. Pure."""

from collections.abc import Mapping
from typing import Any

from fleet.report.hosts import fold


def serves(document: Mapping[str, Any]) -> str:
    """Which release the fleet runs after the night, as a sentence; `document` is report.json."""
    result, good = document.get("result"), document.get("good") or ()
    running: Mapping[str, Mapping[str, str]] = document.get("running") or {}
    names = ", ".join(_release(one) for one in good)
    if result in ("promoted", "kept") and names:
        return f"the fleet runs {names}"
    if not good:
        ids = sorted({release for services in running.values() for release in services.values()})
        goes_on = f"hosts go on with what they ran: {', '.join(ids)}" if ids else ""
        return "; ".join(filter(None, ("no release is on record as the last good one", goes_on)))
    ids = [str(one["release"]).rpartition(":")[2] for one in good]
    others = [host for host, services in running.items() if not set(services.values()) <= set(ids)]
    note = f"; {fold(others)} ran another release when the night began: invoke drift" if others else ""
    return f"{_goes_on(document, names)}{note}"


def _goes_on(document: Mapping[str, Any], names: str) -> str:
    result, canaries = document.get("result"), tuple(map(str, document.get("canaries") or ()))
    if not result:
        return f"the last good release is {names}; the next night goes on from what this one has left on hosts"
    if result == "waiting":
        return f"{fold(canaries)} runs the new release, all others go on with {names}"
    if result == "drift":
        return f"the fleet is to run {names}"
    if document.get("not_back"):
        return f"but for that, the fleet goes on with {names}"
    return f"the fleet goes on with {names}"


def _release(one: Mapping[str, Any]) -> str:
    version, commit = str(one.get("version", "")), str(one.get("commit", ""))[:9]
    vllm = " ".join(word for word in (version, "" if commit and commit[:7] in version else commit) if word)
    told = ", ".join(
        word
        for word in (f"vLLM {vllm}" if vllm else "", f"of night {one['since']}" if one.get("since") else "")
        if word
    )
    return f"{one['release']} ({told})" if told else str(one["release"])
