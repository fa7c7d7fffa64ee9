"""A night as a page of its own: nothing is loaded from anywhere, no script. Pure, but for `write`."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fleet.nightly.nights import Night
from fleet.nightly.plan import KEPT
from fleet.report import night_plots as plots
from fleet.report.hosts import fold
from fleet.report.night_words import serves
from fleet.report.recap import duration
from fleet.report.units import size

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 60em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em; margin-bottom: .2em } h2 { font-size: 1.1em; margin-top: 2em }
table { border-collapse: collapse; margin-bottom: .8em } th, td { text-align: left; padding: .2em 1.2em .2em 0; vertical-align: top }
th { font-weight: 600; border-bottom: 1px solid #b8c2cc } td:first-child { white-space: nowrap }
code { font-size: .9em; overflow-wrap: anywhere }
.word { display: inline-block; padding: .1em .7em; border-radius: 1em; color: #fff; background: #59636e }
.alarm { background: #c0392b; color: #fff; font-weight: 600; padding: .5em .8em; border-radius: .3em }
pre { background: #f3f5f7; padding: .8em; overflow-x: auto; font-size: .85em } ul { padding-left: 1.2em }
.good { background: #1a7f37 } .bad { background: #c0392b } svg text { font: 11px system-ui, sans-serif; fill: #59636e }
"""
_GOOD, _BAD = ("promoted", "kept"), ("failed", "drift", "held")


def write(document: Mapping[str, Any], history: Sequence[Night], path: Path) -> None:
    """Raises OSError."""
    path.write_text(page(document, history), encoding="utf-8")


def page(document: Mapping[str, Any], history: Sequence[Night]) -> str:
    """`document` is report.json; `history` are the nights up to this one, the oldest first."""
    result = str(document.get("result") or "not ended")
    kind = "good" if result in _GOOD else "bad" if result in _BAD else ""
    title, runs = f"Night {document['id']}", serves(document)
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="alarm">{escape(str(line))}</p>' for line in document.get("not_back") or ()),
        f'<p><span class="word {kind}">{escape(result)}</span> {escape(str(document.get("said", "")))}</p>',
        f"<p><strong>{escape(runs[:1].upper() + runs[1:])}.</strong></p>",
        *([f"<p>next: {escape(str(document['next']))}</p>"] if document.get("next") else ()),
        f"<p>{_when(document)}</p>",
        *_wrong(document),
        *_changed(document),
        *_images(document.get("images") or ()),
        *_smoke(document.get("smoke") or ()),
        *_hosts(document),
        *_platform(document.get("changed") or {}),
        *_speed(document),
        *_phases(document["phases"]),
        *_stages(document.get("stages") or ()),
        *_disks(document.get("pruned") or {}),
        *plots.columns("Build, seconds", [(one.id, plots.build_seconds(one)) for one in history]),
        *plots.stages(history),
        *plots.columns("Canary, tokens/s of all its replicas", [(one.id, plots.pace(one)) for one in history]),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _when(document: Mapping[str, Any]) -> str:
    words = [f"<code>{escape(str(document['inventory']))}</code>", f"began {_moment(document['began'])}"]
    words += [f"ended {_moment(document['ended'])}"] if document.get("ended") else []
    words += [f"goes on from night {escape(str(document['continues']))}"] if document.get("continues") else []
    words += [f"the hook: {escape(str(document['hook']))}"] if document.get("hook") else []
    return ", ".join(words)


def _moment(value: Any) -> str:
    return escape(str(value)[:16].replace("T", " ") + " UTC")


def _wrong(document: Mapping[str, Any]) -> list[str]:
    """What a person would have to look for on the terminal: drift, silent replicas, hosts that are away, and the last lines
    of what failed.
    """
    silent, away = ([f"{name}: {why}" for name, why in (document.get(key) or {}).items()] for key in ("silent", "away"))
    parts = []
    for title, lines in (
        ("Where the fleet differs from the last good release", document.get("drift") or ()),
        ("What does not answer as it should", silent),
        ("Not reached, so that nothing is known of it", away),
        ("Left alone", document.get("strangers") or ()),
    ):
        if lines:
            parts += [f"<h2>{title}</h2>", _list(lines)]
    for log in document.get("logs") or ():
        text = escape("\n".join(map(str, log["lines"])))
        parts += [f"<h2>The last lines of {escape(str(log['path']))}</h2>", f"<pre>{text}</pre>"]
    return parts


def _changed(document: Mapping[str, Any]) -> list[str]:
    """What is new, in sentences and as lists of commits; also that nothing is, or that it cannot be told."""
    if "decision" not in document:
        return []
    changes, why = document.get("changes") or (), str(document.get("why", ""))
    parts = ["<h2>What changed upstream since last good</h2>"]
    if document["decision"] == KEPT:
        return [*parts, f"<p>Nothing: {escape(why.partition(': ')[2] or why)}.</p>"]
    parts += [f"<p>{escape(why)}</p>"]
    parts += [_list(changes)] if changes else ["<p>There is no earlier good night to compare with.</p>"]
    for commits, what in ((document.get("upstream"), "what"), (document.get("dropped"), "dropped by upstream")):
        if commits:
            rows = [[f"<code>{escape(str(one['commit'])[:9])}</code>", escape(str(one["subject"]))] for one in commits]
            parts.append(_table(("commit", what), rows))
    return parts


def _phases(phases: Sequence[Mapping[str, Any]]) -> list[str]:
    words = {True: "well", False: "failed"}
    rows = [
        [
            escape(str(one["name"])),
            words.get(one["ok"], "not ended"),
            duration(float(one.get("seconds", 0))),
            f"<code>{escape(str(one['run']))}</code>" if one.get("run") else "",
        ]
        for one in phases
    ]
    return ["<h2>Steps</h2>", _table(("step", "ended", "time", "run"), rows)]


def _images(images: Sequence[Mapping[str, Any]]) -> list[str]:
    """One below the other: names with digests in them do not stand side by side."""
    parts = ["<h2>Releases</h2>"] if images else []
    for one in images:
        names = (
            ("last good", one.get("before") or "none"),
            ("this night", one["release"]),
            ("tag", one.get("tag", "")),
        )
        rows = [[name, f"<code>{escape(str(value))}</code>"] for name, value in names if value]
        base = " ".join(str(one.get(name, "")) for name in ("base", "base_digest")).strip()
        more = (("size", size(int(one["bytes"]))), ("base", base), ("why", str(one["why"])))
        rows += [[name, escape(value)] for name, value in more if value]
        parts.append(_table(("image", escape(str(one["image"]))), rows))
    return parts


def _smoke(smokes: Sequence[Mapping[str, Any]]) -> list[str]:
    if not smokes:
        return []
    rows = [
        [
            f"<code>{escape(str(one['image']))}</code>",
            escape(str(one["vllm"])),
            escape(str(one["rocm"])),
            escape(" ".join(one["gfx"])),
            escape("; ".join(one.get("notes") or ())),
        ]
        for one in smokes
    ]
    return ["<h2>Smoke test on the builder</h2>", _table(("image", "vLLM", "ROCm", "gfx", "not said"), rows)]


def _speed(document: Mapping[str, Any]) -> list[str]:
    """Before and after, with the limit, and where the figure before is not of this night."""
    paces, first = document.get("paces") or (), document.get("first_paces") or ()
    if not paces and not first:
        return []
    limit = document.get("regression")
    notes = [f"more than {limit} slower than last good fails the night"] if limit else []
    notes += [
        f"{one['host']} {one['replica']}: before is of night {one['from']}, for it gave no figure tonight"
        for one in paces
        if one.get("from")
    ]
    return ["<h2>Speed against last good</h2>", *plots.paces(paces), _list([*notes, *first])]


def _hosts(document: Mapping[str, Any]) -> list[str]:
    rolls = [one for one in document["phases"] if one.get("hosts")]
    left = {name: f"not reached: {why}" for name, why in (document.get("away") or {}).items()}
    left |= document.get("left_out") or {}
    names = dict.fromkeys([*(document.get("hosts") or ()), *left])
    canaries = document.get("canaries") or ()
    rows = []
    for name in names:
        cells = [escape(name) + (" (canary)" if name in canaries else "")]
        for roll in rolls:
            told = roll["hosts"].get(name, {})
            words = ": ".join(word for word in (told.get("outcome", ""), told.get("message", "")) if word)
            cells.append(escape(words))
        touched = any(cells[1:])
        cells.append(escape(str(left.get(name, "" if touched else "nothing was done there"))))
        rows.append(cells)
    return ["<h2>Hosts</h2>", _table(("host", *(escape(str(one["name"])) for one in rolls), "left out"), rows)]


def _platform(changed: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """What hosts run on and did not before; those with the same change share a line."""
    hosts: dict[tuple[str, str], list[str]] = {}
    for name, changes in changed.items():
        for one in changes:
            hosts.setdefault((str(one["subject"]), str(one["what"])), []).append(name)
    if not hosts:
        return []
    rows = [[escape(fold(names)), escape(subject), escape(what)] for (subject, what), names in hosts.items()]
    note = "Nights accept nothing of it: <code>verify</code>, a deploy or <code>drift --accept</code> does."
    return [
        "<h2>Changed under the services since it was last accepted</h2>",
        _table(("hosts", "what", "change"), rows),
        f"<p>{note}</p>",
    ]


def _disks(pruned: Mapping[str, Any]) -> list[str]:
    """Per host its disk before and after; of everything what was removed."""
    if not pruned:
        return []
    hosts, places = dict(pruned.get("hosts") or {}), dict(pruned.get("places") or {})
    rows = []
    for name, told in {**hosts, **places}.items():
        removed = [escape(f"{one['what']}: {one['why']}") for one in told.get("removed") or ()]
        rooms = [told.get(when) or {} for when in ("before", "after")]
        disk = [size(room["used"]) if room else "" for room in rooms] + [
            size((rooms[1] or rooms[0])["free"]) if any(rooms) else ""
        ]
        failed = escape(str((pruned.get("failed") or {}).get(name, "")))
        rows.append([escape(name), *disk, "<br>".join(removed) or "nothing", failed])
    notes = [f"<p>{escape(str(note))}</p>" for note in pruned.get("notes") or ()]
    titles = ("where", "used before", "after", "free", "removed", "failed")
    return ["<h2>Disks, and what was pruned</h2>", _table(titles, rows), *notes]


def _stages(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    if not stages:
        return []
    rows = [
        [escape(str(one["image"])), escape(str(one["stage"])), duration(float(one["seconds"]))]
        for one in sorted(stages, key=lambda one: -float(one["seconds"]))
    ]
    return ["<h2>Build, by stage</h2>", _table(("image", "stage", "steps took"), rows)]


def _list(lines: Iterable[Any]) -> str:
    items = "".join(f"<li>{escape(str(line))}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{one}</th>" for one in titles)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
