"""Every key does what its label says, at both sizes; the daemon may go and come back; outside text is never an instruction."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual import events

from sitter import model
from sitter.testing.fake_reader import FakeReader
from sitter.testing.manual_clock import ManualClock
from sitter.tui.keys import KEYS
from sitter.tui.logbook_panel import entry_lines
from sitter_wire import commands, queries

SIZES = [(80, 24), (200, 60)]
sizes = pytest.mark.parametrize("size", SIZES, ids=["80x24", "200x60"])


Screen = Any
Play = Callable[..., None]


@sizes
def test_two_seconds_say_whether_it_is_well_and_whether_it_needs_me(play: Play, size: tuple[int, int]) -> None:
    async def story(s: Screen) -> None:
        await s.says("HEALING", "char-lm", "12,340 / 20,000", "62 %", "mode guard")
        await s.says("val_loss", "best", "lr", "× 0.5 =", "V vetoes", "in 1:00", "back to 12,280 or before")
        assert "UTC" in s.part("header") or "ends" in s.part("header")

    play(story, size)


def test_a_wide_screen_shows_all_panels_at_once_and_a_small_one_a_glance(play: Play) -> None:
    async def wide(s: Screen) -> None:
        assert {"chart", "gpu", "rules", "checkpoints", "logbook", "train_log"} <= s.shown
        await s.says("GPU0 H100", "non-finite", "11,800-1", "checkpoint 9,800 verified")

    async def small(s: Screen) -> None:
        assert {"chart", "glance"} <= s.shown
        assert "rules" not in s.shown
        await s.says("GPU0 H100", "power cap", "spike at 11,868")

    play(wide, (200, 60))
    play(small)


@sizes
@pytest.mark.parametrize(
    ("key", "name", "words"),
    [
        ("1", "gpu", "disk free"),
        ("2", "rules", "gpu-hot"),
        ("3", "checkpoints", "together"),
        ("4", "logbook", "plateau since yesterday"),
        ("5", "train_log", "train.log"),
    ],
)
def test_numbers_show_a_panel_and_once_more_enlarge_it(play: Play, size: tuple[int, int], key: str, name: str, words: str) -> None:
    async def story(s: Screen) -> None:
        await s.press(key)
        await s.until(lambda: name in s.shown and words in s.part(name))
        await s.press(key)
        await s.until(lambda: "chart" not in s.shown and name in s.shown)
        await s.until(lambda: words in s.part(name))
        await s.press("escape")
        await s.until(lambda: {"chart", name} <= s.shown)

    play(story, size)


def applied(s: Screen, kind: type[Any]) -> list[Any]:
    return [q.action for q in s.asked(queries.Act) if isinstance(q.action, kind)]


@sizes
def test_p_pauses_and_the_next_p_goes_on(play: Play, size: tuple[int, int]) -> None:
    async def story(s: Screen) -> None:
        await s.press("P")
        await s.says("Pause at the next safe point?", "Enter", "Esc")
        assert not applied(s, commands.Pause)
        await s.press("enter")
        await s.says("✔ pause: applied @12,340: paused")
        await s.until(lambda: "paused" in s.part("header"))
        await s.until(lambda: "unpause" in s.part("footer"))
        await s.press("P")
        await s.says("Go on with the training?")
        await s.press("enter")
        await s.says("✔ go on: applied")
        assert applied(s, commands.Unpause)

    play(story, size)


@sizes
def test_a_pause_can_free_the_gpu_meanwhile(play: Play, size: tuple[int, int]) -> None:
    async def story(s: Screen) -> None:
        await s.press("P")
        await s.says("Pause at the next safe point?", "frees the GPU", "Esc leaves it")
        await s.press("F")
        await s.until(lambda: applied(s, commands.Pause))
        assert [pause.free for pause in applied(s, commands.Pause)] == [True]

    play(story, size)


@sizes
def test_l_shows_what_the_new_rate_would_be_before_it_is_set(play: Play, size: tuple[int, int]) -> None:
    async def story(s: Screen) -> None:
        await s.press("L")
        await s.says("lr 1.2e-4 → 6.02e-5", "the schedule × 0.25")
        await s.press("enter")
        await s.says("✔ lr × 0.5: applied @12,340")
        assert applied(s, commands.SetKnob) == [commands.SetKnob(knob="lr", op="scale", amount=0.5)]
        await s.until(lambda: "× 0.25 =" in s.part("header"))

    play(story, size)


def test_a_rate_out_of_bounds_is_warned_of_and_the_refusal_is_shown_as_the_agent_said_it(play: Play) -> None:
    async def story(s: Screen) -> None:
        await s.press("colon")
        await s.write("set lr=1")
        await s.says("is outside")
        await s.press("enter")
        await s.says("✘ lr = 1: rejected: lr 1 is outside 1e-06 to 0.01")

    play(story)


@sizes
def test_c_writes_a_checkpoint(play: Play, size: tuple[int, int]) -> None:
    async def story(s: Screen) -> None:
        await s.press("C")
        await s.says("Write a checkpoint now (step 12,340)?")
        await s.press("enter")
        await s.says("✔ checkpoint: applied @12,340")
        await s.press("3")
        await s.says("12,340-1", "not yet good")

    play(story, size)


@sizes
def test_r_rolls_back(play: Play, size: tuple[int, int]) -> None:
    async def story(s: Screen) -> None:
        await s.press("R")
        await s.says("back to the newest good state", "checkpoint 11,800")
        await s.press("enter")
        await s.says("applied @12,340: back to 11,800, 540 steps")
        assert applied(s, commands.Rollback)
        await s.until(lambda: "11,800 / 20,000" in s.part("header"))

    play(story, size)


@sizes
def test_s_stops_with_a_checkpoint_and_n_kills(play: Play, size: tuple[int, int]) -> None:
    async def gently(s: Screen) -> None:
        await s.press("S")
        await s.says("End the training at step 12,340?", "kills it now")
        await s.press("enter")
        await s.says("✔ checkpoint and stop: applied")
        assert applied(s, commands.Stop)[0].checkpoint
        await s.until(lambda: "stopped" in s.part("header"))
        await s.press("S")
        await s.says("the training has ended (stopped)")

    async def hard(s: Screen) -> None:
        await s.press("S", "N")
        await s.until(lambda: s.asked(queries.StopNow))
        assert not applied(s, commands.Stop)

    play(gently, size)
    play(hard, size)


def test_what_was_proposed_cannot_be_approved_when_the_training_has_ended(play: Play) -> None:
    async def story(s: Screen) -> None:
        s.reader._hold("crashed")
        await s.says("waits for the training")
        await s.press("A")
        await s.says("approve: the training has ended (crashed)")
        assert s.app.view.question is None

    play(story)


def test_escape_takes_away_all_outcomes_also_those_that_the_last_two_had_pushed_out(play: Play) -> None:
    async def story(s: Screen) -> None:
        for text in ("one", "two", "three"):
            await s.press("colon")
            await s.write(f"note {text}")
            await s.press("enter")
            await s.says(f"note: {text}: applied")
        await s.press("escape")
        await s.no_longer_says("applied")

    play(story)


def test_escape_and_n_leave_everything_as_it_is(play: Play) -> None:
    async def story(s: Screen) -> None:
        for key in ("P", "C", "S", "A"):
            for no in ("escape", "n"):
                await s.press(key)
                await s.until(lambda: s.app.view.question is not None)
                await s.press(no)
                await s.until(lambda: s.app.view.question is None)
        await s.press("L", "escape")
        await s.press("R", "escape")
        assert not s.asked(queries.Act)
        assert not s.asked(queries.Approve)

    play(story)


def test_another_key_answers_no_question(play: Play) -> None:
    async def story(s: Screen) -> None:
        await s.press("S", "4")
        await s.until(lambda: "logbook" in s.shown)
        assert s.app.view.question is None
        await s.press("enter")
        await s.until(lambda: "chart" not in s.shown)
        assert not s.asked(queries.Act)

    play(story)


def planned(s: Screen) -> dict[str, tuple[int, ...]]:
    return {name: tuple(box) for name, box in s.app._desk.planned.boxes.items()}


def laid_out(s: Screen) -> dict[str, tuple[int, ...]]:
    return {name: tuple(s.app.query_one(f"#{name}").region) for name in s.app._desk.planned.boxes}


@sizes
def test_v_vetoes_at_once(play: Play, size: tuple[int, int]) -> None:
    async def story(s: Screen) -> None:
        await s.press("V")
        await s.says("✔ veto p1: applied: spike: vetoed, nothing done")
        assert [q.id for q in s.asked(queries.Veto)] == ["p1"]
        await s.no_longer_says("V vetoes")
        await s.until(lambda: " OK " in s.part("header"))
        await s.until(lambda: s.app._desk.planned.boxes["strip"].height == 1)
        await s.press("V")
        await s.says("nothing is proposed")
        await s.until(lambda: laid_out(s) == planned(s))

    play(story, size)


@sizes
def test_a_approves_after_saying_what_it_does(play: Play, size: tuple[int, int]) -> None:
    async def story(s: Screen) -> None:
        await s.press("A")
        await s.says("Approve spike: back to 12,280 or before")
        assert not s.asked(queries.Approve)
        await s.press("enter")
        await s.says("✔ approve p1: applied")
        assert [q.id for q in s.asked(queries.Approve)] == ["p1"]

    play(story, size)


def test_the_countdown_runs_and_ends_in_the_deed(play: Play) -> None:
    async def story(s: Screen) -> None:
        await s.says("in 1:00")
        s.clock.advance(18)
        await s.says("in 0:42")
        s.clock.advance(43)
        await s.no_longer_says("vetoes")
        await s.press("4")
        await s.says("applied: back to 11,800")

    play(story)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (model.Answered(status="rejected", text="no state of step 900 is kept"), "rejected: no state of step 900 is kept"),
        (model.Answered(status="expired", text="the deadline passed"), "expired: the deadline passed"),
        (model.Answered(status="unanswered", text="can no longer start"), "not answered: can no longer start"),
    ],
)
def test_an_outcome_is_shown_as_it_was_said(play: Play, answer: model.Answered, words: str) -> None:
    async def story(s: Screen) -> None:
        s.reader.answer = answer
        await s.press("C", "enter")
        await s.says("✘ checkpoint: " + words)
        assert "✔" not in s.part("strip")
        await s.press("escape")
        await s.no_longer_says(words)

    play(story)


def test_the_daemon_goes_and_comes_back(play: Play) -> None:
    async def story(s: Screen) -> None:
        s.reader.lost = True
        await s.says("daemon lost, looking for it", "waits for the daemon")
        assert "12,340" in s.part("header"), "what was known stays"
        s.clock.advance(12)
        await s.says("(0:12)")
        await s.press("C", "enter")
        await s.says("✘ checkpoint: not answered: the daemon is lost, so no answer came")
        s.reader.lost = False
        await s.no_longer_says("daemon lost")
        await s.until(lambda: "HEALING" in s.part("header"))

    play(story)


def test_a_daemon_that_was_never_there_is_looked_for(play: Play) -> None:
    async def story(s: Screen) -> None:
        await s.says("daemon lost, looking for it", "char-lm")
        s.reader.lost = False
        await s.says("HEALING", "12,340")

    clock = ManualClock()
    reader = FakeReader(clock)
    reader.lost = True
    play(story, reader=reader, clock=clock, wait=False)


def test_a_reply_to_a_view_that_was_left_is_dropped(play: Play) -> None:
    async def story(s: Screen) -> None:
        from sitter.tui.messages import CurvesCame

        stale = model.Curves(curves=[], markers=[], lo=0.0, hi=1.0)
        s.app.on_curves_came(CurvesCame(stale, s.app._generation - 1))
        assert s.app.view.curves is not stale
        s.app.on_curves_came(CurvesCame(stale, s.app._generation))
        assert s.app.view.curves is stale

    play(story)


def test_a_reader_that_hangs_does_not_hang_the_keys(play: Play) -> None:
    import threading

    free = threading.Event()

    class Slow(FakeReader):
        hang = False

        def ask(self, query: Any, timeout: float = 5.0) -> Any:
            if self.hang:
                free.wait(120)
            return super().ask(query, timeout)

    async def story(s: Screen) -> None:
        s.reader.hang = True  # type: ignore[attr-defined]
        await s.press("question_mark")
        await s.says("capitals act")
        await s.press("question_mark", "4")
        await s.until(lambda: "logbook" in s.shown)
        free.set()

    clock = ManualClock()
    try:
        play(story, reader=Slow(clock), clock=clock)
    finally:
        free.set()


def test_a_demand_that_waits_for_its_safe_point_does_not_stop_the_looking(play: Play) -> None:
    import threading

    free = threading.Event()

    class Waits(FakeReader):
        def ask(self, query: Any, timeout: float = 5.0) -> Any:
            free.wait(120)
            return super().ask(query, timeout)

    async def story(s: Screen) -> None:
        await s.press("C", "enter")
        await s.says("checkpoint: sent, waiting for the outcome")
        s.clock.advance(50)
        await s.until(lambda: "12,460" in s.part("header"))
        free.set()
        await s.says("✔ checkpoint: applied")

    clock = ManualClock()
    try:
        play(story, reader=FakeReader(clock), acting=Waits(clock), clock=clock)
    finally:
        free.set()


@sizes
def test_signals_are_filtered_chosen_and_enlarged(play: Play, size: tuple[int, int]) -> None:
    async def story(s: Screen) -> None:
        await s.press("s")
        await s.until(lambda: "signals" in s.shown and s.app.view.multiples is not None)
        await s.says("loss", "grad_norm", "Enter enlarges")
        await s.press("slash")
        await s.write("gpu")
        await s.until(lambda: "grad_norm" not in s.part("signals") and "gpu0.util" in s.part("signals"))
        await s.press("enter", "right", "enter")
        await s.until(lambda: s.app.body == "signal:gpu0.util" and s.app.view.curves is not None)
        await s.until(lambda: "━ gpu0.util" in s.part("chart"))
        await s.press("escape", "escape", "escape")
        await s.until(lambda: s.app.body == "home")

    play(story, size)


def test_slash_finds_in_the_logbook_and_escape_shows_all_again(play: Play) -> None:
    async def story(s: Screen) -> None:
        await s.press("slash")
        await s.write("plateau")
        await s.until(lambda: "plateau" in s.part("logbook") and "verified" not in s.part("logbook"))
        await s.press("enter")
        await s.until(lambda: "/plateau" in s.part("footer"))
        await s.press("escape")
        await s.until(lambda: "verified" in s.part("logbook"))

    play(story)


def test_the_command_line_completes_remembers_and_explains_errors(play: Play) -> None:
    async def story(s: Screen) -> None:
        await s.press("colon")
        await s.says("set  rollback  checkpoint")
        await s.write("ro")
        await s.press("tab")
        await s.until(lambda: s.app._command.value == "rollback ")
        await s.press("escape", "colon")
        await s.write("sett lr=0.5x")
        await s.press("enter")
        await s.says("'sett' is no command; did you mean 'set'?")
        await s.press("escape", "colon")
        await s.write("set lrr=0.5x")
        await s.says("lrr is no knob of this run")
        assert "Enter does it" not in s.text
        await s.press("escape", "colon")
        await s.write("rollback --to 99k")
        await s.says("step 99,000 has not been reached: the run is at")
        assert s.app._command_open
        await s.press("escape", "colon")
        await s.write("snooze gpu-")
        await s.press("tab")
        await s.until(lambda: s.app._command.value in ("snooze gpu-idle", "snooze gpu-hot", "snooze gpu-memory"))
        await s.press("escape", "colon")
        await s.write("note a [/b] walk")
        await s.press("enter")
        await s.says("note: a [/b] walk: applied")
        assert s.asked(queries.AddNote) == [queries.AddNote(text="a [/b] walk")]
        await s.press("colon", "up")
        await s.until(lambda: s.app._command.value == "note a [/b] walk")
        await s.press("escape", "colon")
        await s.write("mode watch")
        await s.press("enter")
        await s.until(lambda: "mode watch" in s.part("header"))

    clock = ManualClock()
    play(story, (200, 60), reader=FakeReader(clock), clock=clock)


def test_several_knobs_are_sent_in_turn_and_end_at_the_first_that_is_not_applied(play: Play) -> None:
    async def story(s: Screen) -> None:
        await s.press("colon")
        await s.write("set weight_decay=0.1 lr=0.5x")
        await s.press("enter")
        await s.says("rejected: weight_decay is fixed in this run", "left out, since the one before was not applied")
        assert len(s.asked(queries.Act)) == 1

    play(story, (200, 60))


def test_axis_height_band_zoom_and_pan(play: Play) -> None:
    async def story(s: Screen) -> None:
        def last() -> queries.GetCurves:
            return [q for q in s.asked(queries.GetCurves) if "lr" in q.signals][-1]

        await s.until(lambda: s.part("chart").splitlines()[0].endswith("step"))
        await s.press("x")
        await s.until(lambda: " ep" in s.part("chart"))
        await s.press("x")
        await s.until(lambda: last().axis == "hours" and " h" in s.part("chart"))
        await s.press("x", "y")
        await s.says("step · whole")
        await s.press("y")
        await s.says("step · log")
        await s.press("y")
        before = s.part("chart")
        await s.press("b")
        await s.until(lambda: s.part("chart") != before)
        await s.press("plus")
        await s.until(lambda: last().lo == 6170 and last().hi is None)
        await s.press("left")
        await s.until(lambda: last().hi is not None and last().hi < 12_340)
        await s.press("right")
        await s.until(lambda: last().hi is None)
        await s.press("minus")
        await s.until(lambda: last().lo is None)
        await s.press("plus", "plus", "0")
        await s.until(lambda: last().lo is None)

    play(story)


def test_since_you_left_comes_first_and_any_key_puts_it_away(play: Play) -> None:
    async def story(s: Screen) -> None:
        await s.says("Since you left (1 h):", "+8,640 steps", "1 incident healed", "34 steps lost", "GPU idle 0.4 %")
        await s.press("b")
        await s.until(lambda: "since" not in s.shown)
        await s.press("w")
        await s.says("Since you left")
        await s.press("w")
        await s.until(lambda: "since" not in s.shown)

    clock = ManualClock()
    play(story, clock=clock, since=clock.wall() - 3600)


def test_who_has_not_been_away_is_told_so(play: Play) -> None:
    async def story(s: Screen) -> None:
        await s.press("w")
        await s.says("since you left: no earlier look at this run is known")

    play(story)


@sizes
def test_help_names_every_key_and_what_is_on_the_screen(play: Play, size: tuple[int, int]) -> None:
    async def story(s: Screen) -> None:
        await s.press("question_mark")
        await s.until(lambda: "help" in s.shown and "capitals act" in s.part("help"))
        page = s.app._panels["help"]
        lines = "\n".join("".join(t for t, _ in line) for line in page.content(s.app.view, size[0], size[1]))
        for key in KEYS:
            assert key.shown in lines
            assert key.label in lines
        assert "The verdict: OK, HEALING" in lines
        await s.press("down", "end")
        await s.until(lambda: "mode watch|guard|act" in s.part("help"))
        await s.press("escape")
        await s.until(lambda: "chart" in s.shown)

    play(story, size)


def test_every_key_of_the_list_does_something() -> None:
    from sitter.tui.app import App

    for key in KEYS:
        assert callable(getattr(App, f"do_{key.method}")), key


def test_t_turns_dark_into_light(play: Play) -> None:
    async def story(s: Screen) -> None:
        dark = s.app.look.background
        await s.press("t")
        await s.until(lambda: s.app.look.background != dark)
        await s.press("t")
        await s.until(lambda: s.app.look.background == dark)

    play(story)


def test_no_color_sends_no_colour(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Screen) -> None:
        strip = s.app._panels["header"].render_line(0)
        assert all(segment.style is None or segment.style.color is None for segment in strip)
        assert any(segment.style is not None and segment.style.reverse for segment in strip), "the verdict stands out all the same"

    monkeypatch.setenv("NO_COLOR", "1")
    play(story)


@sizes
def test_ascii_is_ascii(play: Play, size: tuple[int, int]) -> None:
    async def story(s: Screen) -> None:
        for keys in (["s"], ["escape", "question_mark"], ["escape", "4", "4"], ["escape", "2"], ["P"]):
            await s.press(*keys)
            await s.pilot.pause(0.1)
            assert s.text.isascii(), [c for c in s.text if c > "\x7f"]
        await s.press("escape", "escape", "escape")
        await s.until(lambda: "chart" in s.shown)
        assert "*" in s.part("chart")

    play(story, size, ascii=True)


@pytest.mark.parametrize("size", [(40, 10), (20, 5), (10, 3), (1, 1), (60, 15), (139, 60), (140, 34), (300, 20), (80, 6)])
def test_tiny_and_odd_terminals_do_not_crash(play: Play, size: tuple[int, int]) -> None:
    async def story(s: Screen) -> None:
        for key in ("4", "4", "escape", "s", "enter", "escape", "escape", "question_mark", "escape", "P", "escape", "colon", "escape", "w"):
            await s.press(key)
        for line in s.app._panels["header"].drawn:
            assert sum(len(t) for t, _ in line) <= size[0]

    clock = ManualClock()
    play(story, size, clock=clock, wait=False, since=clock.wall() - 60)


def test_resizing_goes_from_one_plan_to_the_other_and_back(play: Play) -> None:
    async def story(s: Screen) -> None:
        await s.pilot.resize_terminal(200, 60)
        await s.until(lambda: "rules" in s.shown and "non-finite" in s.part("rules"))
        await s.pilot.resize_terminal(40, 10)
        await s.until(lambda: "rules" not in s.shown)
        await s.pilot.resize_terminal(80, 24)
        await s.until(lambda: "glance" in s.shown and len(s.app._panels["header"].drawn) == 2)
        await s.says("HEALING", "power cap")

    play(story)


@sizes
def test_a_run_with_no_data_yet_shows_unknown_as_unknown(play: Play, size: tuple[int, int]) -> None:
    async def story(s: Screen) -> None:
        await s.says("starting", "step – / 20,000", "guard blind: no loss signal", "no data yet", "nothing waits for you")
        await s.says("val_loss –", "lr –", "– step/s", "wait –")
        await s.press("s")
        await s.says("no signal has been logged yet")
        await s.press("escape", "3")
        await s.says("none yet")

    clock = ManualClock()
    play(story, size, reader=FakeReader(clock, step=0, empty=True), clock=clock)


@sizes
def test_garbage_in_names_logbook_and_train_log_is_only_text(play: Play, size: tuple[int, int], tmp_path: Path) -> None:
    nasty = "[/b] [red]x \x1b[2J\x1b]0;owned\x07 \u202eevil\x00 " + "wide 漢字 " * 3
    (tmp_path / "train.log").write_bytes(nasty.encode() + b"\n\xff\xfe\n 10%|#  |\r 20%|## |\nlast [/nope]\n")

    async def story(s: Screen) -> None:
        await s.press("4")
        await s.until(lambda: "[/b] [red]x" in s.part("logbook"))
        await s.press("5", "5")
        await s.until(lambda: "last [/nope]" in s.part("train_log"))
        await s.until(lambda: "20%|## |" in s.part("train_log") and "10%" not in s.part("train_log"))
        await s.press("escape", "s", "end")
        await s.until(lambda: s.app.view.multiples is not None and "weird/[/b]" in s.part("signals"))
        for text in (s.text,):
            assert not any(c in text for c in "\x1b\x07\x00\u202e")
            assert "owned" not in text

    clock = ManualClock()
    reader = FakeReader(clock, directory=str(tmp_path))
    reader.extra_signals = ["weird/[/b]\x1b[31m"]
    reader.ask(queries.AddNote(text=nasty))
    play(story, size, reader=reader, clock=clock)


def test_q_and_ctrl_c_leave_and_ask_nothing_of_the_run(play: Play) -> None:
    for key in ("q", "ctrl+c"):

        async def story(s: Screen, key: str = key) -> None:
            await s.press(key)
            await s.until(lambda: not s.app.is_running or s.app._exit)
            assert not s.asked(queries.Act)
            assert not s.asked(queries.StopNow)

        play(story)


def test_tab_goes_through_the_proposals(play: Play) -> None:
    class Two(FakeReader):
        def _status(self) -> model.Status:
            import msgspec

            status = super()._status()
            other = model.Proposal(
                id="p2", made=status.proposals[0].made, due=None,
                finding=model.Finding(rule="disk-full", severity="warning", step=1, branch=0, onset=1, text="the disk has 2 G left",
                                      actions=[commands.Pause()]),
            )  # fmt: skip
            return msgspec.structs.replace(status, proposals=[other, *status.proposals])

    async def story(s: Screen) -> None:
        await s.says("1/2 Tab", "loss 11 × its usual level")
        await s.press("tab")
        await s.says("2/2 Tab", "the disk has 2 G left", "→ pause", "A approves")
        await s.press("tab")
        await s.says("loss 11 ×")

    clock = ManualClock()
    play(story, reader=Two(clock), clock=clock)


def test_a_question_that_fails_is_said_and_the_rest_goes_on(play: Play) -> None:
    from sitter.errors import DaemonError

    class Broken(FakeReader):
        def ask(self, query: Any, timeout: float = 5.0) -> Any:
            if isinstance(query, queries.GetCurves):
                raise DaemonError("the history is damaged: restore it [/b]")
            return super().ask(query, timeout)

    async def story(s: Screen) -> None:
        await s.says("V vetoes")
        await s.press("V")
        await s.says("✔ veto p1: applied")  # before its minute is over
        s.clock.advance(60)
        await s.says("the history is damaged: restore it [/b]")
        await s.until(lambda: "12,484" in s.part("header"))
        looks = len(s.asked(queries.GetStatus))
        await s.until(lambda: len(s.asked(queries.GetStatus)) > looks + 5)
        assert "the history is damaged" in s.text, "it was not asked again, and is not mended for that"

    clock = ManualClock()
    play(story, reader=Broken(clock), clock=clock, wait=False)


def test_ref_is_drawn(play: Play) -> None:
    ref = [model.Curve(signal="loss", x=[0.0, 12_000.0], low=[2.0, 1.6], high=[2.0, 1.6], mean=[2.0, 1.6])]

    async def story(s: Screen) -> None:
        await s.until(lambda: "┄ ref" in s.part("chart"))

    play(story, (120, 30), ref=ref)


def test_what_is_typed_right_behind_the_colon_is_the_lines_and_no_key_of_its_own(play: Play) -> None:
    """Over a slow line, or pasted, the keys come in one packet."""

    async def story(s: Screen) -> None:
        for key in ("colon", "s", "e", "t", "space", "l", "r", "equals_sign", "x", "q"):
            character = {"colon": ":", "space": " ", "equals_sign": "="}.get(key, key)
            s.app.post_message(events.Key(key, character))
        await s.until(lambda: s.app._command.value == "set lr=xq")
        assert s.app.view.axis == "step"
        assert s.app.body == "home"

    play(story)


def test_tab_completes_what_was_typed_before_it_in_the_same_packet(play: Play) -> None:
    async def story(s: Screen) -> None:
        for key in (":", "r", "o", "l", "l", "tab", "-"):
            s.app.post_message(events.Key({":": "colon", "-": "minus"}.get(key, key), None if key == "tab" else key))
        await s.until(lambda: s.app._command.value == "rollback -")

    play(story)


def test_enter_pressed_twice_does_it_once(play: Play) -> None:
    async def story(s: Screen) -> None:
        await s.press("L")
        for _ in range(2):
            s.app.post_message(events.Key("enter", "\r"))
        await s.says("✔ lr × 0.5: applied")
        assert len(applied(s, commands.SetKnob)) == 1

    play(story)


class LateCommits(FakeReader):
    """As a daemon that counts an entry when it is written, and shows it once it is committed."""

    committed = False

    def ask(self, query: queries.AnyQuery, timeout: float = 5.0) -> Any:
        if isinstance(query, queries.GetLogbook) and not self.committed:
            return [e for e in super().ask(query, timeout) if e.id < 3]
        return super().ask(query, timeout)


def test_an_entry_of_the_logbook_that_is_committed_late_is_shown(play: Play) -> None:
    clock = ManualClock()
    reader = LateCommits(clock)

    async def story(s: Screen) -> None:
        await s.until(lambda: len(s.app.view.entries) == 2)
        reader.committed = True
        await s.until(lambda: s.app.view.status and len(s.app.view.entries) == s.app.view.status.log_id)
        assert [e.id for e in s.app.view.entries] == list(range(1, len(s.app.view.entries) + 1))

    play(story, reader=reader, clock=clock, wait=False)


def test_what_needs_the_operator_is_never_called_nothing(play: Play) -> None:
    class Troubled(FakeReader):
        state: model.State = "stalled"

        def _status(self) -> model.Status:
            return msgspec.structs.replace(super()._status(), state=self.state, verdict="NEEDS YOU", proposals=[])

    clock = ManualClock()
    reader = Troubled(clock)

    async def story(s: Screen) -> None:
        for state, word in (("stalled", "no step is done any more"), ("hung", "does not answer"), ("crashed", "sitter resume")):
            reader.state = state  # type: ignore[assignment]
            await s.says(word)
            assert "nothing waits" not in s.text
        reader.lost = True
        await s.says("the training needs no daemon")
        assert "nothing waits" not in s.text

    play(story, reader=reader, clock=clock)


def test_an_incident_that_is_over_is_no_alarm_in_the_logbook() -> None:
    over = "recovered, 3 steps lost"
    entry = model.LogEntry(id=1, time=0.0, kind="incident", step=9, status=over, detail=f"loss is back: {over}")
    (line,) = entry_lines(entry, 0.0, 80)
    assert ("✔ ", "good") in line
    (line,) = entry_lines(msgspec.structs.replace(entry, status="open"), 0.0, 80)
    assert ("✖ ", "bad") in line


def test_since_you_left_ends_with_the_end_that_the_daemon_expects(play: Play) -> None:
    class Forgetful(FakeReader):
        def _what_happened(self, since: float) -> model.Since:
            return msgspec.structs.replace(super()._what_happened(since), ends_at=None)

    clock = ManualClock()

    async def story(s: Screen) -> None:
        await s.says("Since you left")
        assert "ends –" not in " ".join(s.part("since").split())

    play(story, reader=Forgetful(clock), clock=clock, since=clock.wall() - 3600)
