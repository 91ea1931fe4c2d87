"""A report as Markdown, with its pictures beside it."""

import re
from collections.abc import Sequence

from sitter.report import words
from sitter.report.facts import Facts
from sitter.report.pictures import Picture


def markdown(facts: Facts, pictures: Sequence[Picture]) -> str:
    """``pictures`` are linked as ``NAME.svg``."""
    parts = [f"# {_safe(words.title(facts))}", _list(words.head(facts))]
    parts += [f"![{_safe(p.title)}]({p.name}.svg)" for p in pictures]
    parts += ["## Interventions", _table(words.ROW, [words.row(i) for i in facts.interventions]) if facts.interventions else _none()]
    if facts.incidents:
        parts += ["## Incidents", _table(words.INCIDENT_ROW, [words.incident_row(i) for i in facts.incidents])]
    parts += ["## Totals", _list(words.sums(facts)), "## Methods", f"> {_safe(words.methods(facts))}"]
    return "\n\n".join(parts) + "\n"


def _none() -> str:
    return words.UNTOUCHED[0].upper() + words.UNTOUCHED[1:] + "."


def _list(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- **{_safe(name)}**: {_safe(text)}" for name, text in rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(_safe(cell) for cell in row)} |" for row in rows)])


_MARKS = str.maketrans({c: f"\\{c}" for c in "\\`*[]<|"} | {"\n": " ", "\r": " "})
_EDGES = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""Underscores that could begin or end something; those within a name do neither."""


def _safe(text: str) -> str:
    """Text that others wrote, as it is: nothing in it is markup. What need not be escaped is not: this is also read as it stands."""
    return _EDGES.sub(r"\\_", text.translate(_MARKS))
