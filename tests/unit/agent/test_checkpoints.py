"""Checkpoints: whole or not there, told when damaged, kept by rule, and never in the training's way."""

import datetime
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sitter_agent.checkpoint_files import (
    BLOCK,
    DamagedError,
    HashingFile,
    Sidecar,
    check,
    read_sidecar,
    sidecar_of,
    sidecars,
    sweep,
    write_durably,
)
from sitter_agent.checkpoints import ASIDE, DISK_SHARE, Job, Vault, load
from sitter_agent.generic_state import GenericAdapter
from sitter_agent.retention import spare
from sitter_agent.snapshots import Snapshot
from sitter_wire.commands import Rollback, TakeCheckpoint
from sitter_wire.events import CheckpointFailed, CheckpointRemoved, CheckpointWritten, Preempted, SessionStart
from sitter_wire.places import RunDir
from tests.unit.agent.conftest import Quadratic, Run, until


class Shelf:
    """A vault in a directory of its own, and what it said."""

    def __init__(self, path: Path, **kwargs):
        path.mkdir(exist_ok=True)
        self.run = RunDir(path)
        self.run.checkpoints.mkdir(exist_ok=True)
        self.said, self.released = [], []
        self.vault = Vault(
            self.run, "s1", lambda event, step, branch: self.said.append(event), self.released.append, **kwargs
        )
        self.adapter = GenericAdapter()
        self.state = {"w": np.arange(1000.0)}
        self.adapter.register(lambda: self.state, lambda s: None)

    def write(self, step, branch=0, *, pinned=False, cleared=True, goal=None, full=False, done=()):
        snapshot = Snapshot(0, self.adapter.capture(None), branch, step, step, 0.0, 0, nbytes=8000, cleared=cleared)
        job = Job(snapshot, {"step": step}, [(0, 0)], "test", pinned, full, goal, list(done))
        refused = self.vault.write(self.adapter, job)
        if refused is None:
            assert self.vault.wait(60)
        return refused

    def files(self):
        return sorted(p.name for p in self.run.checkpoints.iterdir())


@pytest.fixture
def shelf(tmp_path):
    shelf = Shelf(tmp_path / "run")
    yield shelf
    shelf.vault.close(60)


def test_written_with_its_sidecar_and_read_back(shelf):
    assert shelf.write(12300) is None
    assert shelf.files() == ["12300-0.json", "12300-0.npz"]
    path = shelf.run.checkpoints / "12300-0.npz"
    side = read_sidecar(path)
    assert (side.step, side.branch, side.bytes, side.verified) == (12300, 0, path.stat().st_size, True)
    captured, meta = load(shelf.adapter, path)
    assert (captured["w"] == shelf.state["w"]).all()
    assert meta == {"step": 12300}
    written = shelf.said[0]
    assert isinstance(written, CheckpointWritten)
    assert (written.path, written.sha256) == ("checkpoints/12300-0.npz", side.sha256)
    assert [s.step for s in shelf.released] == [12300]


def test_the_writer_owns_its_snapshot_until_it_is_done(tmp_path):
    shelf = Shelf(tmp_path / "run")
    go = threading.Event()
    original = shelf.adapter.save
    shelf.adapter.save = lambda *a: (go.wait(60), original(*a))
    snapshot = Snapshot(0, shelf.adapter.capture(None), 0, 5, 5, 0.0, 0, nbytes=8000)
    assert shelf.vault.write(shelf.adapter, Job(snapshot, {}, [], "", False, False, None)) is None
    assert shelf.released == []
    go.set()
    assert shelf.vault.close(60)
    assert shelf.released == [snapshot]


def test_more_than_two_at_once_are_refused(tmp_path):
    shelf = Shelf(tmp_path / "run")
    go = threading.Event()
    original = shelf.adapter.save
    shelf.adapter.save = lambda *a: (go.wait(60), original(*a))
    jobs = [
        Job(Snapshot(0, {"w": np.zeros(1)}, 0, n, n, 0.0, 0, nbytes=8), {}, [], "", False, False, None)
        for n in range(3)
    ]
    assert [shelf.vault.write(shelf.adapter, j) is None for j in jobs] == [True, True, False]
    go.set()
    assert shelf.vault.close(60)


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_file_cut_short_is_told(shelf):
    shelf.write(1)
    path = shelf.run.checkpoints / "1-0.npz"
    whole = path.stat().st_size
    os.truncate(path, whole - 100)
    with pytest.raises(DamagedError, match=f"is cut short: {whole - 100} bytes, expected {whole}"):
        load(shelf.adapter, path)


@pytest.mark.parametrize("at", [0, 40, -30])
def test_an_altered_file_is_told(shelf, at):
    shelf.write(1)
    path = shelf.run.checkpoints / "1-0.npz"
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DamagedError, match="was altered: its sha256"):
        check(path, read_sidecar(path))


NEWER = '{"file": "1-0.npz", "format": 99, "sha256": "", "bytes": 1, "step": 1, "branch": 0}'


@pytest.mark.parametrize("text", [None, "", "{", '{"file": 3}', NEWER])
def test_a_sidecar_that_says_nothing_is_told(shelf, text):
    shelf.write(1)
    path = shelf.run.checkpoints / "1-0.npz"
    side = sidecar_of(path)
    side.unlink()
    if text is not None:
        side.write_text(text)
    with pytest.raises(DamagedError, match="json"):
        load(shelf.adapter, path)
    assert sidecars(shelf.run.checkpoints) == []


def test_a_disk_that_loses_a_block_is_noticed_before_the_rename(tmp_path, monkeypatch):
    path = tmp_path / "1-0.npz"
    path.write_bytes(b"what was there before")

    def fill(file):
        file.write(os.urandom(3 * BLOCK))
        # As if the disk had lost what it said it wrote: the bytes are changed behind the writer's back.
        tmp = next(tmp_path.glob(".*.tmp*"))
        with tmp.open("r+b") as behind:
            behind.seek(BLOCK + 5)
            behind.write(b"lost")

    with pytest.raises(DamagedError, match="reads back differently"):
        write_durably(path, fill, full_check=True)
    assert path.read_bytes() == b"what was there before"
    assert [p.name for p in tmp_path.iterdir()] == ["1-0.npz"]


def test_the_hashing_file_writes_what_it_is_given(tmp_path):
    import hashlib
    import zlib

    path = tmp_path / "f"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    out = HashingFile(fd)
    raw = os.urandom(2 * BLOCK + 12345)
    for a in range(0, len(raw), 100_001):
        out.write(raw[a : a + 100_001])
    os.close(fd)
    assert path.read_bytes() == raw
    assert out.sha.hexdigest() == hashlib.sha256(raw).hexdigest()
    assert out.end() == [zlib.crc32(raw[i : i + BLOCK]) for i in range(0, len(raw), BLOCK)]


# -- the disk -----------------------------------------------------------------------------------------------------------


def test_too_little_space_is_said_before_anything_is_written(tmp_path):
    shelf = Shelf(tmp_path / "run", free=lambda folder: ASIDE + 7999)
    shelf.write(1)
    assert shelf.files() == []
    failed = shelf.said[0]
    assert isinstance(failed, CheckpointFailed)
    assert "it needs 8.0 kB" in failed.why
    assert shelf.released
    shelf.vault.close(60)


def test_a_disk_that_is_full_in_the_middle_leaves_what_was_there(tmp_path):
    """A file size limit ends the write half-way, as a full disk does; in a process of its own, since the limit is for all of it."""
    code = f"""
        import resource, signal, sys
        sys.path.insert(0, {str(Path.cwd())!r})
        from pathlib import Path
        import numpy as np
        from tests.unit.agent.test_checkpoints import Shelf
        shelf = Shelf(Path({str(tmp_path / "run")!r}))
        shelf.write(1)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        shelf.state["w"] = np.arange(100_000.0)
        shelf.write(2)
        shelf.state["w"] = np.arange(1000.0)
        shelf.write(3)
        print(shelf.files(), [type(e).__name__ for e in shelf.said])
        print(shelf.said[1].why)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == str(["1-0.json", "1-0.npz", "3-0.json", "3-0.npz"]) + " " + str(
        ["CheckpointWritten", "CheckpointFailed", "CheckpointWritten"]
    )
    assert "File too large" in second


def test_a_writer_killed_in_the_middle_leaves_whole_files_only(tmp_path):
    code = f"""
        import sys
        sys.path.insert(0, {str(Path.cwd())!r})
        from pathlib import Path
        import numpy as np
        from tests.unit.agent.test_checkpoints import Shelf
        shelf = Shelf(Path({str(tmp_path / "run")!r}))
        shelf.vault.limit = 1 << 40
        shelf.state["w"] = np.arange(2_000_000.0)
        print("ready", flush=True)
        for n in range(1000):
            shelf.write(n, pinned=False)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    folder = tmp_path / "run" / "checkpoints"
    until(lambda: list(folder.glob("*.npz")) and list(folder.glob(".*.npz.tmp*")))
    process.kill()
    process.wait()
    process.stdout.close()
    found = sidecars(folder)
    assert found
    for side in found:
        check(folder / side.file, side)
    # What has no sidecar was renamed a moment before the kill; it is whole too, and is not counted on.
    sweep(folder)
    assert not list(folder.glob(".*tmp*"))


def test_a_state_that_cannot_be_written_is_an_answer(shelf):
    shelf.state["f"] = object()
    told = []
    shelf.write(1, done=[lambda side, why: told.append((side, why))])
    assert told[0][0] is None
    assert "the state at f is a object" in told[0][1]
    del shelf.state["f"]
    assert shelf.write(2) is None
    assert shelf.files() == ["2-0.json", "2-0.npz"]


# -- what is kept ---------------------------------------------------------------------------------------------------------


def side(step, branch=0, *, goal=None, hours=0.0, pinned=False, cleared=True, nbytes=100, session="s1"):
    at = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(hours=hours)
    return Sidecar(
        file=f"{step}-{branch}.pt", sha256="", bytes=nbytes, step=step, branch=branch, goal=goal, time=at.isoformat(), pinned=pinned,
        cleared=cleared, verified=True, session=session,
    )  # fmt: skip


def kept(have, line=((0, 0),), clear=10**9, better="lower", limit=10**9):
    gone = spare(have, "s1", list(line), lambda b, s: clear - s if s <= clear else None, better, limit)
    return [s.step for s in have if s not in [g for g, _ in gone]]


def test_newest_two_best_one_and_one_per_twelve_hours():
    have = [side(n * 1000, hours=n, goal=abs(n - 13) + 1.0) for n in range(60)]
    assert kept(have) == [12_000, 13_000, 24_000, 36_000, 48_000, 58_000, 59_000]


def test_the_best_by_a_goal_that_is_higher():
    have = [side(n * 1000, hours=0, goal=float(-abs(n - 13))) for n in range(20)]
    assert kept(have, better="higher") == [0, 13_000, 18_000, 19_000]


def test_pinned_ones_stay():
    have = [side(n * 1000, pinned=n == 5) for n in range(10)]
    assert 5000 in kept(have)


def test_the_last_good_one_is_never_deleted():
    """The daemon vouches up to 3,200: what is newer may be poisoned, however many there are of it."""
    have = [side(n * 1000, hours=0, cleared=n <= 3) for n in range(10)]
    assert 3000 in kept(have, clear=3200)
    assert 3000 in kept(have, clear=3200, limit=250)


def test_together_they_stay_within_their_share():
    have = [side(n * 1000, hours=12 * n, goal=float(n), nbytes=100) for n in range(10)]
    assert len(kept(have, limit=300)) == 3
    assert 9000 in kept(have, limit=300)


def test_abandoned_ones_of_this_session_go_and_those_of_other_sessions_stay():
    have = [side(1000), side(2000), side(3000), side(2500, 1), side(9000, 7, session="old")]
    assert kept(have, line=[(0, 0), (1, 2000)]) == [1000, 2000, 2500, 9000]


def test_retention_runs_and_tells(shelf):
    shelf.vault.clear_step = lambda b, s: 10_000 - s
    for step in range(1, 8):
        shelf.write(step)
    assert [f for f in shelf.files() if f.endswith("npz")] == ["1-0.npz", "6-0.npz", "7-0.npz"]
    assert [e.path for e in shelf.said if isinstance(e, CheckpointRemoved)] == [
        f"checkpoints/{n}-0.npz" for n in (2, 3, 4, 5)
    ]


def test_the_share_is_of_what_is_free_at_start(tmp_path):
    shelf = Shelf(tmp_path / "run", free=lambda folder: 10**9)
    assert shelf.vault.limit == int(DISK_SHARE * 10**9)
    assert shelf.vault.describe() == "checkpoints: ≤ 400 MB"


# -- going on ---------------------------------------------------------------------------------------------------------------


def train(agent, data, total, model, d=None):
    model.known_to(agent)
    seen = []
    for step, batch in agent.loop(data, total=total):
        seen.append(step)
        agent.log(loss=model.step(batch))
        if d is not None and step == 30:
            order = d.order(TakeCheckpoint())
            d_order = order
    return seen, (d.outcome(d_order) if d is not None else None)


def test_a_new_process_goes_on_from_a_checkpoint(begin, daemon, monkeypatch):
    data = [np.full(32, 0.25)]
    agent = begin()
    clean = Quadratic()
    train(agent, data, 60, clean)
    agent.close()

    agent = begin()
    first = Quadratic()
    _, outcome = train(agent, data, 45, first, daemon(agent))
    run = agent.run
    agent.close()
    assert outcome.detail["step"] == 31

    monkeypatch.setenv("SITTER_RUN", run)
    monkeypatch.setenv("SITTER_RESUME", outcome.detail["path"])
    agent = begin()
    second = Quadratic(seed=99)
    seen, _ = train(agent, data, 60, second)
    assert seen == list(range(31, 60))
    assert second.w.tobytes() == clean.w.tobytes()
    start = Run(run).events(SessionStart)[-1]
    assert (start.branch, start.resumed) == (1, (0, 31))
    assert agent._core.progress.line == [(0, 0), (1, 31)]


def test_rollback_finds_the_checkpoints_of_the_process_before(begin, daemon, monkeypatch):
    data = [np.full(32, 0.25)]
    agent = begin()
    _, outcome = train(agent, data, 45, Quadratic(), daemon(agent))
    run = agent.run
    agent.close()
    monkeypatch.setenv("SITTER_RUN", run)
    monkeypatch.setenv("SITTER_RESUME", outcome.detail["path"])
    agent = begin()
    d = daemon(agent)
    model = Quadratic(seed=99).known_to(agent)
    turns = agent.loop(data, total=60)
    next(turns)
    agent._core.ring.held.clear()
    order = d.order(Rollback(to=31))
    next(turns)
    assert d.outcome(order).detail["source"] == "checkpoint"
    assert model.steps == 31


@pytest.mark.parametrize("damage", ["cut", "gone", "no sidecar"])
def test_a_damaged_checkpoint_is_not_gone_on_from_and_the_training_runs(begin, daemon, monkeypatch, capsys, damage):
    data = [np.full(32, 0.25)]
    agent = begin()
    _, outcome = train(agent, data, 45, Quadratic(), daemon(agent))
    path = Path(outcome.detail["path"])
    agent.close()
    if damage == "cut":
        os.truncate(path, 100)
    elif damage == "gone":
        path.unlink()
    else:
        sidecar_of(path).unlink()
    monkeypatch.setenv("SITTER_RESUME", str(path))
    agent = begin()
    seen, _ = train(agent, data, 5, Quadratic())
    assert seen == [0, 1, 2, 3, 4]
    assert "could NOT go on from" in capsys.readouterr().err
    assert Run(agent.run).events(SessionStart)[0].resumed is None


def test_a_notice_by_sigterm_ends_in_a_checkpoint_and_in_the_scripts_own_way(tmp_path):
    """A real process under a real SIGTERM: checkpoint, a word, then it dies by the signal as it would have without us."""
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {str(Path.cwd())!r})
            import numpy as np
            import sitter_agent
            from tests.unit.agent.conftest import Quadratic
            agent = sitter_agent.start(daemon=False, name="pre")
            model = Quadratic().known_to(agent)
            for step, batch in agent.loop([np.zeros(32)], total=10**9):
                agent.log(loss=model.step(batch))
                if step == 50:
                    print("ready", flush=True)
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM, err
    run = Run(tmp_path / "sitter-runs" / "pre")
    written = run.events(CheckpointWritten)[0]
    assert written.why == "SIGTERM"
    preempted = run.events(Preempted)[0]
    assert preempted.signal == "SIGTERM"
    assert preempted.text.endswith("written")
    check(run.dir.path / written.path, read_sidecar(run.dir.path / written.path))


def test_the_sidecar_is_plain_json(shelf):
    shelf.write(1, goal=2.5)
    found = json.loads((shelf.run.checkpoints / "1-0.json").read_text())
    assert (found["step"], found["goal"], found["file"]) == (1, 2.5, "1-0.npz")
    assert msgspec.json.decode(json.dumps(found).encode(), type=Sidecar).line == [(0, 0)]
    assert time.time() - datetime.datetime.fromisoformat(found["time"]).timestamp() < 60


# -- killed, and full -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_the_same_step_is_whole_before_the_earlier_one_goes(shelf):
    shelf.write(5)
    before = (shelf.run.checkpoints / "5-0.npz").read_bytes()
    save = shelf.adapter.save

    def look(captured, file, meta):
        save(captured, file, meta)
        assert (shelf.run.checkpoints / "5-0.npz").read_bytes() == before
        check(shelf.run.checkpoints / "5-0.npz", read_sidecar(shelf.run.checkpoints / "5-0.npz"))

    shelf.adapter.save = look
    shelf.write(5)
    assert shelf.files() == ["5-0-2.json", "5-0-2.npz"]
    assert [type(e) for e in shelf.said] == [CheckpointWritten, CheckpointWritten, CheckpointRemoved]
    check(shelf.run.checkpoints / "5-0-2.npz", read_sidecar(shelf.run.checkpoints / "5-0-2.npz"))


def test_two_who_ask_for_the_same_state_are_told_of_one_file(shelf):
    """Written once more, it would take the place of the one that the first was told of a moment ago."""
    snapshot, told = Snapshot(0, shelf.adapter.capture(None), 0, 5, 5, 0.0, 0, nbytes=8000), []

    def ask(*, goal=None, full=False):
        job = Job(snapshot, {"step": 5}, [(0, 0)], "test", False, full, goal, [lambda side, why: told.append((side.file, why))])
        assert shelf.vault.write(shelf.adapter, job) is None
        return job

    ask(), ask(full=True)
    assert shelf.vault.wait(60)
    assert told == [("5-0.npz", "")] * 2
    assert shelf.files() == ["5-0.json", "5-0.npz"]
    assert [type(e) for e in shelf.said] == [CheckpointWritten], "it was written once"
    assert shelf.released == [snapshot] * 2

    (shelf.run.checkpoints / "5-0.npz").write_bytes(b"cut short")
    ask()
    assert shelf.vault.wait(60)
    assert told[-1] == ("5-0-2.npz", ""), "what is not whole any more is not told of"
    ask(goal=1.0)
    assert shelf.vault.wait(60)
    assert told[-1] == ("5-0.npz", ""), "the goal is known only now, and must stand beside it"
    snapshot.cleared = True
    ask(goal=1.0)
    assert shelf.vault.wait(60)
    assert read_sidecar(shelf.run.checkpoints / told[-1][0]).cleared


def test_a_pinned_one_of_the_same_step_stays(shelf):
    shelf.write(5, pinned=True)
    shelf.write(5)
    assert shelf.files() == ["5-0-2.json", "5-0-2.npz", "5-0.json", "5-0.npz"]


def test_the_sidecar_is_there_before_the_file_has_its_name(tmp_path):
    """So that a kill between the two leaves a small file that is known for what it is, never a large one that nobody knows."""
    path = tmp_path / "1-0.npz"
    seen = []
    write_durably(path, lambda file: file.write(b"x"), full_check=True, first=lambda *found: seen.append((*found, path.exists())))
    assert seen[0][1:] == (1, True, False)
    assert path.exists()


def test_a_sidecar_that_cannot_be_written_leaves_nothing(shelf, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sitter_agent.checkpoints.write_text", full)
    shelf.write(1)
    assert shelf.files() == []
    assert "No space left" in shelf.said[0].why


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    shelf = Shelf(tmp_path / "run")
    shelf.write(1)
    folder = shelf.run.checkpoints
    side = (folder / "1-0.json").read_bytes()
    (folder / f".2-0.npz.tmp{dead.pid}").write_bytes(b"half")
    (folder / f".3-0.npz.tmp{os.getpid()}").write_bytes(b"half, of a process that had our id")
    (folder / f".4-0.npz.tmp{os.getppid()}").write_bytes(b"half, of one that lives")
    (folder / "5-0.json").write_bytes(side.replace(b"1-0.npz", b"5-0.npz"))
    (folder / "best.pt").write_bytes(b"the script's own")
    (folder / "best.json").write_bytes(b'{"mine": true}')
    sweep(folder)
    assert shelf.files() == [f".4-0.npz.tmp{os.getppid()}", "1-0.json", "1-0.npz", "best.json", "best.pt"]
    os.utime(folder / f".4-0.npz.tmp{os.getppid()}", (0, 0))
    sweep(folder)
    assert shelf.files() == ["1-0.json", "1-0.npz", "best.json", "best.pt"]


def test_retention_makes_room_where_it_may_and_where_that_suffices(tmp_path):
    free = [10**9]
    shelf = Shelf(tmp_path / "run", free=lambda folder: free[0] - sum(p.stat().st_size for p in folder.iterdir()))
    shelf.vault.clear_step = lambda b, s: None
    for step in (1, 2, 3):
        shelf.write(step, cleared=step == 1)
    taken = sum(p.stat().st_size for p in shelf.run.checkpoints.iterdir())
    free[0] = ASIDE + taken + 100  # of 8,000 that are needed; one of the three may go: not the newest, nor the last cleared
    shelf.write(4)
    assert [f for f in shelf.files() if f.endswith("npz")] == ["1-0.npz", "3-0.npz", "4-0.npz"]
    removed = [e for e in shelf.said if isinstance(e, CheckpointRemoved)]
    assert [(e.path, e.why) for e in removed] == [("checkpoints/2-0.npz", "the disk had no room for the checkpoint of step 4")]
    # Now nothing may go that would suffice: all stay, and it is said.
    free[0] = 0
    shelf.write(5)
    assert [f for f in shelf.files() if f.endswith("npz")] == ["1-0.npz", "3-0.npz", "4-0.npz"]
    assert "make room" in shelf.said[-1].why
    shelf.vault.close(60)


def test_a_full_disk_is_called_one_whatever_the_framework_says(tmp_path, monkeypatch):
    """torch's writer loses the OSError and says ``unexpected pos``."""
    write = os.write

    def full(fd, data):
        raise OSError(28, "No space left on device")

    def fill(file):
        monkeypatch.setattr(os, "write", full)
        try:
            file.write(b"x")
        except OSError as e:
            raise RuntimeError("[enforce fail] unexpected pos 1152 vs 1046") from e
        finally:
            monkeypatch.setattr(os, "write", write)

    with pytest.raises(OSError, match="No space left"):
        write_durably(tmp_path / "1-0.pt", fill, full_check=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_sync_directories_has_checkpoints_all_the_same(tmp_path, monkeypatch):
    """Some FUSE and SMB mounts answer EINVAL; SQLite does without it there as well."""
    real = os.fsync

    def fsync(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "1-0.pt"
    assert write_durably(path, lambda f: f.write(b"x" * 100) and None, full_check=True)[1:] == (100, True)
    assert path.read_bytes() == b"x" * 100


def test_a_file_whose_rename_may_be_lost_is_not_left_lying_about(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"):
        write_durably(tmp_path / "1-0.pt", lambda f: f.write(b"x" * 100) and None, full_check=True)
    assert list(tmp_path.iterdir()) == []
