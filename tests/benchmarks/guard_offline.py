"""How good is the guard, alone? Real small trainings in this process, five kinds of faults, one set of parameters; and published logs.

    python tests/benchmarks/guard_offline.py [--seeds 10] [--delay 1 60] [--grad-every 1 10] [--logs DIRECTORY]

The trainings are real; agent and daemon are played by forty lines that follow PROTOCOL.md: snapshots every 20 steps in 4 slots, cleared
by the engine, restored in place; ``delay`` turns pass between a value and the decision about it. The guard is the real engine with the
real rule and its default parameters; rules that would ask first are left out. ``--logs`` reads ``index.csv`` and ``runs/*.csv`` as
described in the README beside them.
"""

import abc
import argparse
import copy
import csv
import math
import statistics
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from sitter.model import Finding
from sitter.rules.base import Rule
from sitter.rules.catalogue import RULES
from sitter.rules.engine import Engine
from sitter.rules.view import RunView, Sample
from sitter_wire.commands import Outcome, Rollback, SetKnob
from sitter_wire.events import AnyEvent, Done, KnobChanged, Restored, SnapshotTaken
from sitter_wire.records import Happening

STEPS = 600
SLOTS, SNAPSHOT_EVERY = 4, 20
BUDGET = 3
FAULTS = {"inputs × 1000": 5, "nan": 3, "gradient × 1e4": 2, "rate × 100": 20, "shuffled labels": 20}

# -- three small tasks ---------------------------------------------------------------------------------------------------


class Task(abc.ABC):
    """``batches(seed)`` yields (x, y) for ever; ``loss(model, x, y, gain)`` multiplies the inputs by ``gain``."""

    name: str
    schedule: staticmethod

    @abc.abstractmethod
    def model(self) -> torch.nn.Module: ...

    def batches(self, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        rng = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(self.x), generator=rng)
            for i in range(0, len(order) - 63, 64):
                yield self.x[order[i : i + 64]], self.y[order[i : i + 64]]

    x: torch.Tensor
    y: torch.Tensor
    held_out: tuple[torch.Tensor, torch.Tensor]

    def loss(self, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(x * gain), y)


class Digits(Task):
    """scikit-learn's digits, an MLP; constant rate."""

    name = "digits"
    rates = {"sgd": 0.1, "adamw": 2e-3}  # noqa: RUF012
    schedule = staticmethod(lambda step: 1.0)

    def __init__(self) -> None:
        data = load_digits()
        x, y = torch.tensor(data.data / 16.0, dtype=torch.float32), torch.tensor(data.target)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        self.x, self.y = x[order[:1400]], y[order[:1400]]
        self.held_out = x[order[1400:]], y[order[1400:]]

    def model(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))


class Autoencoder(Digits):
    """The same pictures through eight numbers; squared error; step decay."""

    name = "autoencoder"
    rates = {"sgd": 0.5, "adamw": 3e-3}  # noqa: RUF012
    schedule = staticmethod(lambda step: 1.0 if step < 400 else 0.1)

    def __init__(self) -> None:
        super().__init__()
        self.y = self.x.clone()
        self.held_out = self.held_out[0], self.held_out[0]

    def model(self) -> torch.nn.Module:
        n = torch.nn
        return n.Sequential(n.Linear(64, 48), n.ReLU(), n.Linear(48, 8), n.Linear(8, 48), n.ReLU(), n.Linear(48, 64))

    def loss(self, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
        return torch.nn.functional.mse_loss(model(x * gain), y)


class Bytes(Task):
    """The next byte of Python's own source from the eight before; warm-up and cosine."""

    name = "next byte"
    rates = {"sgd": 0.3, "adamw": 3e-3}  # noqa: RUF012
    schedule = staticmethod(lambda step: min(1.0, (step + 1) / 40) * (0.55 + 0.45 * math.cos(math.pi * min(1.0, step / STEPS))))

    def __init__(self) -> None:
        raw = Path(argparse.__file__).read_bytes()
        data = torch.tensor([min(b, 127) for b in raw])
        windows = data.unfold(0, 9, 1)
        cut = int(len(windows) * 0.9)
        self.x, self.y = windows[:cut, :8], windows[:cut, 8]
        self.held_out = windows[cut:, :8], windows[cut:, 8]

    def model(self) -> torch.nn.Module:
        n = torch.nn
        return n.ModuleList([n.Embedding(128, 16), n.Sequential(n.Linear(128, 128), n.ReLU(), n.Linear(128, 128))])

    def loss(self, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model[1](model[0](x).flatten(1) * gain), y)


# -- agent and daemon, in short ------------------------------------------------------------------------------------------


class Training:
    """A loop with snapshots, watched by the engine with a delay of so many turns (None: not watched)."""

    def __init__(self, task: Task, optimizer: str, seed: int, fault: str | None, at: int, delay: int | None, grad_every: int) -> None:
        torch.manual_seed(seed)
        self.task, self.fault, self.at, self.delay, self.grad_every = task, fault, at, delay, grad_every
        self.model = task.model()
        make = {
            "sgd": lambda p: torch.optim.SGD(p, lr=task.rates["sgd"], momentum=0.9),
            "adamw": lambda p: torch.optim.AdamW(p, lr=task.rates["adamw"]),
        }[optimizer]
        self.base = task.rates[optimizer]
        self.optimizer = make(list(self.model.parameters()))
        self.batches = task.batches(seed)
        self.shuffle = torch.Generator().manual_seed(seed + 1)
        self.step = self.branch = self.turn = 0
        self.scale = 1.0
        self.snapshots: list[dict] = []
        self.line: list[tuple[int, int]] = []
        self.view = RunView(scales={"lr": 1.0}, in_session=True, state="running")
        self.engine = Engine([rule() for rule in RULES if rule.guard], self.view)
        self.queue: deque[tuple[int, Sample | Happening]] = deque()
        self.clear: tuple[int, int] | None = None
        self.rollbacks = self.over_budget = self.refused = 0
        self.findings: list[Finding] = []

    def run(self) -> float:
        self.snapshot()
        while self.step < STEPS:
            self.one_turn()
            self.step += 1
            self.turn += 1
            if self.delay is not None:
                if self.step % SNAPSHOT_EVERY == 0:
                    self.snapshot()
                self.daemon()
            if self.turn > 4 * STEPS:
                break
        with torch.no_grad():
            return float(self.task.loss(self.model, *self.task.held_out))

    def one_turn(self) -> None:
        x, y = next(self.batches)
        broken = self.fault if self.at <= self.turn < self.at + FAULTS.get(self.fault or "", 0) else None
        gain = {"inputs × 1000": 1000.0, "nan": math.nan}.get(broken or "", 1.0)
        if broken == "shuffled labels":
            y = y[torch.randperm(len(y), generator=self.shuffle)]
        loss = self.task.loss(self.model, x, y, gain)
        self.optimizer.zero_grad()
        loss.backward()
        if broken == "gradient × 1e4":
            for p in self.model.parameters():
                p.grad *= 1e4
        scheduled = self.base * self.task.schedule(self.step) * (100.0 if broken == "rate × 100" else 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = scheduled * self.scale
        self.log({"loss": loss.item()})
        own = {"lr": scheduled * self.scale, "lr_scheduled": scheduled, "step_time": 1e-3, "data_wait": 1e-5}
        if self.grad_every and self.step % self.grad_every == 0:
            own["grad_norm"] = float(torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in self.model.parameters()])))
        self.optimizer.step()
        self.log(own)

    def log(self, values: dict[str, float]) -> None:
        self.queue.append((self.turn, Sample(step=self.step, branch=self.branch, time=self.turn * 1e-3, values=values)))

    def event(self, event: AnyEvent) -> None:
        self.queue.append((self.turn, Happening(0, self.step, self.branch, 0, event)))

    def snapshot(self) -> None:
        """The state after ``step`` steps, as the agent counts: the loss logged at that step is this state's."""
        slot = {
            "branch": self.branch, "step": self.step, "model": copy.deepcopy(self.model.state_dict()), "scale": self.scale,
            "optimizer": copy.deepcopy(self.optimizer.state_dict()), "finite": self.finite(),
        }  # fmt: skip
        if len(self.snapshots) >= SLOTS:
            cleared = [s for s in self.snapshots if self.is_clear(s)]
            uncleared = [s for s in self.snapshots if not self.is_clear(s)]
            self.snapshots.remove(cleared[0] if len(cleared) > 1 else uncleared[-1])
        self.snapshots.append(slot)
        self.event(SnapshotTaken(slot=0, branch=self.branch, step=self.step, bytes=0, seconds=0.0))

    def is_clear(self, slot: dict) -> bool:
        return self.clear is not None and slot["step"] <= self.clear[1]

    def finite(self) -> bool:
        state = [v for s in self.optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
        return all(bool(torch.isfinite(t).all()) for t in [*self.model.state_dict().values(), *state])

    def daemon(self) -> None:
        while self.queue and self.queue[0][0] <= self.turn - (self.delay or 0):
            item = self.queue.popleft()[1]
            if isinstance(item, Sample):
                found = self.engine.observe(item)
            else:
                self.engine.happened(item)
                found = []
            for finding in found:
                self.findings.append(finding)
                for action in finding.actions:
                    self.act(action)
        self.clear = self.engine.clear()

    def act(self, action: object) -> None:
        if isinstance(action, SetKnob):
            old, self.scale = self.scale, self.scale * action.amount
            self.view.scales["lr"] = self.scale
            self.event(KnobChanged(knob="lr", old=old, new=self.scale, scale=self.scale, by="rule:guard"))
        elif isinstance(action, Rollback):
            if self.rollbacks >= BUDGET:
                self.over_budget += 1
                return
            self.engine.restoring(True)
            self.rollback(action)

    def rollback(self, action: Rollback) -> None:
        if action.unless_finite and self.finite():
            outcome = Outcome(id="", status="rejected", step=self.step, branch=self.branch, text="all finite", detail={"finite": True})
            self.engine.happened(Happening(0, self.step, self.branch, 0, Done(outcome=outcome)))
            self.engine.restoring(False)
            self.refused += 1
            return
        good = [s for s in self.snapshots if self.is_clear(s) and s["step"] <= (action.before or 0)]
        if not good:
            self.refused += 1
            self.engine.restoring(False)
            return
        slot = good[-1]
        assert slot["finite"], "a poisoned snapshot was cleared and restored"
        self.rollbacks += 1
        self.model.load_state_dict(slot["model"])
        self.optimizer.load_state_dict(copy.deepcopy(slot["optimizer"]))
        left, self.step, self.branch = self.step, slot["step"], self.branch + 1
        self.scale = slot["scale"] * action.also_scale.get("lr", 1.0)
        self.view.scales["lr"] = self.scale
        self.snapshots = [s for s in self.snapshots if s["step"] <= slot["step"]]
        self.event(Restored(branch=self.branch, step=slot["step"], from_branch=slot["branch"], left=left, source="snapshot"))
        if action.also_scale:
            self.event(KnobChanged(knob="lr", old=slot["scale"], new=self.scale, scale=self.scale, by="rule:guard"))


# -- the figures ---------------------------------------------------------------------------------------------------------


def faults(seeds: int, delay: int, grad_every: int, tasks: list[Task], clean: dict) -> tuple[int, int, int, list[str]]:
    """Prints a table; returns (runs, alive, within, misses)."""
    runs = alive = within = 0
    misses: list[str] = []
    print(f"\ndelay {delay} turns, grad_norm " + (f"every {grad_every} steps" if grad_every else "not logged"))
    print(f"{'':16}{'alive':>8}{'within':>8}   rollbacks (per run), over budget, refused")
    for fault in FAULTS:
        n = a = w = back = spent = refused = 0
        for task in tasks:
            for optimizer in ("sgd", "adamw"):
                finals = clean[task.name, optimizer]
                noise = statistics.stdev(finals)
                for seed in range(seeds):
                    at = 60 + int(np.random.default_rng([seed, n]).integers(0, STEPS - 120))
                    t = Training(task, optimizer, seed, fault, at, delay, grad_every)
                    final = t.run()
                    n += 1
                    ok = math.isfinite(final) and t.finite() and final < 3 * finals[seed] + noise
                    a += ok
                    near = final <= finals[seed] * 1.05 or final <= finals[seed] + 2 * noise
                    w += ok and near
                    back, spent, refused = back + t.rollbacks, spent + t.over_budget, refused + t.refused
                    if not (ok and near):
                        misses.append(
                            f"{fault}, {task.name}, {optimizer}, seed {seed}, turn {at}, delay {delay}, grad/{grad_every}: {final:.4g} "
                            f"(unfaulted {finals[seed]:.4g} ± {noise:.2g}), {t.rollbacks} rollbacks, {t.over_budget} over budget: "
                            + "; ".join(f"{f.step}: {f.text}" for f in t.findings[:4])
                        )
        print(f"{fault:16}{a / n:8.1%}{w / n:8.1%}   {back / n:.2f}, {spent}, {refused}")
        runs, alive, within = runs + n, alive + a, within + w
    print(f"{'all':16}{alive / runs:8.1%}{within / runs:8.1%}   of {runs} runs")
    return runs, alive, within, misses


def clean_runs(seeds: int, tasks: list[Task], delay: int, grad_every: int, clean: dict) -> tuple[int, int]:
    """Unfaulted runs under the guard: how many end bit for bit as without it."""
    same = n = 0
    for task in tasks:
        for optimizer in ("sgd", "adamw"):
            for seed in range(seeds):
                t = Training(task, optimizer, seed, None, 0, delay, grad_every)
                final = t.run()
                n += 1
                same += final == clean[task.name, optimizer][seed] and t.rollbacks == 0
                for f in t.findings:
                    if f.actions:
                        print(f"  clean run acted on: {task.name}, {optimizer}, seed {seed}: {f.step}: {f.text}")
    print(f"clean runs unchanged: {same} of {n}")
    return n, same


def watch(path: Path, rules: Callable[[], list[Rule]]) -> list[Finding]:
    """The findings on one published log, nothing acted upon."""
    engine = Engine(rules(), RunView(scales={"lr": 1.0}, in_session=True, state="running"))
    findings: list[Finding] = []
    with path.open() as file:
        for i, row in enumerate(csv.DictReader(file)):
            names = (("loss", "train_loss"), ("val_loss", "val_loss"), ("lr_scheduled", "lr"), ("grad_norm", "grad_norm"))
            values = {name: float(row[column]) for name, column in names if row.get(column)}
            if values:
                findings += engine.observe(Sample(step=int(row["step"]), branch=0, time=float(i), values=values))
    return findings


def logs(directory: Path) -> None:
    """Trips that would have acted, by label."""
    acted: Counter[tuple[str, str]] = Counter()
    total: Counter[tuple[str, str]] = Counter()
    for run in csv.DictReader((directory / "index.csv").open()):
        findings = watch(directory / "runs" / run["file"], lambda: [rule() for rule in RULES if rule.guard])
        trips = [f for f in findings if f.actions]
        label = run["score_as"], run["label_source"]
        total[label] += 1
        acted[label] += bool(trips)
        if label[0] == "benign" and trips:
            print(f"  benign, acts: {run['file']}: " + "; ".join(f.text for f in trips[:3]))
        if label == ("trouble", "explicit") and not trips:
            print(f"  trouble, not seen: {run['file']}: {run['labels']}")
    for label in sorted(total):
        print(f"logs {label[0]:8} {label[1]:9} acts on {acted[label]:3} of {total[label]:3} = {acted[label] / total[label]:.4f}")
    benign = [n for n in total if n[0] == "benign"]
    print(f"benign in all: {sum(acted[n] for n in benign) / max(1, sum(total[n] for n in benign)):.4f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--delay", type=int, nargs="+", default=[1, 60])
    parser.add_argument("--grad-every", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--logs", type=Path)
    asked = parser.parse_args()
    if asked.seeds < 0 or asked.seeds == 1:
        parser.error(f"--seeds {asked.seeds}: expected 2 or more, since `within` goes by how unfaulted runs differ; or 0 (--logs alone)")
    if asked.logs:
        logs(asked.logs)
    if not asked.seeds:
        return 0
    torch.set_num_threads(1)
    began = time.perf_counter()
    tasks: list[Task] = [Digits(), Autoencoder(), Bytes()]
    clean = {
        (task.name, o): [Training(task, o, seed, None, 0, None, 0).run() for seed in range(asked.seeds)]
        for task in tasks for o in ("sgd", "adamw")
    }  # fmt: skip
    for key, finals in clean.items():
        print(f"{key}: unfaulted {statistics.mean(finals):.4f} ± {statistics.stdev(finals):.4f}")
    misses: list[str] = []
    for delay in asked.delay:
        for grad_every in asked.grad_every:
            misses += faults(asked.seeds, delay, grad_every, tasks, clean)[3]
            clean_runs(asked.seeds, tasks, delay, grad_every, clean)
    print(f"\n{len(misses)} misses")
    for miss in misses:
        print("  " + miss)
    print(f"{time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
