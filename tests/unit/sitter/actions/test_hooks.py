import os
import queue
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sitter.actions.hooks import then


def test_its_output_is_kept_and_its_end_told(tmp_path: Path) -> None:
    ended: queue.Queue[int] = queue.Queue()
    (tmp_path / "then.log").write_text("before\n")
    then('echo "$SITTER_STATE"; echo oh >&2; cat; exit 3', tmp_path, {"SITTER_STATE": "finished"}, ended.put)
    assert ended.get(timeout=60) == 3
    assert (tmp_path / "then.log").read_text() == "before\nfinished\noh\n"


def test_a_command_that_does_not_exist_is_an_exit_code_and_a_line_in_the_log(tmp_path: Path) -> None:
    ended: queue.Queue[int] = queue.Queue()
    then("no-such-command-here --now", tmp_path, None, ended.put)
    assert ended.get(timeout=60) == 127
    assert "no-such-command-here" in (tmp_path / "then.log").read_text()


def test_it_runs_also_where_its_output_cannot_be_kept(tmp_path: Path) -> None:
    ended: queue.Queue[int] = queue.Queue()
    (tmp_path / "then.log").mkdir()  # refuses as a full disk does
    then("echo said; exit 5", tmp_path, None, ended.put)
    assert ended.get(timeout=60) == 5


def test_what_it_starts_is_not_taken_for_this_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITTER_RESUME", "x")
    ended: queue.Queue[int] = queue.Queue()
    then('echo "[$SITTER_RUN] [$SITTER_RESUME] $SITTER_RUN_DIR"', tmp_path, {"SITTER_RUN": str(tmp_path)}, ended.put)
    assert ended.get(timeout=60) == 0
    assert (tmp_path / "then.log").read_text() == f"[] [] {tmp_path}\n"


def test_it_goes_on_when_the_daemon_is_killed(tmp_path: Path, until: Any) -> None:
    program = (
        "import os, signal\nfrom pathlib import Path\nfrom sitter.actions.hooks import then\n"
        f"then('echo $$; read x < {tmp_path}/go; echo done', Path({str(tmp_path)!r}))\n"
        f"while not Path({str(tmp_path / 'then.log')!r}).read_text(): pass\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    os.mkfifo(tmp_path / "go")
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -9
    pid = int((tmp_path / "then.log").read_text())
    assert os.getsid(pid) == pid
    (tmp_path / "go").write_text("go\n")
    until(lambda: "done" in (tmp_path / "then.log").read_text())


def test_it_does_not_wait(tmp_path: Path) -> None:
    began = time.monotonic()
    ended: queue.Queue[int] = queue.Queue()
    pid = then("exec sleep 60", tmp_path, None, ended.put)
    assert time.monotonic() - began < 30
    os.kill(pid, 15)
    assert ended.get(timeout=60) == -15
