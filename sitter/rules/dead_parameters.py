"""A layer that does not change at all, or gets no gradient at all, while others learn."""

from typing import ClassVar

from sitter.model import Finding
from sitter.rules.base import RuleParams
from sitter.rules.cases import inside
from sitter.rules.layers import GRAD_NORM, UPDATE_RATIO, listed, of_layers
from sitter.rules.memory import Memory
from sitter.rules.trouble import TroubleRule
from sitter.rules.view import RunView, Sample

OFF = "detached, multiplied by 0, or behind units that are off for every input (a dead ReLU)"


class _Stretches(Memory):
    """Of one figure of each layer: how long it has been exactly 0."""

    def __init__(self) -> None:
        self.since: dict[str, tuple[int, int, int]] = {}  # layer: step of its first 0 in a row, and of its last, and how many they are
        self.newest: dict[str, float] = {}

    def take(self, values: dict[str, float], prefix: str, step: int) -> None:
        """One sample."""
        for layer, value in of_layers(values, prefix):
            self.newest[layer] = value
            if value == 0.0:
                first, _, samples = self.since.get(layer, (step, step, 0))
                self.since[layer] = first, step, samples + 1
            else:
                self.since.pop(layer, None)


class _Memory(Memory):
    """Of this line of branches."""

    def __init__(self) -> None:
        self.updates, self.norms = _Stretches(), _Stretches()


class DeadParameters(TroubleRule):
    """A layer has not changed by a single bit at any step that was looked at, or its gradient was exactly 0, while other layers learn.

    At 4 samples in a row, over 200 steps at least, and others did change at that time (so that a rate of 0 is no matter of this rule).
    What comes to mind is told by the gradient: there is one (the layer's group has a rate of 0, or the step is too small for the weights'
    precision, as in bfloat16), it is exactly 0 (detached, or behind units that are off for every input), or there is none (not used).
    Weight decay alone still moves a layer without a gradient. SageMaker's "unchanged tensor" says the same after 3 steps, by a tolerance;
    here it is exact.

    Layers are also kept still on purpose, so it is never more than worth knowing, it is said once, and nothing is proposed. It says when
    all of them change again. Frozen parameters (``requires_grad=False``) are not looked at, nor those that no optimizer holds, which the
    agent names at the start.
    """

    name: ClassVar[str] = "dead_parameters"
    title: ClassVar[str] = "a layer does not learn"
    default_mode = "watch"
    signals = (f"{UPDATE_RATIO}*", f"{GRAD_NORM}*")
    FIRES = inside.DEAD_FIRES
    QUIET = inside.DEAD_QUIET
    remembers = _Memory
    memory: _Memory

    class Params(RuleParams, frozen=True):
        """When."""

        samples: int = 4
        """In a row."""
        steps: int = 200
        """From the first of them."""

    def __init__(self, params: RuleParams | None = None) -> None:
        super().__init__(params)
        self._said: list[str] = []

    def observe(self, sample: Sample, view: RunView) -> Finding | None:
        """One logged point."""
        m = self.memory
        m.updates.take(sample.values, UPDATE_RATIO, sample.step)
        m.norms.take(sample.values, GRAD_NORM, sample.step)
        if not m.updates.since and not m.norms.since:
            return self._over(sample) if self.trouble else None
        if self.trouble and not any(name in m.updates.since or name in m.norms.since for name in self._said):
            return self._over(sample)
        return self._judged(m, sample)

    def _judged(self, m: _Memory, sample: Sample) -> Finding | None:
        known = list(dict.fromkeys([*m.updates.newest, *m.norms.newest]))
        unmoved, ungraded = ({name for name in known if self._dead(figures, name)} for figures in (m.updates, m.norms))
        dead = [name for name in known if name in unmoved or name in ungraded]
        if all(name in (self._said if self.trouble else ()) for name in dead):
            return None
        if self._in_doubt(m, dead) or len(dead) == len(known):  # nothing learns at all: the rate is 0
            return None
        self._said = dead
        first = min(figures.since[name][0] for figures in (m.updates, m.norms) for name in dead if name in figures.since)
        norms = [m.norms.newest.get(name) for name in dead]
        has, its = ("has", "its") if len(dead) == 1 else ("have", "their")
        if not all(name in unmoved for name in dead):
            text = f"{listed(dead)} {has} had a gradient of exactly 0 since step {first:,}: {OFF}?"
        elif all(norm == 0.0 for norm in norms):
            text = f"{listed(dead)} {has} not changed since step {first:,}, and {its} gradient is exactly 0: {OFF}?"
        elif not any(norms):
            text = f"{listed(dead)} {has} not changed since step {first:,}, without any gradient: detached, or not used?"
        else:
            text = (
                f"{listed(dead)} {has} not changed since step {first:,}, with a gradient: a rate of 0, or steps too small for the "
                "precision of the weights?"
            )
        return self.says(
            "info", text, sample, onset=first, evidence={"layers": ", ".join(dead), "of": len(known), "steps": sample.step - first},
        )  # fmt: skip

    def _in_doubt(self, m: _Memory, dead: list[str]) -> bool:
        """Whether others, that are still looked at, may soon be of the same trouble."""
        stretches = [(name, since) for figures in (m.updates, m.norms) for name, since in figures.since.items()]
        latest = min(last for name, (_, last, _) in stretches if name in dead)
        return any(last >= latest for name, (_, last, _) in stretches if name not in dead)

    def _dead(self, figures: _Stretches, name: str) -> bool:
        first, last, samples = figures.since.get(name, (0, 0, 0))
        return bool(samples >= self.params.samples and last - first >= self.params.steps)

    def _over(self, sample: Sample) -> Finding | None:
        learn = "learns" if len(self._said) == 1 else "learn"
        return self.ends(f"{listed(self._said)} {learn} again at step {sample.step:,}", sample)
