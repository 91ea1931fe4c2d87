"""Dots in braille cells, two across and four down. A column of dots is ONE integer, bit 0 at the top, so a filled span costs one shift."""

from collections.abc import Iterable, Sequence

_LEFT, _RIGHT = (0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80)
CHARS = "".join(
    chr(0x2800 + sum(_LEFT[i] for i in range(4) if n >> i & 1) + sum(_RIGHT[i] for i in range(4) if n >> (4 + i) & 1))
    for n in range(256)
)
"""By left nibble | right nibble << 4, bit 0 of a nibble at the top."""


class Layer:
    """One colour's dots on a field of ``cells`` × ``rows`` characters. ``ink`` stands for any dots where braille cannot be shown."""

    def __init__(self, cells: int, rows: int, style: str, ink: str = "*") -> None:
        self.cells, self.rows, self.style, self.ink = cells, rows, style, ink
        self.tall = 4 * rows
        self.masks = [0] * (2 * cells)

    def span(self, column: int, top: float, bottom: float) -> None:
        """Fill a dot column from ``top`` to ``bottom`` (dots, 0 at the top); what lies outside the field is cut off."""
        if not 0 <= column < len(self.masks):
            return
        a, b = (top, bottom) if top <= bottom else (bottom, top)
        first, last = max(0, round(a)), min(self.tall - 1, round(b))
        if first <= last:
            self.masks[column] |= ((1 << (last - first + 1)) - 1) << first

    def path(self, points: Iterable[tuple[int, float]], *, dash: int = 0) -> None:
        """Join (dot column, dot row) from left to right; ``dash`` leaves out every other run of that many columns."""
        before: tuple[int, float] | None = None
        for column, row in points:
            if before is None or column < before[0]:
                self._fill(column, round(row), round(row), dash)
            elif column == before[0]:
                self._fill(column, round(before[1]), round(row), dash)
            else:
                self._join(before, (column, row), dash)
            before = (column, row)

    def _join(self, start: tuple[int, float], end: tuple[int, float], dash: int) -> None:
        (c0, r0), (c1, r1) = start, end
        slope = (r1 - r0) / (c1 - c0)
        first = max(c0, -1)
        last = round(r0 + slope * (first - c0))
        self._fill(first, last, last, dash)
        for column in range(first + 1, min(c1, len(self.masks)) + 1):
            now = round(r0 + slope * (column - c0))
            if abs(now - last) > 1:
                # a step is shared by both columns, so that the line has no gap and is one dot thin
                middle = (last + now) // 2
                down = now > last
                self._fill(column - 1, last, middle if down else middle + 1, dash)
                self._fill(column, middle + 1 if down else middle, now, dash)
            else:
                self._fill(column, now, now, dash)
            last = now

    def _fill(self, column: int, a: int, b: int, dash: int) -> None:
        if not dash or column // dash % 2 == 0:
            self.span(column, a, b)


def compose(layers: Sequence[Layer], cells: int, rows: int, *, ascii: bool = False) -> tuple[list[list[str]], list[list[str]]]:  # noqa: A002
    """Characters and style names of the field, the first layer on top: a cell shows the dots of its topmost layer only."""
    chars = [[" "] * cells for _ in range(rows)]
    styles = [[""] * cells for _ in range(rows)]
    for layer in reversed(layers):
        masks, style, ink = layer.masks, layer.style, layer.ink
        for cell in range(min(cells, layer.cells)):
            left, right = masks[2 * cell], masks[2 * cell + 1]
            both = left | right
            if not both:
                continue
            row = ((both & -both).bit_length() - 1) >> 2  # the first row that has a dot
            left >>= 4 * row
            right >>= 4 * row
            while left or right:
                n = left & 15 | (right & 15) << 4
                if n:
                    chars[row][cell] = ink if ascii else CHARS[n]
                    styles[row][cell] = style
                left >>= 4
                right >>= 4
                row += 1
    return chars, styles


def blend(top: Layer, under: Layer, chars: list[list[str]], styles: list[list[str]], *, ascii: bool = False) -> None:  # noqa: A002
    """Where two lines meet in a cell, show the dots of both, in turns in the colour of the one and of the other: neither is hidden."""
    for cell in range(min(top.cells, under.cells)):
        a, b = (top.masks[2 * cell], top.masks[2 * cell + 1]), (under.masks[2 * cell], under.masks[2 * cell + 1])
        above, below = a[0] | a[1], b[0] | b[1]
        if not (above and below):
            continue
        for row in range(top.rows):
            shift = 4 * row
            if not (above >> shift & 15 and below >> shift & 15):
                continue
            layer = top if cell % 2 else under
            chars[row][cell] = layer.ink if ascii else CHARS[(a[0] | b[0]) >> shift & 15 | ((a[1] | b[1]) >> shift & 15) << 4]
            styles[row][cell] = layer.style


def runs(chars: Sequence[str], styles: Sequence[str]) -> list[tuple[str, str]]:
    """A row as spans, neighbours of one style joined. Two blanks or fewer join what stands before them; more are a span of their own, since
    a font may draw braille and blanks of different widths, and a long span would add that up."""
    out: list[tuple[str, str]] = []
    text, now, blanks = "", "", 0
    for char, style in zip(chars, styles, strict=True):
        if char == " ":
            blanks += 1
            continue
        if blanks > 2 or style != now:
            out += [(text, now)] if text else []
            out += [(" " * blanks, "")] if blanks else []
            text, now = char, style
        else:
            text += " " * blanks + char
        blanks = 0
    out += [(text, now)] if text else []
    return out + ([(" " * blanks, "")] if blanks else [])
