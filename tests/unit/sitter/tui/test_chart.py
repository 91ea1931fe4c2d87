"""Curves to braille: golden pictures, and curves that are not nice."""

import math
import time

import pytest

from sitter.model import Curve, Curves, Marker
from sitter.tui.braille import CHARS, Layer, blend, compose, runs
from sitter.tui.chart import Look, calm, draw, smooth
from sitter.tui.lines import line_width, text_of
from sitter.tui.scale import Scale, labels, linear_ticks, log_ticks, short_labels, value_range

NAN, INF = math.nan, math.inf


def curve(signal: str, values: list[float], *, x: list[float] | None = None, spread: float = 0.0, **given: object) -> Curve:
    x = x if x is not None else [float(i) for i in range(len(values))]
    return Curve(signal=signal, x=x, mean=values, low=[v - spread for v in values], high=[v + spread for v in values], **given)  # type: ignore[arg-type]


def curves(*found: Curve, markers: list[Marker] | None = None) -> Curves:
    xs = [x for c in found for x in c.x if math.isfinite(x)] or [0.0, 1.0]
    return Curves(curves=list(found), markers=markers or [], lo=min(xs), hi=max(xs))


def picture(layer: Layer) -> list[str]:
    chars, _ = compose([layer], layer.cells, layer.rows)
    return ["".join(row) for row in chars]


def test_the_eight_dots_of_a_cell() -> None:
    assert CHARS[0] == "\u2800"
    assert CHARS[0b1111] == "⡇"
    assert CHARS[0b1111_0000] == "⢸"
    assert CHARS[0xFF] == "⣿"
    assert CHARS[0b0001_0001] == "⠉"
    assert CHARS[0b1000_1000] == "⣀"


def test_a_falling_line() -> None:
    layer = Layer(4, 2, "loss")
    layer.path([(0, 0), (7, 7)])
    assert picture(layer) == ["⠑⢄  ", "  ⠑⢄"]


def test_a_rising_steep_line_has_no_gaps() -> None:
    layer = Layer(2, 2, "loss")
    layer.path([(0, 7), (3, 0)])
    assert picture(layer) == [" ⡜", "⡸ "]
    filled = 0
    for mask in layer.masks:
        filled |= mask
    assert filled == 0xFF, "every row of dots is touched"


def test_a_flat_line_is_one_dot_thin() -> None:
    layer = Layer(3, 1, "loss")
    layer.path([(0, 2), (5, 2)])
    assert picture(layer) == ["⠤⠤⠤"]


def test_what_lies_outside_is_cut_off() -> None:
    layer = Layer(2, 1, "loss")
    layer.path([(-50, -50), (60, 60)])
    assert picture(layer) == ["⠑⢄"]
    layer.span(99, 0, 3)
    layer.span(-1, 0, 3)
    layer.span(0, -10, -5)
    assert picture(layer) == ["⠑⢄"]
    layer.span(3, -10, 100)
    assert picture(layer) == ["⠑⢼"]


def test_dashes() -> None:
    layer = Layer(6, 1, "ref")
    layer.path([(0, 0), (11, 0)], dash=3)
    assert layer.masks == [1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0]


def test_the_topmost_layer_owns_a_cell_and_blending_shows_both() -> None:
    top, under = Layer(2, 1, "goal"), Layer(2, 1, "loss")
    top.path([(0, 0), (3, 0)])
    under.path([(0, 3), (3, 3)])
    chars, styles = compose([top, under], 2, 1)
    assert ("".join(chars[0]), styles[0]) == ("⠉⠉", ["goal", "goal"])
    blend(top, under, chars, styles)
    assert ("".join(chars[0]), styles[0]) == ("⣉⣉", ["loss", "goal"])


def test_runs_join_neighbours_and_keep_the_text() -> None:
    chars, styles = list("ab  c      d "), ["x", "x", "", "", "x", "", "", "", "", "", "", "y", ""]
    found = runs(chars, styles)
    assert "".join(t for t, _ in found) == "ab  c      d "
    assert found == [("ab  c", "x"), ("      ", ""), ("d", "y"), (" ", "")]
    assert runs([], []) == []


def test_a_small_chart() -> None:
    data = curves(curve("loss", [4.0, 3.0, 2.0, 1.0], x=[0.0, 10.0, 20.0, 30.0]))
    assert text_of(draw(data, Look(lower=None, band=False, y="whole"), 24, 6)).splitlines() == [
        "━ loss     step · whole",
        "4┤⠒⠢⠤⣀⡀",
        " │    ⠈⠉⠒⠒⠤⢄⣀",
        "2┤           ⠉⠑⠒⠤⠤⣀⡀",
        " │                 ⠈⠉⠒⠢⠤",
        " └0────────────20───────",
    ]


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("y", ["recent", "whole", "log"])
@pytest.mark.parametrize(
    "values",
    [
        [],
        [1.0],
        [NAN],
        [NAN] * 50,
        [INF, -INF, NAN],
        [0.0] * 40,
        [-1.0, 2.0, NAN, 3.0],
        [1e300, -1e300, 1e-300],
        [5e-324] * 3,
        [1e-9, 2e-9],
        [float(i) for i in range(400)],
        [2.0, NAN, NAN, NAN, 1.0],
        [1e308, 1.7e308],
    ],
)
def test_no_curve_is_too_odd(values: list[float], y: str, ascii: bool) -> None:  # noqa: A002
    data = curves(curve("loss", values, spread=0.1), curve("val_loss", values[::-1]), curve("lr", values))
    for width, height in ((80, 14), (12, 3), (13, 4), (200, 40), (30, 9), (5, 2), (0, 0)):
        lines = draw(data, Look(goal="val_loss", y=y, ascii=ascii), width, height)  # type: ignore[arg-type]
        assert len(lines) == height
        assert all(line_width(line) <= max(width, 0) for line in lines)


def test_nan_is_a_gap_with_a_sign_and_not_a_zero() -> None:
    values = [2.0] * 20 + [NAN] + [2.0] * 20
    data = curves(curve("loss", values, lost=[20.0]))
    lines = draw(data, Look(lower=None, band=False, y="whole"), 60, 8)
    assert any(span == ("×", "bad") for span in lines[1])
    row = next(t for t in text_of(lines).splitlines() if "⠤" in t or "⠒" in t or "⣀" in t or "⠉" in t)
    line = row.split("│")[-1].split("┤")[-1]
    assert " " in line.strip(), "the line is broken where the values were lost"


def test_an_empty_column_is_bridged() -> None:
    sparse = [2.0 if i % 10 == 0 else NAN for i in range(41)]
    look = Look(goal="val_loss", lower=None, band=False, y="whole")
    lines = draw(curves(curve("val_loss", sparse), curve("loss", [1.0] * 41)), look, 60, 8)
    goal = [t for line in lines[1:-1] for t, style in line if style == "goal"]
    assert max(map(len, goal)) > 40


def test_a_spike_is_in_the_band_and_leaves_the_line_alone() -> None:
    values = [2.0 - i / 400 for i in range(200)]
    spiky = list(values)
    spiky[100] = 30.0
    data = curves(Curve(signal="loss", x=[float(i) for i in range(200)], mean=spiky, low=values, high=spiky))
    lines = draw(data, Look(lower=None), 100, 12)
    bottom, top = 1.4, 2.1
    for text in text_of(lines).splitlines():
        label = text.split("┤")[0].strip() if "┤" in text else ""
        if label:
            assert bottom <= float(label) <= top, "the axis is the loss's, not the spike's"
    assert any(style == "loss-band" for _, style in lines[1]), "and the spike is seen all the way up"
    assert calm([1.0, 1.0, 9.0, 1.0, 1.0]) == [1.0] * 5
    assert smooth([1.0, 2.0, 3.0], 1) == [1.0, 2.0, 3.0]
    assert math.isnan(smooth([1.0, NAN, 3.0], 1)[1])


def test_recent_leaves_out_the_opening_and_whole_does_not() -> None:
    values = [1.5 + 8 * math.exp(-i / 4) for i in range(200)]
    data = curves(curve("loss", values))
    recent, whole = (text_of(draw(data, Look(lower=None, band=False, y=y), 100, 14)) for y in ("recent", "whole"))  # type: ignore[arg-type]
    assert "8" not in recent.split("└")[0]
    assert "8┤" in whole or "9┤" in whole


def test_an_accuracy_has_an_axis_of_its_own() -> None:
    data = curves(curve("loss", [3.0 - i / 50 for i in range(100)]), curve("val_acc", [0.5 + i / 250 for i in range(100)]))
    text = text_of(draw(data, Look(goal="val_acc", own_axis=True, lower=None), 80, 14))
    assert "├0.8" in text or "├0.80" in text or "├0.7" in text
    assert "2.0┤" in text or "2┤" in text


def test_markers_the_legend_and_what_was_left_behind() -> None:
    kinds = ("checkpoint", "knob", "incident", "restore", "restart", "note")
    marks = [Marker(x=15.0 * (1 + i), kind=kind) for i, kind in enumerate(kinds)]  # type: ignore[arg-type]
    left = curve("loss", [2.02] * 10, x=[float(i) for i in range(50, 60)], abandoned=True)
    data = curves(curve("loss", [2.0] * 100), left, markers=marks)
    lines = draw(data, Look(lower=None), 140, 12)
    text = text_of(lines)
    for word in ("◆ checkpoint", "▼ knob", "✖ incident", "↺ restored", "↻ started again", "✎ note", "left behind"):
        assert word in text.splitlines()[0]
    row = text.splitlines()[-2]
    assert [c for c in row if c != " "] == ["◆", "▼", "✖", "↺", "↻", "✎"]
    assert any(style == "gone" for line in lines[1:] for _, style in line)


def test_ref_is_dashed_and_not_drawn_over_hours() -> None:
    data = curves(curve("loss", [2.0 - i / 200 for i in range(100)]))
    ref = [curve("loss", [2.2 - i / 200 for i in range(100)])]
    with_ref = draw(data, Look(lower=None, band=False, y="whole"), 80, 12, ref)
    assert any(style == "ref" for line in with_ref[1:] for _, style in line)
    assert "┄ ref" in text_of(with_ref)
    assert "ref" not in text_of(draw(data, Look(lower=None, axis="hours"), 80, 12, ref))


def test_epochs_and_hours_on_the_axis() -> None:
    data = curves(curve("loss", [2.0] * 101, x=[i * 100.0 for i in range(101)]))
    assert "2 ep" in text_of(draw(data, Look(lower=None, axis="epoch", per_epoch=2500.0), 80, 10))
    assert " h" in text_of(draw(data, Look(lower=None, axis="hours"), 80, 10))


def test_the_pane_below_shows_the_rate_with_its_ends() -> None:
    data = curves(curve("loss", [2.0] * 50), curve("lr", [3e-4] * 25 + [1.5e-4] * 25))
    text = text_of(draw(data, Look(), 80, 14))
    assert "lr 3.0e-4┤" in text
    assert "1.5e-4┤" in text


def test_nothing_yet_is_said() -> None:
    assert "asking" in text_of(draw(None, Look(), 60, 8))
    assert "no data yet" in text_of(draw(curves(), Look(), 60, 8))


def test_ticks_are_round_and_few() -> None:
    assert linear_ticks(0, 10, 5) == [0, 5, 10]
    assert linear_ticks(1.23, 1.31, 4) == pytest.approx([1.24, 1.26, 1.28, 1.3])
    assert linear_ticks(0, 0, 5) == []
    assert linear_ticks(NAN, 1, 5) == []
    assert log_ticks(1, 1000, 4) == [1, 10, 100, 1000]
    assert log_ticks(0.9, 6, 4) == [1, 2, 5] or len(log_ticks(0.9, 6, 4)) == 4
    assert len(log_ticks(1e-30, 1e30, 5)) <= 6
    assert labels([1.0, 1.5, 2.0]) == ["1.0", "1.5", "2.0"]
    assert labels([0.0, 1e-5]) == ["0", "1.0e-5"]
    assert short_labels([0.0, 500.0, 1000.0]) == ["0", "0.5k", "1.0k"] or short_labels([0.0, 500.0, 1000.0])[0].startswith("0")
    assert short_labels([1e6, 2e6]) == ["1M", "2M"]


def test_the_range_keeps_the_line_and_not_the_spike() -> None:
    line = [2.0 + i / 100 for i in range(100)]
    low, high = value_range(line, [*line, 500.0], log=False) or (0, 0)
    assert low < 2.0 < 2.99 < high < 4
    assert value_range([NAN], [], log=False) is None
    assert value_range([-1.0], [], log=True) is None
    scale = Scale(1.0, 100.0, 9, log=True)
    assert scale.at(10.0) == pytest.approx(4)
    assert scale.at(0.0) is None
    assert scale.at(NAN) is None


def test_a_frame_is_drawn_in_a_few_milliseconds() -> None:
    n = 240
    data = curves(
        curve("loss", [2 + math.sin(i / 9) for i in range(n)], spread=0.4), curve("val_loss", [2.1 + math.sin(i / 9) for i in range(n)]),
        curve("lr", [1e-4 * (n - i) for i in range(n)]),
    )  # fmt: skip
    took = []
    for _ in range(7):
        began = time.thread_time()
        draw(data, Look(goal="val_loss"), 120, 36)
        took.append(time.thread_time() - began)
    assert min(took) < 0.015, took  # about 4 ms on a machine of 2020; the rest is room for a slow one


def test_a_value_that_differs_by_rounding_only_is_one_flat_line() -> None:
    """As a constant rate does whose columns are means: ten rows or three, it must not waver between two dots."""
    values = [3e-3 * (1 + 1e-12 * (-1) ** (i // 3)) for i in range(60)]
    data = curves(curve("loss", [2.0 - i / 100 for i in range(60)]), curve("lr", values))
    for height in (10, 16, 24, 40):
        pane = [row for row in text_of(draw(data, Look(), 70, height)).splitlines() if any(0x2800 < ord(c) < 0x2900 for c in row)]
        rows = [row.split("│")[-1].split("┤")[-1].strip() for row in pane]
        assert any(set(row) in ({"⠉"}, {"⠒"}, {"⠤"}, {"⣀"}) and len(row) > 20 for row in rows), (height, rows)


def test_the_pane_below_shows_what_the_rate_was_and_not_the_mean_of_two() -> None:
    one = [3e-3] * 40
    low = [3e-5 if i == 20 else v for i, v in enumerate(one)]
    lr = Curve(signal="lr", x=[float(i) for i in range(40)], mean=[2.9e-3 if i == 20 else v for i, v in enumerate(one)], low=low, high=one)
    shown = text_of(draw(curves(curve("loss", [2.0] * 40), lr), Look(), 60, 16))
    assert "3.0e-5" in shown
    assert "2.9e-3" not in shown
