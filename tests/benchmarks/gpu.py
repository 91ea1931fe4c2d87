"""What sitter costs a training on a GPU: steps with and without it, snapshots, and a `log` of values that lie on the GPU.

    python tests/benchmarks/gpu.py [--sizes 100 500] [--seconds 60] [--blocks 12] [--device cuda]      (500 needs 40 GB on the GPU)

A transformer of so many million parameters, bf16 autocast, fused AdamW; a real daemon watches. Two trainings of the same model stand in
one process, one that knows nothing of sitter and one with `agent.log` of four GPU scalars and a safe point in every step. Blocks of steps
of the one and the other are timed in random order, each until the GPU has done them, so that heat and clocks treat both alike; snapshots
are off meanwhile. Then the one with sitter goes on alone for so many seconds, as a user would run it, and the snapshots it allows
itself are counted: their share of its time is to stay within 1 %.
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import sitter_agent
from sitter.locks import holder

REACH_SNAPSHOTS = 0.01
REACH_SLOWDOWN = 0.01


class Size(NamedTuple):
    """About 12 × layers × width² parameters, and the embedding."""

    width: int
    layers: int
    heads: int
    batch: int
    context: int
    vocabulary: int


SIZES = {
    "1": Size(128, 4, 4, 4, 64, 512),
    "100": Size(768, 12, 12, 16, 512, 16_384),
    "500": Size(1280, 24, 20, 8, 512, 16_384),
}


class Model(nn.Module):
    """Logits of the next token; causal attention, pre-norm."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(size.vocabulary, size.width), nn.Embedding(size.context, size.width)
        layer = nn.TransformerEncoderLayer(
            size.width, size.heads, 4 * size.width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, size.layers, enable_nested_tensor=False)
        self.head = nn.Linear(size.width, size.vocabulary, bias=False)
        self.head.weight = self.token.weight
        nn.init.normal_(self.token.weight, std=0.02)
        self.mask: Tensor
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(size.context), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.token(x) + self.place.weight[: x.shape[1]]
        out: Tensor = self.head(self.body(hidden, mask=self.mask, is_causal=True))
        return out


class Training:
    """One training; ``step`` returns four scalars that lie on the device."""

    def __init__(self, size: Size, device: str) -> None:
        torch.manual_seed(0)
        self.size, self.device = size, device
        self.model = Model(size).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.data = torch.randint(size.vocabulary, (16, size.batch, size.context + 1), device=device)
        self.steps = 0

    def step(self) -> dict[str, Tensor]:
        """One optimizer step."""
        tokens = self.data[self.steps % len(self.data)]
        with torch.autocast(self.device, dtype=torch.bfloat16):
            logits = self.model(tokens[:, :-1])
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        return {"loss": loss.detach(), "grad_norm": norm, "z": logits.detach().float().square().mean(), "peak": logits.detach().max()}


def settle(device: str) -> None:
    """Until the GPU has done all it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def block(device: str, steps: int, step: Callable[[], object]) -> float:
    """Seconds per step, until the GPU has done them."""
    settle(device)
    began = time.perf_counter()
    for _ in range(steps):
        step()
    settle(device)
    return (time.perf_counter() - began) / steps


class Watched:
    """A training with sitter's lines in it. ``logs``: seconds of each ``agent.log``."""

    def __init__(self, training: Training, name: str) -> None:
        self.training = training
        self.agent = sitter_agent.start(training.model, training.optimizer, name=name)
        if not self.agent.recording:
            raise SystemExit("the agent records nothing: see its line above")
        self.logs: list[float] = []

    @property
    def core(self) -> Any:
        """The session's parts."""
        return self.agent._core

    def step(self) -> None:
        """One step of it."""
        values = self.training.step()
        began = time.perf_counter()
        self.agent.log(values, step=self.training.steps)
        self.logs.append(time.perf_counter() - began)
        self.agent.safe_point(self.training.steps)

    def close(self) -> None:
        """End it and its daemon."""
        run = Path(str(self.agent.run))
        self.agent.close()
        pid = holder(run / "daemon.lock")
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
        while holder(run / "daemon.lock") is not None:
            time.sleep(0.01)  # another process's lock: there is no event to wait for


def quantile(values: list[float], q: float) -> float:
    """Of a sample."""
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def capture_seconds(watched: Watched, device: str) -> tuple[float, float, int]:
    """Median seconds of a capture into memory that is there, of a restore, and the bytes of the state."""
    adapter = watched.core.adapter
    took, back, held = [], [], adapter.capture(None)
    for _ in range(5):
        settle(device)
        began = time.perf_counter()
        held = adapter.capture(held)
        took.append(time.perf_counter() - began)
        began = time.perf_counter()
        adapter.restore(held)
        settle(device)
        back.append(time.perf_counter() - began)
    return statistics.median(took), statistics.median(back), adapter.nbytes()


def measure(name: str, args: argparse.Namespace) -> None:
    """One size: print its lines."""
    size, device = SIZES[name], args.device
    bare, watched = Training(size, device), Watched(Training(size, device), f"gpu-{name}")
    parameters = sum(p.numel() for p in bare.model.parameters())
    watched.agent.safe_point(0)  # the first snapshot, and the memory for the second
    seconds = 0.0
    for _ in range(3):
        seconds = block(device, 5, bare.step)
        block(device, 5, watched.step)
    per_block = max(5, min(200, round(1.0 / seconds)))

    ring, due = watched.core.ring, watched.core.ring.due
    ring.due = lambda *a: False  # snapshots are counted below, where they have the run's own time to be measured by
    ratios, times = [], {False: [], True: []}
    watched.logs.clear()
    for _ in range(args.blocks):
        pair = {}
        for with_sitter in random.sample((False, True), 2):
            pair[with_sitter] = block(device, per_block, watched.step if with_sitter else bare.step)
            times[with_sitter].append(pair[with_sitter])
        ratios.append(pair[True] / pair[False])
    logs = watched.logs[:]
    without, with_it = (statistics.median(times[k]) for k in (False, True))
    spread = statistics.stdev(t / without for t in times[False]) if args.blocks > 1 else 0.0
    capture, restore, nbytes = capture_seconds(watched, device)

    ring.due = due
    ring.spent, ring._ready_at = 0.0, ring._clock()
    began, taken = time.perf_counter(), ring._last_at
    snapshots = 0
    while time.perf_counter() - began < args.seconds:
        watched.step()
        if ring._last_at != taken:
            taken, snapshots = ring._last_at, snapshots + 1
    settle(device)
    alone = time.perf_counter() - began
    share, slower = ring.spent / alone, statistics.median(ratios) - 1

    print(f"\n{parameters / 1e6:.0f} M parameters, {nbytes / 1e9:.2f} GB of state, {watched.core.ring.slots} snapshots in memory")
    print(f"  step without sitter    {1e3 * without:9.2f} ms  (blocks of {per_block}, spread {spread:.2%})")
    print(
        f"  step with sitter       {1e3 * with_it:9.2f} ms  {slower:+.2%}, median of {len(ratios)} pairs "
        f"(to reach: {REACH_SLOWDOWN:.0%})"
    )
    print(f"  log of 4 GPU scalars   {1e6 * quantile(logs, 0.5):9.1f} µs p50  {1e6 * quantile(logs, 0.99):.1f} µs p99 of {len(logs)}")
    print(f"  capture                {1e3 * capture:9.1f} ms  {nbytes / capture / 1e9:.1f} GB/s · restore {1e3 * restore:.1f} ms")
    print(f"  {alone:.0f} s alone: {snapshots} snapshots, {share:.2%} of the time (to reach: {REACH_SNAPSHOTS:.0%})", end="")
    print(f"; with the step's {slower:+.2%} together {slower + share:+.2%}")
    dropped, failures = watched.core.pending.dropped, watched.core.rail.failures
    print(f"  GPU values dropped: {dropped}; failures of ours: {failures}; daemon heard: {watched.core.heard(3.0)}")
    watched.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["100", "500"], choices=list(SIZES))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no NVIDIA GPU that torch can use; --device cpu --sizes 1 shows only that this script runs")
    gpu = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"{gpu}, torch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    folder = tempfile.mkdtemp(prefix="sg-")
    os.chdir(folder)
    os.environ["SITTER_RUNTIME_DIR"] = str(Path(folder) / "r")
    Path(folder, "r").mkdir(mode=0o700)
    os.environ["XDG_STATE_HOME"] = str(Path(folder) / "state")
    try:
        for name in args.sizes:
            measure(name, args)
            if args.device == "cuda":
                torch.cuda.empty_cache()
    finally:
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
