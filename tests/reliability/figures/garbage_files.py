"""A hundred thousand files that are not what they were: recorder segments, checkpoints with their sidecars, databases, sitter.toml,
run.toml and what a parent leaves.

Each is read the way the daemon, the agent or a command reads it: answered, or refused with one of our errors.
"""

import contextlib
import gc
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from sitter import config
from sitter.clock import SystemClock
from sitter.errors import SitterError
from sitter.ingest import files
from sitter.ingest.intake import Intake
from sitter.offline import Offline
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter.supervise.exit import read_exit
from sitter.supervise.parent import TRAIN_PID
from sitter.supervise.pending import read_attempts
from sitter.supervise.process import TrainingProcess
from sitter_agent.checkpoint_files import DamagedError, check, read_sidecar, sidecars, write_durably, write_text
from sitter_agent.launcher import healthy_steps
from sitter_wire import events, queries, rundir
from sitter_wire.codec import GarbageError, encode
from sitter_wire.places import PlaceError, RunDir
from sitter_wire.records import (
    EVENT,
    SegmentHeader,
    blob_bytes,
    pack_blob,
    pack_segment_header,
    point_struct,
    point_word,
    segment_name,
)
from tests.reliability.figures.mutation import Mutator

KINDS = {"segments": 0.35, "checkpoints": 0.25, "settings": 0.15, "run.toml": 0.1, "exit and pids": 0.05, "databases": 0.1}
WHOLE = 25
"""Of so many segments one is taken in by all of a run without a daemon, to the status it would show."""
GROWTH_MB = 24.0
OURS = (SitterError, PlaceError, GarbageError, DamagedError)
SESSION = "20260101T000000-abcdef01"


def measure(count: int, say: Callable[[str], object], seed: str = "") -> dict[str, Any]:
    """Figures over so many files; ``faults`` are sentences."""
    seed = seed or f"{random.SystemRandom().getrandbits(32):08x}"
    base = Path(tempfile.mkdtemp(prefix="st-"))
    figures: dict[str, Any] = {"seed": seed, "files": {}, "refused": {}, "faults": [], "slowest_s": 0.0, "slowest": ""}
    trials = Trials(base, seed)
    me = psutil.Process()
    seen: list[tuple[float, int]] = []
    try:
        for name, share in KINDS.items():
            trial, n = trials.of(name), max(20, int(count * share))
            figures["files"][name], figures["refused"][name] = n, 0
            trials.bombs(name)
            for i in range(n):
                began = time.process_time()
                try:
                    trial(i)
                except OURS:
                    figures["refused"][name] += 1
                except Exception as e:
                    at = traceback.extract_tb(e.__traceback__)[-1]
                    fault = f"{name}: {type(e).__name__} at {Path(at.filename).name}:{at.lineno}: {e}"[:300]
                    if fault.split(": ")[1] not in {f.split(": ")[1] for f in figures["faults"]}:
                        figures["faults"].append(fault)
                took = time.process_time() - began  # by the clock it would tell of who else wants the core
                if took > figures["slowest_s"]:
                    figures["slowest_s"], figures["slowest"] = took, name
                if i in (n // 4, n - 1):
                    gc.collect()
                    seen.append((me.memory_info().rss / 1e6, me.num_fds()))
            say(f"{n:,} {name}, {figures['refused'][name]:,} refused in one sentence, {len(figures['faults'])} faults")
    finally:
        shutil.rmtree(base, ignore_errors=True)
    figures["mb"] = [[before[0], after[0]] for before, after in zip(seen[::2], seen[1::2], strict=True)]
    figures["handles"] = [[before[1], after[1]] for before, after in zip(seen[::2], seen[1::2], strict=True)]
    return figures


def broken(figures: dict[str, Any]) -> list[str]:
    """What of the promise does not hold, in sentences."""
    out = list(figures["faults"])
    for name, (mb, more), (handles, after) in zip(figures["files"], figures["mb"], figures["handles"], strict=True):
        if more - mb > GROWTH_MB:
            out.append(f"reading {name} has grown from {mb:.0f} to {more:.0f} MB")
        if after > handles + 2:
            out.append(f"reading {name} had {handles} handles open, and has {after}")
        if not figures["refused"][name] and name not in ("segments", "exit and pids"):
            out.append(f"nothing of {name} was refused: nothing was measured")
    if figures["slowest_s"] > 10:
        out.append(f"one of {figures['slowest']} took {figures['slowest_s']:.0f} s of CPU time")
    return out


def table(figures: dict[str, Any]) -> list[str]:
    """For a person."""
    names = list(figures["files"].items())
    told = [f"{n:,} {name} ({figures['refused'][name]:,} refused)" for name, n in names]
    return [
        f"{sum(n for _, n in names):,} files: " + ", ".join(told[:3]),
        ", ".join(told[3:]),
        f"slowest {figures['slowest_s']:.2f} s; memory " + ", ".join(f"{a:.0f} → {b:.0f}" for a, b in figures["mb"]) + " MB",
    ]


class Trials:
    """Real files, and for each kind what reads them."""

    def __init__(self, base: Path, seed: str) -> None:
        self.mutator = Mutator(seed)
        self.random = self.mutator.random
        self.base = base
        self.run = rundir.create(base, "x", command=["python", "train.py"], supervised=True, sockets=str(base / "s"), version="1")
        self.folder = self.run.recorder / SESSION
        self.folder.mkdir()
        self.segment = a_segment()
        (self.folder / segment_name(1)).write_bytes(self.segment)
        self.about(Offline(self.run))
        self.whole = base / "whole"
        shutil.copytree(self.run.path, self.whole)
        self.history = (self.whole / "history.db").read_bytes()
        self.told = self.run.run_toml.read_bytes()

    def of(self, name: str) -> Callable[[int], None]:
        return {
            "segments": self.a_segment, "checkpoints": self.a_checkpoint, "settings": self.settings, "run.toml": self.run_toml,
            "exit and pids": self.exit_and_pids, "databases": self.database,
        }[name]  # fmt: skip

    def a_segment(self, i: int) -> None:
        data = self.mutator.data(self.segment)
        (self.folder / segment_name(1)).write_bytes(data)
        if i % WHOLE:
            files.unreadable(self.folder)
            intake = Intake({})
            for read in files.read(self.folder):
                intake.take_read(read.header.session, read.records)
            return
        for path in self.run.path.glob("history.db*"):
            path.unlink()
        self.about(Offline(self.run))

    def about(self, run: Offline) -> None:
        """All that a screen or a command asks."""
        try:
            for query in (
                queries.GetStatus(), queries.GetCurves(signals=["loss", "lr"]),
                queries.GetCurves(signals=["loss"], axis="hours", abandoned=True),
                queries.GetLogbook(), queries.GetDays(), queries.GetSince(since=1.0), queries.GetRules(),
            ):  # fmt: skip
                run.ask(query)
        finally:
            run.close()

    def a_checkpoint(self, i: int) -> None:
        path, side = self.run.checkpoints / "12-0.npz", self.run.checkpoints / "12-0.json"
        if not hasattr(self, "state"):
            self.state = self.random.randbytes(20_000)
            sha, size, _ = write_durably(path, lambda out: out.write(self.state) and None, full_check=True)
            told = {
                "file": path.name, "sha256": sha, "bytes": size, "step": 12, "branch": 0, "line": [[0, 0]], "goal": 1.5,
                "time": "2026-01-01T00:00:00+00:00",
            }  # fmt: skip
            write_text(side, json.dumps(told).encode())
            self.side = side.read_bytes()
        data, about = self.state, self.side
        if i % 2:
            data = self.mutator.data(data)
        elif i % 4:
            about = self.mutator.data(about)
        else:
            about = json.dumps(self.mutator.confused(json.loads(about)), default=str).encode()
        path.write_bytes(data)
        side.write_bytes(about)
        for found in sidecars(self.run.checkpoints):
            if (self.run.checkpoints / found.file).parent != self.run.checkpoints:
                raise AssertionError(f"a sidecar reaches out of its folder: {found.file}")
        said = read_sidecar(path)
        check(path, said)
        if data != self.state:
            raise AssertionError("an altered checkpoint was taken for whole")

    def bombs(self, name: str) -> None:
        """Those that take most memory, before it is first looked at how much this process has: the allocator keeps some of it."""
        read = {"settings": self.read_settings, "run.toml": self.read_run_toml}.get(name)
        for bomb in TOML_BOMBS if read is not None else ():
            with contextlib.suppress(*OURS):
                read(bomb)

    def settings(self, i: int) -> None:
        self.read_settings(self.toml(SETTINGS, i))

    def read_settings(self, data: bytes) -> None:
        self.run.sitter_toml.write_bytes(data)
        healthy_steps(self.run)
        config.load(self.run.sitter_toml)

    def run_toml(self, i: int) -> None:
        self.read_run_toml(self.toml(self.told, i))

    def read_run_toml(self, data: bytes) -> None:
        self.run.run_toml.write_bytes(data)
        rundir.read(self.run)

    def toml(self, real: bytes, i: int) -> bytes:
        if i % 50 == 0:
            return self.random.choice(TOML_BOMBS)
        return self.mutator.data(real)

    def exit_and_pids(self, i: int) -> None:
        exit_ = json.dumps({"code": 1, "signal": None, "time": 1.7e9, "started": 1.6e9, "pid": 4_000_000, "error": ""}).encode()
        pids = json.dumps({"pid": 4_000_000, "started": 1.6e9, "ticks": 1, "boot": "x"}).encode()
        tries = json.dumps({"of": 3, "restarts": 1, "attempts": [{"pid": 1, "started": 1.0}], "next": {"at": 1.0}}).encode()
        for name, real in (("exit.json", exit_), (TRAIN_PID, pids), ("attempts.json", tries)):
            if i % 40 == 0:
                data = self.random.choice(JSON_BOMBS)
            elif i % 2:
                data = self.mutator.data(real)
            else:
                data = json.dumps(self.mutator.confused(json.loads(real)), default=str).encode()
            (self.run.path / name).write_bytes(data)
        read_exit(self.run, (1.0, 1.0))
        read_attempts(self.run)
        found = TrainingProcess.find(self.run)
        if found is not None and found.alive():
            raise AssertionError("a process that is none of ours is taken for the training")

    def database(self, i: int) -> None:
        run = RunDir(self.whole)
        for path in self.whole.glob("history.db*"):
            path.unlink()
        data = bytearray(self.history)
        match self.random.choice(("page", "page", "bytes", "cut", "any", "wal")):
            case "page":
                at = self.random.randrange(len(data) // 4096) * 4096
                data[at : at + 4096] = self.random.randbytes(4096)
            case "bytes":
                for _ in range(self.random.choice((1, 10, 200))):
                    data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
            case "cut":
                del data[self.random.randrange(len(data)) :]
            case "any":
                data = bytearray(self.mutator.data(bytes(data)))
            case _:
                noise = self.random.randbytes(self.random.choice((10, 5000, 50_000)))
                (self.whole / "history.db-wal").write_bytes(bytes.fromhex("377f0682002de218") + noise)
        run.history.write_bytes(data)
        if i % 10 == 0:
            self.about(Offline(run))
            return
        writer = Writer(run.history, on_commit=lambda _: None, clock=SystemClock())
        writer.start()
        reader = Reader(run.history)
        try:
            for look in (
                reader.sequences, reader.sessions, reader.branches, reader.checkpoints, reader.incidents, reader.logbook,
                lambda: list(reader.events()),
            ):  # fmt: skip
                with contextlib.suppress(*OURS):
                    look()
            reader.curves(queries.GetCurves(signals=["loss", "lr"]))
            reader.days(0)
            reader.since(1.0)
        finally:
            reader.close()
            writer.close()


TOML_BOMBS = (
    b"a = " + b"[" * 5000, b"a." * 5000 + b"b = 1", b"format = " + b"9" * 6000, b"name = '\xff'", bytes(100), b"x" * (2 << 20),
)  # fmt: skip
JSON_BOMBS = (b"[" * 100_000, b'{"pid": 1e999, "started": 1}', b'{"pid": ' + b"9" * 5000 + b"}", bytes(3 << 20))
SETTINGS = b"""mode = "guard"
[rules.gpu_hot]
mode = "act"
delay = "60s"
limit = "3 per day"
celsius = 88
[notify.phone]
kind = "ntfy"
url = "https://ntfy.sh/topic"
events = ["crashed"]
[checkpoints]
healthy_steps = 100
after = "true {path}"
[restart]
pause = "5s"
"""


def a_segment() -> bytes:
    """As an agent writes it: points of two schemas, and every event."""
    out = memoryview(bytearray(64 * 1024))
    now = time.monotonic_ns()
    schemas = {2: ["loss", "lr"]}
    header = SegmentHeader(session=SESSION, first_seq=1, wall_ns=time.time_ns(), mono_ns=now, size=len(out), data_at=0, schemas=schemas)
    at, seq = pack_segment_header(out, header), 0

    def put(event: Any) -> None:
        nonlocal at, seq
        payload = encode(event)
        seq += 1
        pack_blob(out, at, EVENT, seq, 0, now + seq, payload, seq)
        at += blob_bytes(payload)

    put(events.SessionStart(pid=4_000_000, host="h", branch=0, goal="loss", total=1000))
    put(events.LoopStart(total=1000))
    put(events.KnobDeclared(spec=events.KnobSpec(name="lr", low=1e-8, high=1.0, scale="log")))
    put(events.SnapshotTaken(slot=0, branch=0, step=1, bytes=10, seconds=0.1))
    put(events.CheckpointWritten(branch=0, step=2, path="checkpoints/2-0.pt", bytes=10, sha256="ab", verified=True, cleared=True))
    for step in range(300):
        seq += 1
        point_struct(2).pack_into(out, at, point_word(2, 2), step, 0, now + step * 10**7, 2.0 - step / 1000, 0.1, seq)
        at += point_struct(2).size
    put(events.Restored(branch=1, step=100, from_branch=0, left=300, source="snapshot"))
    put(events.Preempted(signal="SIGTERM", text="x"))
    put(events.GoodBye(how="left early"))
    return bytes(out[:at])


def main() -> None:
    figures = measure(int(sys.argv[1]), print, *sys.argv[2:])
    print("\n".join(table(figures)))
    print("\n".join(f"! {b}" for b in broken(figures)))


if __name__ == "__main__":
    main()
