"""What belongs to another user, or is not what it should be: a run directory, the sockets' place, a lock. Refused in a sentence; training
goes on, and nothing of anybody's is touched."""

import os
import socket
import sys

import pytest

from sitter.client import Client
from sitter.errors import DaemonError
from sitter_wire import rundir
from sitter_wire.places import Endpoints, RunDir
from sitter_wire.queries import GetStatus

THEIRS = 4711
TRAINS = """
    import sitter_agent
    agent = sitter_agent.start(name="x")
    for step in agent.steps(30):
        agent.log(loss=1.0)
    print("trained to the end")
"""
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can make a directory that belongs to somebody else")


def give_away(run: RunDir) -> None:
    os.chown(run.path, THEIRS, THEIRS)
    for path in run.path.rglob("*"):
        os.chown(path, THEIRS, THEIRS, follow_symlinks=False)


def trained(start, script, **env) -> str:
    training = start(sys.executable, "-u", str(script(TRAINS)), **env)
    out = training.communicate(timeout=100)[0]
    assert training.returncode == 0, out
    assert "trained to the end" in out
    assert "Traceback" not in out
    return out


@as_root
def test_another_users_run_is_looked_at_and_nothing_in_it_is_touched(sitter, script, start, tmp_path):
    trained(start, script, SITTER="off")
    run = RunDir(tmp_path / "sitter-runs" / "x")
    sitter.status()
    give_away(run)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_uid) for p in run.path.rglob("*")}
    assert sitter.status()["step"] == 30, "reading is no harm"
    assert "belongs to user 4711" in sitter.refused("resume", "-r", str(run.path))
    assert {p: (p.stat().st_mtime_ns, p.stat().st_uid) for p in run.path.rglob("*")} == before

    daemon = start(sys.executable, "-P", "-m", "sitter.daemon", str(run.path), "--foreground")
    said = daemon.communicate(timeout=100)[0]
    assert daemon.returncode == 1
    (line,) = said.strip().splitlines()
    assert "belongs to user 4711, expected 0" in line
    out = trained(start, script, SITTER_RUN=str(run.path))
    (line,) = [row for row in out.splitlines() if "sitter: " in row]
    assert "belongs to user 4711" in line
    assert "recording nothing" in line


def bad_place(base, kind):
    place = base / kind
    if kind == "link":
        (base / "real").mkdir(mode=0o700)
        place.symlink_to(base / "real")
    else:
        place.mkdir(mode=0o700)
        if kind == "open":
            place.chmod(0o777)
        else:
            os.chown(place, THEIRS, THEIRS)
    return place


@pytest.mark.parametrize("kind", ["link", "open", pytest.param("theirs", marks=as_root)])
@pytest.mark.parametrize("outer", [False, True])
def test_nobody_is_asked_through_a_place_that_others_can_enter(tmp_path, kind, outer):
    """As CLI and TUI ask: run.toml names a place where somebody else may have put a socket."""
    tmp_path.chmod(0o700)
    place = bad_place(tmp_path, kind)
    if outer:
        place = place / "run"
        place.mkdir(mode=0o700)
    run = rundir.create(tmp_path, "x", command=[], supervised=False, sockets=str(place), version="")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(Endpoints(place).client))
    listener.listen()
    listener.settimeout(0.2)
    client = Client(run)
    with pytest.raises(DaemonError, match=r"symbolic link|open to others|belongs to user 4711"):
        client.ask(GetStatus(), 2.0)
    with pytest.raises(TimeoutError):
        listener.accept()
    client.close()
    listener.close()


@pytest.mark.parametrize("name", ["agent.lock", "daemon.lock"])
def test_a_lock_that_is_a_link_is_not_followed(sitter, script, start, tmp_path, name):
    precious = tmp_path / "precious.txt"
    precious.write_text("a year's work")
    trained(start, script, SITTER="off")
    run = RunDir(tmp_path / "sitter-runs" / "x")
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).symlink_to(precious)
    out = trained(start, script, SITTER_RUN=str(run.path))
    lines = [row for row in out.splitlines() if "is a symbolic link" in row]
    assert len(lines) == 1, out
    assert name in lines[0]
    assert "remove it" in lines[0]
    assert precious.read_text() == "a year's work"


def test_pipes_and_huge_files_in_place_of_small_ones_hang_nobody(sitter, script, start, tmp_path):
    trained(start, script, SITTER="off")
    run = RunDir(tmp_path / "sitter-runs" / "x")
    for path in (run.exit_json, run.path / "train.pid", run.path / "attempts.json"):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    assert sitter("status").returncode == 0
    for path in (run.exit_json, run.path / "train.pid", run.path / "attempts.json"):
        path.unlink()
        with path.open("wb") as file:
            file.truncate(1 << 40)  # takes no room
    assert sitter("status").returncode == 0
    run.run_toml.unlink()
    os.mkfifo(run.run_toml)
    assert "not a regular file" in sitter.refused("status", "-r", str(run.path))
