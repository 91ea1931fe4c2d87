"""Why it died, from what is really there; and unknown where nothing says it."""

import signal
import time
from pathlib import Path

import pytest

from sitter.supervise.death import KernelLine, examine, kernel_log, readable


def of(tmp_path: Path, said: str, **how: object):
    log = tmp_path / "train.log"
    log.write_text("an older attempt: CUDA out of memory\n" + said)
    span = (len("an older attempt: CUDA out of memory\n"), log.stat().st_size)
    return examine(log, **{"code": 1, "number": None, "pid": 77, "ended": 1000.0, "span": span, "kernel": [], **how})


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n", "the GPU's memory ran out (CUDA out of memory. Tr"),
        ("RuntimeError: CUDA error: device-side assert triggered\n", "an index was out of range in a GPU kernel"),
        ("RuntimeError: CUDA error: an illegal memory access was encountered\n", "a GPU kernel touched memory that is not its own"),
        ("RuntimeError: DataLoader worker (pid 12) is killed by signal: Killed. \n", "a DataLoader worker was killed"),
        ("OSError: [Errno 28] No space left on device\n", "the disk is full"),
        ("Traceback (most recent call last):\n  File \"t.py\", line 3\nKeyError: 'x'\nsome goodbye\n", "KeyError: 'x'"),
        ("nothing of note\n", ""),
    ],
)  # fmt: skip
def test_known_errors_are_said_as_such(tmp_path, said, cause):
    death = of(tmp_path, said)
    assert death.how == "exit code 1"
    assert death.cause.startswith(cause) if cause else death.cause == ""


def test_what_an_earlier_attempt_said_is_not_its_cause(tmp_path):
    assert of(tmp_path, "fine\n").lines == ("fine",)


def test_the_kernels_killer_is_known_by_its_log_or_its_count(tmp_path):
    line = KernelLine(995.0, "Out of memory: Killed process 77 (python) total-vm:1kB")
    assert "out-of-memory killer ended it (its log" in of(tmp_path, "", code=None, number=9, kernel=[line]).cause
    assert "1 process of its cgroup" in of(tmp_path, "", code=None, number=9, oom_kills=1).cause
    assert of(tmp_path, "", code=None, number=9, oom_kills=0).cause == "somebody killed it; not by the kernel for want of memory"
    assert "does not say whether" in of(tmp_path, "", code=None, number=9).cause
    old, other = KernelLine(100.0, line.text), KernelLine(995.0, line.text.replace("77", "177"))
    assert "killer ended" not in of(tmp_path, "", code=None, number=9, kernel=[old, other]).cause


def test_gpu_errors_of_that_time_are_found(tmp_path):
    found = of(tmp_path, "", kernel=[KernelLine(990.0, "NVRM: Xid (PCI:0000:01:00): 79, pid=77, GPU has fallen off the bus.")])
    assert found.xids == (79,)


def test_signals_have_names_and_an_unseen_end_is_unseen(tmp_path):
    assert of(tmp_path, "", code=None, number=signal.SIGSEGV).how == "ended by SIGSEGV"
    assert of(tmp_path, "", code=None, number=60).how == "ended by signal 60"
    assert of(tmp_path, "", code=None).how == "its end was not seen by anybody"


def test_last_lines_are_as_a_terminal_would_leave_them():
    assert readable("10 %\r20 %\r\x1b[31mred\x1b[0m\n\n\x07bell\tx\x00\r\n") == ["red", "bell    x"]


def test_the_real_kernel_log_reads_or_is_empty():
    lines = kernel_log()
    assert all(line.at <= time.time() + 5 for line in lines)
    assert kernel_log(Path("/nowhere")) == []
