"""The timeline's style sheet: light and dark by what the reader's system asks for."""

STYLE = """
:root { color-scheme: light dark; --page: #fcfcfb; --ink: #1d1d1b; --soft: #5f5e58; --line: #e3e2dc; --row: #f1f0ec;
  --good: #1f7a3d; --bad: #c22424; --image: #2a78d6; --stop: #e0612b; --start: #159b6b; --wait: #e5a200;
  --verify: #5546b8; --prepare: #d9618f; --tidy: #8d8b84; --hatch: #ffffffb0 }
@media (prefers-color-scheme: dark) {
  :root { --page: #191918; --ink: #ecebe6; --soft: #a9a79f; --line: #383734; --row: #262523;
    --good: #5fc27e; --bad: #ff7b72; --image: #4a92ea; --stop: #e2703d; --start: #25a97a; --wait: #d39a14;
    --verify: #9a8ff0; --prepare: #de6f9a; --tidy: #827f78; --hatch: #191918b0 }
}
* { box-sizing: border-box }
body { margin: 24px; background: var(--page); color: var(--ink); font: 14px/1.45 system-ui, "DejaVu Sans", sans-serif }
h1 { font-size: 20px; margin: 0 0 6px }
h1 small { font: 14px ui-monospace, "DejaVu Sans Mono", monospace; color: var(--soft); margin-left: 8px }
.facts { margin: 0 0 4px; color: var(--soft) }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 13px; color: var(--ink) }
.good { color: var(--good) } .bad { color: var(--bad) } .quiet { color: var(--soft) }
.failures { border-collapse: collapse; margin: 14px 0 4px }
.failures th { color: var(--bad); text-align: left; font-weight: 600 }
.failures th, .failures td { padding: 3px 16px 3px 0; vertical-align: top }
.failures td { font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", monospace }
.failures .why { white-space: pre-wrap; max-width: 100ch }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 0; margin: 16px 0 10px }
.legend li { display: flex; align-items: center; gap: 6px }
.legend .hint { color: var(--soft) }
.scroll { overflow-x: auto }
svg text { font: 12px ui-monospace, "DejaVu Sans Mono", monospace; fill: var(--ink) }
svg.small text.host, svg.small text.outcome { font-size: 11px }
text.host, text.outcome { dominant-baseline: central }
text.tick { fill: var(--soft); font-size: 11px }
text.batch { font: 600 12px system-ui, "DejaVu Sans", sans-serif; fill: var(--soft); stroke: var(--page);
  stroke-width: 5px; paint-order: stroke }
text.bad { fill: var(--bad); font-weight: 600 } text.quiet { fill: var(--soft) } text.outcome.good { fill: var(--good) }
.halo, .cross { fill: none; stroke: var(--page); stroke-width: 6; stroke-linecap: round; pointer-events: none }
.cross { stroke: var(--bad); stroke-width: 2.5 }
.grid { stroke: var(--line) } .between { stroke: var(--line) }
.begins { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 3 3 }
.back { fill: transparent } .row:hover .back { fill: var(--row) }
.bar { fill: var(--tidy); stroke: var(--page); stroke-width: 0.75 }
.bar.image { fill: var(--image) } .bar.stop { fill: var(--stop) } .bar.start { fill: var(--start) }
.bar.wait { fill: var(--wait) } .bar.verify { fill: var(--verify) } .bar.prepare { fill: var(--prepare) }
.bar.failed { stroke: var(--bad); stroke-width: 2 }
.bar:hover { opacity: 0.8 } .hatch { fill: var(--hatch) }
"""
