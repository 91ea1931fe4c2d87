"""The recorder: what `log` accepted is in the file when it returns, whatever comes between."""

import contextlib
import math
import os
import random
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from sitter_agent.recorder import MOST_SCHEMAS, Recorder
from sitter_wire.codec import GarbageError
from sitter_wire.events import Gap, Hole, Remark
from sitter_wire.records import Happening, Point, Record, decode_stream, read_segment_header, scan_segment

SMALL = 4096


def records(folder: Path) -> list[Record]:
    """Everything that a reader of the files finds, in file order; a torn record or one from another session fails the test."""
    out: list[Record] = []
    for path in sorted(folder.glob("*.rec")):
        data = path.read_bytes()
        try:
            header = read_segment_header(data)
        except GarbageError:
            assert not any(data), "only a segment that was prepared and not begun has no header"
            continue
        assert header.session == folder.name
        for record in scan_segment(data, header):
            assert record is not None
            out.append(record)
    return out


def points(folder: Path) -> list[Point]:
    return [r for r in records(folder) if isinstance(r, Point)]


def events(folder: Path) -> list[object]:
    return [r.event for r in records(folder) if isinstance(r, Happening) and not isinstance(r.event, Hole)]


def shipped(recorder: Recorder, max_bytes: int, first: int = 1) -> list[Record]:
    """Everything that is there to ship, as a daemon that knows nothing yet would read it."""
    out: list[Record] = []
    cursor = first
    while (stretch := recorder.stretch(cursor, max_bytes)) is not None:
        assert stretch.header.count > 0
        assert len(stretch.raw) <= max_bytes or stretch.header.count == 1
        schemas = {number: tuple(names) for number, names in stretch.header.schemas.items()}
        out += decode_stream(stretch.raw, schemas, stretch.header.first, stretch.header.count)
        assert stretch.after == stretch.header.first + stretch.header.count
        cursor = stretch.after
    return out


@pytest.fixture
def recorder(tmp_path):
    made = Recorder(tmp_path, "s")
    yield made
    made.close()


def close_what_was_only_opened(folder: Path) -> None:
    """A handler that raises as ``os.open`` returns leaves a descriptor that nobody knows, of a file without a byte. Once in a training that
    is nothing; a thousand of them, as here, would be missing in the tests that follow."""
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(folder) in str(fd.readlink()) and not fd.stat().st_size:
                os.close(int(fd.name))


@pytest.fixture
def small(tmp_path):
    made = Recorder(tmp_path, "s", segment_bytes=SMALL)
    yield made
    made.close()
    close_what_was_only_opened(tmp_path)


def test_values_come_back_as_they_were(tmp_path, recorder):
    logged = {
        "zero": -0.0, "tiny": 5e-324, "huge": sys.float_info.max, "nan": math.nan, "inf": math.inf, "minus": -math.inf,
        "int": 3, "big": 2**53, "bool": True,
    }  # fmt: skip
    before = time.monotonic_ns()
    recorder.log(7, 2, logged)
    after = time.monotonic_ns()
    (point,) = points(tmp_path / "s")
    assert (point.step, point.branch, point.names) == (7, 2, tuple(logged))
    assert before <= point.time <= after
    assert struct.pack("9d", *point.values) == struct.pack("9d", *(float(v) for v in logged.values()))


def test_scalars_of_numpy_and_torch_are_numbers(tmp_path, recorder):
    recorder.log(0, 0, {
        "a": np.float32(0.5), "b": np.int64(-2), "c": np.float64(1e-3), "d": np.bool_(True), "e": np.array(4.0),
        "f": np.array([5.0]), "g": torch.tensor(0.25, requires_grad=True),
        "h": torch.tensor([2], dtype=torch.int64), "i": torch.tensor(1.5, dtype=torch.bfloat16),
    })  # fmt: skip
    (point,) = points(tmp_path / "s")
    assert point.values == (0.5, -2.0, 1e-3, 1.0, 4.0, 5.0, 0.25, 2.0, 1.5)
    assert recorder.dropped == 0


def test_what_is_no_number_is_dropped_and_the_rest_is_kept(tmp_path, recorder, capsys):
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    class Nasty:
        def __float__(self) -> float:
            raise UnprintableError

    recorder.log(1, 0, {
        "loss": 1.0, "text": "3.0", "none": None, "vector": np.zeros(3), "nasty": Nasty(), "complex": 1j, "bytes": b"1", "more": 10**400,
    })  # fmt: skip
    (point,) = points(tmp_path / "s")
    assert (point.names, point.values) == (("loss",), (1.0,))
    assert recorder.dropped == 7
    assert capsys.readouterr().err.count("\n") == 1, "one warning, not one per value"
    recorder.log(2, 0, {"text": "x"})
    recorder.log(3, 0, {})
    assert len(points(tmp_path / "s")) == 1, "nothing to record leaves no record"


def test_a_conversion_may_itself_log(tmp_path, recorder):
    class Chatty:
        def __float__(self) -> float:
            recorder.log(5, 0, {"inner": 1.0})
            return 2.0

    recorder.log(5, 0, {"outer": Chatty()})
    assert [(p.names, p.values) for p in points(tmp_path / "s")] == [(("inner",), (1.0,)), (("outer",), (2.0,))]


def test_a_step_that_is_no_integer_is_counted_and_leaves_a_hole(tmp_path, recorder):
    recorder.log(1, 0, {"loss": 1.0})
    recorder.log("two", 0, {"loss": 2.0})
    recorder.log(2**70, 0, {"loss": 2.0})
    recorder.log(np.int64(3), 0, {"loss": 3.0})
    assert recorder.dropped == 2
    assert [p.step for p in points(tmp_path / "s")] == [1, 3]
    found = records(tmp_path / "s")
    assert [r.seq for r in found] == [1, 2, 3, 4, 5], "the empty slots are filled"
    assert [type(r.event) for r in found if isinstance(r, Happening)] == [Hole] * 3
    assert shipped(recorder, 1 << 20) == found


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "b", "c", "d", "e", "f", "g", "h", "i")])
def test_a_hole_fits_where_any_point_was_meant_to_stand(tmp_path, recorder, names):
    recorder.log(None, 0, dict.fromkeys(names, 1.0))
    recorder.log(4, 0, dict.fromkeys(names, 2.0))
    found = records(tmp_path / "s")
    assert [r.seq for r in found] == [1, 2, 3]
    assert isinstance(found[1], Happening)
    assert found[2].values == (2.0,) * len(names)


def test_each_tuple_of_names_is_declared_once(tmp_path, recorder):
    for step in range(100):
        recorder.log(step, 0, {"loss": 1.0} if step % 2 else {"loss": 1.0, "lr": 0.1})
        recorder.log(step, 0, {"lr": 0.1, "loss": 1.0})
    assert recorder.written == 203
    assert {p.names for p in points(tmp_path / "s")} == {("loss",), ("loss", "lr"), ("lr", "loss")}


def test_names_in_ever_new_combinations_are_recorded_one_by_one(tmp_path, recorder, capsys):
    random.seed(1)
    names = [f"signal{i}" for i in range(40)]
    wanted = []
    for step in range(MOST_SCHEMAS + 500):
        chosen = random.sample(names, 3)
        wanted += [(step, name, float(step)) for name in chosen]
        recorder.log(step, 0, dict.fromkeys(chosen, float(step)))
    found = [(p.step, name, value) for p in points(tmp_path / "s") for name, value in zip(p.names, p.values, strict=True)]
    assert found == wanted
    assert recorder.dropped == 0
    assert "combinations" in capsys.readouterr().err


def test_names_without_end_are_dropped_in_the_end(tmp_path, recorder):
    for step in range(2 * MOST_SCHEMAS + 50):
        recorder.log(step, 0, {f"loss_{step}": 1.0})
    assert recorder.dropped == 50
    assert len(points(tmp_path / "s")) == 2 * MOST_SCHEMAS


def test_names_may_be_anything(tmp_path, recorder):
    recorder.log(0, 0, {"träin/läss": 1.0, "bad\ud800": 2.0, 3: 3.0, "": 4.0, "n" * 5000: 5.0})
    (point,) = points(tmp_path / "s")
    assert point.values == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert point.names[0] == "träin/läss"


def test_every_segment_can_be_read_alone(tmp_path, small):
    for step in range(1000):
        small.log(step, 0, {"loss": float(step), "lr": 0.1})
    files = sorted((tmp_path / "s").glob("*.rec"))
    assert len(files) > 10
    last = files[-1].read_bytes()
    header = read_segment_header(last)
    alone = [r for r in scan_segment(last, header) if isinstance(r, Point)]
    assert alone[0].seq == header.first_seq
    assert alone[0].names == ("loss", "lr")
    headers = [read_segment_header(path.read_bytes()) for path in files]
    apart = [abs(time.time_ns() - each.wall_ns - (time.monotonic_ns() - each.mono_ns)) for each in headers]
    assert min(apart) < 50_000_000, "read together; between the two readings this process may have to wait for its core"
    assert [p.step for p in points(tmp_path / "s")] == list(range(1000))


def test_a_signal_handler_that_logs_loses_nothing(tmp_path, small):
    handled = 0

    def handler(*_: object) -> None:
        nonlocal handled
        handled += 1
        small.log(handled, 1, {"from": 1.0, "handler": float(handled)})

    old = signal.signal(signal.SIGALRM, handler)
    deadline = time.monotonic() + 60
    step = seen = 0
    try:
        while handled < 1_500 and time.monotonic() < deadline:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-6, 2e-4))
            while handled == seen:
                small.log(step, 0, {"loss": float(step)} if step % 3 else {"loss": float(step), "lr": 1.0})
                step += 1
            seen = handled
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert handled >= 1_500
    found = records(tmp_path / "s")
    assert [r.seq for r in found] == list(range(1, small.written + 1))
    assert [r.step for r in found if isinstance(r, Point) and r.branch == 0] == list(range(step))
    assert sorted(r.step for r in found if isinstance(r, Point) and r.branch == 1) == list(range(1, handled + 1))
    assert small.dropped == 0


@pytest.mark.parametrize("base", [BaseException, Exception])
def test_a_signal_handler_that_raises_leaves_holes_and_no_damage(tmp_path, small, base):
    class Interrupt(base):
        """The script's own: it goes on to the script, whatever it is."""

    def handler(*_: object) -> None:
        raise Interrupt

    returned, interrupted = [], 0
    old = signal.signal(signal.SIGALRM, handler)
    deadline = time.monotonic() + 60
    step = 0
    try:
        while interrupted < 1_500 and time.monotonic() < deadline:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(5e-6, 200e-6))
                while True:
                    step += 1
                    small.log(step, 0, {"loss": 1.0})
                    returned.append(step)
            except Interrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert interrupted >= 1_500
    assert small.depth == 0
    small.log(0, 9, {"loss": 1.0})
    assert len(shipped(small, 10_000)) == small.written, "contiguous for the daemon"
    found = records(tmp_path / "s")
    assert [r.seq for r in found] == list(range(1, small.written + 1))
    there = {r.step for r in found if isinstance(r, Point)}
    missing = [s for s in returned if s not in there]
    assert not missing


def test_threads_lose_nothing(tmp_path, small):
    def work(branch: int) -> None:
        for step in range(5_000):
            small.log(step, branch, {"loss": float(step), f"own{branch}": 1.0})

    threads = [threading.Thread(target=work, args=(b,)) for b in range(4)]
    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for t in threads:
            t.start()
        while any(t.is_alive() for t in threads):
            small.prepare()
            time.sleep(0.001)
    finally:
        sys.setswitchinterval(old)
    found = records(tmp_path / "s")
    assert [r.seq for r in found] == list(range(1, small.written + 1))
    for branch in range(4):
        assert [r.step for r in found if isinstance(r, Point) and r.branch == branch] == list(range(5_000))
    assert shipped(small, 3_000) == found


def test_events_stand_in_order_among_the_values(tmp_path, recorder):
    recorder.log(1, 0, {"loss": 1.0})
    assert recorder.event(Remark(text="between"), 1, 0) == 3
    recorder.log(2, 0, {"loss": 2.0})
    found = records(tmp_path / "s")
    assert [type(r) for r in found] == [Happening, Point, Happening, Point]
    assert found[2].event == Remark(text="between")


def test_an_event_larger_than_a_segment_gets_one_of_its_size(tmp_path, small):
    small.log(1, 0, {"loss": 1.0})
    long = Remark(text="x" * 50_000)
    assert small.event(long, 1, 0)
    small.log(2, 0, {"loss": 2.0})
    assert events(tmp_path / "s") == [long]
    assert [p.step for p in points(tmp_path / "s")] == [1, 2]
    assert small.event(Remark(text="x" * (1 << 20)), 1, 0) == 0
    assert small.dropped == 1


def test_the_next_segment_is_asked_for_when_this_one_is_half_full(small):
    asked = []
    small.half_full = lambda: asked.append(small.written)
    while not asked:
        small.log(1, 0, {"loss": 1.0})
    assert 0.4 < small.written * 48 / SMALL < 0.6
    assert small.wants_spare
    small.prepare()
    assert not small.wants_spare
    made = len(list((small.directory / "s").glob("*.rec")))
    while len(asked) == 1:
        small.log(1, 0, {"loss": 1.0})
    assert len(list((small.directory / "s").glob("*.rec"))) == made == 2, "the prepared one was taken"


def test_an_unused_spare_is_put_away_at_close(tmp_path, small):
    while not small.wants_spare:
        small.log(1, 0, {"loss": 1.0})
    small.prepare()
    small.close()
    assert len(list((tmp_path / "s").glob("*.rec"))) == 1
    small.log(2, 0, {"loss": 1.0})
    assert small.dropped == 1
    assert shipped(small, 1 << 20), "what was recorded can still be shipped"


@pytest.mark.parametrize("max_bytes", [1, 100, 1000, 10**6])
def test_shipments_are_contiguous_and_bounded_from_anywhere(tmp_path, small, max_bytes):
    random.seed(2)
    for step in range(800):
        small.log(step, 0, dict.fromkeys("abcdefgh"[: 1 + step % 8], 1.0))
        if step % 7 == 0:
            small.mark()
    found = records(tmp_path / "s")
    assert shipped(small, max_bytes) == found
    for first in random.sample(range(1, small.written), 20):
        assert shipped(small, max_bytes, first) == found[first - 1 :]
    assert small.stretch(small.written + 1, max_bytes) is None
    assert small.stretch(small.written + 1000, max_bytes) is None


def test_many_schemas_are_named_only_where_they_are_used(small):
    for i in range(60):
        small.log(i, 0, {f"signal{i}": 1.0})
    assert all(len(r) for r in [shipped(small, 500)])
    stretch = small.stretch(1, 500)
    assert stretch is not None
    assert len(stretch.header.schemas) < 10


@pytest.mark.parametrize("schemas", [1, 30])
@pytest.mark.parametrize("which", [0, 3])
def test_a_record_that_somebody_has_zeroed_holds_nobody_up(tmp_path, small, schemas, which):
    for i in range(60):
        small.log(i, 0, {f"signal{i % schemas}": 1.0})
    path = min((tmp_path / "s").glob("*.rec"))
    with path.open("r+b") as file:
        data = file.read()
        at = read_segment_header(data).data_at
        for _ in range(which):
            at += int.from_bytes(data[at : at + 4], "little")
        file.seek(at)
        file.write(bytes(8))
    assert small.stretch(1, 500) is not None, "it comes to an end, which is all that can be asked"
    small.log(60, 0, {"signal0": 1.0})
    assert small.written > 60


def test_nothing_is_shipped_from_inside_a_log(small):
    class Peeping:
        """Looks while the lock is held: what a signal handler would see."""

    seen = []
    small.half_full = lambda: seen.append((small.depth, small.stretch(1, 1000)))
    while not seen:
        small.log(1, 0, {"loss": 1.0})
    assert seen == [(1, None)]


def test_committed_segments_are_deleted_and_the_present_one_is_not(tmp_path, small):
    for step in range(500):
        small.log(step, 0, {"loss": 1.0})
    before = sorted((tmp_path / "s").glob("*.rec"))
    second = read_segment_header(before[1].read_bytes())
    small.committed(second.first_seq + 3)
    assert sorted((tmp_path / "s").glob("*.rec")) == before[1:]
    small.committed(small.written)
    assert sorted((tmp_path / "s").glob("*.rec")) == before[-1:]
    small.log(500, 0, {"loss": 1.0})
    assert points(tmp_path / "s")[-1].step == 500
    assert small.stretch(small.written, 1000) is not None


def test_old_segments_give_their_descriptors_back_and_can_still_be_shipped(tmp_path, small):
    def held() -> int:
        return sum(1 for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and str(tmp_path) in str(fd.readlink()))

    for step in range(5_000):
        small.log(step, 0, {"loss": float(step)})
    assert len(list((tmp_path / "s").glob("*.rec"))) > 50
    assert held() < 10
    assert [r.step for r in shipped(small, 1000) if isinstance(r, Point)] == list(range(5_000))


def test_beyond_the_cap_the_oldest_go_with_a_gap(tmp_path):
    earlier = Recorder(tmp_path, "a", segment_bytes=SMALL)
    for step in range(200):
        earlier.log(step, 0, {"loss": 1.0})
    earlier.close()
    assert len(list((tmp_path / "a").glob("*.rec"))) == 3
    recorder = Recorder(tmp_path, "b", segment_bytes=SMALL, cap_bytes=6 * SMALL)
    for step in range(1_000):
        recorder.log(step, 0, {"loss": 1.0})
        assert sum(p.stat().st_size for p in tmp_path.glob("*/*.rec")) <= 6 * SMALL
    assert not list((tmp_path / "a").glob("*.rec")), "the dead session's went first"
    found = events(tmp_path / "b")
    gaps = [e for e in found if isinstance(e, Gap)]
    assert gaps
    stretch = recorder.stretch(1, 1 << 20)
    assert stretch is not None
    assert stretch.header.lost_from == 1
    assert stretch.header.first == records(tmp_path / "b")[0].seq
    assert max(g.last for g in gaps) <= stretch.header.first - 1
    assert [p.step for p in points(tmp_path / "b")] == list(range(points(tmp_path / "b")[0].step, 1_000))
    recorder.close()


def run_limited(script: str, *args: str) -> dict[str, object]:
    """A process of its own, since the limit on file sizes would catch the test runner's files as well."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *args], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout)


FULL_DISK = """
    import json, os, resource, sys, time
    from pathlib import Path
    from sitter_agent.recorder import Recorder
    from sitter_agent.stopwatch import waited
    root, how = Path(sys.argv[1]), sys.argv[2]
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    def fill():
        if how == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        else:
            with open(root / "filler", "wb", buffering=0) as f:
                try:
                    while True: f.write(bytes(4096))
                except OSError: pass
    def free():
        if how == "limit": resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        else: os.unlink(root / "filler")
    if "from the start" in sys.argv: fill()
    recorder = Recorder(root / "recorder", "s", segment_bytes=8192)
    accepted, refused, slowest = [], 0, 0.0
    def log(step):
        global refused, slowest
        before, t0, others = recorder.dropped, time.perf_counter(), waited()
        recorder.log(step, 0, {"loss": float(step)})
        slowest = max(slowest, time.perf_counter() - t0 - (waited() - others))  # without the time in which others had the core
        if recorder.dropped == before: accepted.append(step)
        else: refused += 1
    for step in range(200): log(step)
    fill()
    for step in range(200, 1200): log(step)
    during = refused
    free()
    deadline = time.monotonic() + 60
    step = 1200
    while (not accepted or accepted[-1] < 1200) and time.monotonic() < deadline:
        log(step); step += 1; time.sleep(0.01)
    for step in range(step, step + 500): log(step)
    recorder.close()
    print(json.dumps(dict(accepted=accepted, during=during, slowest=slowest, dropped=recorder.dropped, refused=refused)))
"""


def check_full_disk(root: Path, found: dict[str, object]) -> None:
    assert found["during"] > 500, "the disk was full"
    assert found["dropped"] == found["refused"]
    assert [p.step for p in points(root / "recorder" / "s")] == found["accepted"], "what was accepted is there"
    assert found["accepted"][-1] >= 1200, "recording went on once there was room"
    assert found["slowest"] < 2.0, "nothing waits for room"
    (note,) = events(root / "recorder" / "s")
    assert "were not kept" in note.text


@pytest.mark.parametrize("when", ["later", "from the start"])
def test_a_full_disk_is_counted_and_recovered_from(tmp_path, when):
    check_full_disk(tmp_path, run_limited(FULL_DISK, str(tmp_path), "limit", when))


def test_a_full_tmpfs_kills_nobody(tmp_path):
    """A disk that is really full, where a store to an unbacked page would be SIGBUS. In a mount namespace of its own."""
    mount, kept = tmp_path / "mount", tmp_path / "kept"
    mount.mkdir()
    script = 'mount -t tmpfs -o size=128k none "$1" && "$2" -c "$3" "$1" tmpfs && cp -r "$1" "$4"'
    unshare = ["unshare", "--mount", "sh", "-c", script, "sh", str(mount), sys.executable, textwrap.dedent(FULL_DISK), str(kept)]
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount; the same is tested with a limit on file sizes")
    done = subprocess.run(unshare, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    check_full_disk(kept, msgspec.json.decode(done.stdout))


def test_a_forked_child_writes_nothing_and_says_so_once(tmp_path, recorder, capfd):
    recorder.log(1, 0, {"loss": 1.0})
    taken = threading.Event()
    leave = threading.Event()

    def hold_the_lock() -> None:
        with recorder._lock:
            taken.set()
            leave.wait(60)

    holder = threading.Thread(target=hold_the_lock)
    holder.start()
    assert taken.wait(60)
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(50)
            recorder.log(2, 0, {"loss": 2.0})
            recorder.log(2, 0, {"other": 2.0})
            ok = recorder.event(Remark(text="child"), 2, 0) == 0 and recorder.stretch(1, 1000) is None and recorder.dropped == 3
            recorder.committed(10)
            recorder.close()
            os._exit(0 if ok else 3)
        finally:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    leave.set()
    holder.join()
    recorder.log(3, 0, {"loss": 3.0})
    assert [p.step for p in points(tmp_path / "s")] == [1, 3]
    assert recorder.dropped == 0
    assert capfd.readouterr().err.count("forked child") == 1


def test_a_directory_that_cannot_be_made_costs_only_the_record(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    recorder = Recorder(tmp_path / "file", "s")
    for step in range(10):
        recorder.log(step, 0, {"loss": 1.0})
    assert recorder.dropped == 10
    assert recorder.event(Remark(text="x"), 0, 0) == 0
    assert "training" in capsys.readouterr().err
    recorder.close()


def test_an_interrupt_while_a_boundary_is_remembered_pairs_no_record_with_anothers_place(tmp_path):
    """Every place in ``mark`` where a handler may come is tried, by a trace function that raises there once."""
    recorder = Recorder(tmp_path, "s")
    lines = 0
    for target in range(1, 12):
        seen = 0

        def trace(frame, event, arg, target=target):
            nonlocal seen, lines
            if frame.f_code.co_name == "mark" and event in ("line", "return"):
                seen += 1
                lines = max(lines, seen)
                if seen == target:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return trace

        for step in range(100):  # far enough for a new mark to be due
            recorder.log(step, 0, {"loss": 1.0})
        sys.settrace(trace)
        try:
            recorder.mark()
            recorder.stretch(recorder.written, 1 << 20)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
    assert lines > 2
    first = 1
    while (stretch := recorder.stretch(first, 4096)) is not None:
        schemas = {number: tuple(names) for number, names in stretch.header.schemas.items()}
        got = decode_stream(stretch.raw, schemas, stretch.header.first, stretch.header.count)
        assert got[0].seq == first
        first = stretch.after
    assert first == recorder.written + 1
    recorder.close()


def test_a_run_directory_that_was_moved_away_is_not_made_anew(tmp_path):
    """An empty one in its place would be taken for the run: for one without a checkpoint."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    run.mkdir()
    recorder = Recorder(run / "recorder", "s", segment_bytes=SMALL)
    recorder.log(0, 0, {"x": 0.0})
    run.rename(moved)
    for step in range(1, 1000):
        recorder.log(step, 0, {"x": float(step)})
    recorder.close()
    assert not run.exists()
    kept = points(moved / "recorder" / "s")
    assert kept
    assert len(kept) + recorder.dropped == 1000, "those that had no place any more are counted"
