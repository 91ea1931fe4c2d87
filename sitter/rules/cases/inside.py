"""Stories of the inside of models: what is sampled of layers, and loss scales. Told to the rules that look at them."""

import math
import random
from collections.abc import Callable, Iterator

from sitter.rules.base import Case
from sitter.rules.cases.course import Story
from sitter.rules.layers import GRAD_NORM, UPDATE_RATIO
from sitter.rules.view import Sample

LAYERS = ("embed", *(f"blocks.{i}" for i in range(6)), "head")
BOTH = tuple(f"{model}.layers.{i}" for model in "GD" for i in range(4))
"""Of a generator and its judge."""

ODD_STEPS = (1, 2, 4, 8, 16, 32, 64)

OfLayer = Callable[[int, int], float | None]
"""A figure of the layer with that number, at that step; None: not logged."""


def looks(until: int, every: int = 100) -> Iterator[int]:
    """The steps that are looked at."""
    yield from (step for step in ODD_STEPS if step <= until)
    yield from range(every, until + 1, every)


def inside(
    grad: OfLayer | None = None, ratio: OfLayer | None = None, until: int = 4000, *, every: int = 100, layers: tuple[str, ...] = LAYERS,
    noise: float = 0.3, by_turns: int = 1, singly: bool = False, loss: float | None = None,
) -> Story:  # fmt: skip
    """Figures of layers with log-normal noise. ``by_turns``: so many looks until every layer had its turn, after a
    first one of all; ``singly``: each value is logged by
    itself. ``loss``: of every step up to 64."""

    def play() -> Iterator[Sample]:
        rng = random.Random(5)
        if loss is not None:
            yield from (Sample(step=step, branch=0, time=float(step), values={"loss": loss}) for step in range(2))
        for look, step in enumerate(looks(until, every)):
            values: dict[str, float] = {}
            for prefix, figure in ((GRAD_NORM, grad), (UPDATE_RATIO, ratio)):
                for i, name in enumerate(layers):
                    value = figure(i, step) if figure is not None and (look == 0 or (look + i) % by_turns == 0) else None
                    if value is not None:
                        values[prefix + name] = value * math.exp(rng.gauss(0.0, noise))
            parts = [{name: value} for name, value in values.items()] if singly else [values]
            yield from (Sample(step=step, branch=0, time=float(step), values=part) for part in parts)

    return play


def scales(of: Callable[[int], float], until: int = 5000, every: int = 1) -> Story:
    """A loss scale by its step."""
    return lambda: (Sample(step=step, branch=0, time=float(step), values={"loss_scale": of(step)}) for step in range(0, until, every))


def level(i: int, step: int) -> float:
    """Gradients that become smaller as the loss converges."""
    return 0.3 * math.exp(-step / 3000) + 0.01


def usual(i: int, step: int) -> float:
    """A thousandth."""
    return 1e-3


def vanished(i: int, step: int) -> float:
    """Tenfold with each layer."""
    return 1e-9 * 10.0**i


def opened(i: int, step: int) -> float:
    """An embedding with a small gradient, a head with a large one, all as they should be between."""
    return 0.002 if i == 0 else 2.0 if i == 7 else 0.05


VANISHING_FIRES = (
    Case("twelve sigmoids", inside(vanished), says="× less with each of 8", acts=False),
    Case("each value by itself", inside(vanished, singly=True), says="on the way back from head to embed"),
    Case("layers take turns", inside(vanished, by_turns=3), says="gradients vanish"),
    Case("only in the middle of the run", inside(lambda i, step: vanished(i, step) if step > 2000 else 0.1), says="gradients vanish"),
    Case("it gets better", inside(lambda i, step: vanished(i, step) if step < 2000 else 0.1), says="their share of the gradient again"),
    Case("the first layers come in later", inside(lambda i, step: 10.0 ** (i - 7) if step > 1500 else 0.1 if i > 3 or step > 500 else None),
         says="from head to embed"),
    Case("of a generator", inside(lambda i, step: 20.0 ** (i - 7) if i < 4 else 0.1, layers=BOTH), says="to G.layers.0"),
)  # fmt: skip
VANISHING_QUIET = (
    Case("as usual", inside(level)),
    Case("noisy", inside(level, noise=1.0)),
    Case("all of them become tiny: it has converged", inside(lambda i, step: math.exp(-step / 100))),
    Case("an embedding and a head", inside(opened)),
    Case("a frozen start that has hardly any gradient", inside(lambda i, step: 1e-9 if i < 2 else 0.1)),
    Case("nothing but zeros below one layer", inside(lambda i, step: 0.0 if i < 4 else 0.1)),
    Case("in the first steps", inside(lambda i, step: vanished(i, step) if step < 64 else 0.1)),
    Case("two models of which one has far smaller gradients", inside(lambda i, step: 1e-6 if i < 4 else 0.1, layers=BOTH)),
    Case("a model of three layers", inside(vanished, layers=LAYERS[:3])),
)  # fmt: skip


def _one(i: int, step: int) -> float:
    return level(i, step) * (14.0 if i == 3 and step > 2000 else 1.0)


EXPLODING_FIRES = (
    Case("one layer, the others as usual", inside(_one), says="the gradient of blocks.2 rose to", acts=False),
    Case("all is clipped: the others become small", inside(lambda i, step: _one(i, step) * (0.4 if step > 2000 else 1.0), noise=0.1),
         says="and those of the other layers to 0.25 ×"),
    Case("each value by itself", inside(_one, singly=True), says="blocks.2"),
    Case("it comes back", inside(lambda i, step: _one(i, step if step < 2600 else 0)), says="the gradient of blocks.2 is back at 0.26"),
    Case("it grows from layer to layer", inside(lambda i, step: 8.0 ** (7 - i)), says="grow on the way back from head to embed"),
    Case("and no more", inside(lambda i, step: 8.0 ** (7 - i) if step < 2000 else 1.0), says="grow no more"),
)  # fmt: skip
EXPLODING_QUIET = (
    Case("as usual", inside(level, until=20_000)),
    Case("noisy", inside(level, noise=0.7, until=20_000)),
    Case("all of them at once: others say it", inside(lambda i, step: level(i, step) * (50.0 if step > 2000 else 1.0))),
    Case("all of them at once, each value by itself", inside(lambda i, step: 0.1 * (50.0 if step > 2000 else 1.0), singly=True)),
    Case("one look", inside(lambda i, step: 0.1 * (50.0 if i == 3 and step == 2000 else 1.0))),
    Case("too few looks to know what is usual", inside(lambda i, step: 0.1 * (50.0 if i == 3 and step > 500 else 1.0), until=800)),
    Case("an embedding and a head", inside(opened)),
    Case("BatchNorm without residual connections", inside(lambda i, step: 1.21 ** (7 - i))),
    Case("one stays while the others become small", inside(lambda i, step: 0.1 if i == 3 or step < 2000 else 0.002)),
)  # fmt: skip


def _thawed(i: int, step: int) -> float:
    return 0.0 if i < 3 and step < 2000 else 1e-3


DEAD_FIRES = (
    Case("a group whose rate is 0", inside(level, lambda i, step: 0.0 if i == 7 else 1e-3), acts=False,
         says="head has not changed since step 1, with a gradient"),
    Case("a dead ReLU", inside(lambda i, step: 0.0 if i < 4 else 0.1, lambda i, step: 0.0 if i < 4 else 1e-3),
         says="4 layers (embed to blocks.2) have not changed since step 1, and their gradient is exactly 0"),
    Case("moved by weight decay alone", inside(lambda i, step: 0.0 if i == 2 else 0.1, usual),
         says="blocks.1 has had a gradient of exactly 0"),
    Case("not used", inside(lambda i, step: None if i == 2 else 0.1, lambda i, step: 0.0 if i == 2 else 1e-3, singly=True),
         says="without any gradient"),
    Case("from the middle of the run on", inside(level, lambda i, step: 0.0 if i == 2 and step > 1000 else 1e-3), says="since step 1,100"),
    Case("kept still, and let go", inside(level, _thawed), says="learn again at step 2,000"),
    Case("layers take turns", inside(level, lambda i, step: 0.0 if i == 7 else 1e-3, by_turns=3), says="head has not changed"),
)  # fmt: skip
DEAD_QUIET = (
    Case("as usual", inside(level, usual)),
    Case("a rate of 0", inside(level, lambda i, step: 0.0)),
    Case("a schedule that ends at 0", inside(level, lambda i, step: 1e-3 if step < 2000 else 0.0)),
    Case("zeros at the start (LoRA)", inside(lambda i, step: 0.0 if i % 2 and step < 2 else 0.1, usual)),
    Case("kept still for the first steps", inside(level, lambda i, step: 0.0 if i < 3 and step < 200 else 1e-3)),
    Case("now and then nothing", inside(lambda i, step: 0.0 if step % 300 == 0 else 0.1, lambda i, step: 0.0 if step % 300 == 0 else 1e-3)),
    Case("next to nothing", inside(lambda i, step: 1e-20 if i == 2 else 0.1, lambda i, step: 1e-12 if i == 2 else 1e-3)),
)  # fmt: skip

RATIO_FIRES = (
    Case("a rate far too high", inside(None, lambda i, step: 0.1), says="8 of 8 layers change by more than", acts=True,
         view={"scales": {"lr": 1.0}}),
    Case("one layer", inside(None, lambda i, step: 0.08 if i == 4 else 1e-3, noise=0.01), acts=False,
         says="blocks.3 changes by 8 % of itself in a step; 0.1 % is usual"),
    Case("from the middle of the run on", inside(None, lambda i, step: 0.2 if step > 2000 else 1e-3), says="the rate is too high"),
    Case("it comes down", inside(None, lambda i, step: 0.2 if step < 2000 else 1e-3), says="no layer changes by more than"),
    Case("a rate far too low", inside(None, lambda i, step: 1e-8), says="none has since the start", acts=False),
    Case("and then a usual one", inside(None, lambda i, step: 1e-8 if step < 2000 else 1e-3),
         says="of themselves in a step, at step 2,000"),
)  # fmt: skip
RATIO_QUIET = (
    Case("as usual", inside(None, usual)),
    Case("Adam on weights that are drawn small", inside(None, lambda i, step: 0.02)),
    Case("fine-tuning", inside(None, lambda i, step: 1e-5)),
    Case("weights that began as zero", inside(None, lambda i, step: 1.0 / step if i == 3 else 1e-3)),
    Case("a warm-up of 4,000 steps", inside(None, lambda i, step: 1e-3 * step / 4000)),
    Case("a cosine that ends at 0", inside(None, lambda i, step: 5e-4 * (1 + math.cos(math.pi * step / 4000)) + 1e-30)),
    Case("one look", inside(None, lambda i, step: 0.5 if step == 2000 else 1e-3)),
    Case("the first steps", inside(None, lambda i, step: 0.5 if step < 64 else 1e-3)),
)  # fmt: skip

INITIAL_FIRES = (
    Case("gradients worlds apart", inside(vanished, usual), says="gradient norms lie between", acts=False),
    Case("blocks that begin as nothing, and lie worlds apart once they have found in", says="(embed) and 0.1",
         play=inside(lambda i, step: 0.1 if i == 7 else 1e-12 if step < 8 else 1e-6, usual, noise=0.0)),
    Case("tiny all over", inside(lambda i, step: 1e-9, usual), says="no layer's gradient norm is above"),
    Case("turned over by the first steps", inside(level, lambda i, step: 0.3), says="in each of the first steps"),
    Case("a head that is drawn too wide", inside(level, usual, loss=27.0), params={"classes": 27},
         says="the first loss is 27, a guess among 27 classes makes 3.296"),
)  # fmt: skip
INITIAL_QUIET = (
    Case("as usual", inside(level, usual)),
    Case("an embedding and a head", inside(opened, usual)),
    Case("a head that begins as zero", inside(lambda i, step: 0.1 if i == 7 else 1e-9 * step**6, lambda i, step: 1.0 / step**2)),
    Case("blocks that begin as nothing, and find in slowly", inside(lambda i, step: 0.1 if i == 7 else 1e-10 * step**3, usual)),
    Case("a large first loss of a regression", inside(level, usual, loss=2700.0)),
    Case("a guess", inside(level, usual, loss=3.4), params={"classes": 27}),
    Case("the first steps are not there", lambda: (s for s in inside(vanished, usual)() if s.step > 64)),
)  # fmt: skip


def _search(step: int) -> float:
    """65,536 is halved seven times; then doubled every 2,000 steps and halved soon after."""
    return 2.0 ** max(9, 16 - step // 2) if step < 2000 or step % 2000 > 3 else 1024.0


def _halved(step: int) -> float:
    return _search(step) if step < 1000 else 512.0 * 0.5 ** min(12, (step - 1000) // 7)


def _changes(story: Story) -> Iterator[Sample]:
    last = None
    for sample in story():
        if sample.values != last:
            last = sample.values
            yield sample


def _recovers(step: int) -> float:
    return 2.0 ** (16 if step < 100 else max(4, 116 - step) if step < 3000 else 5 + (step - 3000) // 500)


SCALE_FIRES = (
    Case("halved every seventh step, in the middle of the run", scales(_halved), says="by 8 halvings within", acts=False),
    Case("down to 1 at the start", scales(lambda s: max(2.0**-10, 2.0 ** (16 - s)), until=100), says="fell to 1, by 16 halvings"),
    Case("a floor of 1", scales(lambda s: max(1.0, 2.0 ** (16 - s)), until=100), says="fell to 1"),
    Case("seen every hundredth step", scales(lambda s: 2.0**16 if s < 2000 else 2.0 ** max(2, 16 - (s - 2000) // 100), every=100),
         says="halvings within"),
    Case("logged only where it changes", lambda: _changes(scales(_halved)), says="by 8 halvings within"),
    Case("it rises again", scales(_recovers), says="rises again"),
)  # fmt: skip
SCALE_QUIET = (
    Case("the search at the start, and doubling every 2,000 steps", scales(_search, until=20_000)),
    Case("a bad batch now and then", scales(lambda s: 2.0 ** (16 - s % 2000 // 400), until=10_000)),
    Case("the search at the start, seen every hundredth step", scales(_search, every=100)),
    Case("switched off", scales(lambda s: 1.0)),
    Case("not finite", scales(lambda s: math.nan if s % 2 else 2.0**16)),
    Case("slowly down over a long run", scales(lambda s: 2.0 ** (16 - s // 1500), until=20_000)),
)  # fmt: skip
