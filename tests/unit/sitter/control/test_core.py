"""What the rules see beside a value is as new as the value."""

import time

import pytest

from sitter.clock import SystemClock
from sitter.config import load
from sitter.control.core import Core
from sitter.model import Finding
from sitter.paths import look
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter_wire import rundir
from sitter_wire.commands import Rollback
from sitter_wire.events import KnobChanged, KnobDeclared, KnobSpec, SessionStart
from sitter_wire.records import Happening, Point


@pytest.fixture
def core(tmp_path):
    """A run's core with a real history, nobody to send to, and no tick."""
    run = rundir.create(tmp_path, "t", command=["x"], supervised=False, sockets="", version="0")
    writer = Writer(run.history, on_commit=lambda _: None, clock=SystemClock())
    writer.start()
    reader = Reader(run.history)
    made = Core(
        run=run, info=look(run).info, config=load(run.sitter_toml), preset="guard", clock=SystemClock(), writer=writer, reader=reader,
        send=lambda _: True, notify=lambda *_: None, on_gone=lambda: None,
    )  # fmt: skip
    made.flow.session("s", (time.time_ns(), time.monotonic_ns()))
    yield made
    writer.close()
    reader.close()


class Records:
    """Numbers them, and gives them the time of now."""

    def __init__(self) -> None:
        self.seq = 0

    def event(self, event, step=0):
        self.seq += 1
        return Happening(self.seq, step, 0, time.monotonic_ns(), event)

    def point(self, step, **values):
        self.seq += 1
        return Point(self.seq, step, 0, time.monotonic_ns(), tuple(values), tuple(values.values()))


def start(**more):
    return SessionStart(pid=1, host="h", branch=0, **more)


def test_knobs_and_the_kind_of_training_are_known_before_the_first_second_is_over(core):
    made = Records()
    lr = KnobSpec(name="lr", low=1e-8, high=10.0, scale="log")
    core.flow.records("s", [made.event(start(kind="rl")), made.event(KnobDeclared(spec=lr))])
    assert core.view.kind == "rl"
    assert core.view.scales == {"lr": 1.0}
    core.flow.records("s", [made.event(KnobChanged(knob="lr", old=1.0, new=0.5, scale=0.5))])
    assert core.view.scales == {"lr": 0.5}


def test_a_rate_times_100_in_the_first_second_is_divided_out(core):
    made, found = Records(), []
    keep = core.flow.finding

    def listen(finding: Finding, *, late: bool = False) -> None:
        found.append(finding)
        keep(finding, late=late)

    core.flow.finding = listen
    lr = KnobSpec(name="lr", low=1e-8, high=10.0, scale="log")
    records = [made.event(start()), made.event(KnobDeclared(spec=lr))]
    for step in range(90):
        rate = 0.1 if step >= 80 else 1e-3
        records.append(made.point(step, loss=2.0 + 0.1 * (step % 3) + (60.0 if step > 82 else 0.0)))
        records.append(made.point(step, lr=rate, lr_scheduled=rate))
    core.flow.records("s", records)
    (action,) = [a for f in found for a in f.actions if isinstance(a, Rollback)]
    assert action.also_scale == {"lr": pytest.approx(0.01)}
