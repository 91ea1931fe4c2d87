"""What is logged of a model's layers now and then: the norms of their gradients, and by how much of themselves they change in a step."""

import abc
import math
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from sitter.model import Finding
from sitter.rules.base import RuleParams
from sitter.rules.memory import Memory
from sitter.rules.robust import median
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample

GRAD_NORM, UPDATE_RATIO = "grad_norm.", "update_ratio."
"""Before a layer's name. Of its gradients as the optimizer saw them, L2; and ||Δw|| / ||w|| over one step."""

SETTLED = 64
"""Steps. In the first, zeros that a layer begins with (LoRA, residual branches, heads) and an optimizer that knows no gradient yet make all
of this unusual in runs that are well."""


APART = 50
"""Steps between two that are looked at, at least: who logs a layer at every step has one point of view on a few batches, not five."""


def of_layers(values: dict[str, float], prefix: str) -> Iterator[tuple[str, float]]:
    """Layer and value of each signal that begins so."""
    begins = len(prefix)
    for name, value in values.items():
        if name.startswith(prefix):
            yield name[begins:], value


def towers(names: list[str]) -> list[list[str]]:
    """Layers that follow one another. Where every layer stands in a module of others, each of these modules is one for itself: of two
    models (``G.blocks.0``, ``D.head``) neither's gradients come through the other."""
    if not all("." in name for name in names):
        return [names]
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.partition(".")[0], []).append(name)
    return list(found.values())


def called(name: str) -> str:
    """As in a sentence: ``blocks.3``, ``layer 3`` (of a model that is a sequence)."""
    return f"layer {name}" if name.isdigit() else name


def listed(names: list[str]) -> str:
    """``head``, ``embed and head``, ``4 layers (blocks.0 to head)``."""
    if len(names) <= 2:
        return " and ".join(called(name) for name in names)
    return f"{len(names)} layers ({called(names[0])} to {called(names[-1])})"


class Slope(NamedTuple):
    """How a figure goes through a tower, on a log scale: the medians over its first and its last third, how far the last stand above the
    first (``gain``), and its correlation with the layers' places (``steady``)."""

    first_layer: str
    last_layer: str
    layers: int
    first: float
    last: float
    steady: float

    @property
    def gain(self) -> float:
        """From the first to the last."""
        return self.last - self.first

    @property
    def each(self) -> float:
        """From one layer to the next: the middles of the thirds lie two thirds of the layers apart."""
        return self.gain / (self.layers - max(1, self.layers // 3))


def slope(levels: dict[str, float]) -> Slope:
    """Through layers in order, at least 2."""
    names, values = list(levels), list(levels.values())
    n = len(values)
    third = max(1, n // 3)
    place, mean = (n - 1) / 2, sum(values) / n
    together = sum((i - place) * (value - mean) for i, value in enumerate(values))
    apart = math.sqrt(n * (n * n - 1) / 12 * sum((value - mean) ** 2 for value in values))
    return Slope(
        called(names[0]), called(names[-1]), n, first=median(sorted(values[:third])), last=median(sorted(values[-third:])),
        steady=together / apart if apart > 0.0 else 0.0,
    )  # fmt: skip


class Recent(Memory):
    """The last values of each layer, oldest first."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[float, ...]] = {}
        self.step = 0  # of the newest
        self.whole = True  # it was judged: the values of that step are all there


class LayerRule(TroubleRule, abc.ABC):
    """A rule about one figure of each layer. ``judge`` is called once for each step that was looked at, after the first ones; the memory
    then holds the last ``keep`` values of each layer, those that are finite and not 0, as logarithms.

    The values of a step come together, or one by one; then it is whole when one of a later step comes. Not every step has every layer.
    Within a step they stand in the model's order, from which it is learned; the next daemon is told it, since the points that it looks
    back at begin anywhere.
    """

    prefix: ClassVar[str]
    keep: ClassVar[int] = 5
    remembers = Recent
    memory: Recent

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self.order: list[str] = []
        self._latest = -1, ""  # step and layer

    def knowledge(self) -> Any:
        """The layers, in order."""
        return list(self.order) or None

    def know(self, told: Any) -> None:
        """The same."""
        self.order = [str(name) for name in told]

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        found = None
        m, settled = self.memory, sample.step >= SETTLED
        if m.step < sample.step < m.step + APART and m.of:
            return None
        if not m.whole and sample.step != m.step:
            m.whole = True
            found = self.judge(sample, view)
        told = 0
        for name, value in of_layers(sample.values, self.prefix):
            if name not in self.order:
                self._place(name, sample.step)
            self._latest = sample.step, name
            if settled and 0.0 < value < math.inf:
                log = math.log(value)
                m.of[name] = (*m.of.get(name, ())[1 - self.keep :], log)
                self.took(name, log)
                told += 1
        if not told:
            return found
        m.step, m.whole = sample.step, told == len(m.of)
        return self.judge(sample, view) if m.whole and found is None else found

    def _place(self, name: str, step: int) -> None:
        """A new layer, behind the one before it in this step: a part that was frozen may come in later, in front of what is known."""
        last_step, last = self._latest
        self.order.insert(self.order.index(last) + 1 if step == last_step else 0, name)

    def took(self, name: str, log: float) -> None:
        """One value of a layer."""

    def levels(self, samples: int) -> dict[str, float]:
        """The median of each layer that has so many values, in the model's order."""
        of = self.memory.of
        return {name: median(sorted(of[name])) for name in self.order if len(of.get(name, ())) >= samples}

    @abc.abstractmethod
    def judge(self, sample: Sample, view: RunView) -> Finding | None:
        """Of what is known now; ``sample`` is the newest one."""


class GradientRule(LayerRule):
    """Of the gradients' norms. What helps against what it says is in the script, so that it proposes nothing."""

    default_mode = "watch"
    signals = (f"{GRAD_NORM}*",)
    prefix = GRAD_NORM

    class Params(RuleParams, frozen=True):
        """Where the way through the layers is looked at."""

        steady: float = 0.8
        """Correlation of the logarithm of the norm with the layer's place."""
        layers: int = 4
        """Of fewer nothing is said."""
        samples: int = 5
        """Of each layer."""

    def slopes(self) -> list[Slope]:
        """Of each tower of so many layers."""
        levels = self.levels(self.params.samples)
        return [slope({name: levels[name] for name in tower}) for tower in towers(list(levels)) if len(tower) >= max(2, self.params.layers)]
