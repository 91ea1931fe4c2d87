"""Training is untouchable: one fault at a time beside a training, and beside it the same training without us, twice, step for step.

All three run at the same time on the same machine, so that what else loads it hits all of them. Of each are known: every step's wall time
and CPU time (of the training thread: the step, its log, its safe point), and the weights every 20 steps. A fault must leave the weights bit
for bit as they are without us, and the step time where it is without us.

What that means in figures: two processes with the same code differ in the median of their steps, by where their memory happens to lie and
by the core that they come to run on. How much, the two without us say, under the very same load: that is the noise. Over all scenes, a
training with us must lie no further from those without than they lie from each other, and that by the upper end of a bootstrapped interval,
so that too few scenes show nothing instead of everything. What a fault adds is looked at more sharply: each process is compared with itself
before the fault, where most of the noise is the same, again beside two without us.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from sitter.drill.disk_full import fill
from sitter.errors import DamagedError, SitterError
from sitter.locks import holder
from sitter.store.reader import Reader
from sitter_wire import rundir
from sitter_wire.places import PlaceError, RunDir
from sitter_wire.records import segment_name

HERE = Path(__file__).parent
SLEEP_S = 0.003
"""Of each turn of 5 ms, in all: two cores are shared by three trainings, a daemon, and what else there is."""
QUICK_S = (0.4, 1.0, 0.3)
FULL_S = (4.0, 8.0, 3.0)
"""Seconds before, during and after the fault."""
WITHOUT = ("alone", "again")
KINDS, PHASES = ("cpu", "wall"), ("before", "during", "after")
ROBUST = 1.4826
"""Standard deviation of a normal distribution over its median distance from the middle: one scene that was disturbed does not widen it."""
RESAMPLES = 2_000
OF_MANY = 1.5
"""Times the noise, three standard deviations, for what one of nine faults adds by one of two clocks: of so many, one would pass two by
chance in every fifth measurement."""
A_DAY_S = 86_400
PAGE = 4096
BLOCKED_S = 0.5
"""A step that is slower than the slowest without us by so much, the time aside in which others had the core, was held up."""
PATIENCE_S = 60.0
"""For what always comes, on a machine that others load as well."""
TRIES = 3
"""Of another daemon, to be there before the one that the agent starts for one that was killed: it does so three times."""
ENOUGH_S = 0.1
"""Some 40 steps."""
Undo = Callable[[], None]
Usual = Callable[[Sequence[float]], float]
"""Of the times of many steps the one that stands for them. Over long phases the median; in a second a neighbour on the same core may make
half of them dearer, and only the least says what a step costs."""


class Scene:
    """A training with a daemon, and the same training without, once or twice. ``place`` must be short: sockets are below it."""

    def __init__(self, place: Path, fault: "Fault", without: Sequence[str] = WITHOUT) -> None:
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
        self.cwd = {how: place / how for how in ("with", *without)}
        for cwd in self.cwd.values():
            cwd.mkdir()
        self.mounted = fault.small_disk and mount_small(self.cwd["with"])
        self.run = RunDir(self.cwd["with"] / "sitter-runs" / "x")
        self.trainings: dict[str, subprocess.Popen[bytes]] = {}
        self.others: list[subprocess.Popen[bytes]] = []
        self.daemons: set[int] = set()

    def begin(self) -> None:
        """All of them; returns when the daemon has stored something, and each has made some steps."""
        for how, cwd in self.cwd.items():
            words = [sys.executable, str(HERE / "stepper.py"), "alone" if how in WITHOUT else how, str(SLEEP_S)]
            with (self.place / f"{how}.txt").open("wb") as said:
                self.trainings[how] = subprocess.Popen(words, cwd=cwd, env=self.env, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        until(lambda: self.daemon() is not None and self.stored() > 0, PATIENCE_S, "no daemon has stored anything")
        until(lambda: all((cwd / "begun").exists() for cwd in self.cwd.values()), PATIENCE_S, "one has not begun")

    def daemon(self) -> int | None:
        """The pid of whoever watches."""
        pid = holder(self.run.daemon_lock)
        if pid is not None:
            self.daemons.add(pid)
        return pid

    def go_on(self, seconds: float) -> None:
        """For so long, and until each training has worked for ``ENOUGH_S``, on a machine that others load as well."""
        before = self.worked()
        time.sleep(seconds)
        until(lambda: all(now - then >= ENOUGH_S for now, then in zip(self.worked(), before, strict=True)), PATIENCE_S, "one stands still")

    def worked(self) -> list[float]:
        """Seconds of CPU time of each training, all of which live."""
        ended = {how: code for how, training in self.trainings.items() if (code := training.poll()) is not None}
        assert not ended, f"ended in the midst: {ended}"
        return [psutil.Process(training.pid).cpu_times().user for training in self.trainings.values()]

    def watching(self) -> int:
        """Its pid; where one was just started again, once it is there."""
        until(lambda: self.daemon() is not None, PATIENCE_S, "no daemon watches")
        pid = self.daemon()
        assert pid is not None
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
        """End the trainings as a script ends, and read what they say of themselves."""
        told = {}
        for cwd in self.cwd.values():
            (cwd / "enough").touch()
        for how, training in self.trainings.items():
            code = training.wait(PATIENCE_S)
            assert code == 0, f"the training {how} us ended with {code}: {(self.place / f'{how}.txt').read_text()}"
            told[how] = json.loads((self.cwd[how] / "result.json").read_text())
        return told

    def lost(self, losses: list[float]) -> int:
        """Values that are not in the history, once all is over. A daemon that has it leaves of itself; else what the files hold is read, by
        another daemon where the history must be begun anew for it."""
        from sitter.offline import Offline

        def settled() -> bool:
            if self._losses() == losses:
                return True
            if self.daemon() is not None:
                return False
            try:
                Offline(self.run).close()
            except DamagedError:
                another = self.other(sys.executable, "-m", "sitter.daemon", str(self.run.path), "--foreground")
                until(lambda: self.daemon() is not None or another.poll() is not None, PATIENCE_S, "no daemon could be started")
                return False
            except (SitterError, PlaceError, OSError):
                return False
            return True

        with contextlib.suppress(AssertionError):
            until(settled, PATIENCE_S, "it never came to rest")
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
    pid = scene.watching()
    os.kill(pid, signal.SIGKILL)
    return lambda: None


def stopped(scene: Scene) -> Undo:
    """SIGSTOP: its sockets are there, and nobody reads them."""
    pid = scene.watching()
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGCONT)


def replaced(scene: Scene) -> Undo:
    """Another version takes over, as after an upgrade under a living training."""
    for _ in range(TRIES):
        other = scene.other(sys.executable, str(HERE / "other_version.py"), str(scene.run.path), "--foreground")
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        pid = scene.watching()
        os.kill(pid, signal.SIGKILL)
        until(lambda: scene.daemon() != pid, PATIENCE_S, "it was not killed")  # noqa: B023 — called at once
        other.stdin.write(b"begin\n")
        other.stdin.flush()
        until(lambda: scene.daemon() == other.pid or other.poll() is not None, PATIENCE_S, "the other version hangs")  # noqa: B023
        if other.poll() is None:
            return lambda: None
    raise AssertionError(f"the daemon that the agent starts has come first {TRIES} times")


def disk_full(scene: Scene) -> Undo:
    """To the last byte."""
    return fill(scene.cwd["with"]).unlink


LOCKER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
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
    """Garbage over every page but the first, under the living daemon; then it dies, and the next ones find it so. What only the history
    had would be gone with it; the recorder of so short a training still has all, and all of that must be in the next one."""
    held = {segment.name for segment in scene.run.recorder.rglob("*.rec")}
    assert segment_name(1) in held, "something was only in the history already: it could not come again"
    with contextlib.closing(sqlite3.connect(scene.run.history, timeout=60)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with scene.run.history.open("r+b") as file:
        size = scene.run.history.stat().st_size
        assert size > PAGE, "nothing is stored that could be damaged"
        file.seek(PAGE)
        file.write(b"\xa5" * (size - PAGE))
    time.sleep(0.3)
    pid = scene.watching()
    os.kill(pid, signal.SIGKILL)
    return lambda: None


def clock_back(scene: Scene) -> Undo:
    """By a day, and forward again by one and a half."""
    turn(scene.offset, -A_DAY_S)
    seen = subprocess.run([sys.executable, "-c", "import time; print(time.time())"], env=scene.env, capture_output=True, check=True)
    assert -A_DAY_S - 60 < float(seen.stdout) - time.time() < -A_DAY_S + 60, "the clock was not turned back"
    return lambda: turn(scene.offset, A_DAY_S // 2)


def turn(offset: Path, seconds: int) -> None:
    """In place: every process has the file mapped, and whoever looks at a mapping of a file without a byte gets a SIGBUS."""
    with offset.open("r+b") as file:
        file.write(struct.pack("<q", seconds))


def sockets_gone(scene: Scene) -> Undo:
    """As temp cleaners do it."""
    for path in Path(rundir.read(scene.run).sockets).iterdir():
        path.unlink()
    return lambda: None


def runtime_gone(scene: Scene) -> Undo:
    """All of it, and the daemon dies of something else: the next must make it again."""
    pid = scene.watching()
    shutil.rmtree(scene.runtime)
    os.kill(pid, signal.SIGKILL)
    return lambda: None


FAULTS = (
    Fault("daemon killed", killed),
    Fault("daemon stopped", stopped),
    Fault("another version", replaced),
    Fault("disk full", disk_full, keeps=False, small_disk=True),
    Fault("database locked", locked),
    Fault("database corrupt", corrupt),
    Fault("clock turned back", clock_back, clock=True),
    Fault("sockets deleted", sockets_gone),
    Fault("runtime directory gone", runtime_gone),
)


# -- measuring -------------------------------------------------------------------------------------------------------------


def once(
    fault: Fault, lengths: tuple[float, float, float] = QUICK_S, without: Sequence[str] = WITHOUT, usual: Usual = statistics.median
) -> dict[str, Any]:
    """One fault, once: ``same``: how many digests of the weights were compared, None where one differs; ``lost`` values; and ``times``."""
    place = Path(tempfile.mkdtemp(prefix="st-"))
    try:
        scene = Scene(place, fault, without)
        if fault.small_disk and not scene.mounted:
            return {"fault": fault.name, "skipped": "a small file system cannot be mounted here (that takes root)"}
        try:
            scene.begin()
            marks = [time.monotonic()]
            scene.go_on(lengths[0])
            marks.append(time.monotonic())
            undo = fault.strike(scene)
            scene.go_on(lengths[1])
            marks.append(time.monotonic())
            undo()
            scene.go_on(lengths[2])
            marks.append(time.monotonic())
            told = scene.finish()
            lost = scene.lost(told["with"]["losses"])
        finally:
            scene.end()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return {"fault": fault.name, "lost": lost, "may_lose": not fault.keeps, "same": same(told), **times(told, marks, usual)}


def same(told: dict[str, dict[str, Any]]) -> int | None:
    """Digests that all have, where none differs."""
    every = [run["digests"] for run in told.values()]
    common = set.intersection(*(set(digests) for digests in every))
    return len(common) if common and all(digests[k] == every[0][k] for digests in every for k in common) else None


def times(told: dict[str, dict[str, Any]], marks: list[float], usual_of: Usual) -> dict[str, Any]:
    """Of ``cpu`` and ``wall``, in microseconds: ``…_alone`` a step without us; ``…_cost_before``, ``during``, ``after``: by how much the
    usual step with us is dearer than the mean of those without; ``…_added``: the cost during the fault less that before it;
    ``…_apart`` and ``…_apart_added``: the same between the two without us. ``…_slowest``: the slowest step of each, also of ``held``: wall
    time less the time in which others had the core."""
    out: dict[str, Any] = {"steps": 0}
    without = [how for how in told if how != "with"]
    for kind in (*KINDS, "held"):
        for who, runs in (("with", ["with"]), ("alone", without)):
            values = [1e6 * v for how in runs for at, v in zip(told[how]["at"], told[how][kind], strict=True) if marks[1] < at <= marks[2]]
            out[f"{kind}_{who}_slowest"] = max(values)
    for kind in KINDS:
        usual: dict[str, dict[str, float]] = {}
        for how, run in told.items():
            usual[how] = {}
            for phase, since, to in zip(PHASES, marks, marks[1:], strict=False):
                values = [1e6 * v for at, v in zip(run["at"], run[kind], strict=True) if since < at <= to]
                usual[how][phase] = usual_of(values)
                if phase == "during":
                    out["steps"] = len(values) if how == "with" else out["steps"]
        alone = {phase: statistics.fmean(usual[how][phase] for how in without) for phase in PHASES}
        out[f"{kind}_alone"] = alone["during"]
        for phase in PHASES:
            out[f"{kind}_cost_{phase}"] = usual["with"][phase] - alone[phase]
        out[f"{kind}_added"] = out[f"{kind}_cost_during"] - out[f"{kind}_cost_before"]
        if len(without) == 2:
            apart = {phase: usual[without[0]][phase] - usual[without[1]][phase] for phase in PHASES}
            out[f"{kind}_apart"], out[f"{kind}_apart_added"] = apart["during"], apart["during"] - apart["before"]
    return out


def measure(count: int, say: Callable[[str], object]) -> dict[str, Any]:
    """Every fault ``count`` times, with short phases where it is once. ``rows``: for each fault the medians over its times, but the worst
    of ``lost``, ``same`` and slowest. ``noise``: see ``noise``. ``cost``: of being looked after during a fault, the median over all scenes
    and the ends of its 95 % interval. ``each``: the same figures of every scene, for another look. ``load``: how many processes of others
    wanted a core in the minute before."""
    lengths, load = QUICK_S if count == 1 else FULL_S, os.getloadavg()[0]
    rows, every = [], list[dict[str, Any]]()
    for i, fault in enumerate(FAULTS):
        found = []
        for n in range(count):
            say(f"{fault.name} ({i + 1} of {len(FAULTS)}, {n + 1} of {count})")
            found.append(once(fault, lengths))
        rows.append(merged(found))
        every += [row for row in found if "skipped" not in row]
    return {
        "count": count, "seconds": lengths[1], "load": load, "rows": rows, "each": every,
        "noise": {key: noise([row[key] for row in every]) for kind in KINDS for key in (f"{kind}_apart", f"{kind}_apart_added")},
        "cost": {kind: interval([row[f"{kind}_cost_during"] for row in every]) for kind in KINDS},
    }  # fmt: skip


def noise(differences: list[float]) -> float:
    """Of 100 pairs of runs without us, 95 differ by no more than this: twice the standard deviation around nought, by the median."""
    return 2 * ROBUST * statistics.median(abs(d) for d in differences)


def interval(values: list[float]) -> tuple[float, float, float]:
    """The median, and between what it lies in 95 of 100 resamples."""
    rng = random.Random(len(values))
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return statistics.median(values), medians[RESAMPLES // 40], medians[-RESAMPLES // 40]


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
    """What of the promise does not hold, or was not shown, in sentences."""
    noises = figures["noise"]
    judged = KINDS if figures["load"] <= (os.cpu_count() or 1) else ("cpu",)  # else the wall clock tells of who else wants a core
    allowed = {kind: OF_MANY * noises[f"{kind}_apart_added"] for kind in judged}
    out = [sentence for row in figures["rows"] if "skipped" not in row for sentence in faults_of(row, allowed)]
    # By CPU time. Where others want these cores, who waits for one within a step and who between two is a matter of 0.1 ms: the scheduler
    # takes the core away from whoever has had it for some 2 ms, and what was a step's wall time without us is then the sleep before it.
    middle, low, high = figures["cost"]["cpu"]
    if high > noises["cpu_apart"]:
        out.append(
            f"not shown to be inside the noise: a step costs {middle:.0f} µs more with us ({low:.0f} to {high:.0f}), and two runs without "
            f"us differ by {noises['cpu_apart']:.0f} µs"
        )
    return out


def faults_of(row: dict[str, Any], allowed: dict[str, float]) -> list[str]:
    """Of one fault. ``allowed``: microseconds that it may seem to add to a step, by ``cpu`` and ``wall``."""
    out, name = [], row["fault"]
    if row["same"] is None:
        out.append(f"{name}: the weights are not those of a run without us")
    if row["lost"] and not row["may_lose"]:
        out.append(f"{name}: {row['lost']} values are not in the history")
    for kind, most in allowed.items():
        if row[f"{kind}_added"] > most:
            out.append(f"{name}: a step costs {row[f'{kind}_added']:.0f} µs more since the fault ({kind}), two without us: {most:.0f} µs")
    if row["held_with_slowest"] - row["held_alone_slowest"] > 1e6 * BLOCKED_S:
        out.append(f"{name}: a step was held up for {row['held_with_slowest'] / 1e6:.2f} s")
    return out


def table(figures: dict[str, Any]) -> list[str]:
    """A line for each fault: what being looked after costs a step, in microseconds, what the fault adds, and the slowest step."""
    out = [
        f"{'':<23}{'a step':>8}{'what we cost of it: CPU':>33}{'added by the fault':>22}{'slowest':>9}",
        f"{'':<23}{'alone':>8}{'before':>11}{'during':>11}{'after':>11}{'CPU':>11}{'wall':>11}{'step':>9}{'bits':>7}{'lost':>6}",
    ]
    for r in figures["rows"]:
        if "skipped" in r:
            out.append(f"{r['fault']:<23}{r['skipped']}")
            continue
        bits = "same" if r["same"] is not None else "DIFFER"
        costs = "".join(f"{r[f'cpu_cost_{phase}']:>8.0f} µs" for phase in PHASES)
        added = f"{r['cpu_added']:>+8.0f} µs{r['wall_added']:>+8.0f} µs"
        slowest = f"{r['wall_with_slowest'] / 1000:>6.0f} ms"
        out.append(f"{r['fault']:<23}{r['cpu_alone']:>5.0f} µs{costs}{added}{slowest}{bits:>7}{r['lost']:>6}")
    noises = figures["noise"]
    for kind, word in zip(KINDS, ("CPU", "wall"), strict=True):
        middle, low, high = figures["cost"][kind]
        apart, added = noises[f"{kind}_apart"], noises[f"{kind}_apart_added"]
        cost = f"{word:<5}{middle:.0f} µs a step ({low:.0f} to {high:.0f})"
        out.append(f"{cost}; two without us differ by {apart:.0f} µs, in what is added {added:.0f}")
    if figures["load"] > 1:
        out.append(f"others wanted {figures['load']:.0f} cores of {os.cpu_count()} just before: what is ours is then cold, and costs more")
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
