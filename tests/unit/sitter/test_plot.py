"""Pictures of curves: readable ticks, honest gaps, both formats."""

import itertools
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from sitter.canvas import dashed
from sitter.errors import SitterError, UsageError
from sitter.model import Marker
from sitter.plot import Series, draw, log_ticks, nice_ticks, number

SVG = "{http://www.w3.org/2000/svg}"
CURVE = Series("loss", list(range(200)), [5 / (1 + i / 20) + 1 for i in range(200)], color="#123456")


def polylines(path, color):
    root = ElementTree.parse(path).getroot()
    for e in root.iter(f"{SVG}polyline"):
        if e.get("stroke") == color:
            yield [tuple(map(float, p.split(","))) for p in e.get("points").split()]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0.13, 0.52, [0.2, 0.3, 0.4, 0.5]), (-3, 3, [-3, -2, -1, 0, 1, 2, 3]), (4, 4, [4])],
)
def test_ticks_are_round_numbers(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected)


def test_log_ticks_suit_the_decades():
    assert log_ticks(1.4, 6.1) == [1.5, 2, 3, 4, 5, 6]
    assert log_ticks(0.02, 900) == pytest.approx([0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500])
    assert len(log_ticks(2.01, 2.2)) > 2


@pytest.mark.parametrize(("value", "text"), [(0.05, "0.05"), (1600, "1,600"), (40_000, "40k"), (2.5, "2.5"), (0, "0")])
def test_numbers_as_people_write_them(value, text):
    assert number(value) == text


def test_svg_holds_title_labels_legend_and_marker(tmp_path):
    path = tmp_path / "a.svg"
    marker = Marker(x=50, kind="incident", text="loss < 3 & back")
    draw([CURVE], [marker], path, "Title <1>", x_label="step", y_label="nats")
    text = path.read_text()
    assert "Title &lt;1&gt;" in text
    assert "loss &lt; 3 &amp; back" in text
    for word in (">nats<", ">step<", ">loss<"):
        assert word in text
    curve = max(polylines(path, "#123456"), key=len)
    assert len(curve) == 200
    assert [x for x, _ in curve] == sorted(x for x, _ in curve)
    assert curve[0][1] < curve[-1][1]  # a falling loss falls: y grows downwards


def test_png_is_a_picture_with_the_curve_in_its_colour(tmp_path):
    path = tmp_path / "a.png"
    draw([CURVE], [], path, "Title")
    with Image.open(path) as image:
        assert image.size == (1200, 640)
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB")).astype(int)
    ink = (np.abs(pixels - (0x12, 0x34, 0x56)).max(axis=2) < 30).sum()
    assert ink > 1_000


def test_what_is_not_finite_breaks_the_line_and_an_end_like_that_gets_a_cross(tmp_path):
    y = [2.0] * 50 + [math.nan] * 5 + [2.0] * 45 + [math.inf] * 20
    path = tmp_path / "a.svg"
    draw([Series("x", list(range(120)), y, color="#123456", ending="died at step 100")], [], path, "t")
    lines = list(polylines(path, "#123456"))
    assert sorted(len(p) for p in lines)[-2:] == [45, 50]
    assert sum(len(p) == 2 and p[0][0] != p[1][0] and p[0][1] != p[1][1] for p in lines) == 2  # the cross
    assert "died at step 100" in path.read_text()
    assert not re.search(r"nan|inf", path.read_text())


def test_what_exceeds_the_frame_is_cut_at_its_edge(tmp_path):
    path = tmp_path / "a.svg"
    draw([Series("x", [0, 1, 2, 3], [1, 100, 100, 1], color="#123456")], [], path, "t", y_max=5)
    points = [p for line in polylines(path, "#123456") for p in line]
    assert min(y for _, y in points) >= 79  # only the legend is above the frame
    assert len(list(polylines(path, "#123456"))) == 3  # up, down, legend


def test_markers_that_are_close_do_not_overwrite_each_other(tmp_path):
    path = tmp_path / "a.svg"
    draw([CURVE], [Marker(x=x, kind="restore", text=f"back to {x}") for x in (100, 102, 104)], path, "t")
    rows = re.findall(r'y="([\d.]+)"[^>]*>back to', path.read_text())
    assert len(set(rows)) == 3


def test_signs_without_texts_lie_below_each_other_where_they_are_close(tmp_path):
    path = tmp_path / "a.svg"
    draw([CURVE], [Marker(x=x, kind="knob") for x in (100, 100, 101, 150)], path, "t")
    tops = [float(y) for y in re.findall(r'polygon points="[\d.]+,([\d.]+)', path.read_text())]
    assert len(set(tops[:3])) == 3
    assert tops[3] == tops[0]


def test_nothing_to_draw_is_an_empty_frame(tmp_path):
    draw([Series("x", [], [])], [], tmp_path / "a.svg", "t")
    draw([Series("x", [1], [math.nan])], [], tmp_path / "b.svg", "t", log_y=True)
    draw([Series("x", [1], [3.0], smooth=True)], [], tmp_path / "c.png", "t")


@pytest.mark.parametrize("name", ["a.pdf", "a"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"expected an ending \.png or \.svg"):
        draw([CURVE], [], tmp_path / name, "t")


@pytest.mark.parametrize("name", ["a.png", "a.svg"])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, name):
    with pytest.raises(SitterError, match="cannot write the picture"):
        draw([CURVE], [], tmp_path / "no" / name, "t")


def test_dashes_cover_their_share_of_the_line():
    parts = dashed([(0, 0), (50, 0), (100, 0)], (6, 4))
    assert sum(b[0] - a[0] for part in parts for a, b in itertools.pairwise(part)) == pytest.approx(60)
    assert parts[0] == [(0, 0), (6, 0)]
