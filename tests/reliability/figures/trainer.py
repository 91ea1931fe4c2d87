"""A training that logs from everywhere at once, made to be killed at any instruction.

Four sources write through the public ``agent.log``: the loop, two threads, and a signal handler that interrupts all of them. Each counts
the calls that had RETURNED in memory shared with whoever kills it, so what must be in the history is known to the call. Now and then it
forks a child that goes on logging with the script's own objects, as a careless fork does, and outlives it for a while; nothing of a child
may ever be in the history.
"""

import contextlib
import gc
import json
import mmap
import os
import random
import signal
import threading
import time
from pathlib import Path

import sitter_agent
from sitter_agent.recorder import Recorder
from tests.reliability.figures.forks import forked

SOURCES = ("loop", "thread1", "thread2", "handler")
CHILD = "child"
FORKS = len(SOURCES)
"""The slot that counts children."""
SHARED_BYTES = 4096
FULL, SLOW, LEISURE, BURST = "full speed", "10 Hz", "2 Hz", "burst"
"""At 2 Hz only the loop logs, so little that the daemon commits once in 5 s only, and so many names at a time that segments of a page are
full, and given up when committed, after 2 s."""
WIDE = 120
BURST_CALLS = 15_000
"""Of the loop at full speed, after which a trainer of that kind goes on at 10 Hz: with the threads' some 8 MB."""


def values(source: str, count: int) -> dict[str, float]:
    """What the ``count``-th call of a source logs (from 0): the count under the source's name, and what can be checked against it. Some
    calls bring a name more, so that schemas come up throughout; some values are ints."""
    told: dict[str, float] = {source: count if count % 11 == 5 else float(count), f"{source}_seventh": -count / 7}
    if count % 50 == 49:
        told[f"{source}_extra{count // 50 % 5}"] = count / 3
    return told


def wide(count: int) -> dict[str, float]:
    """The same, with many names beside it."""
    return {"loop": float(count), "loop_seventh": -count / 7, **{f"w{i}": count + i / 64 for i in range(WIDE)}}


def counters(path: Path) -> memoryview:
    """Slots of 8 bytes, one for each source; shared by all who map the file."""
    if not path.exists():
        path.write_bytes(bytes(SHARED_BYTES))
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), SHARED_BYTES)).cast("q")


def train(place: Path, run: Path, speed: str, segment_bytes: int, cap_bytes: int = 1 << 30) -> None:
    """Until killed, or until the file ``enough`` lies in ``place``: then it ends as a script does. In a process of its own."""
    os.environ["SITTER_RUN"] = str(run)
    said = os.open(place / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    # Segments of one page to a megabyte: many rotations in a life of a tenth of a second. There is no setting for it, on purpose.
    Recorder.__init__.__kwdefaults__.update(segment_bytes=segment_bytes, cap_bytes=cap_bytes)
    random.seed(os.urandom(8))
    agent = sitter_agent.start(daemon=False)
    shared = counters(place / "returned")
    enough = place / "enough"
    pause, every = {SLOW: (0.1, 0.1), LEISURE: (0.5, 0.0)}.get(speed, (0.0, 0.002))
    ending, inside = False, False

    def call(slot: int) -> None:
        count = shared[slot]
        agent.log(wide(count) if speed == LEISURE else values(SOURCES[slot], count))
        shared[slot] = count + 1

    def work(slot: int) -> None:
        while not ending:
            call(slot)
            if pause:
                time.sleep(pause)

    def handler(*_: object) -> None:
        nonlocal inside
        if not inside:  # it interrupts itself where one run of it takes longer than the timer
            inside = True
            call(3)
            inside = False

    threads = [threading.Thread(target=work, args=(slot,), daemon=True) for slot in (() if speed == LEISURE else (1, 2))]
    for thread in threads:
        thread.start()
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, every, every)
    fork_at = {random.randrange(1, 8) if pause else random.randrange(20, 3000) for _ in range(2)}
    for step in agent.steps(1 << 60):
        call(0)
        if step in fork_at:
            shared[FORKS] += 1
            careless_child(agent)
        if speed == BURST and step == BURST_CALLS:
            pause = 0.1
            signal.setitimer(signal.ITIMER_REAL, pause, pause)
        if pause:
            time.sleep(pause)
        if (pause or step % 64 == 0) and enough.exists():
            break
    ending = True
    signal.setitimer(signal.ITIMER_REAL, 0)
    for thread in threads:
        thread.join()
    agent.close()


def careless_child(agent: sitter_agent.Agent) -> None:
    """Fork one that logs for up to half a second, maybe beyond the trainer's death, and is gone by itself."""
    if os.fork():
        return
    with contextlib.suppress(BaseException):
        signal.setitimer(signal.ITIMER_REAL, 0)
        until = time.monotonic() + random.uniform(0.0, 0.5)
        while True:
            agent.log({CHILD: 1.0})
            if time.monotonic() > until:
                break
            time.sleep(0.01)
    os._exit(0)


def fork_trainer(place: Path, run: Path, speed: str, segment_bytes: int, cap_bytes: int = 1 << 30) -> int:
    """The pid of a trainer forked from this process, which has imported everything and opened nothing: 30 ms instead of 300."""
    place.mkdir(parents=True)
    counters(place / "returned")

    def trains() -> None:
        gc.enable()
        train(place, run, speed, segment_bytes, cap_bytes)

    pid = forked(trains)
    (place / "about.json").write_text(json.dumps({"pid": pid, "speed": speed, "segment_bytes": segment_bytes}))
    return pid
