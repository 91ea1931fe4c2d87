"""Stories of reinforcement learning: what the rules on it must see and must not."""

import math
import random
from collections.abc import Callable, Iterator

from sitter.rules.base import Case
from sitter.rules.cases.course import Story
from sitter.rules.view import Sample


def rl(n: int = 600, noise: float = 0.1, **signals: Callable[[int, float], float]) -> Story:
    """``n`` points that hold each of ``signals``: of the point's number and of noise that is normal, with a deviation of ``noise``."""

    def play() -> Iterator[Sample]:
        rng = random.Random(7)
        for i in range(n):
            values = {name: value(i, rng.gauss(0.0, noise)) for name, value in signals.items()}
            values["loss"] = rng.gauss(0.0, 1.0)  # of any sign, and without a course
            yield Sample(step=i * 10, branch=0, time=float(i * 10), values=values)

    return play


def learns(i: int, e: float) -> float:
    """A reward that rises from -10 to 0."""
    return -10.0 * math.exp(-i / 100) + e


RL = {"kind": "rl", "scales": {"lr": 1.0}}

REWARD_FIRES = (
    Case("it falls to where it began, and stays", rl(reward=lambda i, e: learns(i, e) if i < 400 else -10 + e), acts=True,
         says="reward fell", view=RL),
    Case("by two thirds, slowly", rl(n=900, episodic_return=lambda i, e: learns(i, e) - 7 * min(1.0, max(0.0, (i - 400) / 200))),
         says="episodic_return", view=RL),
    Case("one of two episodes succeeded, and now none does", rl(reward=lambda i, e: float(e > -0.1) if i < 400 else 0.0, n=800),
         says="reward fell", view=RL),
    Case("it comes back", rl(n=900, reward=lambda i, e: learns(i, e) if not 400 <= i < 500 else -10 + e), says="back", view=RL),
)  # fmt: skip
REWARD_QUIET = (
    Case("it learns", rl(n=3000, noise=1.0, reward=learns), view=RL),
    Case("it learns nothing", rl(n=3000, reward=lambda i, e: e), view=RL),
    Case("noise far wider than what it learns", rl(n=3000, noise=10.0, reward=lambda i, e: e + i / 3000), view=RL),
    Case("success by chance", rl(n=3000, reward=lambda i, e: float(e > 0.0)), view=RL),
    Case("a dip", rl(n=3000, reward=lambda i, e: learns(i, e) - (8.0 if 400 <= i < 412 else 0.0)), view=RL),
    Case("by a third", rl(n=3000, reward=lambda i, e: learns(i, e) - (3.3 if i >= 400 else 0.0)), view=RL),
)  # fmt: skip

ENTROPY_FIRES = (
    Case("it is all but gone, and the reward is not better", rl(entropy=lambda i, e: 2.0 * math.exp(-i / 60), reward=lambda i, e: e),
         says="not better", acts=False, view=RL),
    Case("no reward is logged", rl(entropy=lambda i, e: 2.0 * math.exp(-i / 60)), says="entropy", view=RL),
    Case("it comes back", rl(entropy=lambda i, e: 2.0 if not 100 <= i < 200 else 0.01), says="back", view=RL),
)  # fmt: skip
ENTROPY_QUIET = (
    Case("it learns, and becomes sure", rl(entropy=lambda i, e: 2.0 * math.exp(-i / 60), reward=learns), view=RL),
    Case("it falls to a fifth", rl(entropy=lambda i, e: 0.4 + 1.6 * math.exp(-i / 60) + e / 10), view=RL),
    Case("negative, as of a normal distribution", rl(entropy=lambda i, e: -i / 100 + e), view=RL),
    Case("a point of zero now and then", rl(entropy=lambda i, e: 0.0 if i % 9 == 0 else 2.0), view=RL),
)  # fmt: skip

KL_FIRES = (
    Case("twenty times what it was", rl(approx_kl=lambda i, e: 0.01 * math.exp(e) * (1.0 if i < 300 else 20.0)), says="× its usual level",
         acts=True, view=RL),
    Case("it grows by 5 % a point", rl(kl=lambda i, e: 2.0 * math.exp(e) * 1.05 ** min(200, max(0, i - 300))), says="kl", view=RL),
    Case("it comes back", rl(kl=lambda i, e: 0.01 * math.exp(e) * (20.0 if 300 <= i < 340 else 1.0)), says="back", view=RL),
)  # fmt: skip
KL_QUIET = (
    Case("as usual, and noisy", rl(n=3000, noise=1.0, approx_kl=lambda i, e: 0.01 * math.exp(e)), view=RL),
    Case("away from the reference, as it should go", rl(n=3000, kl=lambda i, e: 0.02 * i * math.exp(e)), view=RL),
    Case("one update in twenty is far off", rl(n=3000, kl=lambda i, e: 0.01 * (50.0 if i % 20 == 7 else 1.0)), view=RL),
    Case("an estimate of either sign", rl(n=3000, approx_kl=lambda i, e: e), view=RL),
    Case("it becomes smaller", rl(n=3000, kl=lambda i, e: math.exp(e - i / 500)), view=RL),
)  # fmt: skip

SPREAD_FIRES = (
    Case("all answers earn the same", rl(reward_std=lambda i, e: abs(e) if i < 300 else 0.0), says="nothing is learned", acts=False,
         view=RL),
    Case("from the start", rl(advantage_std=lambda i, e: 0.0), says="advantage_std", view=RL),
    Case("it differs again", rl(reward_std=lambda i, e: 0.0 if 100 <= i < 200 else 1.0 + e), says="again", view=RL),
)  # fmt: skip
SPREAD_QUIET = (
    Case("as usual", rl(n=3000, reward_std=lambda i, e: 0.3 + e / 2), view=RL),
    Case("every second batch is all the same", rl(n=3000, reward_std=lambda i, e: 0.3 * (i % 2)), view=RL),
    Case("it becomes ten times less", rl(n=3000, reward_std=lambda i, e: 0.3 if i < 300 else 0.03), view=RL),
    Case("not finite", rl(reward_std=lambda i, e: math.nan), view=RL),
)  # fmt: skip
