"""Beyond the recorder's cap: the oldest records go, the newest stay, each that is gone is counted, and status and logbook say so.

Two sessions log far more than the cap holds, many times over, while no daemon is there. The first is killed; the second lives on, so that
its remains come by shipments, or is killed as well, so that they are read from its files.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sitter.client import Client
from sitter.ingest import files
from sitter.store.reader import Reader
from sitter_wire import rundir
from sitter_wire.places import RunDir
from sitter_wire.queries import GetStatus
from tests.reliability.figures.apart import apart
from tests.reliability.figures.away import tracebacks, until
from tests.reliability.figures.daemons import ended, fork_daemon, kill
from tests.reliability.figures.history import check
from tests.reliability.figures.trainer import BURST, BURST_CALLS, counters, fork_trainer

CAP_BYTES, SEGMENT_BYTES = 1 << 20, 64 * 1024
ARRIVES_S = 120.0


def beyond_cap(place: Path, how: str) -> dict[str, Any]:
    """Figures of one case; to be called in a process that has opened nothing."""
    run = rundir.create(place, "x", command=["cap"], supervised=False, sockets="", version="")
    places = [place / "t0", place / "t1"]
    trainer = daemon = 0
    ends: dict[str, int] = {}
    try:
        for i, own in enumerate(places):
            trainer = fork_trainer(own, run.path, BURST, SEGMENT_BYTES, CAP_BYTES)
            until(partial(went_on, counters(own / "returned")), ARRIVES_S, "the trainer did not log")
            about = json.loads((own / "about.json").read_text())
            about["session"] = json.loads(run.agent_lock.read_text())["session"]
            (own / "about.json").write_text(json.dumps(about))
            held = sum(p.stat().st_size for p in run.recorder.rglob("*.rec"))
            if i == 0 or how == "dead":
                kill(trainer)
                trainer = 0
            ends.update(last_written(run))
        written = last_written(run)
        daemon = fork_daemon(run, place / "daemon.txt")
        until(lambda: all(stored(run).get(session, 0) >= last for session, last in written.items()), ARRIVES_S, "not all of it arrived")
        if trainer:
            kill(trainer)
            trainer = 0
        client = Client(run)
        until(lambda: client.ask(GetStatus(), timeout=ARRIVES_S).state == "crashed", ARRIVES_S, "its end was not seen")
        warnings = client.ask(GetStatus(), timeout=ARRIVES_S).warnings
        client.close()
        os.kill(daemon, signal.SIGTERM)
        code = ended(daemon, ARRIVES_S)
        daemon = 0 if code is not None else daemon
    finally:
        for pid in (trainer, daemon):
            if pid:
                kill(pid)
    found = check(run, places, may_begin_late=True)
    missing, newest = sequence_gaps(run)
    missing += sum(last for session, last in ends.items() if session not in stored(run))  # nothing is left of it
    told = [e.detail for e in logbook(run) if e.status == "gap"]
    return {
        "how": how,
        "calls": found.logged,
        "held_bytes": held,
        "stored": found.stored,
        "lost_amid": found.lost,
        "doubled": found.doubled,
        "wrong": found.wrong,
        "missing": missing,
        "newest_there": newest,
        "counted": sum(int(text.split()[0].replace(",", "")) for text in told),
        "gap": told,
        "warnings": warnings,
        "faults": tracebacks(place) + ([f"the daemon ended with {code}"] if code else []),
    }


def went_on(shared: memoryview) -> bool:
    """The trainer has logged what it has to, and is at 10 Hz now."""
    return shared[0] > BURST_CALLS


def last_written(run: RunDir) -> dict[str, int]:
    """session → the last sequence number in its files by now."""
    out = {}
    for folder in files.sessions(run.recorder):
        seqs = [r.seq for segment in files.read(folder) for r in segment.records]
        if seqs:
            out[folder.name] = max(seqs)
    return out


def stored(run: RunDir) -> dict[str, int]:
    reader = Reader(run.history)
    try:
        return reader.sequences()
    except Exception:
        return {}  # not there yet
    finally:
        reader.close()


def logbook(run: RunDir) -> list[Any]:
    reader = Reader(run.history)
    try:
        return reader.logbook(limit=100_000)
    finally:
        reader.close()


def sequence_gaps(run: RunDir) -> tuple[int, bool]:
    """Records of the sessions in the history that are missing before their first, by sequence number; whether all from there on is there
    (declarations of names are records that no history holds)."""
    reader = Reader(run.history)
    try:
        parts: dict[int, list[Any]] = {}
        for group in reader.groups():
            if not group.host:
                for rows in reader.rows(group):
                    parts.setdefault(rows.session, []).append(np.array(rows.seq))
        order = reader.clocks().names
        for event in reader.events():
            number = next(n for n, name in order.items() if name == event.session)
            parts.setdefault(number, []).append(np.array([event.happening.seq]))
    finally:
        reader.close()
    missing, whole = 0, True
    for found in parts.values():
        seqs = np.unique(np.concatenate(found))
        missing += int(seqs[0]) - 1
        whole &= int(seqs[-1] - seqs[0]) + 1 - len(seqs) <= 1
    return missing, whole


CASES = ("live", "dead")


def measure(cases: int, say: Callable[[str], object]) -> dict[str, Any]:
    """The first so many of ``CASES``, at the same time."""
    out: dict[str, Any] = {"cases": []}
    with apart() as place:
        for how, case in zip(CASES[:cases], place.all("tests.reliability.figures.cap", [(how,) for how in CASES[:cases]]), strict=True):
            out["cases"].append({"how": how, **case})
            say(f"beyond the cap, {how}: {out['cases'][-1]}")
            place.keep |= bool(case["faults"])
    return out


def broken(figures: dict[str, Any]) -> list[str]:
    """What of the promise does not hold, in sentences."""
    out = []
    for case in figures["cases"]:
        name = f"beyond the cap, {case['how']}"
        out += [f"{name}: {fault}" for fault in case["faults"]]
        if "missing" not in case:
            continue
        out += [f"{name}: {case[word]} {word}" for word in ("lost_amid", "doubled", "wrong") if case[word]]
        # One more may be there for a moment: the training makes its next segment itself where it cannot wait for the spare one.
        if case["held_bytes"] > CAP_BYTES + SEGMENT_BYTES:
            out.append(f"{name}: {case['held_bytes']} bytes are held, the cap is {CAP_BYTES}")
        if not case["newest_there"] or not case["missing"]:
            out.append(f"{name}: expected the oldest to be dropped and all newer to be there, {case['missing']} are gone")
        if case["counted"] != case["missing"]:
            out.append(f"{name}: {case['missing']} records are gone, and {case['counted']} are counted in the logbook")
        if not any("records are gone" in w for w in case["warnings"]):
            out.append(f"{name}: status says nothing of a gap: {case['warnings']}")
    return out


def table(figures: dict[str, Any]) -> list[str]:
    """As a person reads it."""
    return [
        f"{c['how']}: {c['calls']:,} calls into a cap of {CAP_BYTES >> 20} MiB; {c['missing']:,} records gone, "
        f"{c['counted']:,} counted, {c['lost_amid']} lost of the rest"
        for c in figures["cases"]
        if "missing" in c
    ]


if __name__ == "__main__":
    print(json.dumps(beyond_cap(Path(sys.argv[1]), sys.argv[2])))
