"""SIGKILL in the middle of writing, for real: what was committed is there, and no batch is there by half."""

import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from sitter.clock import SystemClock
from sitter.store.reader import Reader
from sitter.store.writer import Writer

BATCH = 7

CHILD = textwrap.dedent("""
    import sys
    from pathlib import Path
    from sitter.clock import SystemClock
    from sitter.store import pace
    from sitter.store import writer as module
    from sitter_wire import events
    from sitter_wire.records import Happening, Point

    pace.COMMIT_EVERY = 0.0

    def acked(sequences):
        # As the daemon's ack: said only once committed.
        for seq in sequences.values():
            sys.stdout.write(f"{seq}\\n")
            sys.stdout.flush()

    w = module.Writer(Path(sys.argv[1]), on_commit=acked, clock=SystemClock())
    first = w._sessions["s"].last + 1 if "s" in w._sessions else 1
    w.start()
    while True:
        batch = [Point(first + i, first + i, 0, (first + i) * 1000, ("loss", "lr"), (float(first + i), 0.5)) for i in range(6)]
        batch.append(Happening(first + 6, first + 6, 0, (first + 6) * 1000, events.Remark(text=str(first))))
        assert w.records("s", batch)
        first += 7
        if first % 5 == 0:
            assert w.flush()
""")


def test_kills_lose_nothing_that_was_acknowledged_and_leave_no_half_batch(tmp_path: Path) -> None:
    path, rnd = tmp_path / "history.db", random.Random(7)
    acknowledged = 0
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        try:
            for _ in range(rnd.randrange(1, 12)):  # the kill falls right after a commit, or during one of the next
                line = child.stdout.readline()
                assert line, "the child ended by itself"
        finally:
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read()
            child.stdout.close()
            child.wait()
        said = [int(x) for x in (line + rest[: rest.rfind(b"\n") + 1]).split()]
        acknowledged = max(said)
        reader = Reader(path)
        last = reader.sequences()["s"]
        assert last >= acknowledged
        assert last % BATCH == 0, "half of a batch"
        points = [p.seq for p in reader.last(10**7)]
        happened = [e.happening.seq for e in reader.events()]
        assert sorted(points + happened) == list(range(1, last + 1))
        assert all(p.values == {"loss": float(p.seq), "lr": 0.5} for p in reader.tail(3000))
        reader.close()
    assert acknowledged > 8 * BATCH
    # And whoever comes next goes on with it.
    writer = Writer(path, on_commit=lambda _: None, clock=SystemClock())
    writer.start()
    writer.close()
