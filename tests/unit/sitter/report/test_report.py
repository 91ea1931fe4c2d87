"""What a report says of a run, and that it says nothing else."""

import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from sitter.errors import UsageError
from sitter.plot import MARKS
from sitter.report.facts import Facts, gather
from sitter.report.markdown import markdown
from sitter.report.page import page
from sitter.report.pictures import pictures
from sitter.report.words import UNTOUCHED, head, methods
from sitter_wire.events import KnobChanged, Restored, SessionStart
from sitter_wire.queries import GetCurves
from sitter_wire.records import Point
from tests.unit.sitter.report.conftest import INFO, WALL, Past


def facts(past: Past) -> Facts:
    return gather(past.done(), INFO, "finished")


class Page(HTMLParser):
    """Tags in order, each closed; texts by the tag they stand in."""

    VOID = ("meta", "!doctype")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "dd", "blockquote", "p"):
            self.cells.append(data)


def test_every_intervention_says_who_why_and_from_what_to_what(troubled: Past) -> None:
    done = facts(troubled).interventions
    assert [(i.verb, i.who, i.step) for i in done] == [
        ("set", "operator", 299), ("drop", "operator", 299), ("pause", "operator", 299), ("unpause", "operator", 299),
        ("rollback", "guard", 399), ("restart", "sitter", 599),
    ]  # fmt: skip
    rate, dropped, _, _, back, _ = done
    assert (rate.before, rate.after) == (0.001, 0.0005)
    assert dropped.dropped == 3
    assert (back.before, back.after, back.lost) == (419.0, 399.0, 20)
    assert back.why == "loss 11 × its usual level | at step 415"


def test_the_sums(troubled: Past) -> None:
    t = facts(troubled).totals
    assert t.steps == 700
    assert t.restarts == 1
    assert t.incidents == 1
    assert t.steps_lost == {"rollbacks": 20}
    assert t.lost["pauses"] == pytest.approx(60.0, abs=1.0)
    assert t.lost["rollbacks"] == pytest.approx(10.0, abs=1.0)  # 20 steps of half a second
    assert t.lost["between processes"] == pytest.approx(120.0, abs=1.0)
    assert t.trained == pytest.approx((300 + 120 + 200 + 100) / 2 + 60, abs=2.0)
    assert (t.gpu_hours, t.energy_kwh) == (None, None)


@pytest.mark.parametrize(
    ("until", "says"), [(0, "Training was recorded by sitter"), (900, "for 25 % of its time;"), (3600, "Training was watched by sitter")]
)
def test_what_nobody_watched_is_not_said_to_have_been(past: Past, until: int, says: str) -> None:
    past.steps(0, 7200)
    for second in range(0, until, 10):
        past.writer.host(1_800_000_000.0 + second, {"host.cpu": 50.0})
    said = methods(facts(past))
    assert says in said
    assert ("%" in said) == (until == 900)
    assert said.endswith(f"{UNTOUCHED}.")


def test_what_a_restart_does_again_is_lost_and_what_was_done_before_is_not_in_the_run_any_more(troubled: Past) -> None:
    """From the start: 399 steps of branch 0, 199 of branch 1 and 100 of branch 2 are gone, and with them all that was done."""
    troubled.begin("c", SessionStart(pid=3, host="box", branch=3, goal="val_loss"), after_s=60.0)
    troubled.line("restart", step=0, branch=3, status="started", detail="process 3 on box")
    troubled.steps(0, 50, 3)
    troubled.outcome(49, 3, "set lr=2x", "lr 0.001 → 0.002", old=0.001, new=0.002)
    found = facts(troubled)
    t = found.totals
    assert t.steps == 50
    assert t.steps_lost == {"rollbacks": 20, "restarts": 700}
    assert t.lost["restarts"] == pytest.approx((400 + 200 + 100) / 2, abs=2.0)  # without the minute's pause
    assert [i.verb for i in found.interventions if not i.left] == ["restart", "restart", "set"]
    said = methods(found)
    assert "3 interventions were made" in said
    assert "started again from the start (by hand)" in said, "which process it is is no reason"
    assert "5 earlier ones belong to steps that were done again from before" in said
    assert "left behind by a later restart" in markdown(found, [])


def test_a_run_whose_loss_has_another_name_is_as_long(past: Past) -> None:
    points = [Point(past.seq + 1 + step, step, 0, past.time + step * 10**9, ("loss_g",), (1.0,)) for step in range(200)]
    assert past.writer.records("a", points)
    past.seq += 200
    past.event(Restored(branch=1, step=149, from_branch=0, left=199, source="snapshot"), 149, 1)
    t = facts(past).totals
    assert t.steps == 150
    assert (t.steps_lost, round(t.lost["rollbacks"])) == ({"rollbacks": 50}, 50)


def test_gpu_hours_and_energy_are_those_of_the_runs_gpus(past: Past) -> None:
    past.steps(0, 7200)
    for second in range(0, 3600, 10):
        past.writer.host(1_800_000_000.0 + second, {"gpu0.power": 300.0, "gpu0.util": 90.0})
    t = facts(past).totals
    assert t.gpu_hours == pytest.approx(1.0, rel=0.01)
    assert t.energy_kwh == pytest.approx(0.3, rel=0.01)


def test_a_run_that_nobody_touched_says_so(past: Past) -> None:
    past.steps(0, 500)
    found = facts(past)
    assert methods(found).endswith(f"{UNTOUCHED}.")
    assert UNTOUCHED.capitalize() in markdown(found, [])
    assert UNTOUCHED.capitalize() in page(found, [])


def test_the_methods_sentence_tells_all_that_was_done(troubled: Past) -> None:
    said = methods(facts(troubled))
    for part in (
        "6 interventions were made", "at step 299 lr was changed from 0.001 to 0.0005 (by hand)", "3 batches were left out",
        "at step 419 the state was put back to that of step 399, and the batches in between were left out (by rule guard, since loss 11 ×",
        "at step 599 the training was started again from step 599 (by sitter, since crashed at step 599, killed by SIGKILL)",
    ):  # fmt: skip
        assert part in said


def test_the_pages_hold_and_nothing_in_a_text_of_others_is_markup(troubled: Past) -> None:
    found = facts(troubled)
    drawn = pictures(troubled.reader, found)
    assert [p.name for p in drawn] == ["loss", "lr"]
    whole = page(found, drawn)
    read = Page(whole)
    assert "python train.py --note <b>|bold|</b>" in read.cells
    assert read.links == []  # nothing is fetched from anywhere
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", whole)
    text = markdown(found, drawn)
    assert "\\<b>\\|bold\\|" in text
    assert "val_loss" in text
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables if "operator" in line or "guard" in line} <= {8, 7}


def test_a_run_that_ended_in_nan_does_not_say_that_it_ended_well(past: Past) -> None:
    past.steps(0, 300)
    past.steps(300, 340, loss=math.nan)
    said = dict(head(facts(past)))
    assert said["loss"].startswith("3.0")
    assert re.search(r"→ nan from step 300 on \(2\.\d+ at 299 was the last\); best", said["loss"])
    assert "nan" not in said["val_loss, the goal"]


def test_what_was_left_behind_and_blew_up_does_not_squeeze_the_rest(past: Past) -> None:
    past.steps(0, 300)
    past.steps(300, 310, loss=1e6)
    past.event(Restored(branch=1, step=299, from_branch=0, left=309, source="snapshot"), 299, 1)
    past.steps(300, 400, 1)
    (loss,) = (p for p in pictures(past.done(), facts(past)) if p.name == "loss")
    ticks = [e.text for e in ET.fromstring(loss.svg).iter() if e.tag.endswith("text") and e.get("text-anchor") == "end"]
    assert ticks
    assert all(float(text) < 10 for text in ticks if text)


def test_a_knob_that_a_rollback_changed_stands_below_it_as_a_part_of_it(past: Past) -> None:
    past.steps(0, 300)
    past.event(Restored(branch=1, step=279, from_branch=0, left=299, source="snapshot"), 279, 1)
    past.event(KnobChanged(knob="lr", old=1e-3, new=3e-4, scale=0.3, by="rule:guard"), 279, 1)
    past.time += 10**9
    past.outcome(279, 1, "rollback", "back from step 299 to 279", rule="guard", **{"from": 299, "step": 279, "lost": 20})
    past.steps(280, 300, 1)
    assert [(i.action, i.why) for i in facts(past).interventions] == [("rollback", ""), ("set lr=0.3x", "part of going back")]


def test_a_restart_is_marked_on_the_curves_where_it_went_on(troubled: Past) -> None:
    troubled.begin("c", SessionStart(pid=3, host="box", branch=3, goal="val_loss"), after_s=60.0)
    began = troubled.wall()
    troubled.steps(0, 50, 3)
    drawn = troubled.done().curves(GetCurves(signals=["loss"], columns=60, abandoned=True))
    said = [(m.x, m.text) for m in drawn.markers if m.kind == "restart"]
    assert said == [(0.0, "started again from the beginning"), (599.0, "started again from step 599")]
    by_hours = troubled.reader.curves(GetCurves(signals=["loss"], columns=60, axis="hours", abandoned=True)).markers
    assert [m.x for m in by_hours if m.kind == "restart"][1:] == [pytest.approx((began - WALL / 1e9) / 3600)]
    loss = next(p for p in pictures(troubled.reader, facts(troubled)) if p.name == "loss")
    assert len([e for e in ET.fromstring(loss.svg).iter() if e.tag.endswith("polygon") and e.get("fill") == MARKS["restart"]]) == 2


def test_what_was_left_behind_is_grey_and_the_rest_is_not(troubled: Past) -> None:
    loss, _ = pictures(troubled.reader, facts(troubled))
    root = ET.fromstring(loss.svg)
    colors = {e.get("stroke") for e in root.iter() if e.tag.endswith("polyline")}
    assert {"#b8bfc7", "#2563a8", "#d9480f"} <= colors
    texts = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert {"left behind", "loss", "val_loss", "step"} <= set(texts)


def test_by_hours_and_by_tokens(troubled: Past) -> None:
    found = facts(troubled)
    assert "hours since the run began" in pictures(troubled.reader, found, "hours")[0].svg
    by_tokens = pictures(troubled.reader, found, "tokens", 1000.0)[0].svg
    assert ">tokens<" in by_tokens
    assert ">600k<" in by_tokens
    with pytest.raises(UsageError, match="--tokens-per-step"):
        pictures(troubled.reader, found, "tokens")


def test_a_run_of_one_step_and_one_of_none(past: Past) -> None:
    empty = facts(past)
    assert empty.totals.steps == 0
    assert pictures(past.reader, empty) == []
    Page(page(empty, []))
    past.steps(0, 1)
    one = facts(past)
    assert one.totals.steps == 1
    Page(page(one, pictures(past.reader, one)))


def test_values_that_are_not_finite_break_the_curve_and_nothing_else(past: Past) -> None:
    past.steps(0, 200)
    past.steps(200, 210, loss=float("nan"))
    past.steps(210, 300)
    (loss, *_) = pictures(past.reader, facts(past))
    lines = [e for e in ET.fromstring(loss.svg).iter() if e.tag.endswith("polyline") and e.get("stroke") == "#2563a8"]
    assert len(lines) >= 3  # two stretches and the legend's
    assert "nan" not in loss.svg


def test_what_was_approved_says_what_proposed_it_and_a_warm_up_is_told_as_one(past: Past) -> None:
    past.steps(0, 100)
    past.line("finding", step=99, branch=0, rule="mine", status="warning", detail="loss > 3: loss 4")
    past.line("proposal", step=99, branch=0, rule="mine", action="set lr=0.5x", status="approved", detail="p1: by the operator")
    past.outcome(99, 0, "set lr=0.5x", "lr", old=1e-3, new=5e-4)
    for stage, (old, new) in enumerate([(5e-4, 5e-5), (5e-5, 2e-4), (2e-4, 5e-4)]):
        action, text = f"set lr={new / old:g}x", f"warm-up after lr 0.001 → 0.0005 at step 99: stage {stage}"
        past.line("command", step=99, branch=0, rule="mine", action=action, status="sent", detail=text)
        past.outcome(100 + stage, 0, action, f"lr {stage}", rule="mine", old=old, new=new)
    past.outcome(110, 0, "set lr=0.5x", "lr again", old=5e-4, new=2.5e-4)
    found = facts(past)
    assert [i.why for i in found.interventions if i.who == "operator"] == ["approved, as rule mine proposed: loss > 3: loss 4", ""]
    said = methods(found)
    assert "3 interventions were made" in said
    assert "at step 99 lr was changed from 0.001 to 0.0005 (by hand, approved, as rule mine proposed: loss > 3: loss 4)" in said
    assert "at step 100 a warm-up brought lr from 5e-05 to 0.0005 (by rule mine)" in said
