"""The small parent starts a training again; the programs here know nothing of sitter, and no daemon runs."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sitter.errors import LaunchError
from sitter.model import RestartNow
from sitter.supervise import parent
from sitter.supervise.exit import read_exit
from sitter.supervise.launch import launch
from sitter.supervise.parent import CALL_OFF
from sitter.supervise.pending import call_off, parent_pid, pending, read_attempts, undecided
from sitter.supervise.process import TrainingProcess
from sitter_wire.places import RunDir
from tests.reliability.figures.untouchable import turned_back

Until = Callable[..., Any]

COUNTS = (
    "import os, pathlib, signal, sys, time\n"
    "here = pathlib.Path(os.environ['SITTER_RUN']) / 'count'\n"
    "n = int(here.read_text()) if here.exists() else 0\n"
    "here.write_text(str(n + 1))\n"
    "print('attempt', n, flush=True)\n"
)


def python(body: str) -> list[str]:
    return [sys.executable, "-c", COUNTS + body]


@pytest.fixture(autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITTER_RUNTIME_DIR", str(tmp_path_factory.mktemp("r")))


@pytest.mark.parametrize("death", ["sys.exit(3)", "os.kill(os.getpid(), 9)", "os.abort()", "os.kill(os.getpid(), 15)"])
def test_a_crash_is_followed_by_another_start_and_a_good_end_by_none(run: RunDir, until: Until, death: str) -> None:
    launch(run, python(f"if n == 0: {death}"), restart=5, pause_s=0.05, grace_s=0)
    ended = until(lambda: read_exit(run), 60)
    assert (ended.code, ended.attempts, ended.given_up) == (0, 2, "")
    assert run.train_log.read_text().split("\n")[:2] == ["attempt 0", "attempt 1"]
    first, second = read_attempts(run).attempts
    assert first.then == "restarting in 0:00 (1 of 5), from the start, since there is no verified checkpoint"
    assert (first.code, first.signal) != (0, None)
    assert second.code == 0
    assert run.train_log.read_bytes()[slice(*first.log)] == b"attempt 0\n"


def test_it_is_started_again_also_where_the_clock_was_turned_back_meanwhile(
    run: RunDir, until: Until, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offset = tmp_path / "offset"
    offset.write_bytes(struct.pack("<q", 0))
    monkeypatch.setenv("LD_PRELOAD", str(turned_back(tmp_path)))
    monkeypatch.setenv("CLOCK_OFFSET", str(offset))
    back = f"open({str(offset)!r}, 'r+b').write({struct.pack('<q', -86_400)!r})"
    launch(run, python(f"if n == 0: time.sleep(0.1); {back}; sys.exit(3)"), restart=5, pause_s=0.05, grace_s=0.05)
    ended = until(lambda: read_exit(run), 60)
    assert (ended.code, ended.attempts) == (0, 2), "it lived for longer than its launcher waits"


def test_three_deaths_at_once_are_the_last(run: RunDir, until: Until) -> None:
    launch(run, python("sys.exit('no such data set')"), restart=50, pause_s=0.05, grace_s=0)
    ended = until(lambda: read_exit(run), 60)
    assert (ended.code, ended.attempts) == (1, 3)
    assert ended.given_up == "given up: 3 attempts in a row did not get to a first step"
    assert "no such data set" in ended.error
    assert read_attempts(run).given_up == ended.given_up


def test_a_command_that_is_gone_is_given_up(run: RunDir, until: Until, tmp_path: Any) -> None:
    script = tmp_path / "train.sh"
    script.write_text("#!/bin/sh\nsleep 0.1\nrm $0\nexit 1\n")
    script.chmod(0o755)
    launch(run, [str(script)], restart=50, pause_s=0.05, grace_s=0)
    ended = until(lambda: read_exit(run), 60)
    assert (ended.code, ended.attempts) == (127, 3)
    assert "was not found" in ended.error
    first, *others = read_attempts(run).attempts
    assert (first.code, first.then.startswith("restarting")) == (1, True)
    assert [(a.pid, a.code, "was not found" in a.error) for a in others] == [(0, 127, True)] * 2, "starts that failed are attempts, too"


def test_what_fails_while_its_user_is_looking_is_told_and_not_repeated(run: RunDir) -> None:
    with pytest.raises(LaunchError, match="exit code 1: no such data set"):
        launch(run, python("sys.exit('no such data set')"), restart=5, grace_s=60)
    assert run.train_log.read_text().count("attempt") == 1


def test_a_launcher_that_was_kept_waiting_takes_no_later_end_for_a_failed_start(run: RunDir, until: Until) -> None:
    words = [sys.executable, "-I", "-S", parent.__file__, "--grace", "0.1", str(run.path), "--", "sleep", "600"]
    front = subprocess.Popen(words, stdout=subprocess.PIPE)
    until(lambda: (run.path / "train.pid").exists())
    os.kill(front.pid, signal.SIGSTOP)
    process = until(lambda: TrainingProcess.find(run))
    time.sleep(0.2)  # it lives for longer than its launcher waits
    os.kill(process.pid, signal.SIGKILL)
    assert until(lambda: read_exit(run)).signal == signal.SIGKILL
    os.kill(front.pid, signal.SIGCONT)
    said = json.loads(front.communicate(timeout=60)[0])
    assert (front.returncode, said["pid"]) == (0, process.pid)
    assert "signal" not in said


@pytest.mark.parametrize("end", ["sys.exit(130)", "os.kill(os.getpid(), signal.SIGINT); time.sleep(9)"])
def test_ctrl_c_is_no_crash(run: RunDir, until: Until, end: str) -> None:
    launch(run, python(end), restart=5, pause_s=0.05, grace_s=0)
    ended = until(lambda: read_exit(run), 60)
    assert (ended.attempts, ended.given_up) == (1, "not started again: it was ended by Ctrl-C")


def test_a_parent_that_is_told_to_end_starts_nothing_again(run: RunDir, until: Until) -> None:
    started = launch(run, python("print('up', flush=True); time.sleep(600)"), restart=5, pause_s=0.05, grace_s=0)
    until(lambda: "up" in run.train_log.read_text())
    os.kill(started.parent_pid, signal.SIGTERM)
    ended = until(lambda: read_exit(run), 60)
    assert (ended.signal, ended.attempts) == (signal.SIGTERM, 1)
    assert "told to end by SIGTERM" in ended.given_up


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_restart_can_be_called_off(run: RunDir, until: Until, number: signal.Signals) -> None:
    launch(run, python("sys.exit(1)"), restart=5, pause_s=600, grace_s=0)
    coming = until(lambda: (found := pending(run)) and found.at and found, 60)
    assert (coming.number, coming.of) == (1, 5)
    assert coming.in_words(coming.at - 59.5) == "restarting in 1:00 (1 of 5)"
    assert 0 < coming.at - time.time() <= 1200
    if number == signal.SIGINT:
        assert call_off(run)
    else:
        os.kill(parent_pid(run) or 0, number)
    ended = until(lambda: read_exit(run), 60)
    assert (ended.code, ended.attempts) == (1, 1)
    assert ended.called_off == (number == signal.SIGINT)
    assert "called off" in ended.given_up
    until(lambda: parent_pid(run) is None)
    assert pending(run) is None
    assert not call_off(run)


def test_a_restart_is_called_off_while_it_is_found_out_what_to_go_on_from(
    run: RunDir, until: Until, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = tmp_path / "asking"
    code = f"import pathlib, sys, time\nif 'sitter.cli.again' in sys.orig_argv: pathlib.Path({str(asking)!r}).touch(); time.sleep(600)"
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    launch(run, python("sys.exit(1)"), restart=5, pause_s=600, grace_s=0)
    until(asking.exists, 60)
    assert undecided(run)
    assert call_off(run)
    ended = until(lambda: read_exit(run), 60)
    assert (ended.code, ended.attempts, ended.called_off) == (1, 1, True)
    assert ended.given_up == "the restart was called off by the operator"
    assert not undecided(run)
    assert "could not be found out" not in run.train_log.read_text()


AS_IT_IS_MADE = """
import os, signal, subprocess, sys
from pathlib import Path
from sitter.supervise import parent
from sitter.supervise.attempts import Attempts
made, real = [], subprocess.Popen
class Popen(real):
    def __init__(self, *words, **more):
        super().__init__(*words, **more)
        if "process_group" in more:
            made.append(self)
            if len(made) == 2:
                os.kill(os.getpid(), int(sys.argv[2]))  # it is made, and its number not yet noted
parent.subprocess.Popen = Popen
run = Path(sys.argv[1])
command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(0.2); raise SystemExit(3)"]
parent.Parent(run, command, os.open(os.devnull, os.O_WRONLY), Attempts(run, 5, first_s=0.05)).go()
"""


@pytest.mark.parametrize("number", [CALL_OFF, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_what_is_called_off_as_it_is_made_is_taken_back(run: RunDir, number: signal.Signals) -> None:
    subprocess.run([sys.executable, "-c", AS_IT_IS_MADE, str(run.path), str(int(number))], check=True)
    ended = read_exit(run)
    assert ended is not None
    assert (ended.code, ended.attempts, ended.told) == (3, 1, number.name)
    assert ended.called_off == (number in (CALL_OFF, signal.SIGINT))
    assert "called off" in ended.given_up
    (only,) = read_attempts(run).attempts
    assert json.loads((run.path / "train.pid").read_text())["pid"] == only.pid


WHILE_IT_LIVES = """
import os, signal, subprocess, sys
from pathlib import Path
from sitter.supervise import parent
from sitter.supervise.attempts import Attempts
run, real = Path(sys.argv[1]), os.waitid
def waitid(kind, pid, options):
    if not options & os.WNOHANG and not (run / "told").exists():
        os.kill(os.getpid(), int(parent.CALL_OFF))
        (run / "told").touch()
    return real(kind, pid, options)
parent.os.waitid = waitid
waits = "import pathlib, time\\nwhile not pathlib.Path(sys.argv[1], 'told').exists(): time.sleep(0.01)"
command = [sys.executable, "-c", "import sys\\n" + waits + "\\nsys.exit(len(sys.argv[2:]))", str(run)]
parent.Parent(run, [*command, "one"], os.open(os.devnull, os.O_WRONLY), Attempts(run, 1, first_s=0.05)).go()
"""


def test_a_living_training_has_no_restart_that_could_be_called_off(run: RunDir) -> None:
    subprocess.run([sys.executable, "-c", WHILE_IT_LIVES, str(run.path)], check=True)
    ended = read_exit(run)
    assert ended is not None
    assert (ended.code, ended.attempts, ended.told, ended.called_off) == (1, 2, "", False)


@pytest.mark.parametrize("number", [CALL_OFF, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_that_comes_when_it_is_dead_and_nobody_knows_calls_the_restart_off(
    run: RunDir, until: Until, number: signal.Signals
) -> None:
    started = launch(run, python("print('up', flush=True); time.sleep(600)"), restart=5, pause_s=0.05, grace_s=0)
    until(lambda: "up" in run.train_log.read_text(), 60)
    os.kill(started.parent_pid, signal.SIGSTOP)
    os.kill(started.pid, signal.SIGKILL)
    os.kill(started.parent_pid, number)
    until(lambda: Path(f"/proc/{started.pid}/stat").read_text().split()[2] == "Z")
    os.kill(started.parent_pid, signal.SIGCONT)
    ended = until(lambda: read_exit(run), 60)
    assert (ended.signal, ended.attempts, ended.told) == (signal.SIGKILL, 1, number.name)
    assert ended.called_off == (number in (CALL_OFF, signal.SIGINT))


def test_a_notice_that_ends_what_does_not_know_it_is_no_crash(run: RunDir, until: Until) -> None:
    started = launch(run, python("print('up', flush=True); time.sleep(600)"), restart=5, pause_s=0.05, grace_s=0)
    until(lambda: "up" in run.train_log.read_text(), 60)
    os.kill(started.pid, signal.SIGUSR1)  # as a batch system does: to the step's processes, and not to their parent
    ended = until(lambda: read_exit(run), 60)
    assert (ended.signal, ended.attempts, ended.told) == (signal.SIGUSR1, 1, "SIGUSR1")


def test_what_a_full_disk_did_not_take_is_written_when_there_is_room(run: RunDir, until: Until) -> None:
    """Else nobody would learn why the one before it died, as long as this one lives. Folders in their places refuse as a full disk does."""
    body = (
        "run = pathlib.Path(os.environ['SITTER_RUN'])\n"
        "for path in (run / 'attempts.json', run / 'train.pid') if n == 0 else ():\n"
        " while not path.exists(): time.sleep(0.01)\n"
        " path.unlink()\n path.mkdir()\n"
        "if n == 0: sys.exit(7)\n"
        "time.sleep(600)"
    )
    launch(run, python(body), restart=1, pause_s=0.05, grace_s=0)
    until(lambda: "attempt 1" in run.train_log.read_text(), 60)
    for name in ("attempts.json", "train.pid"):
        (run.path / name).rmdir()
    first, second = until(lambda: read_attempts(run).attempts, 60)
    assert (first.code, first.then.startswith("restarting")) == (7, True)
    assert json.loads(until(lambda: (run.path / "train.pid").exists() and (run.path / "train.pid").read_text(), 60))["pid"] == second.pid
    assert run.train_log.read_text().count("cannot write train.pid") == 1
    os.kill(parent_pid(run) or 0, signal.SIGTERM)
    until(lambda: read_exit(run), 60)


def test_a_training_in_a_shell_has_written_its_checkpoint_before_its_end_is_told(run: RunDir, until: Until) -> None:
    """The shell dies of the notice at once. Who waits for exit.json may take the machine away then."""
    saves = (
        "import json, os, pathlib, signal, sys, time\nrun = pathlib.Path(os.environ['SITTER_RUN'])\n"
        "def told(*_): time.sleep(0.5); (run / 'saved').touch(); sys.exit(0)\nsignal.signal(15, told)\n"
        "(run / 'agent.lock').write_text(json.dumps({'pid': os.getpid(), 'session': 's'}))\nprint('up', flush=True)\n"
        "while True: time.sleep(0.01)"  # no pause: a signal that came just before it would not end it
    )
    (run.path / "train.py").write_text(saves)
    started = launch(run, ["sh", "-c", f"{sys.executable} '{run.path}/train.py'; exit 7"], grace_s=0)
    until(lambda: "up" in run.train_log.read_text(), 60)
    os.kill(started.parent_pid, signal.SIGTERM)
    ended = until(lambda: read_exit(run), 60)
    assert (run.path / "saved").exists()
    assert (ended.signal, ended.told) == (signal.SIGTERM, "SIGTERM")


def test_the_next_parent_waits_for_the_last_one_to_be_gone(run: RunDir, until: Until) -> None:
    """It has said its last word, and holds its lock for some microseconds yet."""
    launch(run, python("pass"), grace_s=0)
    until(lambda: read_exit(run) and parent_pid(run) is None, 60)
    code = "import fcntl, sys, time\nf = open(sys.argv[1], 'a+'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(0.3)"
    with subprocess.Popen([sys.executable, "-c", code, str(run.path / "parent.pid")], stdout=subprocess.PIPE, text=True) as leaving:
        assert leaving.stdout is not None
        leaving.stdout.readline()
        launch(run, python("pass"), grace_s=0)
    until(lambda: read_exit(run), 60)
    assert "attempt 1" in run.train_log.read_text()


def test_a_restart_whose_parent_died_is_none(run: RunDir, until: Until) -> None:
    launch(run, python("sys.exit(1)"), restart=5, pause_s=600, grace_s=0)
    until(lambda: (found := pending(run)) and found.at, 60)
    os.kill(parent_pid(run) or 0, signal.SIGKILL)
    until(lambda: parent_pid(run) is None)
    assert json.loads((run.path / "attempts.json").read_text())["next"] is not None
    assert pending(run) is None


@pytest.mark.parametrize("coming", [{}, {"number": "x"}, {"number": 1, "at": "soon"}, {"number": 1, "of": 2, "else": 3}])
def test_a_restart_that_is_damaged_on_disk_ends_nobody(run: RunDir, monkeypatch: pytest.MonkeyPatch, coming: dict[str, Any]) -> None:
    monkeypatch.setattr("sitter.supervise.pending.parent_pid", lambda run: 7)
    (run.path / "attempts.json").write_text(json.dumps({"of": 3, "next": coming}))
    found = pending(run)
    assert found is None or msgspec.convert(msgspec.to_builtins(found), RestartNow) == found


def test_what_the_first_left_in_its_group_is_gone_before_the_second(run: RunDir, until: Until) -> None:
    body = (
        "import subprocess\n"
        "if n == 0: p = subprocess.Popen(['sleep', '600']); print('left', p.pid, flush=True); os.kill(os.getpid(), 9)\n"
        "left = int(pathlib.Path(os.environ['SITTER_RUN'], 'train.log').read_text().split()[3])\n"
        "try: state = pathlib.Path(f'/proc/{left}/stat').read_text().split()[2]\n"
        "except OSError: state = 'X'\n"
        "sys.exit(0 if state in 'ZX' else 5)"
    )
    launch(run, python(body), restart=1, pause_s=0.05, grace_s=0)
    assert until(lambda: read_exit(run), 60).code == 0
