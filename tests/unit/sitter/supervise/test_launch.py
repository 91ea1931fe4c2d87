"""Real processes: started, killed, left alone by everything that dies around them."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from sitter.errors import LaunchError, TakenError, UsageError
from sitter.locks import take
from sitter.supervise import parent as parent_module
from sitter.supervise.exit import read_exit
from sitter.supervise.identity import boot_id
from sitter.supervise.launch import launch
from sitter.supervise.parent import PARENT_PID
from sitter.supervise.process import TrainingProcess
from sitter_wire.places import RunDir

Until = Callable[..., Any]


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


WAITS = "import signal; print('up'); signal.pause()"


def up(run: RunDir) -> bool:
    return "up" in run.train_log.read_text()


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_exit_code_is_written_down(run: RunDir, until: Until, code: int) -> None:
    began = time.time()
    launch(run, python(f"import time; time.sleep(0.1); raise SystemExit({code})"), grace_s=0)
    ended = until(lambda: read_exit(run))
    assert (ended.code, ended.signal) == (code, None)
    assert began < ended.time < time.time() + 0.1
    told = json.loads(run.exit_json.read_text())
    assert told["pid"] > 0
    assert began <= told["started"] < told["time"]
    assert not (run.path / "exit.json.new").exists()


def test_death_by_a_signal_is_written_down(run: RunDir, until: Until) -> None:
    started = launch(run, python(WAITS), grace_s=0)
    until(lambda: up(run))
    os.kill(started.pid, signal.SIGKILL)
    ended = until(lambda: read_exit(run))
    assert (ended.code, ended.signal, ended.error) == (None, signal.SIGKILL, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_the_parent_forwards_signals_to_the_training(run: RunDir, until: Until, number: signal.Signals) -> None:
    program = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda n, f: sys.exit(40))\n"
        "print('up')\nwhile True: time.sleep(0.01)"  # no pause: one that came just before it would not end it
    )
    started = launch(run, python(program), grace_s=0)
    until(lambda: up(run))
    os.kill(started.parent_pid, number)
    assert until(lambda: read_exit(run)).code == 40


def test_a_forwarded_signal_reaches_the_whole_group(run: RunDir, until: Until) -> None:
    program = f"import subprocess, sys, signal; subprocess.Popen({python(WAITS)!r}); signal.pause()"
    started = launch(run, python(program), grace_s=0)
    until(lambda: up(run))
    worker = psutil.Process(started.pid).children()[0]
    os.kill(started.parent_pid, signal.SIGTERM)
    assert until(lambda: read_exit(run)).signal == signal.SIGTERM
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def test_a_hang_up_of_the_parent_is_nothing_and_the_training_keeps_its_own_signals(run: RunDir, until: Until) -> None:
    program = (
        "import signal as s; print(s.getsignal(s.SIGHUP) == s.SIG_DFL, s.getsignal(s.SIGINT) == s.default_int_handler)\n"
        "print('up'); s.pause()"
    )
    started = launch(run, python(program), grace_s=0)
    until(lambda: up(run))
    assert run.train_log.read_text().startswith("True True\n")
    os.kill(started.parent_pid, signal.SIGHUP)
    os.kill(started.parent_pid, signal.SIGTERM)
    assert until(lambda: read_exit(run)).signal == signal.SIGTERM


def test_a_command_that_leaves_the_training_to_itself_is_told_so(run: RunDir, until: Until) -> None:
    stays = launch(run, ["sh", "-c", "sleep 600 & echo $!; until grep -q ^sleep /proc/$!/cmdline; do :; done"], grace_s=60)
    pid = int(run.train_log.read_text())
    assert f"left process {pid} (sleep 600) behind" in stays.note
    os.kill(pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert "behind" not in launch(run, ["true"], grace_s=60).note


def test_output_is_appended_to_the_log_at_once_and_input_is_empty(run: RunDir, until: Until) -> None:
    run.train_log.write_text("of an earlier session\n")
    program = "import sys; print('out'); print('err', file=sys.stderr); print(repr(sys.stdin.read())); import signal; signal.pause()"
    launch(run, python(program), grace_s=0)
    until(lambda: "''" in run.train_log.read_text())
    assert run.train_log.read_text() == "of an earlier session\nout\nerr\n''\n"


def test_what_the_training_is_told(run: RunDir, until: Until, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITTER_RUN", "/another/run")
    monkeypatch.setenv("OWN", "stays")
    program = (
        "import os, sys; print({k: os.environ.get(k) for k in ('SITTER_RUN', 'PYTHONUNBUFFERED', 'OWN', 'SITTER_RESUME')});"
        "print(os.getpid() == os.getpgid(0), os.getsid(0) == os.getppid(), os.getcwd())"
    )
    launch(run, python(program), cwd=tmp_path)
    assert until(lambda: read_exit(run)).code == 0
    told, where = run.train_log.read_text().splitlines()
    expected = {"SITTER_RUN": str(run.path.resolve()), "PYTHONUNBUFFERED": "1", "OWN": "stays", "SITTER_RESUME": None}
    assert told == str(expected)
    assert where == f"True False {tmp_path}"


def test_a_resumed_training_is_told_its_checkpoint(run: RunDir, until: Until, tmp_path: Path) -> None:
    launch(run, python("import os; print(os.environ['SITTER_RESUME'])"), resume=str(tmp_path / "100-0.pt"))
    assert until(lambda: read_exit(run)).code == 0
    assert run.train_log.read_text() == f"{tmp_path / '100-0.pt'}\n"


def script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_command_that_cannot_be_started_is_one_clear_sentence(run: RunDir, tmp_path: Path) -> None:
    bad = [
        ("no-such-command", 127, "the training command no-such-command was not found: it is in no directory of PATH"),
        (str(tmp_path / "gone.sh"), 127, "was not found: there is no such file"),
        (str(tmp_path), 126, "is a directory; name a program"),
        (script(tmp_path / "plain.sh", "#!/bin/sh\n", 0o644), 126, "is not executable; chmod +x it"),
        (script(tmp_path / "noshebang", "echo hello\n"), 126, "is not a program: begin it with a #! line"),
        (script(tmp_path / "lost.sh", "#!/no/such/interpreter\n"), 127, "the interpreter its first line names is not there"),
    ]
    for name, code, text in bad:
        with pytest.raises(LaunchError) as told:
            launch(run, [name])
        assert text in str(told.value)
        assert "\n" not in str(told.value)
        ended = read_exit(run)
        assert ended is not None
        assert (ended.code, ended.error) == (code, str(told.value))


def test_a_command_that_dies_at_once_says_so_with_its_last_words(run: RunDir) -> None:
    run.train_log.write_text("words of yesterday\n")
    with pytest.raises(LaunchError, match=r"ended at once \(after \d+\.\d s\) with exit code 2: .*can't open file.*nope\.py") as told:
        launch(run, [sys.executable, "nope.py"], grace_s=60)
    assert str(run.train_log) in str(told.value)
    ended = read_exit(run)
    assert ended is not None
    assert ended.code == 2
    assert "nope.py" in ended.error


def test_a_command_that_is_killed_at_once_is_an_error_too(run: RunDir) -> None:
    with pytest.raises(LaunchError, match="ended by signal 9 at once"):
        launch(run, ["sh", "-c", "kill -9 $$"], grace_s=60)


def test_a_command_that_ends_well_at_once_is_no_error(run: RunDir) -> None:
    started = launch(run, ["true"], grace_s=60)
    assert started.exit is not None
    assert started.exit.code == 0


def test_what_cannot_be_asked(run: RunDir) -> None:
    with pytest.raises(UsageError, match="no training command"):
        launch(run, [])
    assert not run.exit_json.exists()


def test_a_working_directory_that_is_gone(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="where the training is to run, is not there"):
        launch(run, ["true"], cwd=tmp_path / "gone")


def test_a_run_directory_that_is_gone(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="cannot use the run directory"):
        launch(RunDir(tmp_path / "gone"), ["true"])


def test_one_training_at_a_time(run: RunDir, until: Until) -> None:
    started = launch(run, python(WAITS), grace_s=0)
    with pytest.raises(LaunchError, match=f"already has a living training process \\({started.pid}\\)"):
        launch(run, ["true"])
    assert read_exit(run) is None
    os.kill(started.parent_pid, signal.SIGKILL)  # also without a parent that could say so
    until(lambda: not TrainingProcess.of(started.parent_pid).alive())
    with pytest.raises(LaunchError, match="already has a living training process"):
        launch(run, ["true"])


def test_two_parents_for_one_run_are_refused_by_the_lock(run: RunDir, until: Until) -> None:
    launch(run, python(WAITS), grace_s=0)
    words = [sys.executable, "-I", "-S", parent_module.__file__, str(run.path), "--", "true"]
    second = subprocess.run(words, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "another training runs in a run" in json.loads(second.stdout)["error"]
    assert read_exit(run) is None


def test_a_start_beside_another_one_says_so(run: RunDir) -> None:
    lock = take(run.path / PARENT_PID)
    assert lock is not None
    with lock, pytest.raises(TakenError, match="another training runs in a run"):
        launch(run, ["true"])


def test_a_new_training_takes_the_old_ones_end_away(run: RunDir, until: Until) -> None:
    launch(run, ["true"], grace_s=60)
    first = read_exit(run)
    assert first is not None
    assert first.time is not None
    launch(run, python(WAITS), grace_s=0)
    assert read_exit(run) is None
    assert read_exit(run, (first.time - 100, 0.0)) is None


def test_the_training_goes_on_when_its_parent_is_killed(run: RunDir, until: Until) -> None:
    program = "import time, sys\nwhile True: print('tick', flush=True); time.sleep(0.01)"
    started = launch(run, python(program), grace_s=0)
    until(lambda: run.train_log.stat().st_size)
    os.kill(started.parent_pid, signal.SIGKILL)
    until(lambda: not TrainingProcess.of(started.parent_pid).alive())
    size = run.train_log.stat().st_size
    until(lambda: run.train_log.stat().st_size > size + 100)  # no pipe that could have broken
    process = TrainingProcess.find(run)
    assert process is not None
    assert process.alive()
    assert process.terminate_group(200.0) == "SIGTERM"
    assert read_exit(run) is None  # nobody was there to write it: unknown stays unknown


def test_the_training_goes_on_when_the_terminal_is_closed(run: RunDir, until: Until) -> None:
    program = (
        "import sys, signal\nfrom sitter.supervise.launch import launch\nfrom sitter_wire.places import RunDir\n"
        f"launch(RunDir({str(run.path)!r}), {python(WAITS)!r}, grace_s=0)\nsignal.pause()"
    )
    master, slave = pty.openpty()
    shell = subprocess.Popen(
        python("import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + program),
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    until(lambda: run.train_log.exists() and up(run))
    os.close(master)
    assert shell.wait(60) == -signal.SIGHUP
    process = TrainingProcess.find(run)
    assert process is not None
    assert process.alive()
    assert psutil.Process(process.pid).terminal() is None
    os.kill(process.pid, signal.SIGTERM)
    assert until(lambda: read_exit(run)).signal == signal.SIGTERM


def test_the_parent_needs_nothing_but_the_standard_library(run: RunDir, until: Until, tmp_path: Path) -> None:
    for name in ("json", "signal", "sitter", "psutil"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    started = launch(run, ["sh", "-c", "echo up; exec sleep 60"], grace_s=0, cwd=tmp_path)
    until(lambda: up(run))
    maps = Path(f"/proc/{started.parent_pid}/maps").read_text()
    assert "site-packages" not in maps
    assert psutil.Process(started.parent_pid).memory_info().rss < 20 << 20


def test_as_a_module_too(run: RunDir, until: Until) -> None:
    words = [sys.executable, "-P", "-m", "sitter.supervise.parent", str(run.path), "--", "sh", "-c", "exit 7"]
    front = subprocess.run(words, capture_output=True, text=True, check=False)
    assert json.loads(front.stdout)["code"] == 7
    assert until(lambda: read_exit(run)).code == 7


def test_a_full_disk_does_not_swallow_the_end(run: RunDir, until: Until) -> None:
    """The space of exit.json is taken before the training begins."""
    started = launch(run, python(WAITS), grace_s=0)
    until(lambda: up(run))
    assert (run.path / "exit.json.new").stat().st_blocks * 512 >= 4096
    os.kill(started.pid, signal.SIGTERM)
    assert until(lambda: read_exit(run)).signal == signal.SIGTERM


def test_a_damaged_exit_file_says_so(run: RunDir) -> None:
    run.exit_json.write_text('{"code": "many"}')
    ended = read_exit(run)
    assert ended is not None
    assert (ended.code, ended.signal) == (None, None)
    assert "does not say how the training ended" in ended.error


def test_the_end_of_an_earlier_training_is_not_this_ones(run: RunDir) -> None:
    run.exit_json.write_text('{"code": 0, "signal": null, "time": 1000.0}')
    assert read_exit(run, (999.0, 5.0)) is not None
    assert read_exit(run, (1001.0, 5.0)) is None


def test_an_end_after_the_clock_was_turned_back_is_this_trainings(run: RunDir) -> None:
    told = {"code": 3, "signal": None, "time": 1000.0, "mono": 70.0, "boot": boot_id()}
    run.exit_json.write_text(json.dumps(told))
    assert read_exit(run, (4600.0, 50.0)) is not None
    assert read_exit(run, (4600.0, 80.0)) is None
    run.exit_json.write_text(json.dumps({**told, "boot": "an earlier one"}))
    assert read_exit(run, (4600.0, 50.0)) is None
