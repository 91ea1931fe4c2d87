"""Real notices to real processes: twice, while paused, in a step that does not end, and to a script with a way of its own."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from sitter_agent.checkpoint_files import check, read_sidecar
from sitter_wire.events import CheckpointWritten, Preempted
from tests.unit.agent.conftest import Run

BEGIN = """
    import hashlib, os, signal, sys, time
    sys.path.insert(0, {root!r})
    import sitter_agent
    state = {{"w": 0.0}}
    own = lambda: agent.state(save=lambda: dict(state), load=state.update)
"""


class Training:
    """A script of its own with the daemon off, which prints ``ready``."""

    def __init__(self, path: Path, body: str) -> None:
        script = path / "train.py"
        script.write_text(textwrap.dedent(BEGIN.format(root=str(Path.cwd()))) + textwrap.dedent(body))
        environment = {**os.environ, "SITTER_RUNTIME_DIR": str(path / "r"), "SITTER": "off"}
        self.process = subprocess.Popen(
            [sys.executable, str(script)], cwd=path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.run = Run(path / "sitter-runs" / "x")
        self.said = ""
        assert self.process.stdout is not None
        while "ready" not in self.said:
            line = self.process.stdout.readline()
            self.said += line
            if not line:
                self.process.communicate()
                pytest.fail(self.said)

    def end(self) -> int:
        out, _ = self.process.communicate(timeout=60)
        self.said += out
        return self.process.returncode

    def checkpoints(self) -> list[CheckpointWritten]:
        found = self.run.events(CheckpointWritten)
        for written in found:
            path = self.run.dir.path / written.path
            check(path, read_sidecar(path))
        return found


@pytest.fixture
def training(tmp_path):
    started: list[Training] = []

    def begin(body: str) -> Training:
        started.append(Training(tmp_path, body))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        one.process.stdout.close()


LOOP = """
    agent = sitter_agent.start(name="x"); own()
    for step in agent.steps(10**9):
        state["w"] += 1
        agent.log(loss=1.0)
        if step == 3:
            print("ready", flush=True)
        time.sleep(0.01)
"""
TWO = """
    agent = sitter_agent.start(name="x"); own()
    for step in agent.steps(10**9):
        state["w"] += 1
        agent.log(loss=1.0)
        if step == 3:   # both come within this step: of two that wait at once Python would take the lower number first
            print("ready", flush=True)
            while agent._opened.notices.pending is None:
                time.sleep(0.01)
            print("noted", flush=True)
            while not os.path.exists("both"):
                time.sleep(0.01)
"""


def both(one, first, second):
    """Two notices within one step, the second when the first has been taken."""
    one.process.send_signal(first)
    assert one.process.stdout.readline() == "noted\n"
    one.process.send_signal(second)
    (one.run.dir.path.parents[1] / "both").touch()


@pytest.mark.parametrize("notices", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGUSR1, signal.SIGTERM), (signal.SIGTERM, signal.SIGUSR1)])
def test_a_second_notice_does_not_cut_the_first_one_short(training, notices):
    one = training(TWO)
    both(one, *notices)
    assert one.end() == -notices[0], one.said
    (written,) = one.checkpoints()
    assert written.why == notices[0].name
    assert [p.signal for p in one.run.events(Preempted)] == [notices[0].name]


def test_the_scripts_own_handlers_are_all_called(training):
    body = """
    signal.signal(signal.SIGUSR1, lambda n, f: print("own", n, flush=True))
    signal.signal(signal.SIGTERM, lambda n, f: (print("own", n, flush=True), sys.exit(7)))
    """
    one = training(textwrap.dedent(body) + textwrap.dedent(TWO))
    both(one, signal.SIGUSR1, signal.SIGTERM)
    assert one.end() == 7
    assert one.said.split("ready")[1].split() == ["own", str(int(signal.SIGUSR1)), "own", str(int(signal.SIGTERM))]
    assert len(one.checkpoints()) == 1


def test_a_script_that_goes_on_after_a_notice_can_have_another(training):
    one = training("signal.signal(signal.SIGUSR1, lambda n, f: print('own', flush=True))\n" + textwrap.dedent(LOOP))
    for _ in range(2):
        one.process.send_signal(signal.SIGUSR1)
        assert one.process.stdout.readline() == "own\n"
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == -signal.SIGTERM
    assert [p.signal for p in one.run.events(Preempted)] == ["SIGUSR1", "SIGUSR1", "SIGTERM"]
    assert len(one.run.events(CheckpointWritten)) == 3


def test_while_paused_a_notice_is_taken_at_once(training):
    body = """
    agent = sitter_agent.start(name="x", pause_gives_way_s=600); own()
    from sitter_agent.commands import Commands
    for step in agent.steps(10**9):
        state["w"] += 1
        agent.log(loss=1.0)
        if step == 20:
            from sitter_wire.commands import Command, Pause
            agent._opened.safe_point.commands.take(Command(id="p", action=Pause(), session=agent._core.session, branch=None,
                deadline=time.monotonic() + 60, by="operator"))
            print("ready", flush=True)
    """
    one = training(body)
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == -signal.SIGTERM, one.said
    (told,) = one.run.events(Preempted)
    assert told.text == "SIGTERM received; checkpoint 21-0.npz written"
    (written,) = one.checkpoints()
    assert written.step == 21


@pytest.mark.parametrize("long_step", ["hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)", "[time.sleep(0.01) for _ in range(6000)]"])
def test_a_step_that_does_not_end_in_time_saves_what_lies_in_memory(training, long_step):
    body = f"""
    import sitter_agent.notices as notices
    notices.PATIENCE_S = 4.0
    notices.Notices.__init__.__kwdefaults__["rescue_s"] = 1.0
    agent = sitter_agent.start(name="x"); own()
    for step in agent.steps(10**9):
        state["w"] += 1
        agent.log(loss=1.0)
        if step == 30:
            print("ready", flush=True)
            {long_step}
    """
    one = training(body)
    time.sleep(0.2)  # it is inside
    one.process.send_signal(signal.SIGTERM)
    until = time.monotonic() + 60
    while not one.run.events(Preempted) and time.monotonic() < until:
        time.sleep(0.05)
    (told,) = one.run.events(Preempted)
    assert "no safe point came; the snapshot of step" in told.text
    (written,) = one.checkpoints()
    assert written.why == "SIGTERM, no safe point came"
    one.process.kill()  # the machine is gone
    one.end()


def test_a_step_that_never_ends_dies_by_sigterm_as_it_does_without_us(training):
    """Python would only note the signal: its handlers run between two instructions, and the next one does not come."""
    body = """
    import sitter_agent.notices as notices
    notices.PATIENCE_S = 3.0
    notices.Notices.__init__.__kwdefaults__["rescue_s"] = 0.5
    agent = sitter_agent.start(name="x"); own()
    for step in agent.steps(10**9):
        state["w"] += 1
        agent.log(loss=1.0)
        if step == 30:
            print("ready", flush=True)
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    """
    one = training(body)
    time.sleep(0.2)  # it is inside
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == -signal.SIGTERM, one.said
    assert len(one.checkpoints()) == 1, "and what lay in memory was saved before"


LATER = """
    import sitter_agent.notices as notices
    notices.PATIENCE_S = 0.8
    notices.Notices.__init__.__kwdefaults__["rescue_s"] = 0.2
    agent = sitter_agent.start(name="x"); own()
    came = []
    signal.signal(signal.SIGUSR1, lambda n, f: came.append(step))
    for step in agent.steps(10**9):
        state["w"] += 1
        agent.log(loss=1.0)
        time.sleep(0.01)
        if step == 3:
            print("ready", flush=True)
        if came and step > came[0] + 150:
            break
    print("went on", flush=True)
"""


def test_a_signal_that_the_script_has_taken_since_is_the_scripts_alone(training):
    one = training(LATER)
    one.process.send_signal(signal.SIGUSR1)
    assert one.end() == 0, one.said
    assert "went on" in one.said
    assert one.run.events(Preempted) == []
    assert one.run.events(CheckpointWritten) == []


def test_a_handler_of_the_scripts_is_given_a_frame(training):
    body = "signal.signal(signal.SIGUSR1, lambda n, f: (print('at', f.f_lineno > 0, flush=True), sys.exit(7)))\n"
    one = training(body + textwrap.dedent(LOOP))
    one.process.send_signal(signal.SIGUSR1)
    assert one.end() == 7, one.said
    assert "at True" in one.said


def test_an_event_loop_that_has_come_since_keeps_its_wake_up_descriptor(training):
    body = """
    import asyncio, threading
    agent = sitter_agent.start(name="x"); own()
    async def main():
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, told.set)
        for step in agent.steps(5):
            agent.log(loss=1.0)
        agent.close()
        while any(t.name == "sitter-notices" for t in threading.enumerate()):
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await asyncio.wait_for(told.wait(), 60)
        print("heard", flush=True)
    asyncio.run(main())
    """
    one = training(body)
    one.process.send_signal(signal.SIGUSR2)
    assert one.end() == 0, one.said
    assert "heard" in one.said


def test_other_signals_of_the_scripts_own_do_not_keep_a_thread_busy(training):
    """A profiler's timer brings 500 a second; each would take the interpreter's lock from the training."""
    body = """
    looks, read = [], os.read
    os.read = lambda fd, n: (looks.append(n), read(fd, n))[1]
    came = []
    signal.signal(signal.SIGALRM, lambda n, f: came.append(n))
    agent = sitter_agent.start(name="x"); own()
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    print("ready", flush=True)
    before, began = len(looks), time.monotonic()
    while len(came) < 300:
        pass
    took, looked = time.monotonic() - began, len(looks) - before
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("few" if looked <= took / 0.05 + 20 else f"{looked} in {took}", flush=True)
    """
    one = training(body)
    assert one.end() == 0, one.said
    assert "few" in one.said, one.said
