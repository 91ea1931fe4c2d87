"""Training is untouchable: one fault at a time beside a training, and beside it the same training without us, step for step.

Both run at the same time on the same machine, so that what else loads it hits both. Of each are known: every step's wall time and CPU time
(of the training thread: the step, its log, its safe point), and the weights every 20 steps. A fault must leave the weights bit for bit as
they are without us, and the step time where it was: the cost of being looked after, before, during and after the fault, stands beside the
noise of the training alone.
"""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sitter.drill.disk_full import fill
from sitter.errors import SitterError
from sitter.locks import holder
from sitter.store.reader import Reader
from sitter_wire import rundir
from sitter_wire.places import PlaceError, RunDir

HERE = Path(__file__).parent
SLEEP_S = 0.001
"""Of each turn, in both: two cores are shared by two trainings, a daemon, and what else there is."""
QUICK_S = (0.4, 1.0, 0.3)
FULL_S = (4.0, 8.0, 3.0)
"""Seconds before, during and after the fault."""
UNEQUAL = 0.03
"""Of a step: two processes with the same code differ by so much and more, by where their memory happens to lie."""
A_DAY_S = 86_400
PAGE = 4096
BLOCKED_S = 0.5
"""A step that is slower than the slowest without us by so much was not late but held up."""
Undo = Callable[[], None]


class Scene:
    """A training with a daemon, and the same training without. ``place`` must be short: sockets are below it."""

    def __init__(self, place: Path, fault: "Fault") -> None:
        self.place, self.fault = place, fault
        self.runtime = place / "r"
        self.runtime.mkdir(mode=0o700)
        self.offset = place / "offset"
        self.offset.write_bytes(struct.pack("<q", 0))
        self.env = {**os.environ, "SITTER_RUNTIME_DIR": str(self.runtime), "XDG_STATE_HOME": str(place / "state"), "OMP_NUM_THREADS": "1"}
        self.env["PYTHONHASHSEED"] = "0"  # the same layout of every dict and set
        for name in ("SITTER", "SITTER_RUN", "SITTER_MODE", "SITTER_RESUME"):
            self.env.pop(name, None)
        if fault.clock:
            self.env |= {"LD_PRELOAD": str(turned_back(place)), "CLOCK_OFFSET": str(self.offset)}
        self.cwd = {how: place / how for how in ("with", "alone")}
        for cwd in self.cwd.values():
            cwd.mkdir()
        self.mounted = fault.small_disk and mount_small(self.cwd["with"])
        self.run = RunDir(self.cwd["with"] / "sitter-runs" / "x")
        self.trainings: dict[str, subprocess.Popen[bytes]] = {}
        self.others: list[subprocess.Popen[bytes]] = []
        self.daemons: set[int] = set()

    def begin(self) -> None:
        """Both; returns when the daemon has stored something."""
        for how, cwd in self.cwd.items():
            words = [sys.executable, str(HERE / "stepper.py"), how, str(SLEEP_S)]
            with (self.place / f"{how}.txt").open("wb") as said:
                self.trainings[how] = subprocess.Popen(words, cwd=cwd, env=self.env, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        until(lambda: self.daemon() is not None and self.stored() > 0, 20.0, "no daemon has stored anything")

    def daemon(self) -> int | None:
        """The pid of whoever watches."""
        pid = holder(self.run.daemon_lock)
        if pid is not None:
            self.daemons.add(pid)
        return pid

    def stored(self) -> int:
        """Records in the history, by their numbers."""
        if not self.run.history.exists():
            return 0
        reader = Reader(self.run.history)
        try:
            return sum(reader.sequences().values())
        except SitterError:
            return 0
        finally:
            reader.close()

    def other(self, *words: str) -> "subprocess.Popen[bytes]":
        """A process of the scene's own."""
        with (self.place / "other.txt").open("ab") as said:
            self.others.append(subprocess.Popen(words, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said))
        return self.others[-1]

    def finish(self) -> dict[str, dict[str, Any]]:
        """End both trainings as a script ends, and read what they say of themselves."""
        told = {}
        for cwd in self.cwd.values():
            (cwd / "enough").touch()
        for how, training in self.trainings.items():
            code = training.wait(30)
            assert code == 0, f"the training {how} us ended with {code}: {(self.place / f'{how}.txt').read_text()}"
            told[how] = json.loads((self.cwd[how] / "result.json").read_text())
        return told

    def lost(self, losses: list[float]) -> int:
        """Values that are not in the history, once all is over. A daemon that has it leaves of itself; else what the files hold is read."""
        from sitter.offline import Offline

        def settled() -> bool:
            if self.daemon() is None:
                with contextlib.suppress(SitterError, PlaceError, OSError):
                    Offline(self.run).close()
            return self._losses() == losses

        with contextlib.suppress(AssertionError):
            until(settled, 15.0 if self.fault.keeps else 1.0, "")
        kept = self._losses()
        assert set(kept) <= set(losses), "there is what was never logged"
        return len(losses) - len(kept)

    def _losses(self) -> list[float]:
        reader = Reader(self.run.history)
        try:
            return [p.values["loss"] for p in reader.tail(10_000_000) if "loss" in p.values]
        except SitterError:
            return []
        finally:
            reader.close()

    def end(self) -> None:
        """Whatever happens."""
        self.daemon()
        for process in [*self.trainings.values(), *self.others]:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.daemon()
        for pid in self.daemons:
            with contextlib.suppress(OSError):
                if str(self.run.path).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.cwd["with"])], check=True)


class Fault(NamedTuple):
    """``strike`` does it and returns what undoes it. ``keeps``: whether everything is in the history afterwards."""

    name: str
    strike: Callable[[Scene], Undo]
    keeps: bool = True
    clock: bool = False
    small_disk: bool = False


# -- the faults -----------------------------------------------------------------------------------------------------------


def killed(scene: Scene) -> Undo:
    """SIGKILL, as the kernel does when memory runs out. After some seconds the agent starts another."""
    pid = scene.daemon()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return lambda: None


def stopped(scene: Scene) -> Undo:
    """SIGSTOP: its sockets are there, and nobody reads them."""
    pid = scene.daemon()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGCONT)


def replaced(scene: Scene) -> Undo:
    """Another version takes over, as after an upgrade under a living training."""
    pid = scene.daemon()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: scene.daemon() is None, 5.0, "it was not killed")
    other = scene.other(sys.executable, str(HERE / "other_version.py"), str(scene.run.path), "--foreground")
    until(lambda: scene.daemon() == other.pid, 20.0, "the other version does not watch")
    return lambda: None


def disk_full(scene: Scene) -> Undo:
    """To the last byte."""
    return fill(scene.cwd["with"]).unlink


LOCKER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
c.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


def locked(scene: Scene) -> Undo:
    """Somebody else holds the history in an exclusive transaction."""
    locker = scene.other(sys.executable, "-c", LOCKER, str(scene.run.history))
    assert locker.stdout is not None
    assert locker.stdout.readline() == b"locked\n"

    def undo() -> None:
        locker.communicate()

    return undo


def corrupt(scene: Scene) -> Undo:
    """Garbage over every page but the first, under the living daemon; then it dies, and the next ones find it so."""
    with contextlib.closing(sqlite3.connect(scene.run.history, timeout=5)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with scene.run.history.open("r+b") as file:
        size = scene.run.history.stat().st_size
        assert size > PAGE, "nothing is stored that could be damaged"
        file.seek(PAGE)
        file.write(b"\xa5" * (size - PAGE))
    time.sleep(0.3)
    pid = scene.daemon()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return lambda: None


def clock_back(scene: Scene) -> Undo:
    """By a day, and forward again by one and a half."""
    scene.offset.write_bytes(struct.pack("<q", -A_DAY_S))
    seen = subprocess.run([sys.executable, "-c", "import time; print(time.time())"], env=scene.env, capture_output=True, check=True)
    assert -A_DAY_S - 60 < float(seen.stdout) - time.time() < -A_DAY_S + 60, "the clock was not turned back"
    return lambda: scene.offset.write_bytes(struct.pack("<q", A_DAY_S // 2)) and None


def sockets_gone(scene: Scene) -> Undo:
    """As temp cleaners do it."""
    for path in Path(rundir.read(scene.run).sockets).iterdir():
        path.unlink()
    return lambda: None


def runtime_gone(scene: Scene) -> Undo:
    """All of it, and the daemon dies of something else: the next must make it again."""
    shutil.rmtree(scene.runtime)
    return killed(scene)


FAULTS = (
    Fault("daemon killed", killed),
    Fault("daemon stopped", stopped),
    Fault("another version", replaced),
    Fault("disk full", disk_full, keeps=False, small_disk=True),
    Fault("database locked", locked),
    Fault("database corrupt", corrupt, keeps=False),
    Fault("clock turned back", clock_back, clock=True),
    Fault("sockets deleted", sockets_gone),
    Fault("runtime directory gone", runtime_gone),
)


# -- measuring -------------------------------------------------------------------------------------------------------------


def once(fault: Fault, lengths: tuple[float, float, float] = QUICK_S) -> dict[str, Any]:
    """One fault: microseconds of a step in the median, by ``wall`` and ``cpu``, ``before``, ``during``, ``after``, with us and alone; the
    slowest step of each; ``same``: how many digests of the weights were compared, None where one differs; ``lost`` values."""
    place = Path(tempfile.mkdtemp(prefix="st-"))
    try:
        scene = Scene(place, fault)
        if fault.small_disk and not scene.mounted:
            return {"fault": fault.name, "skipped": "a small file system cannot be mounted here (that takes root)"}
        try:
            scene.begin()
            time.sleep(lengths[0])
            marks = [time.monotonic() - lengths[0], time.monotonic()]
            undo = fault.strike(scene)
            time.sleep(lengths[1])
            marks.append(time.monotonic())
            undo()
            time.sleep(lengths[2])
            marks.append(time.monotonic())
            told = scene.finish()
            lost = scene.lost(told["with"]["losses"])
        finally:
            scene.end()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return {"fault": fault.name, "lost": lost, "may_lose": not fault.keeps, "same": same(told), **times(told, marks)}


def same(told: dict[str, dict[str, Any]]) -> int | None:
    """Digests that both have, where none differs."""
    ours, alone = told["with"]["digests"], told["alone"]["digests"]
    both = ours.keys() & alone.keys()
    return len(both) if both and all(ours[k] == alone[k] for k in both) else None


def times(told: dict[str, dict[str, Any]], marks: list[float]) -> dict[str, Any]:
    """See ``once``. ``noise``: half the way from the tenth to the ninetieth percentile of a step alone, during the fault."""
    out: dict[str, Any] = {"steps": 0}
    for kind in ("wall", "cpu"):
        for how in ("with", "alone"):
            pairs = list(zip(told[how]["at"], told[how][kind], strict=True))
            for phase, since, to in zip(("before", "during", "after"), marks, marks[1:], strict=False):
                values = [1e6 * v for at, v in pairs if since < at <= to]
                out[f"{kind}_{how}_{phase}"] = statistics.median(values)
                if phase == "during":
                    out[f"{kind}_{how}_slowest"] = max(values)
                    if how == "alone":
                        tenths = statistics.quantiles(values, n=10)
                        out[f"{kind}_noise"] = (tenths[-1] - tenths[0]) / 2
                    else:
                        out["steps"] = len(values)
        for phase in ("before", "during", "after"):
            out[f"{kind}_cost_{phase}"] = out[f"{kind}_with_{phase}"] - out[f"{kind}_alone_{phase}"]
    return out


def measure(count: int, say: Callable[[str], object]) -> dict[str, Any]:
    """Every fault ``count`` times, with short phases where it is once. ``rows``: for each fault the medians over its times, but the worst
    of ``lost``, ``same`` and slowest. ``apart``: by how many microseconds the runs WITHOUT us differ among each other (half the way from
    the least to the greatest of their medians, without the extreme one at each end)."""
    lengths = QUICK_S if count == 1 else FULL_S
    rows, alone = [], list[float]()
    for i, fault in enumerate(FAULTS):
        found = []
        for n in range(count):
            say(f"{fault.name} ({i + 1} of {len(FAULTS)}, {n + 1} of {count})")
            found.append(once(fault, lengths))
            if "skipped" not in found[-1]:
                alone.append(found[-1]["cpu_alone_during"])
        rows.append(merged(found))
    alone.sort()
    return {"count": count, "seconds": lengths[1], "apart": (alone[-2] - alone[1]) / 2, "rows": rows}


def merged(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Several times the same fault as one row."""
    row: dict[str, Any] = dict(found[0])
    if "skipped" in row:
        return row
    for key in row:
        values = [f[key] for f in found]
        if key.endswith("slowest") or key == "lost":
            row[key] = max(values)
        elif key == "same":
            row[key] = None if None in values else sum(values)
        elif key == "steps":
            row[key] = sum(values)
        elif isinstance(row[key], float):
            row[key] = statistics.median(values)
    return row


def broken(figures: dict[str, Any]) -> list[str]:
    """What of the promise does not hold, in sentences."""
    measured = [row for row in figures["rows"] if "skipped" not in row]
    out = [sentence for row in measured for sentence in faults_of(row)]
    cost, step = (statistics.median(row[key] for row in measured) for key in ("cpu_cost_during", "cpu_alone_during"))
    if cost > max(figures["apart"], UNEQUAL * step, *(row["cpu_noise"] for row in measured)):
        out.append(f"a step costs {cost:.0f} µs more with us, and runs without us differ by {figures['apart']:.0f} µs")
    return out


def faults_of(row: dict[str, Any]) -> list[str]:
    """Of one fault. CPU time is what is judged: wall time is also other people's."""
    out, name = [], row["fault"]
    if row["same"] is None:
        out.append(f"{name}: the weights are not those of a run without us")
    if row["lost"] and not row["may_lose"]:
        out.append(f"{name}: {row['lost']} values are not in the history")
    added, noise = row["cpu_cost_during"] - row["cpu_cost_before"], max(row["cpu_noise"], UNEQUAL * row["cpu_alone_during"])
    if added > noise:
        out.append(f"{name}: a step costs {added:.0f} µs more since the fault, and the noise of a step without us is {noise:.0f} µs")
    if row["wall_with_slowest"] - row["wall_alone_slowest"] > 1e6 * BLOCKED_S:
        out.append(f"{name}: a step was held up for {row['wall_with_slowest'] / 1e6:.2f} s")
    return out


def table(figures: dict[str, Any]) -> list[str]:
    """A line for each fault: what being looked after costs a step, in microseconds of CPU time, and the slowest step by the wall clock."""
    out = [
        f"{'':<23}{'a step':>8}{'its':>7}{'what we cost of it: CPU':>36}{'wall':>9}{'slowest':>10}",
        f"{'':<23}{'alone':>8}{'noise':>7}{'before':>10}{'during':>13}{'after':>13}{'during':>9}{'step':>10}{'bits':>7}{'lost':>6}",
    ]
    for r in figures["rows"]:
        if "skipped" in r:
            out.append(f"{r['fault']:<23}{r['skipped']}")
            continue
        bits = "same" if r["same"] is not None else "DIFFER"
        costs = f"{r['cpu_cost_before']:>7.0f} µs{r['cpu_cost_during']:>10.0f} µs{r['cpu_cost_after']:>10.0f} µs"
        slowest = f"{r['wall_cost_during']:>6.0f} µs{r['wall_with_slowest'] / 1000:>7.0f} ms"
        out.append(f"{r['fault']:<23}{r['cpu_alone_during']:>5.0f} µs{r['cpu_noise']:>4.0f} µs{costs}{slowest}{bits:>7}{r['lost']:>6}")
    out.append(f"runs without us differ among each other by ± {figures['apart']:.0f} µs a step; each fault lasts {figures['seconds']:g} s")
    return out


# -- small things ------------------------------------------------------------------------------------------------------------


def turned_back(place: Path) -> Path:
    """The compiled library. Raises FileNotFoundError where there is no C compiler."""
    library = place / "turned_back.so"
    compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "turned_back.c"), "-ldl"], check=True)
    return library


def mount_small(place: Path) -> bool:
    """A file system of 100 MB there; False where that is not allowed."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(place)], capture_output=True, check=False)
    return done.returncode == 0


def until(what: Callable[[], object], within: float, otherwise: str) -> None:
    """Across processes there is no event to wait for."""
    end = time.monotonic() + within
    while not what():
        assert time.monotonic() < end, otherwise
        time.sleep(0.03)
