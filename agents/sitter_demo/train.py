"""The demo's training script. With ``--plain`` it knows nothing of sitter; else it is looked after like any other."""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sitter_demo.model import Adam, ByteModel, Floats, Windows
from sitter_demo.plants import Plants
from sitter_demo.text import TextError, stdlib_text

BATCH = 384
RATE = 3e-3
WARMUP = 100
VALIDATE_EVERY = 100
VALIDATION_WINDOWS = 2_048
FINAL_WINDOWS = 16_384
PATIENCE = 300
"""Turns in a row with a loss that is not finite, after which the script gives up, as many scripts do."""

Log = Callable[..., None]


@dataclass
class Diary:
    """What the script itself remembers of its run: one entry a turn, whatever step that turn had."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    val_step: list[int] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    log_us: list[float] = field(default_factory=list)

    def died_at(self) -> int | None:
        """The first step of the stretch without a finite loss that lasted to the end; None where the end was finite."""
        died = None
        for step, loss in zip(reversed(self.step), reversed(self.loss), strict=True):
            if math.isfinite(loss):
                break
            died = step
        return died


class Training:
    """Model, optimizer and text of one run. ``save`` and ``load`` are its whole state but for the place in the data."""

    def __init__(self, *, steps: int, seed: int) -> None:
        text = stdlib_text()
        self.model = ByteModel(seed)
        self.optimizer = Adam(self.model, rate=RATE, total=steps, warmup=min(WARMUP, max(1, steps // 10)))
        context = self.model.shape.context
        self.data = Windows(text.train, context=context, size=BATCH, seed=seed + 1)
        self._validation = Windows(text.val, context=context, size=VALIDATION_WINDOWS, seed=0)
        self._sample = self._validation.draw()

    def save(self) -> dict[str, Any]:
        """Everything that a step changes."""
        o = self.optimizer
        return {"flat": self.model.flat, "mean": o.mean, "square": o.square, "steps": o.steps, "rate": o.rate}

    def load(self, state: dict[str, Any]) -> None:
        """Put ``save``'s answer back, in place."""
        o = self.optimizer
        arrays: list[tuple[Floats, str]] = [(self.model.flat, "flat"), (o.mean, "mean"), (o.square, "square")]
        for array, name in arrays:
            array[...] = state[name]
        o.steps, o.rate = int(state["steps"]), float(state["rate"])

    def set_rate(self, rate: float) -> None:
        """The base rate that the schedule multiplies."""
        self.optimizer.rate = rate

    def validate(self) -> float:
        """Nats per byte on the same windows every time."""
        return self.model.loss(self._sample)

    def final_validation(self) -> float:
        """Nats per byte on many windows, the same for every run."""
        windows = Windows(self._validation.text, context=self.model.shape.context, size=VALIDATION_WINDOWS, seed=1)
        return statistics.fmean(self.model.loss(windows.draw()) for _ in range(FINAL_WINDOWS // VALIDATION_WINDOWS))


def train(training: Training, turns: Iterable[tuple[int, Any]], log: Log, plants: Plants) -> Diary:
    """The loop: every step its loss and gradient norm, now and then the validation loss."""
    diary = Diary()
    bad = 0
    for step, clean in turns:
        batch = plants.spoil(clean, training.optimizer, step)
        loss, grad_norm = training.model.loss_and_grad(batch)
        grad_norm *= plants.explode(training.model.grad)
        training.optimizer.step()
        diary.step.append(step)
        diary.loss.append(loss)
        began = time.perf_counter_ns()
        log(loss=loss, grad_norm=grad_norm)
        diary.log_us.append((time.perf_counter_ns() - began) / 1e3)
        if step % VALIDATE_EVERY == 0:
            diary.val_step.append(step)
            diary.val_loss.append(training.validate())
            log(val_loss=diary.val_loss[-1])
            print(f"step {step:>6,}  loss {loss:.3f}  val_loss {diary.val_loss[-1]:.3f}", flush=True)
        bad = 0 if math.isfinite(loss) else bad + 1
        if bad >= PATIENCE:
            print(f"the loss has not been finite for {PATIENCE} turns: giving up at step {step}", file=sys.stderr)
            break
    return diary


def main(argv: list[str] | None = None) -> int:
    """Train; exit code 1 where it ended without a finite loss."""
    args = _arguments(argv)
    try:
        training = Training(steps=args.steps, seed=args.seed)
    except TextError as e:
        print(f"sitter_demo: {e}", file=sys.stderr)
        return 1
    began = time.monotonic()
    if args.plain:
        diary = train(training, zip(range(args.steps), training.data), _log_nothing, args.plant)  # noqa: B905 — endless data
    else:
        import sitter_agent

        agent = sitter_agent.start(goal="val_loss", better="lower", name=args.name)
        agent.knob("lr", get=lambda: training.optimizer.rate, set=training.set_rate, low=1e-6, high=1.0, scale="log")
        agent.state(save=training.save, load=training.load)
        args.plant.place = Path(agent.run) if agent.run else None
        diary = train(training, agent.loop(training.data, total=args.steps), agent.log, args.plant)
    result = _result(training, diary, time.monotonic() - began)
    if args.out is not None:
        args.out.write_text(json.dumps(result, allow_nan=False), encoding="utf-8")
    print(f"val_loss {result['final_val_loss']} after step {result['last_step']}, {result['steps_per_s']} steps/s")
    return 1 if result["died_at_step"] is not None else 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sitter_demo", description=__doc__)
    parser.add_argument("--steps", type=int, default=2_400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plant", type=Plants.parse, default="", help="nan@STEP:LEN,lr@STEP and others: by turn of the loop")
    parser.add_argument("--out", type=Path, help="write losses and timings to this file as JSON")
    parser.add_argument("--name", default="demo", help="of the run that sitter keeps")
    parser.add_argument("--plain", action="store_true", help="without sitter_agent")
    return parser.parse_args(argv)


def _result(training: Training, diary: Diary, seconds: float) -> dict[str, Any]:
    logged = diary.log_us[len(diary.log_us) // 10 :]  # without the first calls, which warm caches up
    return {
        "final_val_loss": _plain(training.final_validation()),
        "died_at_step": diary.died_at(),
        "last_step": diary.step[-1] if diary.step else None,
        "seconds": round(seconds, 3),
        "steps_per_s": round(len(diary.step) / seconds, 1) if seconds else None,
        "log_us_p50": round(statistics.median(logged), 3) if logged else None,
        "step": diary.step,
        "loss": [_plain(v) for v in diary.loss],
        "val_step": diary.val_step,
        "val_loss": [_plain(v) for v in diary.val_loss],
    }


def _plain(value: float) -> float | str:
    return round(value, 6) if math.isfinite(value) else str(value)


def _log_nothing(**values: float) -> None:
    """Stands where ``agent.log`` stands otherwise."""
