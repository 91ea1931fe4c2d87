"""A screen line as plain data: spans of text with the NAME of a style, so that everything drawn is tested without a terminal."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

Span = tuple[str, str]
"""Text and the name of its style in ``sitter.tui.palette``."""

Line = list[Span]

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb\ud800-\udfff]")

_ASCII = str.maketrans({
    "–": "-", "—": "-", "×": "x", "·": "|", "→": ">", "←": "<", "↑": "^", "↓": "v", "↺": "r", "↻": "R", "°": " ", "±": "~", "…": "~",
    "●": "*", "◐": "*", "▲": "!", "■": "#", "○": "o", "⚠": "!", "✔": "+", "✘": "x", "✖": "x", "◆": "c", "▼": "k", "✎": "n", "★": "*",
    "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "=", "▍": "=", "▎": "-", "▏": "-", "░": ".", "▁": "_", "▂": "_", "▃": "-", "▄": "-",
    "▅": "=", "▆": "=", "▇": "#", "─": "-", "━": "-", "│": "|", "┊": ":", "┆": ":", "┤": "|", "├": "|", "└": "+", "┴": "+", "┬": "+",
    "⠒": ".", "┄": "-", "▸": ">", "▶": ">", "❚": "|", "⏎": "Enter", "µ": "u", "≤": "<", "≥": ">", "é": "e", "’": "'", "“": '"', "”": '"',
})  # fmt: skip


def plain(text: str) -> str:
    """Outside text made harmless: escape sequences, control, bidi, zero-width characters and lone surrogates are gone."""
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPES.sub("", text)
    return _UNSAFE.sub("", text.replace("\t", "    ").replace("\n", " ").replace("\r", " "))


def char_width(char: str) -> int:
    """Columns that a character takes: 0 for combining ones, 2 for wide ones."""
    if char < "\u0300":
        return 1
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


class _Widths(dict[str, int]):
    """Of every character met so far: a screen holds thousands, of some dozens of kinds."""

    def __missing__(self, char: str) -> int:
        self[char] = char_width(char)
        return self[char]


_width_of = _Widths().__getitem__


def width(text: str) -> int:
    """Columns that a text takes."""
    return len(text) if text.isascii() else sum(map(_width_of, text))


def line_width(line: Iterable[Span]) -> int:
    """Columns that a line takes."""
    return sum(width(text) for text, _ in line)


def _cut(text: str, room: int) -> str:
    """At most ``room`` columns of a text."""
    if text.isascii():
        return text[:room]
    used = 0
    for i, char in enumerate(text):
        used += _width_of(char)
        if used > room:
            return text[:i]
    return text


def fit(line: Sequence[Span], room: int, *, ellipsis: bool = True) -> Line:
    """The line in at most ``room`` columns; a cut is shown by ``…``."""
    if room <= 0:
        return []
    if line_width(line) <= room:
        return list(line)
    out: Line = []
    left = room - (1 if ellipsis else 0)
    for text, style in line:
        piece = _cut(text, left)
        out.append((piece, style))
        left -= width(piece)
        if piece != text:
            break
    if ellipsis:
        out.append(("…", out[-1][1] if out else ""))
    return out


def spread(left: Sequence[Span], right: Sequence[Span], room: int) -> Line:
    """``left`` at the left and ``right`` at the right end; where both do not fit, the left gives way."""
    wanted = line_width(right)
    if wanted >= room:
        return fit(right, room)
    head = fit(left, room - wanted - 1)
    return [*head, (" " * (room - wanted - line_width(head)), ""), *right]


def pack(pieces: Sequence[tuple[int, Sequence[Span]]], room: int, gap: str = "  ") -> Line:
    """Pieces (rank, spans) in their order, without the ones of the highest rank until the rest fits in ``room``."""
    keep = [(rank, list(spans)) for rank, spans in pieces if spans]
    while len(keep) > 1 and sum(line_width(s) for _, s in keep) + len(gap) * (len(keep) - 1) > room:
        worst = max(rank for rank, _ in keep)
        drop = max(i for i, (rank, _) in enumerate(keep) if rank == worst)
        del keep[drop]
    out: Line = []
    for i, (_, spans) in enumerate(keep):
        if i:
            out.append((gap, ""))
        out.extend(spans)
    return fit(out, room)


def wrap(text: str, room: int, indent: str = "") -> list[str]:
    """Words in lines of at most ``room`` columns; a word longer than a line is cut."""
    room = max(room, 4)
    lines: list[str] = []
    now = ""
    for word in text.split():
        while width(word) > room - len(indent):
            if now.strip():
                lines.append(now)
            piece = _cut(word, room - len(indent))
            lines.append((indent if lines else "") + piece)
            word, now = word[len(piece) :], ""
        if not word:
            continue
        if not now.strip():
            now = (indent if lines else "") + word
        elif width(now) + 1 + width(word) <= room:
            now += " " + word
        else:
            lines.append(now)
            now = indent + word
    if now.strip():
        lines.append(now)
    return lines or [""]


def to_ascii(text: str) -> str:
    """The same columns in ASCII, for terminals without UTF-8: what has no likeness becomes ``?``."""
    if text.isascii():
        return text
    text = text.translate(_ASCII)
    if text.isascii():
        return text
    return "".join(c if c < "\x80" else "?" * char_width(c) for c in text)


def text_of(lines: Iterable[Sequence[Span]]) -> str:
    """What a person would read, styles left out."""
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)
