"""One training, with sitter beside it or without: the same numbers, and how long each step of it took: by the clock, of CPU time, and by
the clock without the time in which others had the core.

``python stepper.py alone|with SECONDS_OF_SLEEP``, in a directory of its own, where it leaves ``begun`` after some steps; it ends when a
file ``enough`` lies there, and leaves ``result.json``. Its numbers come from Python's own global random numbers: whatever else drew one
of them, or changed a weight, would show in the last digit.
"""

import array
import contextlib
import json
import pathlib
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

WIDTH, SAMPLES = 20, 450
LOOK = 20
"""Steps between two looks at the file, and between two digests of the weights."""
SLOW_S = 0.1
"""Of a step that took longer it is asked whether others had the core: that takes 0.1 ms, which every other step is spared."""


class Model:
    """Linear regression by gradient descent with momentum, in plain Python: some 2 ms a step."""

    def __init__(self) -> None:
        random.seed(7)
        self.w = [random.gauss(0, 1) for _ in range(WIDTH)]
        self.m = [0.0] * WIDTH

    def step(self) -> float:
        loss = 0.0
        for _ in range(SAMPLES):
            x = [random.random() - 0.5 for _ in range(WIDTH)]
            error = sum(w * v for w, v in zip(self.w, x, strict=True)) - sum(x)
            loss += error * error
            for i, v in enumerate(x):
                self.m[i] = 0.9 * self.m[i] + error * v
                self.w[i] -= 1e-4 * self.m[i]
        return loss / SAMPLES

    def save(self) -> dict[str, list[float]]:
        return {"w": list(self.w), "m": list(self.m)}

    def load(self, state: dict[str, list[float]]) -> None:
        self.w, self.m = list(state["w"]), list(state["m"])


def waited() -> float:
    """Seconds in all that a thread of this process was ready to run and others had the core: it may have had Python's lock meanwhile, for
    which the training waits. 0 where the system does not say."""
    total = 0
    for thread in pathlib.Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # one that has just ended
            total += int(thread.read_text().split()[1])
    return total / 1e9


def train(how: str, sleep: float) -> None:
    model, agent = Model(), None
    turns: Iterator[int] = iter(range(1 << 60))
    if how == "with":
        import sitter_agent

        agent = sitter_agent.start(name="x")
        agent.state(save=model.save, load=model.load)
        turns = iter(agent.steps(1 << 60))
    at, wall, cpu, held = (array.array("d") for _ in range(4))
    digests: dict[int, int] = {}
    losses = array.array("d")
    enough = pathlib.Path("enough")
    began, began_cpu, late = 0.0, 0.0, waited()
    for step in turns:
        # From before the step to here: the step itself, its log, and the safe point that the loop ran before it came round.
        now, now_cpu = time.perf_counter(), time.thread_time()
        if step:
            at.append(time.monotonic())
            wall.append(now - began)
            cpu.append(now_cpu - began_cpu)
            others = max(0.0, waited() - late) if now - began > SLOW_S else 0.0  # at most LOOK steps' worth too much
            held.append(max(0.0, now - began - others))
        if step % LOOK == 0:
            late = waited()
            digests[step] = hash((*model.w, *model.m))
            if enough.exists():
                break
            if step == LOOK:
                pathlib.Path("begun").touch()
        time.sleep(sleep)
        began, began_cpu = time.perf_counter(), time.thread_time()
        losses.append(model.step())
        if agent is not None:
            agent.log(loss=losses[-1])
    told: dict[str, Any] = {"at": list(at), "wall": list(wall), "cpu": list(cpu), "held": list(held)}
    told |= {"digests": digests, "losses": list(losses)}
    pathlib.Path("result.json").write_text(json.dumps(told))


if __name__ == "__main__":
    train(sys.argv[1], float(sys.argv[2]))
