"""What being looked after costs a training, and that it trains the same: steps with and without the agent, in turns.

    python tests/benchmarks/training.py [--pairs 5] [--seconds 3] [--only numpy,mlp,transformer] [--in-heap]

Three ordinary trainings on one thread: the demo's numpy model (6 ms a step), a small torch network (1 ms), the example's transformer
(some 50 ms). Each is run `without` the agent, `recording` (agent, no daemon) and `guarded` (agent, live daemon, guard on, snapshots
taken), every time in a process of its own; a round has each once, in random order, and a figure is the median over the rounds of that
round's ratio to its own `without`. CPU is of the training's process, all its threads; a page fault is a minor one. The first
tenth of the steps, with the first snapshot in it, does not count. `same end`: loss and weights are bit for bit those of `without`.

Snapshots once lay in the C library's heap, which then gave its end back to the kernel and took it again at every step: 30 % of a numpy step
by page faults alone (``sitter_agent.memory``). ``--in-heap`` puts them there again and leaves the C library's thresholds as they were, to
show that this table would show it.

The exit status is 1 where an end was not the same, or a guarded training is over 1 % slower in its CPU time as well as its usual step.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
REACH = 0.01
"""DESIGN §13: inside the noise, at most 1 %."""


class Training(NamedTuple):
    """``step`` trains on one batch and returns what a script would log; ``state`` is its weights; ``start`` starts the agent."""

    loader: Iterable[Any]
    step: Callable[[Any], dict[str, Any]]
    state: Callable[[], bytes]
    start: Callable[[bool], Any]


def numpy_demo(steps: int) -> Training:
    """``sitter_demo``'s, with its free knob and its state."""
    import sitter_agent
    from sitter_demo.train import Training as Demo

    demo = Demo(steps=steps, seed=0)

    def step(batch: Any) -> dict[str, Any]:
        loss, grad_norm = demo.model.loss_and_grad(batch)
        demo.optimizer.step()
        return {"loss": loss, "grad_norm": grad_norm}

    def start(daemon: bool) -> Any:
        agent = sitter_agent.start(daemon=daemon, name="bench")
        agent.knob("lr", get=lambda: demo.optimizer.rate, set=demo.set_rate, low=1e-6, high=1.0, scale="log")
        agent.state(save=demo.save, load=demo.load)
        return agent

    return Training(demo.data, step, lambda: demo.model.flat.tobytes(), start)


def _torch(model: Any, optimizer: Any, loader: Iterable[Any], step: Callable[[Any], dict[str, Any]]) -> Training:
    import sitter_agent

    def state() -> bytes:
        return b"".join(p.detach().numpy().tobytes() for p in model.parameters())

    return Training(loader, step, state, lambda daemon: sitter_agent.start(model, optimizer, daemon=daemon, name="bench"))


def torch_mlp(_: int) -> Training:
    """Three layers, Adam, batches that lie ready: a step is little more than torch's own overhead."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 192), nn.ReLU(), nn.Linear(192, 192), nn.ReLU(), nn.Linear(192, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = [(torch.randn(128, 64), torch.randint(0, 10, (128,))) for _ in range(50)]

    def step(batch: Any) -> dict[str, Any]:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return {"loss": loss.item()}

    return _torch(model, optimizer, batches, step)


def torch_transformer(_: int) -> Training:
    """The model, data and step of ``examples/char_transformer.py``."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader

    sys.path.insert(0, str(ROOT / "examples"))
    from char_transformer import CharTransformer, Windows, python_sources

    torch.set_num_threads(1)
    torch.manual_seed(0)
    loader: DataLoader[Any] = DataLoader(Windows(python_sources()[0], 96), batch_size=16, shuffle=True, drop_last=True)
    model = CharTransformer(context=96)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.05)

    def step(batch: Any) -> dict[str, Any]:
        x, y = batch
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"loss": loss.detach(), "grad_norm": grad_norm}

    return _torch(model, optimizer, loader, step)


TRAININGS: dict[str, tuple[Callable[[int], Training], float]] = {
    "numpy": (numpy_demo, 6e-3), "mlp": (torch_mlp, 1e-3), "transformer": (torch_transformer, 50e-3),
}  # fmt: skip
"""With about how long a step takes: the number of steps is made of it, the same for all, since the ends are compared."""
WAYS = ("without", "recording", "guarded")


# ---------------------------------------------------------------------- in the measured process


def without_end(loader: Iterable[Any], total: int) -> Iterator[tuple[int, Any]]:
    """What a script without an agent writes itself: the loader again and again."""
    step = 0
    while True:
        for batch in loader:
            if step == total:
                return
            yield step, batch
            step += 1


def measure(name: str, way: str, steps: int) -> dict[str, Any]:
    """One training, in this process."""
    if way == "in-heap":
        leave_the_heap_alone()
    training = TRAININGS[name][0](steps)
    agent = training.start(way != "recording") if way != "without" else None
    turns = agent.loop(training.loader, total=steps) if agent is not None else without_end(training.loader, steps)
    log = agent.log if agent is not None else None
    clock, times, skipped = time.perf_counter, [], max(2, steps // 10)
    logged: dict[str, Any] = {}
    usage, cpu = resource.getrusage(resource.RUSAGE_SELF), 0.0
    for step, batch in turns:
        if step == skipped:
            usage, cpu = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
        times.append(clock())
        logged = training.step(batch)
        if log is not None:
            log(**logged)
    cpu = time.process_time() - cpu
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - usage.ru_minflt
    counted = steps - skipped
    lengths = [b - a for a, b in zip(times[skipped:-1], times[skipped + 1 :], strict=True)]
    end = hashlib.sha256(training.state()).hexdigest()[:16]
    found = {
        "p50": statistics.median(lengths), "p10": statistics.quantiles(lengths, n=10)[0], "cpu": cpu / counted,
        "faults": faults / counted, "end": f"{float(logged['loss']).hex()} {end}", "snapshots": 0,
    }  # fmt: skip
    if agent is not None:
        found["snapshots"] = len(agent._core.ring.held)
        stop_looking_after(agent, way != "recording")
    return found


def leave_the_heap_alone() -> None:
    """Snapshots in it, and the C library's thresholds as they come."""
    from sitter_agent import agent, generic_state

    generic_state.LARGE = 1 << 60
    agent.steady_heap = lambda: None
    if importlib.util.find_spec("torch") is not None:
        from sitter_agent.frameworks import torch_memory

        torch_memory.LARGE = 1 << 60


def stop_looking_after(agent: Any, daemon: bool) -> None:
    """Close the agent and end its daemon; there must have been one, and all along, where one was meant to be."""
    from sitter.locks import holder
    from sitter_wire.places import RunDir

    heard = agent._core.heard(3.0)
    pid = holder(RunDir(Path(agent.run)).daemon_lock)
    agent.close()
    if (pid is not None, heard) != (daemon, daemon):
        raise SystemExit(f"a daemon was {'expected' if daemon else 'not expected'}; found pid {pid}, heard lately: {heard}")
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.02)


# ---------------------------------------------------------------------- the table


def asked(name: str, way: str, steps: int) -> dict[str, Any]:
    """The same from a process of its own."""
    with tempfile.TemporaryDirectory(prefix="st-") as base:
        environment = {
            **os.environ, **ONE_THREAD, "PYTHONPATH": f"{ROOT}:{ROOT / 'agents'}",
            "SITTER_RUNTIME_DIR": f"{base}/r", "XDG_STATE_HOME": base,
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, __file__, "--measure", name, way, str(steps)],
            capture_output=True, text=True, check=False, cwd=base, env=environment,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{name} {way} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of training in each process, about")
    parser.add_argument("--only", default=",".join(TRAININGS))
    parser.add_argument("--in-heap", action="store_true", help="also guarded with its snapshots in the C library's heap")
    parser.add_argument("--measure", nargs=3, metavar=("TRAINING", "WAY", "STEPS"))
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure[0], args.measure[1], int(args.measure[2]))))
        return 0
    ways = [*WAYS, "in-heap"] if args.in_heap else [*WAYS]
    print(f"medians of {args.pairs} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", end="")
    print("; ±: half of what the middle half of the ratios spans\n")
    print(f"{'':24}{'p50 ms':>9}{'':>18}{'CPU ms':>9}{'':>18}{'faults/step':>12}{'snapshots':>10}  same end")
    bad = False
    for name in args.only.split(","):
        steps = max(40, round(args.seconds / TRAININGS[name][1]))
        rounds: list[dict[str, dict[str, Any]]] = []
        for _ in range(args.pairs):
            rounds.append({way: asked(name, way, steps) for way in random.sample(ways, len(ways))})
        for way in ways:
            p50, cpu = (ratio(rounds, way, what) for what in ("p50", "cpu"))
            same = all(one[way]["end"] == rounds[0]["without"]["end"] for one in rounds)
            cells = [statistics.median(one[way][what] for one in rounds) for what in ("p50", "cpu", "faults", "snapshots")]
            beside = ["" if way == "without" else f"{100 * (r - 1):+.2f} ± {100 * d:.2f} %" for r, d in (p50, cpu)]
            print(f"{name:12}{way:12}{1e3 * cells[0]:9.3f}{beside[0]:>18}{1e3 * cells[1]:9.3f}{beside[1]:>18}", end="")
            print(f"{cells[2]:12.2f}{cells[3]:10.0f}  {'yes' if same else 'NO'}", flush=True)
            bad = bad or not same or (way == "guarded" and min(p50[0] - p50[1], cpu[0] - cpu[1]) > 1 + REACH)
    return int(bad)


def ratio(rounds: list[dict[str, dict[str, Any]]], way: str, what: str) -> tuple[float, float]:
    """To the same round's `without`: the median, and half the distance between the quartiles."""
    ratios = [one[way][what] / one["without"][what] for one in rounds]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    return statistics.median(ratios), (high - low) / 2


if __name__ == "__main__":
    sys.exit(main())
