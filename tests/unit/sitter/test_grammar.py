"""One language for the command line and the TUI."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitter import grammar
from sitter.errors import UsageError
from sitter.model import Afterwards, Finding, Notification
from sitter_wire import commands, queries


def one(text: str) -> queries.AnyQuery:
    return grammar.parse(text.split())


def action(text: str) -> commands.AnyAction:
    query = one(text)
    assert isinstance(query, queries.Act)
    return query.action


def test_set_scales_or_replaces() -> None:
    assert action("set lr=0.5x") == commands.SetKnob(knob="lr", op="scale", amount=0.5)
    assert action("set lr=0.5×") == commands.SetKnob(knob="lr", op="scale", amount=0.5)
    assert action("set lr=3e-4") == commands.SetKnob(knob="lr", op="value", amount=3e-4)
    assert action("set lr=3e-4 --hold") == commands.SetKnob(knob="lr", op="value", amount=3e-4, hold=True)
    assert action("set lr@head=3e-4") == commands.SetKnob(knob="lr", op="value", amount=3e-4, group="head")
    assert action("set my/own.knob=-2") == commands.SetKnob(knob="my/own.knob", op="value", amount=-2.0)


def test_set_takes_several_knobs_in_their_order() -> None:
    assert [k.knob for k in grammar.parse_set(["lr=0.5x", "weight_decay=0.1"])] == ["lr", "weight_decay"]
    assert len(grammar.parse_all(["set", "lr=0.5x", "momentum=0.9"])) == 2
    with pytest.raises(UsageError, match="one knob at a time"):
        one("set lr=0.5x momentum=0.9")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("set", "needs a knob"),
        ("set lr", "KNOB=VALUE"),
        ("set lr=", "expected a number"),
        ("set lr=fast", "expected a number such as 3e-4, found 'fast'"),
        ("set lr=nan", "expected a number"),
        ("set lr=infx", "expected a number"),
        ("set lr=0x", "above 0"),
        ("set lr=-1x", "above 0"),
        ("set lr=0.5x --hold", "--hold pins an absolute value"),
        ("rollback 1200", "rollback does not know '1200'"),
        ("rollback --to", "needs a value"),
        ("rollback --to soon", "expected a step"),
        ("rollback --replay=1", "does not know"),
        ("drop", "expected `drop N`, found 0 words"),
        ("drop 0", "at least 1"),
        ("drop x", "expected a number of batches"),
        ("stop now", "does not know 'now'"),
        ("pause please", "does not know"),
        ("approve", "approve ID"),
        ("veto a b", "found 2 words"),
        ("snooze spike", "snooze RULE DURATION"),
        ("snooze spike soon", "how long"),
        ("snooze spike -1h", "how long"),
        ("mode wild", "watch|guard|act"),
        ("note", "needs its text"),
        ("sett lr=1", "did you mean 'set'"),
        ("", "expected a command"),
        ("q", "is no command"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(text: str, says: str) -> None:
    with pytest.raises(UsageError) as e:
        grammar.parse_all(text.split())
    assert says in str(e.value)
    assert "\n" not in str(e.value)


def test_the_other_verbs() -> None:
    assert action("rollback") == commands.Rollback(why="asked for by hand")
    assert action("rollback --to 12,280 --replay") == commands.Rollback(to=12_280, replay=True, why="asked for by hand")
    assert action("rollback --to=1.5k") == commands.Rollback(to=1500, why="asked for by hand")
    assert isinstance(action("checkpoint"), commands.TakeCheckpoint)
    assert action("drop 3") == commands.DropBatches(count=3)
    assert action("pause") == commands.Pause()
    assert action("pause --hold") == commands.Pause(hold=True)
    assert action("unpause") == commands.Unpause()
    assert action("stop") == commands.Stop(checkpoint=True, why="asked for by hand")
    assert one("stop --now") == queries.StopNow()
    assert one("approve p1") == queries.Approve(id="p1")
    assert one("veto p1") == queries.Veto(id="p1")
    assert one("snooze gpu-idle 1h") == queries.Snooze(rule="gpu-idle", seconds=3600)
    assert one("mode watch") == queries.SetMode(mode="watch")
    assert one("note a b c") == queries.AddNote(text="a b c")


@given(st.lists(st.text(max_size=12), max_size=5))
def test_any_words_are_understood_or_refused(words: list[str]) -> None:
    for verb in (*grammar.VERBS, *words[:1]):
        try:
            found = grammar.parse_all([verb, *words])
        except UsageError:
            continue
        else:
            assert found
            assert all(grammar.demand_in_words(q) for q in found)


def test_every_verb_has_a_usage_and_completes() -> None:
    assert list(grammar.USAGE) == list(grammar.VERBS)
    known = grammar.Known(knobs=["lr", "momentum"], rules=["spike"], proposals=["p1"], steps=[1200])
    assert grammar.completions("se", known) == ["set"]
    assert grammar.completions("set l", known) == ["set lr="]
    assert grammar.completions("set lr=0.5x ", known) == ["set lr=0.5x lr=", "set lr=0.5x momentum=", "set lr=0.5x --hold"]
    assert grammar.completions("rollback --to ", known) == ["rollback --to 1200"]
    assert grammar.completions("rollback --replay --", known) == ["rollback --replay --to"]
    assert grammar.completions("snooze spike ", known) == ["snooze spike 30m", "snooze spike 2h", "snooze spike 1d"]
    assert grammar.completions("pause ", known) == ["pause --hold", "pause --free"]
    assert grammar.completions("approve ", known) == ["approve p1"]
    assert grammar.completions("mode g", known) == ["mode guard"]
    assert grammar.completions("note x", known) == []
    assert grammar.completions("nonsense ", known) == []


def test_actions_in_words() -> None:
    said = {
        grammar.in_words(commands.SetKnob(knob="lr", op="scale", amount=0.5)): "lr × 0.5",
        grammar.in_words(commands.SetKnob(knob="lr", op="value", amount=3e-4, group="g", hold=True)): "lr of g = 0.0003, held",
        grammar.in_words(commands.Rollback(before=12_280)): "back to 12,280 or before, batches go on",
        grammar.in_words(commands.Rollback(to=5, replay=True, also_scale={"lr": 0.3})): "back to 5, same batches again, lr × 0.3",
        grammar.in_words(commands.DropBatches(count=1)): "drop 1 batch",
        grammar.in_words(commands.DumpStacks()): "dump the stacks",
        grammar.in_words(Notification(event="x", text="t")): "notify: t",
        grammar.demand_in_words(queries.Snooze(rule="spike", seconds=3600)): "snooze spike for 1 h",
    }
    for found, wanted in said.items():
        assert found == wanted


def test_a_proposal_says_all_that_follows():
    found = Finding(
        rule="mine", severity="info", step=1, branch=0, onset=1, text="", actions=[commands.SetKnob(knob="lr", op="scale", amount=0.5)],
        afterwards=Afterwards(warmup=300, back_after=1500),
    )  # fmt: skip
    assert grammar.proposed(found) == "lr × 0.5, from a tenth of it up within 300 steps, given back after 1,500 healthy steps"
