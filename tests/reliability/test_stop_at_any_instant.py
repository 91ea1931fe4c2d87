"""Whatever a run under ``--restart`` is doing, a stop is a stop: also where its training has just died, or is being started again.

Real processes, held at the instant that is meant: the parent by SIGSTOP, the question what to go on from and the next training by a
``sitecustomize`` that waits while a file is there, the first step by the training itself.
"""

import json
import os
import signal
import subprocess
import sys

import pytest

from sitter.locks import holder
from sitter.supervise.pending import parent_pid, pending
from sitter.supervise.process import TrainingProcess
from sitter_wire.places import RunDir
from tests.reliability.figures.untouchable import until

LONG = 100.0
"""Nothing here takes a second where there is room; nothing is made to wait so long where there is none."""

HOLDS = """
    import pathlib, sys, time
    def hold(what, here=pathlib.Path({here!r})):
        if (here / f"hold-{{what}}").exists():
            (here / f"inside-{{what}}").touch()
            while (here / f"hold-{{what}}").exists():
                time.sleep(0.01)
    words = " ".join(sys.orig_argv)
    hold("question" if "sitter.cli.again" in words else "imports" if words.endswith("train.py") else "nothing")
"""
TRAINING = """
    import os, sitecustomize, sitter_agent, time
    agent = sitter_agent.start()
    print("begins", os.getpid(), flush=True)
    sitecustomize.hold("first step")
    for step in agent.steps(1_000_000):
        agent.log(loss=2.0)
        time.sleep(0.002)
"""


class Held:
    """A run under ``--restart 5``, some steps on."""

    def __init__(self, sitter, script, place, pause):
        self.sitter, self.place = sitter, place
        script(HOLDS.format(here=str(place)), "sitecustomize.py")
        (place / "sitter.toml").write_text(f"[restart]\npause = '{pause}'\n")
        words = [sys.executable, "-m", "sitter.cli.main", "run", "--no-ui", "--name", "x", "--restart", "5", "--"]
        self.said = (place / "said").open("w+")
        self.front = subprocess.Popen(
            [*words, sys.executable, str(script(TRAINING))], cwd=place, stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said,
            env={**os.environ, "PYTHONPATH": str(place)},
        )  # fmt: skip
        self.run = RunDir(place / "sitter-runs" / "x")
        sitter.until(lambda s: s["state"] == "running" and s["step"] > 20, timeout=LONG)
        # One that dies before it was said to run has failed at once, and is not started again.
        until(lambda: "begins" in (place / "said").read_text(), LONG, "its output was not followed")
        self.first = self.pid
        self._parent = parent_pid(self.run)

    @property
    def pid(self):
        return int(json.loads((self.run.path / "train.pid").read_text())["pid"])

    def kill(self):
        os.kill(self.first, signal.SIGKILL)

    def kill_daemon(self):
        watcher = holder(self.run.daemon_lock)
        os.kill(watcher, signal.SIGKILL)
        until(lambda: holder(self.run.daemon_lock) is None, LONG, "the daemon was not killed")

    def hold(self, what):
        (self.place / f"hold-{what}").touch()

    def held(self, what):
        until(lambda: (self.place / f"inside-{what}").exists(), LONG, f"nothing came to {what}")

    def let_go(self):
        for file in self.place.glob("hold-*"):
            file.unlink()
        if parent_pid(self.run) == self._parent:
            os.kill(self._parent, signal.SIGCONT)

    def ended(self, state):
        """The front process is gone, nothing lives, and nothing comes."""
        self.front.wait(LONG)
        assert parent_pid(self.run) is None or self.run.exit_json.exists()
        assert holder(self.run.agent_lock) is None
        assert not TrainingProcess.find(self.run).alive()
        status = self.sitter.until(lambda s: s["exit"] and s["state"] not in ("starting", "running"), timeout=LONG)
        assert status["state"] == state, (self.run.train_log.read_text()[-2000:], (self.place / "said").read_text()[-2000:])
        assert self.begun <= 2, "killed once, it was started again once at most"
        return status

    @property
    def begun(self):
        return self.run.train_log.read_text().count("begins")


@pytest.fixture
def held(sitter, script, tmp_path):
    made = []

    def make(pause="0.3"):
        made.append(Held(sitter, script, tmp_path, pause))
        return made[0]

    yield make
    for one in made:
        one.let_go()
        if one.front.poll() is None:
            one.front.kill()
        one.front.wait()
        one.said.close()


# -- instants: each leaves the run at one, and says whether what was asked is answered before it is let go ---------------------


def dead_and_nobody_knows(one):
    os.kill(parent_pid(one.run), signal.SIGSTOP)
    one.kill()
    until(lambda: not TrainingProcess.find(one.run).alive(), LONG, "it was not killed")


def asked_what_to_go_on_from(one):
    one.hold("question")
    one.kill()
    one.held("question")


def in_the_pause(one):
    one.kill()
    until(lambda: (coming := pending(one.run)) and coming.at, LONG, "no restart was planned")


def importing(one):
    one.hold("imports")
    one.kill()
    one.held("imports")


def before_the_first_step(one):
    one.hold("first step")
    one.kill()
    one.held("first step")


def standing_with_the_order(one):
    """It has stood since before it was asked, and dies with the order."""
    os.kill(one.first, signal.SIGSTOP)


INSTANTS = {
    "dead and nobody knows": dead_and_nobody_knows, "being asked what to go on from": asked_what_to_go_on_from,
    "in the pause": in_the_pause, "importing": importing, "before its first step": before_the_first_step,
}  # fmt: skip
WAITS = ("dead and nobody knows", "importing", "before its first step")
"""There a stop is answered only once it goes on."""
slow = pytest.mark.slow


def sent(one, action="stop"):
    """An order or a stop has come to the daemon."""
    until(lambda: any(e["kind"] == "command" and e["action"].endswith(action) for e in one.sitter.lines("logbook")), LONG, "not sent")


@pytest.mark.parametrize("daemon", ["watched", pytest.param("its daemon killed", marks=slow)])
@pytest.mark.parametrize(
    "instant", ["dead and nobody knows", "importing",
    *(pytest.param(name, marks=slow) for name in ("being asked what to go on from", "in the pause", "before its first step"))],
)  # fmt: skip
def test_a_stop_is_a_stop(held, sitter, start, instant, daemon):
    one = held("20m" if instant == "in the pause" else "0.3")
    INSTANTS[instant](one)
    if daemon != "watched" and holder(one.run.daemon_lock):
        one.kill_daemon()
    stop = start(sys.executable, "-m", "sitter.cli.main", "stop")
    if instant in WAITS:
        sent(one)
    else:
        stop.wait(LONG)  # it is not held up by what holds up the restart
    one.let_go()
    said = stop.communicate(timeout=LONG)[0]
    assert stop.returncode == 0, said
    one.ended("stopped")
    assert one.begun == (2 if instant in ("importing", "before its first step") else 1)


@pytest.mark.parametrize("daemon", [pytest.param("watched", marks=slow), pytest.param("its daemon killed", marks=slow)])
@pytest.mark.parametrize("instant", list(INSTANTS))
def test_a_stop_now_is_a_stop(held, sitter, start, instant, daemon):
    one = held("20m" if instant == "in the pause" else "0.3")
    INSTANTS[instant](one)
    if daemon != "watched" and holder(one.run.daemon_lock):
        one.kill_daemon()
    stop = start(sys.executable, "-m", "sitter.cli.main", "stop", "--now")
    if instant == "dead and nobody knows":
        sent(one, "--now")
        one.let_go()
    said = stop.communicate(timeout=LONG)[0]
    assert stop.returncode == 0, said
    one.ended("stopped")
    one.let_go()


def test_a_training_that_dies_with_the_order_in_its_hand_is_stopped(held, sitter, start):
    one = held("20m")  # else it may be there again, and be stopped itself, before it is known that the first one is dead
    standing_with_the_order(one)
    stop = start(sys.executable, "-m", "sitter.cli.main", "stop")
    sent(one)
    one.kill()
    said = stop.communicate(timeout=LONG)[0]
    assert stop.returncode == 0, said
    assert "called off" in said
    one.ended("stopped")
    assert one.begun == 1


@pytest.mark.parametrize(
    ("number", "instant"),
    [
        (signal.SIGUSR1, "importing"),
        *(
            pytest.param(number, instant, marks=slow)
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT) for instant in INSTANTS
            if (number, instant) != (signal.SIGUSR1, "importing")
        ),
    ],
)  # fmt: skip
def test_a_notice_or_ctrl_c_to_the_process_in_front(held, sitter, number, instant):
    one = held("20m" if instant == "in the pause" else "0.3")
    INSTANTS[instant](one)
    one.front.send_signal(number)
    until(lambda: "passed on" in (one.place / "said").read_text() or "asking for" in (one.place / "said").read_text(), LONG, "not heard")
    if number == signal.SIGINT and instant in WAITS:
        sent(one)
    one.let_go()
    one.ended("stopped" if number == signal.SIGINT else "preempted")
