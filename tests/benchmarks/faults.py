"""How good is sitter as a whole? Real small trainings through the real agent and daemon, five kinds of faults, one set of parameters.

    python tests/benchmarks/faults.py [--seeds 10] [--tasks digits …] [--optimizers sgd adamw] [--kinds nan …] [--step-ms 0] [--quick]

Every training is a plain PyTorch loop: ``sitter_agent.start(model, optimizer, scheduler)``, ``agent.loop`` over a shuffling DataLoader,
``agent.log(loss=…, grad_norm=…)``; the agent starts the daemon by itself. Nothing sleeps and nothing is tuned: steps take one to five
milliseconds, decisions as long as they take, and sitter has its defaults. A fault is a function of the TURN of the loop, so a rollback
does not plant it again. The same trainings with the same faults and nobody there are the comparison ("unattended").

alive      parameters are finite, and at least half of what the unfaulted run learned is there: final validation loss < (untrained +
           unfaulted) / 2
within     alive, and the final validation loss is at most 5 % or seed noise above that of the unfaulted run of the same seed; seed
           noise: 2 standard deviations of the unfaulted runs' final validation loss over the seeds
unchanged  an unfaulted run under sitter ends with the same bits in every parameter as a loop that knows nothing of sitter
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from guard_offline import FAULTS, STEPS, Autoencoder, Bytes, Digits, Task

import sitter_agent
from sitter.locks import holder
from sitter.store.reader import Reader

TASKS: dict[str, type[Task]] = {t.name: t for t in (Digits, Autoencoder, Bytes)}
OPTIMIZERS = ("sgd", "adamw")
WORKERS = 2
ALONE, GUARDED = "alone", "guarded"

# -- one training --------------------------------------------------------------------------------------------------------


class Training:
    """A user's script. ``fault`` is planted from turn ``at`` on."""

    def __init__(
        self, task: Task, optimizer: str, seed: int, steps: int, fault: str | None, at: int, step_ms: float, grad: bool = True
    ) -> None:
        torch.manual_seed(seed)
        self.task, self.steps, self.fault, self.at, self.step_s, self.grad = task, steps, fault, at, step_ms / 1000, grad
        self.model = task.model()
        parameters, rate = list(self.model.parameters()), task.rates[optimizer]
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(parameters, lr=rate, momentum=0.9) if optimizer == "sgd" else torch.optim.AdamW(parameters, lr=rate)
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: task.schedule(step * STEPS / steps))
        self.loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(task.x, task.y), batch_size=64, shuffle=True, drop_last=True,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        self.shuffle = torch.Generator().manual_seed(seed + 1)
        self.untrained = self.held_out()

    def alone(self) -> None:
        """A loop that knows nothing of sitter."""
        batches, turn = endless(self.loader), 0
        while turn < self.steps:
            self.turn(turn, *next(batches))
            turn += 1

    def guarded(self, name: str) -> tuple[dict[str, int], list[str]]:
        """The same with the three lines. Returns counts and the logbook."""
        agent = sitter_agent.start(self.model, self.optimizer, self.scheduler, name=name)
        assert agent.recording
        for turn, (_, (x, y)) in enumerate(agent.loop(self.loader, total=self.steps)):
            loss, norm = self.turn(turn, x, y)
            agent.log(loss=loss, grad_norm=norm) if self.grad else agent.log(loss=loss)
            if turn > 4 * self.steps:
                break
        run = Path(str(agent.run))
        steps = agent.step
        agent.close()
        book = end_daemon(run)
        return {"turns": turn + 1, "steps": steps}, book

    def turn(self, turn: int, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
        broken = self.fault if self.at <= turn < self.at + FAULTS.get(self.fault or "", 0) else None
        gain = {"inputs × 1000": 1000.0, "nan": math.nan}.get(broken or "", 1.0)
        if broken == "shuffled labels":
            y = y[torch.randperm(len(y), generator=self.shuffle)]
        end = time.perf_counter() + self.step_s
        while time.perf_counter() < end:  # work that changes nothing: no layer of these models draws a number or counts
            with torch.no_grad():
                self.task.loss(self.model, x, y, gain)
        loss = self.task.loss(self.model, x, y, gain)
        self.optimizer.zero_grad()
        loss.backward()
        if broken == "gradient × 1e4":
            for p in self.model.parameters():
                p.grad *= 1e4
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        if broken == "rate × 100":
            for group in self.optimizer.param_groups:
                group["lr"] = self.scheduler.get_last_lr()[0] * 100.0
        self.optimizer.step()
        self.scheduler.step()
        return loss.item(), norm.item()

    def held_out(self) -> float:
        with torch.no_grad():
            return float(self.task.loss(self.model, *self.task.held_out))

    def digest(self) -> str:
        """Of every bit of every parameter."""
        return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in self.model.parameters())).hexdigest()

    def finite(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for p in self.model.parameters())


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def end_daemon(run: Path) -> list[str]:
    """SIGTERM to this run's daemon once it has heard of the end, rather than wait until it leaves by itself; the logbook."""
    lock, until = run / "daemon.lock", time.monotonic() + 5.0
    book = logbook(run)
    while holder(lock) is not None and time.monotonic() < until and not any("loop ended" in line for line in book):
        time.sleep(0.02)  # another process's file: there is no event to wait for
        book = logbook(run)
    pid, until = holder(lock), time.monotonic() + 20.0
    if pid is None:
        book.append("the daemon had gone before the end")
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    while holder(lock) is not None and time.monotonic() < until:
        time.sleep(0.005)  # the same
    said = (run / "daemon.log").read_text(errors="replace").splitlines() if (run / "daemon.log").exists() else []
    return [*(book or logbook(run)), *(f"daemon.log: {line}" for line in said)]


def logbook(run: Path) -> list[str]:
    reader = Reader(run / "history.db")
    try:
        return [
            f"{e.step if e.step is not None else '-'}/{e.branch if e.branch is not None else '-'} {e.kind} {e.status or ''} "
            f"{e.action or ''} {e.detail}"
            for e in reader.logbook(limit=100_000)
        ]  # fmt: skip
    finally:
        reader.close()


# -- a worker: one process, many runs ------------------------------------------------------------------------------------


def worker(jobs: list[dict[str, Any]]) -> None:
    """Does its jobs and says a line of JSON after each. A process of its own, not a ``multiprocessing`` one: those are never the agent."""
    torch.set_num_threads(1)
    tasks = {name: kind() for name, kind in TASKS.items()}
    for job in jobs:
        t = Training(tasks[job["task"]], job["optimizer"], job["seed"], job["steps"], job["fault"], job["at"], job["step_ms"], job["grad"])
        began, counts, book = time.perf_counter(), {"turns": job["steps"], "steps": job["steps"]}, []
        if job["how"] == GUARDED:
            counts, book = t.guarded(job["name"])
        else:
            t.alone()
        seconds = time.perf_counter() - began
        told = {**job, **counts, "final": t.held_out(), "untrained": t.untrained, "finite": t.finite(), "digest": t.digest(),
                "seconds": seconds, "rollbacks": sum(" outcome applied rollback" in line for line in book), "book": book}  # fmt: skip
        print(json.dumps(told), flush=True)


def jobs_of(asked: argparse.Namespace) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = []
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        for task in asked.tasks:
            for optimizer in asked.optimizers:
                for kind in [None, *asked.kinds]:
                    number = list(FAULTS).index(kind) if kind else 0
                    at = np.random.default_rng([seed, number, *task.encode()]).integers(asked.steps // 10, asked.steps - asked.steps // 10)
                    for how in (ALONE, GUARDED) if asked.unattended or kind is None else (GUARDED,):
                        jobs.append({
                            "task": task, "optimizer": optimizer, "seed": seed, "fault": kind, "at": int(at), "how": how,
                            "steps": asked.steps, "step_ms": asked.step_ms, "grad": asked.grad, "name": f"f{len(jobs)}",
                        })  # fmt: skip
    return jobs


def run_all(jobs: list[dict[str, Any]], base: Path) -> list[dict[str, Any]]:
    """In ``WORKERS`` processes, each with places of its own."""
    started = []
    for i in range(WORKERS):
        place = base / str(i)
        place.mkdir()
        mine = place / "jobs.json"
        mine.write_text(json.dumps(jobs[2 * i :: 2 * WORKERS] + jobs[2 * i + 1 :: 2 * WORKERS]))
        env = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_STATE_HOME": str(place / "state")}
        if "SITTER_RUNTIME_DIR" not in env:
            (place / "r").mkdir(mode=0o700)
            env["SITTER_RUNTIME_DIR"] = str(place / "r")
        for name in ("SITTER", "SITTER_RUN", "SITTER_MODE", "SITTER_RESUME"):
            env.pop(name, None)
        with (place / "said.jsonl").open("wb") as out, (place / "stderr").open("wb") as err:
            started.append(subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), "--worker", str(mine)], cwd=place, env=env, stdin=subprocess.DEVNULL,
                stdout=out, stderr=err,
            ))  # fmt: skip
    try:
        return gather(started, base)
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()


def gather(started: list[subprocess.Popen[bytes]], base: Path) -> list[dict[str, Any]]:
    """What the workers have said, once they have ended."""
    results = []
    for i, process in enumerate(started):
        code = process.wait()
        if code:
            sys.stderr.write((base / str(i) / "stderr").read_text()[-4000:])
            raise SystemExit(f"worker {i} ended with code {code}, expected 0: its last words stand above")
        results += [json.loads(line) for line in (base / str(i) / "said.jsonl").read_text().splitlines()]
    return results


# -- the figures ---------------------------------------------------------------------------------------------------------


class Judge:
    """Compares with the unfaulted runs."""

    def __init__(self, results: list[dict[str, Any]]) -> None:
        self.clean = {(r["task"], r["optimizer"], r["seed"]): r for r in results if r["fault"] is None and r["how"] == ALONE}
        finals = defaultdict(list)
        for (task, optimizer, _), r in self.clean.items():
            finals[task, optimizer].append(r["final"])
        self.mean = {key: statistics.mean(v) for key, v in finals.items()}
        self.noise = {key: statistics.stdev(v) if len(v) > 1 else 0.0 for key, v in finals.items()}

    def alive(self, r: dict[str, Any]) -> bool:
        clean = self.clean[r["task"], r["optimizer"], r["seed"]]
        return r["finite"] and r["final"] < 0.5 * (r["untrained"] + clean["final"])

    def within(self, r: dict[str, Any], deviations: float = 2.0) -> bool:
        clean = self.clean[r["task"], r["optimizer"], r["seed"]]["final"]
        noise = deviations * self.noise[r["task"], r["optimizer"]]
        return self.alive(r) and (r["final"] <= 1.05 * clean or r["final"] <= clean + noise)


def share(flags: list[bool]) -> str:
    return f"{sum(flags) / len(flags):8.1%}" if flags else f"{'-':>8}"


def table(results: list[dict[str, Any]], judge: Judge, kinds: list[str]) -> None:
    print(f"\n{'':18}|{'unattended':^17}|{'under sitter':^58}|")
    print(f"{'':18}|{'alive':>8}{'within':>8} |{'alive':>8}{'within':>8}{'(1 sd)':>8}{'rollbacks':>11}{'turns lost':>12}{'runs':>6}     |")
    for kind in [*kinds, "all"]:
        of = [r for r in results if r["fault"] and kind in (r["fault"], "all")]
        alone, guarded = ([r for r in of if r["how"] == how] for how in (ALONE, GUARDED))
        back = statistics.mean(r["rollbacks"] for r in guarded)
        lost = statistics.mean(r["turns"] - r["steps"] for r in guarded)
        print(
            f"{kind:18}|{share([judge.alive(r) for r in alone])}{share([judge.within(r) for r in alone])} |"
            f"{share([judge.alive(r) for r in guarded])}{share([judge.within(r) for r in guarded])}"
            f"{share([judge.within(r, 1.0) for r in guarded])}{back:11.2f}{lost:12.0f}{len(guarded):6}     |"
        )


def report(results: list[dict[str, Any]], kinds: list[str], books: bool) -> dict[str, float]:
    judge = Judge(results)
    for key, mean in judge.mean.items():
        runs = [r for r in results if (r["task"], r["optimizer"]) == key and r["fault"] is None]
        ms = {how: 1e3 * statistics.median(r["seconds"] / r["turns"] for r in runs if r["how"] == how) for how in (ALONE, GUARDED)}
        print(f"{key[0]}, {key[1]}: unfaulted {mean:.4f} ± {judge.noise[key]:.4f}; {ms[ALONE]:.2f} ms a turn alone")
    if kinds:
        table(results, judge, kinds)
    clean = [r for r in results if r["fault"] is None and r["how"] == GUARDED]
    same = [r["digest"] == judge.clean[r["task"], r["optimizer"], r["seed"]]["digest"] for r in clean]
    print(f"\nunfaulted runs under sitter, bit for bit unchanged: {sum(same)} of {len(same)}")
    faulted = [r for r in results if r["fault"] and r["how"] == GUARDED]
    missed = [r for r in faulted if not judge.within(r)] + [r for r, ok in zip(clean, same, strict=True) if not ok]
    print(f"{len(missed)} misses")
    for r in missed:
        unfaulted = judge.clean[r["task"], r["optimizer"], r["seed"]]["final"]
        print(
            f"\n  {r['fault'] or 'unfaulted'}, {r['task']}, {r['optimizer']}, seed {r['seed']}, turn {r['at']}: {r['final']:.4g}, "
            f"unfaulted {unfaulted:.4g} ± {judge.noise[r['task'], r['optimizer']]:.2g}, alive {judge.alive(r)}, "
            f"{r['rollbacks']} rollbacks, {r['turns']} turns in {r['seconds']:.1f} s"
        )
        for line in r["book"] if books else []:
            print(f"      {line}")
    share_of = {
        "alive": statistics.mean(judge.alive(r) for r in faulted) if faulted else 1.0,
        "within": statistics.mean(judge.within(r) for r in faulted) if faulted else 1.0,
        "unchanged": statistics.mean(same),
    }
    print("\n" + json.dumps({name: round(value, 4) for name, value in share_of.items()}))
    return share_of


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS))
    parser.add_argument("--kinds", nargs="*", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--step-ms", type=float, default=0.0, help="compute for so many milliseconds more each turn: longer steps")
    parser.add_argument("--no-grad", dest="grad", action="store_false", help="log the loss only; the agent takes the norm")
    parser.add_argument("--no-unattended", dest="unattended", action="store_false", help="faulted runs under sitter only")
    parser.add_argument("--quick", action="store_true", help="two seeds, one optimizer")
    parser.add_argument("--json", type=Path, help="keep every run's figures and logbook here, a line each")
    parser.add_argument("--no-books", action="store_true", help="misses without their logbooks")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        worker(json.loads(asked.worker.read_text()))
        return 0
    if asked.quick:
        asked.seeds, asked.optimizers = 2, ["adamw"]
    base, began = Path(tempfile.mkdtemp(prefix="sf-")), time.perf_counter()
    try:
        results = run_all(jobs_of(asked), base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if asked.json:
        asked.json.write_text("".join(json.dumps(r) + "\n" for r in results))
    report(results, asked.kinds, not asked.no_books)
    print(f"{len(results)} runs of {asked.steps} steps in {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
