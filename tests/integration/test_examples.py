"""Every example trains, looked after and not, and what it says arrives in the history."""

import contextlib
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sitter.cli.common import asking
from sitter.errors import DaemonError
from sitter.model import Status
from sitter.offline import Offline
from sitter.paths import find
from sitter_wire.places import RunDir
from sitter_wire.queries import GetStatus

EXAMPLES = Path(__file__).parents[2] / "examples"

CHAR = ("char_transformer.py", "--steps", "12", "--batch", "4", "--eval-every", "6")
DIGITS = ("digits_epochs.py", "--epochs", "2", "--batch", "128")
HF = ("hf_trainer.py", "--steps", "6")
LIGHTNING = ("lightning_module.py", "--epochs", "1")


def train(words, cwd, **env) -> str:
    """stdout and stderr of the example."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / words[0]), *words[1:]], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True,
        timeout=250, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def recorded(cwd) -> Status:
    """The status of a run that no daemon watched."""
    (run,) = (cwd / "sitter-runs").iterdir()
    offline = Offline(RunDir(run))
    try:
        return offline.ask(GetStatus())
    finally:
        offline.close()


def watched(cwd) -> Status:
    """What the daemon says once it knows that the training has ended; where it has left by then, what it wrote down."""
    (run,) = (cwd / "sitter-runs").iterdir()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(DaemonError), asking(find(str(run), acts=False)) as asked:  # it may leave while it is asked
            status: Status = asked.ask(GetStatus())
            if status.state not in ("starting", "running"):
                return status
        time.sleep(0.05)  # across processes there is no event to wait for
    raise AssertionError("the daemon never noticed the end")


def it_learns_and_saves_by_its_own_means(said: str, tmp_path: Path) -> None:
    first, last = (float(x) for x in re.findall(r"val_loss ([\d.]+)", said))
    assert last < first < math.log(256)
    assert (tmp_path / "char_transformer.pt").stat().st_size > 1_000_000


@pytest.mark.slow  # imports of seconds, and SITTER=off is the same for each script: test_bad_runs.py and test_bad_settings.py have it
@pytest.mark.parametrize("words", [CHAR, DIGITS, HF, LIGHTNING], ids=lambda w: w[0])
def test_it_trains_with_sitter_off_and_is_recorded(words, tmp_path):
    said = train(words, tmp_path, SITTER="off")
    assert "nobody is watching: SITTER=off" in said
    status = recorded(tmp_path)
    assert status.agent.dropped == 0
    assert math.isfinite(status.signals["loss"].last)
    assert status.incidents.total == 0
    if words is CHAR:
        it_learns_and_saves_by_its_own_means(said, tmp_path)


@pytest.mark.parametrize(
    ("words", "goal", "step"),
    [(CHAR, "val_loss", 12), (DIGITS, "val_acc", 24), (HF, "val_loss", 6), (LIGHTNING, "val_acc", 45)],
    ids=lambda w: w[0] if isinstance(w, tuple) else str(w),
)
def test_it_is_guarded_by_itself_and_says_its_goal(words, goal, step, tmp_path):
    said = train(words, tmp_path)
    assert re.search(r"sitter: run \S+, guard on, watching", said)
    status = watched(tmp_path)
    assert status.state == "finished"
    assert status.goal.name == goal
    assert status.goal.better == ("higher" if goal == "val_acc" else "lower")
    assert math.isfinite(status.goal.last)
    assert status.step == step or status.step == step - 1
    assert status.knobs["lr"].scale == 1.0
    assert status.incidents.total == 0
    if words is CHAR:
        it_learns_and_saves_by_its_own_means(said, tmp_path)
