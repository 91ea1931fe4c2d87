"""What is in a history, held against what its trainers know to have logged: each call once, with its value."""

import json
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sitter.ingest import files
from sitter.store.reader import Reader
from sitter_wire.places import RunDir
from tests.reliability.figures.trainer import CHILD, FORKS, SOURCES, counters


class Found(NamedTuple):
    """Of one run, in calls of ``log``; ``faults`` are sentences, empty where all is as it must be."""

    logged: int
    stored: int
    lost: int
    doubled: int
    wrong: int
    strangers: int
    forks: int
    by_source: dict[str, int]
    faults: list[str]


def torn_and_rotations(folder: Path) -> tuple[int, int]:
    """(torn records, segments begun beyond the first) in what a killed session has left. Segments are numbered from 1."""
    torn = begun = 0
    for segment in files.read(folder):
        torn += segment.torn
        begun = int(segment.path.stem)
    return torn, max(0, begun - 1)


def check(run: RunDir, trainers: list[Path], may_begin_late: bool = False) -> Found:
    """``trainers``: the places of all that ever ran in the run. ``may_begin_late``: calls missing before the first are not lost but dropped
    at the cap, and are counted by whoever asks."""
    reader = Reader(run.history)
    try:
        calls, strangers, wrong, faults = _calls(reader)
    finally:
        reader.close()
    logged = stored = lost = doubled = forks = 0
    by_source = dict.fromkeys(SOURCES, 0)
    for place in trainers:
        about = json.loads((place / "about.json").read_text())
        who = about.get("session", about["pid"])
        returned = counters(place / "returned")
        forks += returned[FORKS]
        for slot, source in enumerate(SOURCES):
            count = returned[slot]
            by_source[source] += count
            parts = calls.get((who, source))
            found = np.concatenate(parts) if parts else np.empty(0)
            once, times = np.unique(found, return_counts=True)
            there = int((once < count).sum())
            missing = count - there
            if may_begin_late:
                missing -= int(once[0]) if len(once) else count
            twice = int((times - 1).sum())
            # One call more may be there: the one whose record was whole when the process died, before it could say so.
            beyond = once[once > count]
            logged, stored, lost, doubled = logged + count, stored + there, lost + missing, doubled + twice
            wrong += len(beyond)
            if missing or twice or len(beyond):
                faults.append(f"{place.name} {source}: {count} calls had returned, {missing} lost, {twice} doubled, {len(beyond)} not made")
    return Found(logged, stored, lost, doubled, wrong, strangers, forks, by_source, faults)


def _calls(reader: Reader) -> tuple[dict[tuple[int | str, str], list[np.ndarray]], int, int, list[str]]:
    """(pid, source) and (session, source) → the counts found, in any order; how many values came from children; how many were wrong;
    faults. The pid stands in a session's first event; who knows that this one is gone knows the session."""
    order = reader.clocks().names
    pids = {s.session: s.pid for s in reader.sessions()}
    calls: dict[tuple[int | str, str], list[np.ndarray]] = defaultdict(list)
    seqs: dict[int, list[np.ndarray]] = defaultdict(list)
    strangers = wrong = 0
    faults: list[str] = []
    for group in reader.groups():
        if group.host:
            continue
        source = next((s for s in SOURCES if s in group.names), None)
        for rows in reader.rows(group):
            seqs[rows.session].append(np.array(rows.seq, dtype=np.int64))
            if CHILD in group.names:
                strangers += len(rows.seq)
                faults.append(f"{len(rows.seq)} values of a forked child")
            if source is None:
                continue  # the agent's own: step times
            counts = np.array(rows.columns[group.names.index(source)])
            sevenths = np.array(rows.columns[group.names.index(f"{source}_seventh")])
            bad = sevenths != -counts / 7
            for name, column in zip(group.names, rows.columns, strict=True):
                if name[0] == "w":
                    bad |= np.array(column) != counts + int(name[1:]) / 64
                if "_extra" in name:
                    bad |= (np.array(column) != counts / 3) | (counts // 50 % 5 != int(name[-1]))
            wrong += int(bad.sum())
            if bad.any():
                faults.append(f"{int(bad.sum())} values of {source} are not those that were logged")
            session = order[rows.session]
            for who in {session, pids[session] or session}:
                calls[who, source].append(counts)
    for number, parts in seqs.items():
        _, times = np.unique(np.concatenate(parts), return_counts=True)
        if (times > 1).any():
            faults.append(f"{int((times - 1).sum())} sequence numbers of {order[number]} are in the history twice")
    return calls, strangers, wrong, faults
