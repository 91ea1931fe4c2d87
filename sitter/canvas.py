"""Two things to draw a figure on: SVG, written here, and PNG through Pillow.

Coordinates are pixels from the top left, colours ``#rrggbb``, ``opacity`` 0…1. The shapes are what a chart needs.
"""

import html
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from sitter.errors import SitterError, UsageError

if TYPE_CHECKING:
    from PIL import ImageFont

Xy = tuple[float, float]
Dash = tuple[float, float]
Anchor = Literal["start", "middle", "end"]
ENDINGS = (".png", ".svg")


class Canvas(Protocol):
    """What a figure needs of either."""

    def line(
        self, points: Sequence[Xy], color: str, width: float, *, dash: Dash | None = None, opacity: float = 1
    ) -> None:
        """A line through all points."""
        ...

    def area(self, points: Sequence[Xy], color: str, *, opacity: float = 1) -> None:
        """A filled outline."""
        ...

    def text(self, at: Xy, text: str, size: float, color: str, *, anchor: Anchor = "start", bold: bool = False) -> None:
        """Text on the vertical middle ``at``."""
        ...

    def width(self, text: str, size: float) -> float:
        """How wide it will be."""
        ...

    def save(self, path: Path) -> None:
        """Write the file. Raises SitterError."""
        ...


def canvas_for(path: Path, width: int, height: int, background: str) -> Canvas:
    """By the file's ending. Raises UsageError where it is neither .png nor .svg."""
    match path.suffix.lower():
        case ".svg":
            return SvgCanvas(width, height, background)
        case ".png":
            return PngCanvas(width, height, background)
        case other:
            raise UsageError(f"picture {path.name}: expected an ending .png or .svg, found {other or 'none'}")


class SvgCanvas:
    """Scalable, no dependency, readable in any browser."""

    def __init__(self, width: int, height: int, background: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            'font-family="Inter, Helvetica, Arial, sans-serif" stroke-linejoin="round" stroke-linecap="round">',
            f'<rect width="{width}" height="{height}" fill="{background}"/>',
        ]

    def line(
        self, points: Sequence[Xy], color: str, width: float, *, dash: Dash | None = None, opacity: float = 1
    ) -> None:
        """A line through all points."""
        dashes = f' stroke-dasharray="{dash[0]:g} {dash[1]:g}" stroke-linecap="butt"' if dash else ""
        self._parts.append(
            f'<polyline points="{_svg(points)}" fill="none" stroke="{color}" stroke-width="{width:g}"'
            f"{_opacity('stroke', opacity)}{dashes}/>"
        )

    def area(self, points: Sequence[Xy], color: str, *, opacity: float = 1) -> None:
        """A filled outline."""
        self._parts.append(f'<polygon points="{_svg(points)}" fill="{color}"{_opacity("fill", opacity)}/>')

    def text(self, at: Xy, text: str, size: float, color: str, *, anchor: Anchor = "start", bold: bool = False) -> None:
        """Text on the vertical middle ``at``."""
        weight = ' font-weight="600"' if bold else ""
        # 0.35 em below the middle is the baseline: `dominant-baseline` is not understood by every viewer.
        self._parts.append(
            f'<text x="{at[0]:.1f}" y="{at[1] + 0.35 * size:.1f}" font-size="{size:g}" fill="{color}"'
            f' text-anchor="{anchor}"{weight}>{html.escape(text)}</text>'
        )

    def width(self, text: str, size: float) -> float:
        """An estimate: a viewer's own font is not known here."""
        return 0.54 * size * len(text)

    def element(self) -> str:
        """What was drawn, as one ``svg`` element."""
        return "\n".join([*self._parts, "</svg>"])

    def save(self, path: Path) -> None:
        """Write the file. Raises SitterError."""
        try:
            path.write_text(self.element() + "\n", encoding="utf-8")
        except OSError as e:
            raise _unwritten(path, e) from e


class PngCanvas:
    """Pixels, drawn three times too large and then reduced, so that lines are smooth. The font comes with Pillow."""

    SCALE = 3

    def __init__(self, width: int, height: int, background: str) -> None:
        from PIL import Image, ImageDraw

        self._size = (width, height)
        self._image = Image.new("RGB", (width * self.SCALE, height * self.SCALE), background)
        self._draw = ImageDraw.Draw(self._image, "RGBA")
        self._fonts: dict[float, ImageFont.FreeTypeFont | ImageFont.ImageFont] = {}

    def line(
        self, points: Sequence[Xy], color: str, width: float, *, dash: Dash | None = None, opacity: float = 1
    ) -> None:
        """A line through all points."""
        fill = _rgba(color, opacity)
        for stretch in dashed(points, dash) if dash else [points]:
            scaled = [(x * self.SCALE, y * self.SCALE) for x, y in stretch]
            self._draw.line(scaled, fill=fill, width=max(1, round(width * self.SCALE)), joint="curve")

    def area(self, points: Sequence[Xy], color: str, *, opacity: float = 1) -> None:
        """A filled outline."""
        self._draw.polygon([(x * self.SCALE, y * self.SCALE) for x, y in points], fill=_rgba(color, opacity))

    def text(self, at: Xy, text: str, size: float, color: str, *, anchor: Anchor = "start", bold: bool = False) -> None:
        """Text on the vertical middle ``at``."""
        where = (at[0] * self.SCALE, at[1] * self.SCALE)
        self._draw.text(
            where, _ascii(text), font=self._font(size), fill=color, stroke_width=1 if bold else 0, stroke_fill=color,
            anchor={"start": "lm", "middle": "mm", "end": "rm"}[anchor],
        )  # fmt: skip

    def width(self, text: str, size: float) -> float:
        """How wide it will be."""
        return self._font(size).getlength(_ascii(text)) / self.SCALE

    def save(self, path: Path) -> None:
        """Write the file. Raises SitterError."""
        from PIL import Image

        try:
            self._image.resize(self._size, Image.Resampling.LANCZOS).save(path, format="PNG", optimize=True)
        except OSError as e:
            raise _unwritten(path, e) from e

    def _font(self, size: float) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
        from PIL import ImageFont

        if size not in self._fonts:
            self._fonts[size] = ImageFont.load_default(size * self.SCALE)
        return self._fonts[size]


def dashed(points: Sequence[Xy], dash: Dash) -> list[list[Xy]]:
    """The drawn stretches of a dashed line: ``dash[0]`` pixels drawn, ``dash[1]`` left out, along its whole length."""
    stretches: list[list[Xy]] = []
    drawing, left = True, dash[0]
    current: list[Xy] = list(points[:1])
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length, at = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 0.0
        while length - at > left:
            at += left
            here = (x0 + (x1 - x0) * at / length, y0 + (y1 - y0) * at / length)
            if drawing:
                stretches.append([*current, here])
            drawing, current, left = not drawing, [here], dash[1 if drawing else 0]
        left -= length - at
        if drawing:
            current.append((x1, y1))
    if drawing and len(current) > 1:
        stretches.append(current)
    return stretches


_PLAIN = str.maketrans({"×": "x", "→": "->", "–": "-", "−": "-", "—": "-", "≤": "<=", "≥": ">=", "…": "..."})


def _ascii(text: str) -> str:
    """Pillow's own font knows little beyond ASCII, and shows boxes for the rest."""
    return "".join(c if " " <= c <= "~" or c == "·" else "?" for c in text.translate(_PLAIN))


def _rgba(color: str, opacity: float) -> tuple[int, int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16), round(255 * opacity)


def _opacity(of: str, opacity: float) -> str:
    return f' {of}-opacity="{opacity:g}"' if opacity < 1 else ""


def _svg(points: Sequence[Xy]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _unwritten(path: Path, error: OSError) -> SitterError:
    return SitterError(f"cannot write the picture {path}: {error.strerror or error}; name a place that can be written")
