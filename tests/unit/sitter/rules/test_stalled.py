"""What the cases in the rule's own file cannot tell: a second time, a new daemon, what follows."""

import msgspec
import pytest

from sitter.model import EndAndRestart, Notification
from sitter.rules.base import RECOVERED
from sitter.rules.diagnosis import Signs, diagnose
from sitter.rules.stalled import Stalled
from sitter.rules.view import RunView, Sample
from sitter.vitals import Stood, Vitals
from sitter_wire.phases import AFTER, LOADING, STEP

STILL = Vitals(state="S", seconds=10.0, cpu=0.0, main_cpu=0.0, io=0.0)
BUSY = Vitals(state="R", seconds=10.0, cpu=1.0, main_cpu=1.0, io=0.0)


class Run:
    """A training on a clock of its own. ``rule`` hears of every step, and ticks once a second of every pause."""

    def __init__(self, rule=None):
        self.rule = rule or Stalled()
        self.view = RunView(in_session=True, state="running", agent_age=0.5, phase=STEP)
        self.now, self.step, self.found = 1000.0, 0, []

    def steps(self, count, seconds):
        for _ in range(count):
            self._step(seconds)

    def pause(self, seconds, vitals=STILL, phase=STEP, wait=0.0):
        """A step that takes so long; the stacks come when they are wanted."""
        self.view.phase, began = phase, self.now
        while self.now - began < seconds:
            self.now += 1.0
            self.view.safe_point_age = self.now - began
            self.view.vitals = vitals if self.now - began > 5.0 else None
            self._hear(self.rule.tick(self.view, self.now))
            if self.rule.wants_stacks:
                self.view.stood = Stood(at=self.now, session="s", step=self.step, how="py-spy", where="train.py:7 in evaluate")
        self.now = began
        self._step(seconds, wait)
        self.view.safe_point_age, self.view.vitals = 0.0, None
        self._hear(self.rule.tick(self.view, self.now))

    def _step(self, seconds, wait=0.0):
        self.now += seconds
        self.step += 1
        self.view.step = self.step
        sample = Sample(step=self.step, branch=0, time=self.now, values={"step_time": seconds, "data_wait": wait})
        self._hear(self.rule.observe(sample, self.view))

    def _hear(self, finding):
        if finding is not None:
            self.found.append(finding)

    def alarms(self):
        return [f for f in self.found if f.evidence.get(RECOVERED) != 1]


def test_an_evaluation_a_thousand_times_a_step_is_not_alarmed_the_second_time():
    run = Run()
    run.steps(3000, 0.3)
    run.pause(300.0)
    assert len(run.alarms()) == 1
    assert "train.py:7 in evaluate" in run.alarms()[0].text
    run.steps(3000, 0.3)
    run.pause(320.0)
    assert len(run.alarms()) == 1
    run.pause(3000.0)
    assert len(run.alarms()) == 2


def test_a_pause_in_the_loader_does_not_excuse_one_in_the_step():
    run = Run()
    run.pause(100.0, phase=LOADING, wait=100.0)
    run.steps(100, 0.1)
    run.pause(130.0, phase=LOADING, wait=130.0)
    assert not run.alarms()
    run.pause(130.0, phase=STEP)
    assert len(run.alarms()) == 1


def test_a_time_in_which_it_was_stopped_is_no_pause_of_its_own():
    run = Run()
    run.steps(100, 0.1)
    run.pause(3600.0, vitals=msgspec.structs.replace(STILL, state="T"))
    assert "stopped" in run.alarms()[0].text
    run.pause(400.0)
    assert "stands still" in run.alarms()[1].text


def test_the_next_daemon_knows_what_this_one_has_learned():
    first = Run()
    first.steps(1000, 0.1)
    first.pause(400.0, vitals=BUSY)
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(first.rule.knowledge()))
    second = Run()
    second.rule.know(told)
    second.steps(10, 0.1)
    second.pause(500.0)
    assert not second.alarms()


@pytest.mark.parametrize(
    ("do", "vitals", "phase", "ends"),
    [
        ("notify", STILL, STEP, False), ("restart", STILL, STEP, True), ("restart", STILL, LOADING, True), ("restart", BUSY, STEP, False),
        ("restart", msgspec.structs.replace(STILL, state="T"), STEP, False),
        ("restart", msgspec.structs.replace(STILL, reads_fd=0), STEP, False),
    ],
)  # fmt: skip
def test_what_follows_is_told_in_the_settings(do, vitals, phase, ends):
    run = Run(Stalled(Stalled.Params(do=do)))
    run.steps(100, 0.1)
    run.pause(2000.0, vitals=vitals, phase=phase)
    actions = run.alarms()[0].actions
    assert isinstance(actions[0], Notification)
    assert any(isinstance(a, EndAndRestart) for a in actions) == ends


def test_after_the_loop_it_has_an_hour():
    run = Run()
    run.steps(100, 0.1)
    run.pause(3000.0, vitals=BUSY, phase=AFTER)
    assert not run.alarms()


@pytest.mark.parametrize(
    ("signs", "cause"),
    [
        (Signs(vitals=Vitals(state="X", seconds=2.0)), "gone"),
        (Signs(vitals=Vitals(state="t", seconds=2.0)), "stopped"),
        (Signs(vitals=msgspec.structs.replace(STILL, waits_in="do_freezer_trap")), "stopped"),
        (Signs(silent=40.0, vitals=msgspec.structs.replace(STILL, state="D", waits_in="rpc_wait_bit_killable")), "hung"),
        (Signs(silent=40.0, vitals=STILL), "hung"),
        (Signs(silent=0.5, vitals=BUSY, phase=LOADING), "slow"),
        (Signs(silent=0.5, vitals=STILL, gpu=100.0), "slow"),
        (Signs(silent=0.5, vitals=STILL, phase=LOADING), "waiting for input"),
        (Signs(silent=0.5, vitals=STILL, innermost=["/x/torch/utils/data/dataloader.py:_try_get_data"]), "waiting for input"),
        (Signs(silent=0.5, vitals=STILL, where="train.py:3 in main: `x = input('go on?')`"), "waiting for input"),
        (Signs(silent=0.5, vitals=msgspec.structs.replace(STILL, state="D")), "not stepping"),
        (Signs(silent=0.5), "not stepping"),
    ],
)
def test_the_causes_are_told_apart(signs, cause):
    assert diagnose(signs).cause == cause


@pytest.mark.parametrize(
    ("main_cpu", "lock_waits", "says"),
    [
        (0.9, 190.0, "C code that computes"), (0.0, 190.0, "C code that waits"), (0.0, 8.0, "no thread of it answers"),
        (0.11, 8.0, "C code that computes"),  # on a machine where others want the cores
        (0.11, 1.0, "no thread of it answers"),
    ],
)  # fmt: skip
def test_who_keeps_the_interpreters_lock(main_cpu, lock_waits, says):
    signs = Signs(silent=40.0, vitals=msgspec.structs.replace(STILL, cpu=main_cpu, main_cpu=main_cpu, lock_waits=lock_waits))
    assert says in diagnose(signs).evidence
