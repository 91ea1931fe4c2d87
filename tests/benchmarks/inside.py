"""What the rules on the inside of models say of small real trainings: of healthy ones nothing, of sick ones what they suffer from.

    python tests/benchmarks/inside.py [--seeds 3] [--turns 400] [--only gpt_warmup,lora] [--stretch 5]

The recipes are those of ``inside_recipes.py``, the signals those of the agent's own sampler, the engine the daemon's, with every rule
of the catalogue that watches layers. A look costs such small models more than the sampler may take: here it takes what it needs, every
20 steps, and the rules are told these as 100 (``--stretch``), so that 400 turns stand for some 1,750 steps.

The exit status is 1 where a healthy run got a `warning`, or a sick one did not get the finding that it is there for.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from inside_recipes import HEALTHY, SICK, Recipe, Training  # beside this file

from sitter.model import Finding
from sitter.rules.base import RECOVERED, Rule
from sitter.rules.catalogue import RULES
from sitter.rules.engine import Engine
from sitter.rules.layers import GRAD_NORM, UPDATE_RATIO
from sitter.rules.poor_initialisation import PoorInitialisation
from sitter.rules.view import RunView, Sample
from sitter_agent.frameworks import torch_layer_meter
from sitter_agent.frameworks.torch import TorchAdapter

FIRST = torch_layer_meter.FIRST[-1]
WATCHED = {f"{GRAD_NORM}*", f"{UPDATE_RATIO}*"}


def sampled(training: Training, turns: int, stretch: int) -> Iterator[Sample]:
    """The points of a run as its recorder would hold them."""
    adapter = TorchAdapter(model=training.models, optimizer=training.optimizers)
    for turn in range(turns):
        logged = training.turn(turn)
        step = turn + 1 if turn < FIRST else FIRST + stretch * (turn + 1 - FIRST)
        offered: dict[str, Any] = adapter.sample(step)
        lot = offered.pop("grad_norm.*", None)
        for values in ({name: float(v) for name, v in offered.items()}, logged):
            yield Sample(step, 0, float(step), values)
        if lot is not None:
            for values in lot.values([vector.tolist() for vector in lot.vectors]):
                yield Sample(step, 0, float(step), values)
    adapter.close()


def rules(classes: int) -> list[Rule]:
    """All that watch layers."""
    made = [kind() for kind in RULES if not WATCHED.isdisjoint(kind.signals or ()) and kind is not PoorInitialisation]
    return [*made, PoorInitialisation(PoorInitialisation.Params(classes=classes))]


def judged(recipe: Recipe, seed: int, turns: int, stretch: int) -> list[Finding]:
    """What was found in a run, but that something is over."""
    torch.manual_seed(seed)
    training = recipe(seed, turns)
    engine = Engine(rules(training.classes), RunView(in_session=True, state="running", kind=training.kind, scales={"lr": 1.0}))
    found = [finding for sample in sampled(training, turns, stretch) for finding in engine.observe(sample)]
    assert not engine.broken, engine.broken
    return [finding for finding in found if RECOVERED not in finding.evidence]


def told(recipe: Recipe, args: argparse.Namespace) -> tuple[Counter[tuple[str, str]], int]:
    """In how many runs each rule said something, by severity; printed with an example of each. And in how many there was a warning."""
    began, said, examples, warned = time.monotonic(), Counter[tuple[str, str]](), dict[str, str](), 0
    for seed in range(args.seeds):
        found = judged(recipe, seed, args.turns, args.stretch)
        said.update({(f.rule, f.severity) for f in found})
        warned += any(f.severity != "info" for f in found)
        for f in found:
            examples.setdefault(f.rule, f.text)
    words = ", ".join(f"{rule} ({severity}) {runs}" for (rule, severity), runs in said.items())
    print(f"{recipe.__name__:<20}{args.seeds:>3}{time.monotonic() - began:>6.0f} s  {words or '-'}", flush=True)
    for text in examples.values():
        print(f"{'':34}{text}")
    return said, warned


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=400)
    parser.add_argument("--stretch", type=int, default=5, help="steps that a turn after the first 64 counts as")
    parser.add_argument("--only", default="", help="recipes, by a comma")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch_layer_meter.COST_SHARE, torch_layer_meter.EVERY = 1e9, torch_layer_meter.EVERY // args.stretch
    only = set(args.only.split(",")) - {""}
    runs = warned = missed = 0
    print("healthy")
    for recipe in HEALTHY:
        if not only or recipe.__name__ in only:
            runs += args.seeds
            warned += told(recipe, args)[1]
    sick = 0
    for rule, recipes in SICK.items():
        print(f"\nsick: {rule}")
        for recipe in recipes:
            if not only or recipe.__name__ in only:
                said, _ = told(recipe, args)
                sick += args.seeds
                missed += args.seeds - min(args.seeds, sum(n for (name, _), n in said.items() if name == rule))
    print(f"\nhealthy runs with a warning: {warned} of {runs}; sick runs in which their rule spoke: {sick - missed} of {sick}")
    return int(warned > 0 or missed > 0)


if __name__ == "__main__":
    sys.exit(main())
