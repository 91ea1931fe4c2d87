"""A report as one page of HTML that needs nothing beside it, light or dark, on paper too."""

import html
from collections.abc import Sequence

from sitter.report import words
from sitter.report.facts import Facts
from sitter.report.pictures import Picture

STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --muted: #66717d; --line: #e0e4e8; --paper: #fff; --pale: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --muted: #9aa5b1; --line: #3a434d; --paper: #1a1f25; --pale: #232a32; }
  figure svg { filter: invert(0.9) hue-rotate(180deg); }
}
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; font: 15px/1.5 Inter, Helvetica, Arial, sans-serif; color: var(--ink);
       background: var(--paper); }
h1 { font-size: 1.6rem; margin-bottom: 0.3rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1.2rem; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 1.6rem 0; overflow-x: auto; } figure svg { width: 100%; min-width: 42rem; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; min-width: 44rem; font-size: 0.9rem; } caption { text-align: left; color: var(--muted); }
th, td { text-align: left; vertical-align: top; padding: 0.35rem 0.7rem 0.35rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--muted); font-weight: 600; } td:nth-child(-n+2) { font-variant-numeric: tabular-nums; white-space: nowrap; }
blockquote { margin: 0; padding: 0.8rem 1rem; background: var(--pale); border-left: 3px solid var(--muted); }
footer { margin-top: 3rem; color: var(--muted); font-size: 0.85rem; }
"""


SIGNS = "Grey: what a rollback or restart left behind. ✖ incident, ◀ back to here, ▶ started again from here, ▼ knob changed, ◆ note."
"""On the pictures."""


def page(facts: Facts, pictures: Sequence[Picture]) -> str:
    """The whole document."""
    parts = [f"<h1>{_safe(words.title(facts))}</h1>", _list(words.head(facts))]
    parts += [f"<figure>{p.svg}</figure>" for p in pictures]
    if facts.interventions:
        parts += ["<h2>Interventions</h2>", _table(words.ROW, [words.row(i) for i in facts.interventions])]
    else:
        parts += ["<h2>Interventions</h2>", f"<p>{_safe(words.UNTOUCHED.capitalize())}.</p>"]
    if facts.incidents:
        parts += ["<h2>Incidents</h2>", _table(words.INCIDENT_ROW, [words.incident_row(i) for i in facts.incidents])]
    parts += ["<h2>Totals</h2>", _list(words.sums(facts)), "<h2>Methods</h2>", f"<blockquote>{_safe(words.methods(facts))}</blockquote>"]
    parts.append(f"<footer>sitter report. {_safe(SIGNS)}</footer>")
    title = _safe(words.title(facts))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _list(rows: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{_safe(name)}</dt><dd>{_safe(text)}</dd>" for name, text in rows) + "</dl>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    names = "".join(f"<th>{_safe(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>'


def _safe(text: str) -> str:
    return html.escape(text)
