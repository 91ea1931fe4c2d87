"""The parts that are plain functions: text, numbers, plans, train.log, the command line's preview, since you left."""

import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitter import model
from sitter.testing.fake_reader import FakeReader
from sitter.testing.manual_clock import ManualClock
from sitter.tui import command_line, formats, header, since_panel, zoom
from sitter.tui.chart_panel import own_axis
from sitter.tui.lines import fit, line_width, pack, plain, spread, text_of, to_ascii, width, wrap
from sitter.tui.plan import Wish, plan
from sitter.tui.signals_view import shown
from sitter.tui.train_log import KEEP_LINES, TrainLog, overwrite
from sitter.tui.view import View
from sitter_wire.queries import GetRules, GetStatus


@given(st.text(max_size=80), st.integers(0, 60))
def test_any_text_is_harmless_and_fits(text: str, room: int) -> None:
    clean = plain(text)
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in clean)
    clean.encode()
    assert line_width(fit([(clean, "a"), ("more", "b")], room)) <= room
    assert line_width(spread([(clean, "")], [("end", "")], room)) <= room
    assert all(width(row) <= max(room, 4) for row in wrap(clean, room))
    assert to_ascii(clean).isascii()
    assert width(to_ascii(clean)) >= len([c for c in clean if c.isascii()])


def test_escape_sequences_leave_nothing_behind() -> None:
    assert plain("\x1b[31mred\x1b[0m") == "red"
    assert plain("\x1b]0;title\x07text") == "text"
    assert plain("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\") == "link"
    assert plain("a\tb\nc\x00\x9b") == "a    b c"
    assert plain("\u202eabc\u200b\ud800") == "abc"


def test_pack_leaves_out_what_matters_least() -> None:
    pieces = [(0, [("aaaa", "")]), (2, [("bbbb", "")]), (1, [("cccc", "")])]
    assert text_of([pack(pieces, 40)]) == "aaaa  bbbb  cccc"
    assert text_of([pack(pieces, 12)]) == "aaaa  cccc"
    assert text_of([pack(pieces, 5)]) == "aaaa"
    assert text_of([pack(pieces, 3)]) == "aa…"


def test_unknown_is_a_dash_and_never_zero() -> None:
    for show in (formats.count, formats.short_count, formats.value, formats.rate, formats.scale, formats.percent, formats.giga):
        assert show(None) == "–"
    assert formats.end_time(None, 0) == "–"
    assert formats.end_time(math.inf, 0) == "–"
    assert formats.end_time(1e300, 0) == "–"
    assert formats.bar(None, 4) == "····"
    assert formats.spark([None, 1.0], 2.0)[0] == " "
    assert formats.value(math.nan) == "nan"
    assert formats.value(-math.inf) == "-inf"


@pytest.mark.parametrize(
    ("number", "text"),
    [(2.857, "2.857"), (0.0312, "0.0312"), (0.4, "0.400"), (3.1e-5, "3.10e-5"), (12.3456, "12.35"), (39800.0, "39,800"), (0, "0"),
     (1e9, "1.00e9"), (-2.5, "-2.500")],
)  # fmt: skip
def test_values_are_short(number: float, text: str) -> None:
    assert formats.value(number) == text


def test_rates_and_times() -> None:
    assert formats.rate(3e-4) == "3.0e-4"
    assert formats.rate(3.25e-4) == "3.25e-4"
    assert formats.rate(0.1) == "0.1"
    assert formats.countdown(42) == "0:42"
    assert formats.countdown(3723) == "1:02:03"
    assert formats.countdown(-5) == "0:00"
    assert formats.bar(0.5, 4) == "██░░"
    assert formats.bar(7.0, 4) == "████"
    assert formats.giga(58 << 30) == "58 G"


def view(**given: bool) -> View:
    clock = ManualClock()
    reader = FakeReader(clock, **given)  # type: ignore[arg-type]
    return View(run_name="char-lm", clock=clock, status=reader.ask(GetStatus()), rules=reader.ask(GetRules()))


def test_the_signals_of_layers_stand_last_in_the_models_order_and_are_found() -> None:
    reader = FakeReader(ManualClock(1_767_225_600.0))
    layers = [f"{kind}.{layer}" for kind in ("grad_norm", "update_ratio") for layer in ("embed", "blocks.0", "blocks.10", "blocks.2-9")]
    reader.extra_signals = [*layers[:2], "zz", *layers[2:], "val/acc"]
    view = View(run_name="char-lm", clock=ManualClock(0.0), status=reader.ask(GetStatus()))
    names = shown(view)
    assert names[:4] == ["loss", "val_loss", "lr", "grad_norm"]
    assert names[-len(layers) - 1 :] == ["zz", *layers]
    view.find = "blocks.0"
    assert shown(view) == ["grad_norm.blocks.0", "update_ratio.blocks.0"]
    view.status = msgspec.structs.replace(view.status, signals={n: view.status.signals[n] for n in [*layers, "zz"]}, goal=None)
    assert view.main_signal == "zz"


@pytest.mark.parametrize("columns", [200, 120, 80, 60, 40, 20, 10, 1])
def test_the_verdict_is_the_last_thing_to_go(columns: int) -> None:
    first, second = header.lines(view(), columns)
    assert line_width(first) <= columns
    assert line_width(second) <= columns
    if columns >= 40:
        assert "HEALING" in text_of([first])
        assert "12,340" in text_of([first])


def test_a_loss_that_is_not_finite_is_said_as_such() -> None:
    import msgspec

    v = view()
    assert v.status is not None
    signals = {**v.status.signals, "loss": model.SignalNow(last=math.nan, step=1)}
    v.status = msgspec.structs.replace(v.status, signals=signals, slope_per_k=math.nan, steps_per_s=None, state="crashed",
                                       exit=model.ExitNow(code=None, signal=9), verdict="DEAD", total=None)  # fmt: skip
    text = text_of(header.lines(v, 200))
    assert "loss nan" in text
    assert "DEAD" in text
    assert "crashed (SIGKILL)" in text
    assert "12,340 / –" in text


def test_a_silent_agent_and_lost_records_are_said() -> None:
    import msgspec

    v = view()
    assert v.status is not None
    v.status = msgspec.structs.replace(v.status, agent=model.AgentNow(pid=1, last_seen_s=42.0, dropped=7))
    text = text_of(header.lines(v, 200))
    assert "agent silent 0:42" in text
    assert "7 records lost" in text


@given(st.integers(1, 320), st.integers(1, 100), st.sampled_from(["home", "help", "signals", "logbook", "signal"]), st.booleans(),
       st.sampled_from([None, "rules", "logbook"]), st.integers(1, 6), st.integers(0, 4))  # fmt: skip
def test_nothing_overlaps_and_nothing_hangs_over_the_edge(
    columns: int, rows: int, body: str, command: bool, panel: str | None, strip_rows: int, since_rows: int
) -> None:
    sizes = {"gpu": 4, "rules": 10, "checkpoints": 6, "logbook": 0, "train_log": 0}
    boxes = plan(columns, rows, Wish(body, panel, strip_rows, since_rows, command), sizes)
    taken: dict[int, list[tuple[int, int]]] = {}
    for name, box in boxes.items():
        assert box.x >= 0
        assert box.y >= 0
        assert box.width >= 1
        assert box.height >= 1
        if name != "command":
            assert box.x + box.width <= max(columns, 2)
        assert box.y + box.height <= rows
        for y in range(box.y, box.y + box.height):
            for a, b in taken.get(y, []):
                assert box.x >= b or box.x + box.width <= a, (name, boxes)
            taken.setdefault(y, []).append((box.x, box.x + box.width))
    assert "header" in boxes


def test_carriage_returns_overwrite() -> None:
    assert overwrite(" 10%|#\r 20%|##") == " 20%|##"
    assert overwrite("abcdef\rxy") == "xycdef"
    assert overwrite("done\r") == "done"
    assert overwrite("\x1b[2K\r\x1b[32mok\x1b[0m") == "ok"


def test_train_log_reads_on_across_cut_characters_and_replaced_files(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    log = TrainLog(path)
    assert not log.read()
    path.write_bytes("erste Zeile\nä".encode()[:-1])
    assert log.read()
    assert log.lines == ["erste Zeile"]
    with path.open("ab") as file:
        file.write("ä".encode()[1:] + b"hnlich\r100%")
    assert log.read()
    assert log.lines == ["erste Zeile", "100%ich"]
    with path.open("ab") as file:
        file.write(b"\nnext\n")
    log.read()
    assert log.lines == ["erste Zeile", "100%ich", "next"]
    assert not log.read()
    path.unlink()
    path.write_bytes(b"another\n")
    log.read()
    assert log.lines == ["another"]
    path.write_bytes(b"")
    log.read()
    assert log.lines == []


def test_train_log_keeps_a_bounded_tail(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_bytes(b"".join(b"line %d\n" % i for i in range(100_000)) + b"x" * 100_000 + b"\xff\xfe")
    log = TrainLog(path)
    while log.read():
        pass
    assert len(log.lines) <= KEEP_LINES
    assert len(log.lines[-1]) <= 4000
    assert log.lines[-2] == "line 99999"


def test_train_log_that_is_no_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "train.log").mkdir()
    assert not TrainLog(tmp_path / "train.log").read()


@pytest.mark.parametrize(
    ("line", "says", "wrong"),
    [
        ("", "set  rollback", False),
        ("se", "set", False),
        ("zzz", "'zzz' is no command", True),
        ("set", "set KNOB=0.5x", False),
        ("set lr=0.5x", "lr 1.2e-4 → 6.02e-5, from then on the schedule × 0.25", False),
        ("set lr=1", "is outside 1.0e-6 to 0.01", True),
        ("set lr=2e-4 --hold", "→ 2.0e-4, pinned", False),
        ("set beta=1", "beta is no knob of this run: lr, weight_decay", True),
        ("rollback", "else checkpoint 11,800", False),
        ("rollback --to 9800", "(−2,540 steps)", False),
        ("rollback --to 9801", "checkpoints: 5,800, 9,800, 11,800", False),
        ('note it"s', "note: it\"s", False),
        ("snooze spike x", "how long", True),
        ("approve 'p1", "quotation mark", True),
    ],
)
def test_the_command_line_says_what_it_would_do(line: str, says: str, wrong: bool) -> None:
    v = view()
    text, is_wrong = command_line.preview(line, v.status, command_line.known(v.status, []))
    assert says in text
    assert is_wrong is wrong
    command_line.preview(line, None, command_line.known(None, []))


def test_since_you_left_is_one_sentence() -> None:
    since = model.Since(seconds=29_520, steps=41_300, loss=(2.91, 2.86), goal=(2.94, 2.90), goal_name="val", incidents=1, healed=1,
                        steps_lost=34, gpu_idle=0.004, ends_at=None)  # fmt: skip
    assert since_panel.sentence(since, 0.0) == (
        "Since you left (8 h 12 m): +41,300 steps, loss 2.910 → 2.860, val 2.940 → 2.900, 1 incident healed, 34 steps lost, "
        "GPU idle 0.4 %, ends –"
    )
    nothing = model.Since(seconds=5, steps=0, loss=(None, None), goal=(None, 1.0), goal_name=None, incidents=2, healed=1, steps_lost=0,
                          gpu_idle=None, ends_at=None)  # fmt: skip
    assert since_panel.sentence(nothing, 0.0) == "Since you left (5 s): +0 steps, 2 incidents (1 healed, 1 open), ends –"
    assert since_panel.sentence(nothing, 0.0, "finished").endswith("1 open), finished")


def test_zoom_follows_the_run_until_one_looks_back() -> None:
    v = view()
    assert zoom.bounds(v) == (None, None)
    zoom.zoom_in(v)
    assert zoom.bounds(v) == (6170.0, None)
    zoom.pan(v, -1)
    assert zoom.bounds(v) == (12_340 - 1542.5 - 6170, 12_340 - 1542.5)
    for _ in range(50):
        zoom.pan(v, -1)
    assert zoom.bounds(v)[0] == 0.0
    for _ in range(50):
        zoom.pan(v, 1)
    assert zoom.bounds(v) == (6170.0, None)
    for _ in range(50):
        zoom.zoom_in(v)
    assert v.span == 20.0
    for _ in range(50):
        zoom.zoom_out(v)
    assert zoom.bounds(v) == (None, None)
    empty = view(empty=True)
    zoom.zoom_in(empty)
    zoom.pan(empty, 1)
    assert zoom.bounds(empty) == (None, None)


def test_which_goal_has_an_axis_of_its_own() -> None:
    some = model.Curves(curves=[], markers=[], lo=0, hi=1)
    assert not own_axis("loss", "val_loss", some)
    assert own_axis("loss", "val_acc", some)
    assert not own_axis("loss", None, some)


def test_a_reader_fits_what_the_daemon_answers() -> None:
    import msgspec

    from sitter_wire import queries

    reader = FakeReader(ManualClock())
    for query, kind in (
        (queries.GetStatus(), model.Status), (queries.GetCurves(signals=["loss", "val_loss"], abandoned=True), model.Curves),
        (queries.GetLogbook(), list[model.LogEntry]), (queries.GetRules(), list[model.RuleState]), (queries.GetSince(since=0), model.Since),
        (queries.GetDays(), list[model.DayRow]), (queries.TestNotify(), model.Answered),
    ):  # fmt: skip
        answer = reader.ask(query)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(answer), type=kind) is not None


def test_of_proposals_that_wait_for_an_answer_the_gravest_stands_first() -> None:
    def waits(name: str, severity: str, made: float, due: float | None = None) -> model.Proposal:
        found = model.Finding(rule=name, severity=severity, step=1, branch=0, onset=1, text="", key=name)  # type: ignore[arg-type]
        return model.Proposal(id=name, finding=found, made=made, due=due)

    clock = ManualClock()
    status = FakeReader(clock).ask(GetStatus())
    waiting = [waits("a", "warning", 1), waits("b", "critical", 3), waits("c", "critical", 2), waits("d", "info", 4, due=9)]
    view = View("x", clock, status=msgspec.structs.replace(status, proposals=waiting))
    assert [p.id for p in view.proposals] == ["d", "c", "b", "a"]
