"""Checkpoints over random SIGKILLs of their writer, and on a disk that fills: what is there is whole, and the right one is gone on from.

``count`` kills, half of a torch training and half of a framework-free one, each at a random moment of a writer that does nothing but write
checkpoints (some pinned, some of a step that has one already, so that retention deletes as well). Each life goes on from what the last one
left, by the choice of ``sitter resume``. Then the disk: a small tmpfs that the writer fills, with the space check told that there is room,
so that the file system itself says no in the middle of a file.
"""

import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.reliability.figures.forks import forked

ROOT = Path(__file__).parents[3]
KINDS = ("torch", "generic")
LIVES = 10
"""Kills of one run."""
LATEST_S = 0.08
FULL_MIB = 12
PHASES = ("half a file", "a sidecar without its file", "a whole one not told of", "nothing")
SUMS = ("kills", "full", "written", "read", "passed_over", "resumed", "refused", "leftovers")
READY, TOLD = 0, 1
"""Slots of the memory shared with the writer: it has begun; the number of its last checkpoint that was told."""


def measure(count: int, say: Callable[[str], object], seed: str = "") -> dict[str, Any]:
    """Figures over so many kills, and a thirtieth as many full disks (2 at least); ``faults`` are sentences. ``seed`` as it was said
    repeats the same accidents, as far as the machine does."""
    seed = seed or f"{random.SystemRandom().getrandbits(32):08x}"
    figures: dict[str, Any] = {**dict.fromkeys(SUMS, 0), "seed": seed, "no_tmpfs": "", "faults": []}
    figures |= {"by_kind": dict.fromkeys(KINDS, 0), "phases": dict.fromkeys(PHASES, 0)}
    base = Path(tempfile.mkdtemp(prefix="ss-"))
    env = {**os.environ, "SITTER_RUNTIME_DIR": str(base / "r"), "XDG_STATE_HOME": str(base / "state"), "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    (base / "r").mkdir(mode=0o700)
    words = [sys.executable, "-m", "tests.reliability.figures.state", str(base), str(count), seed]
    with subprocess.Popen(words, env=env, cwd=base, stdout=subprocess.PIPE, text=True, start_new_session=True) as zygote:
        try:
            assert zygote.stdout is not None
            for line in zygote.stdout:
                _add(figures, json.loads(line))
                say(f"{figures['kills']} of {count} kills, {figures['full']} full disks, {figures['read']} checkpoints read")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(zygote.pid, signal.SIGKILL)
    if figures["kills"] < count:
        figures["faults"].append(f"the measurement ended after {figures['kills']} of {count} kills")
    if figures["faults"]:
        say(f"kept for a look: {base}")
    else:
        shutil.rmtree(base)
    return figures


def broken(figures: dict[str, Any]) -> list[str]:
    """What of the promise does not hold, in sentences."""
    out = list(figures["faults"])
    out += [f"no {kind} checkpoint was read: nothing was measured of it" for kind, n in figures["by_kind"].items() if not n]
    if figures["kills"] >= 100:
        out += [f"no kill left {phase}, so nothing was measured of it" for phase, n in figures["phases"].items() if not n]
    if not figures["full"] and not figures["no_tmpfs"]:
        out.append("no disk was filled: nothing was measured of it")
    return out


def table(figures: dict[str, Any]) -> list[str]:
    """As a person reads it."""
    left = ", ".join(f"{phase} {n}" for phase, n in figures["phases"].items())
    full = figures["no_tmpfs"] or f"{figures['full']} full disks: {figures['refused']} checkpoints failed and left nothing behind"
    return [
        f"{figures['kills']} kills; left behind: {left}",
        f"{figures['written']:,} written, {figures['read']:,} on disk afterwards, all of them whole and loaded to the bit",
        f"{figures['resumed']} times gone on from the newest whole one; {figures['passed_over']} that are gone were passed over",
        full,
    ]


def _add(figures: dict[str, Any], told: dict[str, Any]) -> None:
    for name in SUMS:
        figures[name] += told.get(name, 0)
    figures["by_kind"][told["kind"]] += told.get("read", 0)
    if "phase" in told:
        figures["phases"][told["phase"]] += 1
    figures["no_tmpfs"] = told.get("no_tmpfs", "") or figures["no_tmpfs"]
    figures["faults"] += [f"{told['place']} ({told['kind']}): {fault}" for fault in told.get("faults", ())]


# -- in the zygote: torch is imported once, every writer and every look is a fork ---------------------------------------------


def _training(kind: str) -> tuple[Any, Callable[[int, int], None]]:
    """An adapter, and what sets its state to that of a step: ``n`` numbers, each of them known."""
    import numpy as np

    if kind == "generic":
        from sitter_agent.generic_state import GenericAdapter

        adapter, state = GenericAdapter(), {"w": np.zeros(1)}
        adapter.register(lambda: state, state.update)

        def become(step: int, n: int) -> None:
            state["w"] = np.arange(n, dtype=np.float64) + step / 7

        return adapter, become
    import torch
    from torch import nn

    from sitter_agent.frameworks.torch import TorchAdapter

    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(1))

    def set_weight(step: int, n: int) -> None:
        model.w = nn.Parameter(torch.arange(n, dtype=torch.float64) + step / 7)

    return TorchAdapter(model), set_weight


def _value(path: Path) -> Any:
    """The weight in a checkpoint, read without sitter."""
    import numpy as np
    import torch

    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)["model"]["w"].numpy()
    with np.load(path) as found:
        return found["w"].copy()


def write(place: Path, run_path: Path, kind: str, line: list[list[int]], lives: int, *, full: bool) -> None:
    """Checkpoint after checkpoint until killed; where ``full``, until three have failed."""
    import msgspec

    from sitter_agent.checkpoints import Job, Vault
    from sitter_agent.recorder import Recorder
    from sitter_agent.snapshots import Snapshot
    from sitter_wire.events import SessionStart
    from sitter_wire.places import RunDir
    from tests.reliability.figures.trainer import counters

    shared, run = counters(place / "returned"), RunDir(run_path)
    branch, begun = line[-1]
    resumed = (line[-2][0], begun) if len(line) > 1 else None
    recorder = Recorder(run.recorder, f"s{lives}", segment_bytes=64 * 1024)
    recorder.event(SessionStart(pid=os.getpid(), host="", branch=branch, resumed=resumed), begun, branch)
    vault = Vault(run, f"s{lives}", recorder.event, lambda snapshot: None, free=(lambda folder: 1 << 40) if full else None)  # type: ignore[arg-type]
    vault.keep_line = [(b, s) for b, s in line]
    vault.clear_step = lambda b, s: 1000 if s % 5 == 0 else None
    vault.limit = (1 << 40) if full else (16 << 20)
    adapter, become = _training(kind)
    chance, failed = random.Random(f"{place} {lives}"), 0
    told: list[tuple[int, str, str]] = []
    shared[READY] = 1
    step = begun
    while failed < 3:
        step += 0 if chance.random() < 0.1 and step > begun else 1
        become(step, 100_000 if full else chance.randrange(1_000, 200_000))
        snapshot = Snapshot(0, adapter.capture(None), branch, step, step, 0.0, 0, nbytes=adapter.nbytes(), cleared=True)
        said: list[tuple[Any, str]] = []
        job = Job(
            snapshot, {"step": step}, list(vault.keep_line), "test", full or chance.random() < 0.05, chance.random() < 0.3, None,
            [lambda side, why, into=said: into.append((side, why))],  # type: ignore[misc]
        )  # fmt: skip
        assert vault.write(adapter, job) is None
        assert vault.wait(60)
        side, why = said[0]
        failed += side is None
        told.append((step, side.file if side is not None else "", why))
        if side is not None:
            shared[TOLD] += 1
        if full:
            (place / "told.json").write_bytes(msgspec.json.encode(told))


def look(run_path: Path, kind: str, line: list[list[int]], *, killed: bool) -> dict[str, Any]:
    """What a writer has left, and what `sitter resume` would make of it."""
    import numpy as np

    from sitter.cli.again import Past, choose_whole
    from sitter_agent.checkpoint_files import DamagedError, check, read_sidecar, sidecars, sweep
    from sitter_wire.places import RunDir

    run, faults = RunDir(run_path), list[str]()
    folder = run.checkpoints
    large = sorted(p for p in folder.iterdir() if p.suffix in (".pt", ".npz"))
    half = list(folder.glob(".*.tmp*"))
    alone = [p for p in folder.glob("*.json") if not any(q.stem == p.stem for q in large)]
    for path in large:
        try:
            side = read_sidecar(path)
            check(path, side)
            found = _value(path)
            if not np.array_equal(found, np.arange(len(found), dtype=np.float64) + side.step / 7):
                faults.append(f"{path.name} does not hold what step {side.step} had")
        except (DamagedError, OSError, ValueError, KeyError, RuntimeError) as e:
            faults.append(f"{path.name} is not whole: {e}")
    if half and not killed:
        faults.append(f"a checkpoint that failed left {half[0].name}")
    known = {p.name for p in large} == {s.file for s in sidecars(folder)}
    if not known:
        faults.append("what the agent takes for checkpoints is not what is there")
    announced = {p.name for p in large} & _announced(run)
    past = Past(run)
    chosen, passed = choose_whole(past.checkpoints(), orderly=True)
    best = max(((s.branch, s.step) for s in sidecars(folder) if s.verified), default=None)
    if (chosen and (chosen.branch, chosen.step)) != best:
        faults.append(f"resume would go on from {chosen and chosen.path}, the newest whole one is {best}")
    sweep(folder)
    left = [p.name for p in folder.iterdir() if ".tmp" in p.name or (p.suffix == ".json" and p in alone)]
    faults += [f"{name} was left lying" for name in left]
    phase = PHASES[0] if half else PHASES[1] if alone else PHASES[2] if len(announced) < len(large) else PHASES[3]
    told = {
        "read": len(large), "passed_over": len(passed), "leftovers": len(half) + len(alone), "faults": faults, "kind": kind,
        "chosen": None if chosen is None else [chosen.branch, chosen.step], "resumed": int(chosen is not None),
    }  # fmt: skip
    return {**told, "phase": phase} if killed else told


def _announced(run: Any) -> set[str]:
    from sitter.ingest import files
    from sitter_wire.events import CheckpointWritten
    from sitter_wire.records import Happening

    found = set()
    for session in files.sessions(run.recorder):
        for segment in files.read(session):
            events = [r.event for r in segment.records if isinstance(r, Happening)]
            found |= {Path(e.path).name for e in events if isinstance(e, CheckpointWritten)}
    return found


def looked(place: Path, run: Path, kind: str, line: list[list[int]], *, killed: bool) -> dict[str, Any]:
    """``look`` in a child of its own, whose threads and files end with it."""
    out = place / "look.json"
    out.unlink(missing_ok=True)
    pid = forked(lambda: out.write_text(json.dumps(look(run, kind, line, killed=killed))), place / "look.txt")
    os.waitpid(pid, 0)
    if not out.exists():
        return {"kind": kind, "faults": ["nobody could look: " + (place / "look.txt").read_text()[-300:]], "chosen": None}
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def killed_often(place: Path, kind: str, kills: int, chance: random.Random) -> None:
    """One run, with so many lives."""
    from sitter_wire import rundir
    from tests.reliability.figures.trainer import counters

    place.mkdir()
    run = rundir.create(place, "x", command=["state"], supervised=False, sockets="", version="").path
    shared, line = counters(place / "returned"), [[0, 0]]
    (run / "checkpoints").mkdir(exist_ok=True)
    for life in range(kills):
        shared[READY] = shared[TOLD] = 0
        pid = forked(lambda line=line, life=life: write(place, run, kind, line, life, full=False), place / "said.txt")  # type: ignore[misc]
        until = time.monotonic() + 60
        # The first writes one at least, or there might be nothing to look at where others want the core.
        while not (shared[READY] if life else shared[TOLD]) and time.monotonic() < until:
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, LATEST_S))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        told = looked(place, run, kind, line, killed=True)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            told["faults"].append("the writer ended by itself: " + (place / "said.txt").read_text()[-300:])
        if told["chosen"] is None and shared[TOLD]:
            told["faults"].append(f"{shared[TOLD]} checkpoints had been told of, and there is none")
        chosen = told["chosen"] or line[-1]
        while len(line) > 1 and chosen[0] < line[-1][0]:
            line = line[:-1]
        line = [*line, [life + 1, chosen[1]]] if told["chosen"] else [[life + 1, 0]]
        print(json.dumps({**told, "kills": 1, "written": shared[TOLD], "place": str(place)}), flush=True)


def filled(place: Path, kind: str, chance: random.Random) -> None:
    """A tmpfs that the writer fills with pinned ones; then there is room again."""
    from sitter_wire import rundir
    from tests.reliability.figures.trainer import counters

    place.mkdir()
    small = place / "small"
    small.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={FULL_MIB}m", "tmpfs", str(small)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        why = f"no disk was filled: a tmpfs cannot be mounted here ({done.stderr.strip() or 'it takes root'})"
        print(json.dumps({"kind": kind, "no_tmpfs": why, "place": str(place)}), flush=True)
        return
    try:
        run = rundir.create(small, "x", command=["state"], supervised=False, sockets="", version="").path
        (run / "checkpoints").mkdir(exist_ok=True)
        shared = counters(place / "returned")
        filler = small / "filler"
        filler.write_bytes(bytes(chance.randrange(1 << 20)))  # so that it is full at another place of the file each time
        pid = forked(lambda: write(place, run, kind, [[0, 0]], 0, full=True), place / "said.txt")
        _, status = os.waitpid(pid, 0)
        tried = json.loads((place / "told.json").read_text())
        filler.unlink()  # the history that a look begins needs some room as well
        for side in sorted((run / "checkpoints").glob("*.json"))[:1]:
            side.with_suffix(".pt" if kind == "torch" else ".npz").unlink()
        told = looked(place, run, kind, [[0, 0]], killed=False)
        if status:
            told["faults"].append("the writer did not end well: " + (place / "said.txt").read_text()[-300:])
        failed = [why for _, file, why in tried if not file]
        told["faults"] += [f"a full disk was called {why!r}" for why in failed if "No space left" not in why]
        if len([t for t in tried if t[1]]) != told.get("read", 0) + 1:
            told["faults"].append(f"{len(tried) - len(failed)} were written and {told.get('read', 0) + 1} are there")
        sums = {"full": 1, "written": shared[TOLD], "refused": len(failed), "place": str(place)}
        print(json.dumps({**told, **sums}), flush=True)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def main(base: str, count: str, seed: str) -> None:
    """The zygote."""
    import torch

    for module in ("numpy", "sitter.cli.again", "sitter_agent.checkpoints", "sitter_agent.frameworks.torch"):
        importlib.import_module(module)  # here once for all forks
    torch.set_num_threads(1)
    chance, left, number = random.Random(seed), int(count), 0
    while left > 0:
        lives = min(left, LIVES)
        killed_often(Path(base) / f"r{number}", KINDS[number % 2], lives, chance)
        left, number = left - lives, number + 1
    for i in range(max(2, int(count) // 30)):
        filled(Path(base) / f"f{i}", KINDS[i % 2], chance)


if __name__ == "__main__":
    main(*sys.argv[1:])
