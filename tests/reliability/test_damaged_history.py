"""A history that is damaged, at a daemon's start or under its hands: said once, moved aside and never deleted, the training untouched."""

import json
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from sitter.client import Client
from sitter.errors import DaemonError
from sitter.locks import holder
from sitter.store.aside import aside
from sitter_wire.places import RunDir
from sitter_wire.queries import GetLogbook

TRAINING = """
    import json, pathlib, sitter_agent, time
    from sitter_agent.stopwatch import waited
    agent, longest = sitter_agent.start(name="x"), 0.0
    enough = pathlib.Path("enough")
    for step in agent.steps(100_000):
        began, others = time.monotonic(), waited()
        agent.log(loss=2.0, count=float(step))
        longest = max(longest, time.monotonic() - began - (waited() - others))
        time.sleep(0.005)
        if enough.exists():
            break
    pathlib.Path("result.json").write_text(json.dumps({"steps": step, "longest": longest}))
"""


LONGEST_S = 10.0
"""A call of ``log`` takes some microseconds, the time aside in which others had the core."""


def garbled(history: Path) -> None:
    """Every page but the first is noise."""
    with history.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(os.urandom(max(4096, size - 4096)))


def no_database(history: Path) -> None:
    history.write_bytes(b"this was a database once\n" * 500)


def cut(history: Path) -> None:
    os.truncate(history, history.stat().st_size // 2 // 4096 * 4096 + 100)


def another_schema(history: Path) -> None:
    connection = sqlite3.connect(history)
    connection.execute("DROP TABLE sessions")
    connection.execute("CREATE TABLE sessions (other TEXT)")
    connection.commit()
    connection.close()


def until(what, seconds=100.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("never so")


def watched(base: Path, times: int) -> None:
    """Until so many daemons have begun."""
    log = base / "sitter-runs" / "x" / "daemon.log"
    until(lambda: log.exists() and log.read_text().count("INFO watching") >= times)


@pytest.mark.parametrize("damage", [garbled, no_database, cut, another_schema])
def test_a_damaged_history_is_moved_aside_at_the_start(sitter, script, start, tmp_path, damage):
    training = start(sys.executable, "-u", str(script(TRAINING)))
    watched(tmp_path, 1)  # before anybody asks: whoever looks at a run without a daemon holds the daemon's lock meanwhile
    status = sitter.until(lambda s: s["daemon"] and s["state"] == "running" and s["step"] > 100)
    run = RunDir(tmp_path / "sitter-runs" / "x")
    training.send_signal(signal.SIGSTOP)  # else its agent may have started the next daemon before the damage is done
    os.kill(status["daemon"]["pid"], signal.SIGKILL)
    until(lambda: holder(run.daemon_lock) is None)
    sqlite3.connect(run.history).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()  # else SQLite mends it all from the WAL
    damage(run.history)
    damaged = run.history.read_bytes()
    training.send_signal(signal.SIGCONT)
    watched(tmp_path, 2)
    # The agent starts the next daemon by itself, within seconds.
    later = sitter.until(lambda s: s["daemon"] and s["daemon"]["pid"] != status["daemon"]["pid"] and s["step"] > status["step"] + 100)
    (name,) = aside(run.history)
    kept = run.path / name
    assert kept.read_bytes() == damaged, "kept as it was"
    assert any(name in text for text in later["warnings"]), later["warnings"]
    told = [e for e in sitter.lines("logbook") if name in e["detail"]]
    assert len(told) == 1, "said once"
    assert told[0]["status"] == "warning"
    assert run.daemon_log.read_text().count("is damaged") == 1
    assert "Traceback" not in run.daemon_log.read_text()
    (tmp_path / "enough").touch()
    out = training.communicate(timeout=120)[0]
    assert training.returncode == 0, out
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["longest"] < LONGEST_S
    status = sitter.until(lambda s: s["state"] in ("finished", "stopped"))
    assert status["signals"]["count"]["last"] == result["steps"], "watched to the end"


def test_a_history_that_is_damaged_under_the_daemons_hands(sitter, script, start, tmp_path):
    training = start(sys.executable, "-u", str(script(TRAINING)))
    watched(tmp_path, 1)  # before anybody asks: whoever looks at a run without a daemon holds the daemon's lock meanwhile
    first = sitter.until(lambda s: s["daemon"] and s["state"] == "running" and s["step"] > 100)
    run = RunDir(tmp_path / "sitter-runs" / "x")
    until(lambda: run.history.with_name("history.db-wal").exists())
    client = Client(run)

    def damage_is_seen() -> bool:
        """As a disk does it: the file and its WAL, both in use, hold something else from one moment to the next. Somebody looks at once;
        without that the daemon looks by itself once a minute, and meanwhile what it writes itself may be the very pages that were lost."""
        for path in (run.history.with_name("history.db-wal"), run.history):
            with path.open("r+b") as file:
                size = file.seek(0, 2)
                file.seek(0)
                file.write(os.urandom(size))
        try:
            client.ask(GetLogbook(), 60.0)
        except DaemonError as e:
            return "is damaged" in str(e)
        return False

    until(damage_is_seen)
    client.close()
    watched(tmp_path, 2)
    pid, step = first["daemon"]["pid"], first["step"]
    later = sitter.until(lambda s: s["daemon"] and s["daemon"]["pid"] != pid and s["step"] > step + 200)
    assert any("history.db.damaged-" in text for text in later["warnings"]), later["warnings"]
    log = run.daemon_log.read_text()
    assert "stays damaged" in log
    assert log.count("ERROR") <= 8, log
    assert "Traceback" not in log
    (tmp_path / "enough").touch()
    assert training.communicate(timeout=120)[0] is not None
    assert training.returncode == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["longest"] < LONGEST_S
    status = sitter.until(lambda s: s["state"] in ("finished", "stopped"))
    assert status["signals"]["count"]["last"] == result["steps"]
