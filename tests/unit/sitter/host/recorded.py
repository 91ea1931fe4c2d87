"""A run whose GPU is throttled, then lost: a real core and real looks at the stub driver; only the time is made. In a process of its own,
since the driver's library is found when a process starts.

    recorded.py RUN_DIRECTORY CONTROL_FILE

prints what the rules found live, in JSON.
"""

import json
import os
import sys
import time
from pathlib import Path

from sitter.config import load
from sitter.control.core import Core
from sitter.control.machine import Machine
from sitter.host.gpus import Gpus
from sitter.host.sampler import HostSample
from sitter.model import HostNow
from sitter.paths import look
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter.testing.manual_clock import ManualClock
from sitter_wire import rundir
from sitter_wire.events import LoopStart, SessionStart
from sitter_wire.messages import Pong
from sitter_wire.records import Happening, Point

HEALTHY = ("util 97", "used 1000", "total 8000", "temp 60", "power 300000", "limit 400000", "energy 5", "ecc 0")
XID_S = 60.0


class Live:
    """Two steps a second, of which two thirds are waiting for data; a look at the machine every second."""

    def __init__(self, place: Path, control: Path) -> None:
        self.clock, self.control = ManualClock(), control
        os.chdir(place)
        self.run = rundir.create(place, "t", command=["x"], supervised=False, sockets="", version="0")
        self.writer = Writer(self.run.history, on_commit=lambda _: None, clock=self.clock)
        self.writer.start()
        self.reader = Reader(self.run.history)
        self.core = core = Core(
            run=self.run, info=look(self.run).info, config=load(self.run.sitter_toml), preset="guard", clock=self.clock,
            writer=self.writer, reader=self.reader, send=lambda _: True, notify=lambda *_: None, on_gone=lambda: None,
        )  # fmt: skip
        core.life.pid, core.life.look = os.getpid(), lambda: None
        now = int(self.clock.monotonic() * 1e9)
        core.flow.session("s", (int(self.clock.wall() * 1e9), now))
        self.machine = Machine(core.board, self.writer, lambda _: None)
        self.gpus, self.seq, self.step, self.second, self.stepped_at = Gpus(self.clock), 0, 0, 0, self.clock.monotonic()
        self.take(SessionStart(pid=os.getpid(), host="h", branch=0), LoopStart(total=10**6, workers=2))

    def driver(self, *lines: str) -> None:
        fresh = self.control.with_suffix(".new")
        fresh.write_text("\n".join([*HEALTHY, *lines]) + "\n")
        fresh.replace(self.control)

    def take(self, *events: object) -> None:
        now = int(self.clock.monotonic() * 1e9)
        self.records(*(Happening(self.seq + 1 + i, self.step, 0, now, e) for i, e in enumerate(events)))

    def records(self, *records: object) -> None:
        self.seq += len(records)
        self.core.flow.records("s", self.core.intake.take_read("s", list(records)))

    def seconds(self, n: int, *, steps: bool = True) -> None:
        for _ in range(n):
            for _ in range(2):
                self.clock.advance(0.5)
                if steps:
                    self.step += 1
                    values = (2.0, 0.5, 0.33)
                    now = int(self.clock.monotonic() * 1e9)
                    self.records(Point(self.seq + 1, self.step, 0, now, ("loss", "step_time", "data_wait"), values))
            self.looked()
            self.stepped_at = self.clock.monotonic() if steps else self.stepped_at
            pong = Pong(
                session="s", n=self.second, pid=os.getpid(), step=self.step, micro=self.step, branch=0, safe_point_at=self.stepped_at,
                written=self.seq, dropped=0,
            )  # fmt: skip
            self.core.present.pinged(pong, self.clock.monotonic())
            self.core.tick()

    def looked(self) -> None:
        fresh = self.second % 10 == 0
        self.second += 1
        seen = self.gpus.look(slow=fresh, uuids=("GPU-00000000-aaaa-bbbb-cccc-0123456789ab",))
        host = HostNow(
            cpu=50.0, mem_used=10, mem_total=100, disk_free=10**12, disk_total=2 * 10**12, train_rss=5, train_cpu=30.0, cpus=16.0
        )  # fmt: skip
        self.machine.seen(HostSample(time=self.clock.wall(), gpus=seen.gpus, host=host, alarms=seen.alarms, fresh=fresh, xids=seen.xids))

    def xid(self, text: str) -> None:
        """The driver's event comes by a thread of its own, in real time."""
        before = len(self.core.board.gpus[0].xids)
        self.driver("clock 1400", "reasons 0x20", f"xid {text}")
        until = time.monotonic() + XID_S
        while len(self.core.board.gpus[0].xids) == before and time.monotonic() < until:
            time.sleep(0.01)
            self.seconds(1)

    def found(self) -> list[list[object]]:
        self.writer.flush()
        lines = self.reader.logbook()
        found = ("info", "warning", "critical")
        return [[e.step, e.rule, e.status, e.detail] for e in lines if e.kind == "finding" and e.status in found]


def main() -> None:
    live = Live(Path(sys.argv[1]), Path(sys.argv[2]))
    live.driver("clock 1900")
    live.seconds(15 * 60)
    live.driver("clock 1400", "reasons 0x20")  # too hot
    live.seconds(8 * 60)
    live.driver("clock 1400", "reasons 0x20", "ecc 3")
    live.seconds(15)
    live.xid("1:0:31")
    live.seconds(5)
    live.xid("2:0:79")
    live.driver("all.error 15")
    live.seconds(30, steps=False)  # and the training hangs in it
    found = live.found()
    live.gpus.close()
    live.writer.close()
    live.reader.close()
    print(json.dumps({"run": str(live.run.path), "found": found}))


if __name__ == "__main__":
    main()
