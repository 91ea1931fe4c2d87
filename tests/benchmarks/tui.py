"""What looking costs: CPU at 200×60 with 4 frames/s, memory, time to the first paint. The real app on a real pseudo-terminal.

Every frame has a new status and new curves, which is worse than a run that is looked at. The made-up reader computes its curves in the
app's own process, which the daemon would do elsewhere; its share is given apart.

    python tests/benchmarks/tui.py [--seconds 20]
"""

import argparse
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import psutil

BUDGET_CPU, BUDGET_FIRST_PAINT_S = 0.10, 1.0


def child(report: Path) -> None:
    """The app, as `sitter attach` would run it."""
    from sitter.testing.fake_reader import FakeReader
    from sitter.tui.app import App

    class Timed(FakeReader):
        spent = 0.0

        def ask(self, query: object, timeout: float = 5.0) -> object:
            began = time.thread_time()
            try:
                return super().ask(query, timeout)  # type: ignore[arg-type]
            finally:
                self.spent += time.thread_time() - began
                report.write_text(json.dumps({"reader_s": self.spent, "at": time.monotonic()}))

    class Busy(App):
        POLL_S = 0.25

    Busy(Timed(step=3_000, steps_per_s=81.0), run_name="char-lm", since=time.time() - 3600).run(mouse=False)


def measure(seconds: float, width: int, height: int) -> dict[str, float]:
    """One run of it. Shares of one core, seconds, bytes."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        parent, tty = pty.openpty()
        fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, __file__, "--child", str(report)], stdin=tty, stdout=tty, stderr=tty, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
        )  # fmt: skip
        os.close(tty)
        try:
            seen, first_paint = b"", 0.0
            while not first_paint and time.monotonic() - began < 30:
                seen += _read(parent, 0.05)
                if b"char-lm" in seen and b"12" in seen and "┤".encode() in seen:  # header and chart
                    first_paint = time.monotonic() - began
            _drain(parent, 3.0)  # past what only happens once
            busy = psutil.Process(process.pid)
            before, reader_before, at = sum(busy.cpu_times()[:2]), _reader(report), time.monotonic()
            sent = _drain(parent, seconds)
            took = time.monotonic() - at
            used, reader = sum(busy.cpu_times()[:2]) - before, _reader(report) - reader_before
            rss = busy.memory_info().rss
            os.write(parent, b"q")
            _drain(parent, 0.5)
            process.wait(10)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            os.close(parent)
    return {"first_paint": first_paint, "cpu": used / took, "reader": reader / took, "rss": rss, "bytes": sent / took}


def _reader(report: Path) -> float:
    return float(json.loads(report.read_text())["reader_s"])


def _read(fd: int, timeout: float) -> bytes:
    ready, _, _ = select.select([fd], [], [], timeout)
    try:
        return os.read(fd, 65536) if ready else b""
    except OSError:  # the other side has ended
        return b""


def _drain(fd: int, seconds: float) -> int:
    until, n = time.monotonic() + seconds, 0
    while (left := until - time.monotonic()) > 0:
        n += len(_read(fd, min(left, 0.2)))
    return n


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--child", type=Path)
    given = parser.parse_args()
    if given.child:
        child(given.child)
        return
    print(f"{'':12}{'first paint':>14}{'CPU':>10}{'reader':>10}{'RSS':>10}{'output':>12}")
    for width, height in ((80, 24), (200, 60)):
        m = measure(given.seconds, width, height)
        print(f"{width}×{height:<8}{m['first_paint']:>12.2f} s{m['cpu']:>10.1%}{m['reader']:>10.1%}"
              f"{m['rss'] / 2**20:>7.0f} MiB{m['bytes'] / 1024:>8.1f} kB/s")  # fmt: skip
    print(f"budget at 200×60: CPU without the reader {(m['cpu'] - m['reader']) / BUDGET_CPU:.2f} × of {BUDGET_CPU:.0%} of a core, "
          f"first paint {m['first_paint'] / BUDGET_FIRST_PAINT_S:.2f} × of {BUDGET_FIRST_PAINT_S:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
