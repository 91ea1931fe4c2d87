"""Law 2, first half: what `log` accepted is in the file when it returns, at whatever instruction the process is killed."""

import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from sitter_wire.codec import GarbageError
from sitter_wire.records import Happening, Point, read_segment_header, scan_segment

# Imports once and forks a trainer for each line it reads: a kill a tenth of a second, not one a second. The child makes its recorder
# itself, so it is no forked child of an agent.
TRAINERS = """
    import mmap, os, sys, threading
    from pathlib import Path
    from sitter_agent.recorder import Recorder
    from sitter_wire.events import Remark

    def train(root, threads, segment_bytes):
        # Slots of 8 bytes: how many calls of each thread returned.
        with open(root / "returned", "r+b") as f:
            returned = memoryview(mmap.mmap(f.fileno(), 4096)).cast("q")
        recorder = Recorder(root, "s", segment_bytes=segment_bytes)
        def work(branch):
            step = 0
            while True:
                if step % 100 == 99: recorder.event(Remark(text=f"{branch} {step}"), step, branch)
                elif step % 7 == 3: recorder.log(step, branch, {"loss": step / 3, "lr": -step / 7, f"val{step % 5}": 1.0})
                else: recorder.log(step, branch, {"loss": step / 3, "lr": -step / 7})
                step += 1
                returned[branch] = step
        for branch in range(1, threads): threading.Thread(target=work, args=(branch,), daemon=True).start()
        work(0)

    for line in sys.stdin:
        root, threads, segment_bytes = line.split()
        pid = os.fork()
        if pid == 0:
            try: train(Path(root), int(threads), int(segment_bytes))
            finally: os._exit(9)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("dead", flush=True)
"""


def killed_at_random(trainers: "subprocess.Popen[str]", root: Path, threads: int, segment_bytes: int) -> list[int]:
    """Let one trainer log, kill it, and say how many calls of each thread had returned."""
    root.mkdir()
    counter = root / "returned"
    counter.write_bytes(bytes(4096))
    with counter.open("r+b") as f, mmap.mmap(f.fileno(), 4096) as shared:
        trainers.stdin.write(f"{root} {threads} {segment_bytes}\n")
        trainers.stdin.flush()
        pid = int(trainers.stdout.readline())
        deadline = time.monotonic() + 60
        while not all(struct.unpack_from(f"{threads}q", shared)):
            assert time.monotonic() < deadline, "the trainer did not start"
            time.sleep(0.0005)
        time.sleep(random.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        assert trainers.stdout.readline() == "dead\n"
        return list(struct.unpack_from(f"{threads}q", shared))


def check(root: Path, returned: list[int]) -> int:
    """Everything that returned is there, right, once and in order; the number of torn records is given back."""
    found: list[Point | Happening] = []
    torn = 0
    for path in sorted((root / "s").glob("*.rec")):
        data = path.read_bytes()
        try:
            header = read_segment_header(data)
        except GarbageError:
            continue  # prepared or about to be begun when the process died: it holds no record
        for record in scan_segment(data, header):
            if record is None:
                torn += 1
            else:
                found.append(record)
    seqs = [r.seq for r in found]
    assert seqs == sorted(set(seqs))
    assert seqs[-1] - len(seqs) <= torn, "a number is missing only where a record was torn"
    for branch, count in enumerate(returned):
        mine = [r for r in found if r.branch == branch and (isinstance(r, Point) or type(r.event).__name__ == "Remark")]
        steps = [r.step for r in mine]
        assert steps in (list(range(count)), list(range(count + 1))), f"{count} calls had returned, {len(steps)} are there"
        for r in mine:
            if isinstance(r, Point):
                assert r.values[:2] == (r.step / 3, -r.step / 7)
                assert r.names[:2] == ("loss", "lr")
            else:
                assert r.event.text == f"{branch} {r.step}"
    assert torn <= len(returned)
    return torn


def kill_often(tmp_path: Path, kills: int) -> int:
    trainers = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(TRAINERS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    torn = 0
    try:
        for i in range(kills):
            threads = 1 + (i % 3 == 2)
            root = tmp_path / str(i)
            torn += check(root, killed_at_random(trainers, root, threads, random.choice([4096, 64 * 1024, 1 << 20])))
            subprocess.run(["rm", "-r", root], check=True)
    finally:
        trainers.stdin.close()
        trainers.wait(60)
        trainers.stdout.close()
    return torn


def test_nothing_that_was_logged_is_lost_by_a_kill(tmp_path):
    kill_often(tmp_path, 15)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_that_was_logged_is_lost_by_three_hundred_kills(tmp_path):
    print("torn:", kill_often(tmp_path, 300))
