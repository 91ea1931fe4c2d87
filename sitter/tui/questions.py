"""What a capital letter asks before it acts: plain values, so that every key's promise is tested without a screen."""

from sitter import grammar
from sitter.tui import formats
from sitter.tui.lines import plain
from sitter.tui.view import Choice, Question, View
from sitter_wire import commands, queries

ENDED = ("finished", "stopped", "crashed", "preempted")

FREES_S = 300.0
"""A checkpoint comes first, and the state moves to the host."""


def ended(view: View) -> str:
    """Why the training cannot be asked for anything; empty where it can."""
    state = view.status.state if view.status else None
    return f"the training has ended ({state})" if state in ENDED else ""


def pause(view: View) -> Question:
    """Pause, or go on where it is paused."""
    if view.status is not None and view.status.state == "paused":
        return _act("Go on with the training?", "goes on", commands.Unpause())
    return Question("Pause at the next safe point?", [
        Choice("Enter", "pauses", [queries.Act(action=commands.Pause())]),
        Choice("H", "holds, also with no daemon", [queries.Act(action=commands.Pause(hold=True))]),
        Choice("F", "frees the GPU", [queries.Act(action=commands.Pause(free=True), wait=FREES_S)]),
    ])  # fmt: skip


def checkpoint(view: View) -> Question:
    """A checkpoint of the present state."""
    step = formats.count(view.status.step if view.status else None)
    query = queries.Act(action=commands.TakeCheckpoint(why="asked for by hand"), wait=300.0)
    return Question(f"Write a checkpoint now (step {step})?", [Choice("Enter", "writes it", [query])])


def stop(view: View) -> Question:
    """End the training, gently or at once."""
    step = formats.count(view.status.step if view.status else None)
    gentle = queries.Act(action=commands.Stop(checkpoint=True, why="asked for by hand"), wait=60.0)
    return Question(f"End the training at step {step}?", [
        Choice("Enter", "checkpoint, then stop", [gentle]), Choice("N", "kills it now", [queries.StopNow()]),
    ])  # fmt: skip


def approve(view: View) -> Question | None:
    """Do what the proposal in the strip proposes; None where none waits."""
    proposal = view.proposal
    if proposal is None:
        return None
    text = f"Approve {plain(proposal.finding.rule)}: {plain(grammar.proposed(proposal.finding))}?"
    return Question(text, [Choice("Enter", "does it", [queries.Approve(id=proposal.id)])])


def _act(text: str, label: str, action: commands.AnyAction) -> Question:
    return Question(text, [Choice("Enter", label, [queries.Act(action=action)])])
