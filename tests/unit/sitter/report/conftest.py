"""A history as a real daemon would have written it, made by the real writer."""

import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from sitter.clock import SystemClock
from sitter.model import Incident, LogEntry
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter_wire.commands import Outcome
from sitter_wire.events import Done, Paused, Restored, SessionStart
from sitter_wire.records import Happening, Point
from sitter_wire.rundir import RunInfo

WALL, MONO = 1_800_000_000 * 10**9, 10**12
STEP_NS = 10**9 // 2

INFO = RunInfo(name="char-lm", created="", command=["python", "train.py", "--note", "<b>|bold|</b>"], git_commit="abc123", host="box")


class Past:
    """Two steps a second; ``told`` numbers the records."""

    def __init__(self, path: Path) -> None:
        self.writer = Writer(path, on_commit=lambda _: None, clock=SystemClock())
        self.writer.start()
        self.reader = Reader(path)
        self.seq, self.time, self.rng = 0, MONO, random.Random(3)
        self.begin("a", SessionStart(pid=1, host="box", branch=0, goal="val_loss", total=2000, versions={"python": "3.11"}))

    def begin(self, session: str, start: SessionStart, after_s: float = 0.0) -> None:
        self.session, self.seq = session, 0
        self.time += int(after_s * 1e9)
        self.writer.session(session, WALL + self.time - MONO, self.time, 1)
        self.event(start, 0, start.branch)

    def event(self, event: object, step: int, branch: int) -> None:
        self.seq += 1
        assert self.writer.records(self.session, [Happening(self.seq, step, branch, self.time, event)])

    def steps(self, first: int, last: int, branch: int = 0, *, loss: float | None = None) -> None:
        points = []
        for step in range(first, last):
            self.time += STEP_NS
            self.seq += 1
            value = (2.0 + math.exp(-step / 300) + self.rng.gauss(0, 0.02)) if loss is None else loss
            points.append(Point(self.seq, step, branch, self.time, ("loss", "lr", "lr_scheduled"), (value, 1e-3, 1e-3)))
            if step % 100 == 99:
                self.seq += 1
                points.append(Point(self.seq, step, branch, self.time, ("val_loss",), (value + 0.1,)))
        assert self.writer.records(self.session, points)

    def outcome(self, step: int, branch: int, action: str, text: str, /, *, rule: str | None = None, **detail: object) -> None:
        outcome = Outcome(id=f"c{self.seq}", status="applied", step=step, branch=branch, text=text, detail=detail)
        self.event(Done(outcome=outcome), step, branch)
        self.line("outcome", step=step, branch=branch, action=action, status="applied", detail=text, rule=rule)

    def line(self, kind: str, **fields: object) -> None:
        self.writer.log(LogEntry(id=0, time=self.wall(), kind=kind, **fields))

    def wall(self) -> float:
        return (WALL + self.time - MONO) / 1e9

    def done(self) -> Reader:
        assert self.writer.flush()
        return self.reader


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    made = Past(tmp_path / "history.db")
    yield made
    made.writer.close()
    made.reader.close()


@pytest.fixture
def troubled(past: Past) -> Past:
    """By hand: the rate halved, three batches dropped, a minute's pause. By the guard: a rollback. Then a crash, and another process."""
    past.steps(0, 300)
    past.outcome(299, 0, "set lr=0.5x", "lr 0.001 → 0.0005", old=0.001, new=0.0005)
    past.outcome(299, 0, "drop 3", "the next 3 batches are dropped", count=3)
    past.event(Paused(paused=True, why="operator"), 299, 0)
    past.outcome(299, 0, "pause", "paused at step 299")
    past.time += 60 * 10**9
    past.event(Paused(paused=False, why="operator"), 299, 0)
    past.outcome(299, 0, "unpause", "going on from step 299")
    past.steps(300, 420)
    past.line("finding", step=420, branch=0, rule="guard", status="critical", detail="loss 11 × its usual level | at step 415")
    past.writer.incident(
        Incident(id=1, rule="guard", branch=0, onset=415, began=past.wall(), text="loss 11 ×", ended=past.wall() + 5, verdict="recovered",
                 steps_lost=20)
    )  # fmt: skip
    past.event(Restored(branch=1, step=399, from_branch=0, left=419, source="snapshot"), 399, 1)
    past.outcome(399, 1, "rollback", "back from step 419 to 399", rule="guard", **{"from": 419, "step": 399, "lost": 20})
    past.steps(400, 600, 1)
    past.line("incident", step=599, branch=1, status="crashed", detail="x: crashed at step 599, killed by SIGKILL")
    past.line("restart", step=599, branch=1, status="restarting", detail="restarting in 0:05 (1 of 5)")
    past.begin("b", SessionStart(pid=2, host="box", branch=2, goal="val_loss", resumed=(1, 599)), after_s=120.0)
    past.line("restart", step=599, branch=2, status="started", detail="process 2 on box, goes on from step 599 of branch 1")
    past.steps(600, 700, 2)
    return past
