"""By layer, now and then: the norm of the gradients, and how far one step moves the weights.

``grad_norm.<layer>`` is the L2 norm of the gradients of the layer's parameters, as the optimizer used them. ``update_ratio.<layer>`` is
||w_after - w_before|| / ||w_before|| over that one step. In a record both stand in the order of the model's modules.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from sitter_agent.frameworks.torch_grad import DEVICE_BANDWIDTH, capturing, dense
from sitter_agent.frameworks.torch_kept import Kept, limit_on
from sitter_agent.frameworks.torch_layers import counts, layers
from sitter_agent.frameworks.torch_memory import nbytes
from sitter_agent.frameworks.torch_scale import StepHooks
from sitter_agent.handlers import raised_by_handler
from sitter_agent.say import in_words, say
from sitter_agent.stopwatch import Stopwatch, waited
from sitter_wire.layer_names import GRAD_NORM, UPDATE_RATIO

COST_SHARE = 0.003
"""Of the run's time, at most, once the first looks are paid off."""
UNTIMED = 2.0
"""Times what was timed, a look costs in all: the steps behind it find caches that it has emptied, and what it saw has to be recorded. (0.4
ms were timed of 0.5 to 0.8 in ``tests/benchmarks/layers.py``.)"""
EVERY = 100
"""Steps between two looks, at least."""
FIRST = (1, 2, 4, 8, 16, 32, 64)
"""Steps of this session that are looked at whatever it costs: what is wrong with a beginning shows there or not at all."""
LONGEST = 5_000
"""Steps without asking again whether a look can be afforded."""
PATIENCE = 20
"""Turns that an optimizer is waited for: the generator of a GAN steps in some turns only."""
NEVER = 1 << 62

Key = tuple[str, int]
"""What a number is: the norm of ``grad``, ``moved`` or ``weight``, and of which layer. Or ``SKIPPED``."""
SKIPPED: Key = "skipped", -1
"""Not 0 where the step was none, which a fused optimizer under GradScaler leaves to the device to know."""


class LayerLot:
    """What the looks of one turn have left: vectors of norms, of which some may lie on a device (``sitter_agent.tensors.Lot``)."""

    def __init__(self, names: list[str], holders: dict[int, int]) -> None:
        """``holders``: for each layer, how many optimizers hold parameters of it."""
        self.vectors: list[Tensor] = []
        self._names, self._holders = names, holders
        self._keys: list[list[Key]] = []
        self._seen: dict[int, int] = {}

    def add(self, held: Iterable[int], found: Iterable[tuple[list[Key], Tensor]]) -> None:
        """Norms of one optimizer's parameters, which are of these layers."""
        for layer in held:
            self._seen[layer] = self._seen.get(layer, 0) + 1
        for keys, vector in found:
            self._keys.append(keys)
            self.vectors.append(vector)

    def again(self) -> "LayerLot":
        """An empty one of the same layers, for those who have not stepped yet."""
        return LayerLot(self._names, self._holders)

    def values(self, numbers: list[list[float]]) -> list[dict[str, float]]:
        """Signals of the layers that were seen whole, by the numbers in ``vectors``: one set for each kind."""
        parts: dict[Key, list[float]] = {}
        for keys, row in zip(self._keys, numbers, strict=True):
            for key, number in zip(keys, row, strict=True):
                parts.setdefault(key, []).append(number)
        if any(parts.pop(SKIPPED, [])):
            return []
        total = {key: math.hypot(*norms) for key, norms in parts.items() if self._seen[key[1]] == self._holders[key[1]]}
        grads, updates = {}, {}
        for i, name in enumerate(self._names):
            if ("grad", i) in total:
                grads[GRAD_NORM + name] = total["grad", i]
            weight = total.get(("weight", i), 0.0)
            if weight != 0.0:  # of weights that are all 0 any step is infinitely large
                updates[UPDATE_RATIO + name] = total["moved", i] / weight
        return self._known_sets(grads) + self._known_sets(updates)

    def _known_sets(self, values: dict[str, float]) -> list[dict[str, float]]:
        """As few different sets of names as can be, since the recorder keeps each: with all layers or one by one."""
        if len(values) in (0, len(self._names)):
            return [values] if values else []
        return [{name: value} for name, value in values.items()]


class LayerMeter:
    """Looks at one whole step of every optimizer, from its pre-hook to its post-hook, in the first steps and then every 100 or more.

    Nothing is waited for on a GPU, and what is copied of the weights is bounded (``Kept``).
    """

    def __init__(
        self, models: Mapping[str, nn.Module], hooks: Iterable[StepHooks], clock: Callable[[], float] = time.monotonic, *,
        tell: Callable[[str], object] = say,
    ) -> None:  # fmt: skip
        self.tell = tell
        self.turns, self.next = 0, NEVER
        """Turns done, and the one at whose end ``turn`` is to be called: one comparison is all that other steps pay."""
        self.clock = clock
        self._models, self._hooks = models, list(hooks)
        self._waited = waited if clock is time.monotonic else lambda: 0.0
        self._began = clock(), self._waited()
        self._spent = self._latest = 0.0
        """Seconds: all looks so far, and the latest."""
        self._layer_of: dict[int, tuple[Tensor, int]] = {}
        """By the parameter's id; it is held, so that no other can get that id."""
        self._strangers: set[int] = set()
        """Ids of what optimizers hold and no model has."""
        self._names: list[str] = []
        self._rounds: list[set[int]] = []
        """Layers whose weights are copied in the same look."""
        self._round = 0
        self._looks: list[Look] = []
        self._since = 0
        self.kept = Kept()
        self._let_go: list[torch.device] = []
        self.lot: LayerLot | None = None
        self._guarded(self._begin)

    def turn(self) -> LayerLot | None:
        """To be called at the safe point at the end of turn ``next``: what was seen in it, where anything was."""
        return self._guarded(self._turn)

    def drop(self) -> None:
        """Forget what was seen: it belongs to a state that is gone."""
        if self._looks:
            self._disarm()
            self.next = self.turns + 1

    def let_go(self, kind: str) -> None:
        """Hold no memory on devices of this kind, until ``take_again``."""
        self.drop()
        self._let_go = self.kept.let_go(kind)

    def take_again(self) -> None:
        """What was let go of."""
        self._guarded(self._take_again)

    def close(self) -> None:
        """Look at nothing any more and hold nothing."""
        self._disarm()
        self.next = NEVER
        self._models, self._hooks, self._layer_of = {}, [], {}
        self.kept, self._let_go = Kept(), []

    def charge(self, seconds: float) -> None:
        """A part of the present look was so dear."""
        self._spent += UNTIMED * seconds
        self._latest += UNTIMED * seconds

    def failed(self, e: Exception) -> None:
        """Look at nothing any more. What a signal handler of the script raised is the script's."""
        if raised_by_handler(e):
            raise e
        self.close()
        self.tell(f"the layers cannot be measured ({in_words(e)}); training goes on without their signals")

    # -- when ----------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._name_layers()
        if self._models and self._hooks:
            for device in {p.device for p, _ in self._layer_of.values() if p.is_cuda}:
                self.kept.room(device)  # now: later it would be cut out of what the training's own memory is made of
            self._arm()

    def _take_again(self) -> None:
        devices, self._let_go = self._let_go, []
        for device in devices:
            self.kept.room(device)

    def _turn(self) -> LayerLot | None:
        lot = None
        if self._looks:
            if any(look.done for look in self._looks):
                assert self.lot is not None
                lot, self.lot = self.lot, self.lot.again()
                self._looks = [look for look in self._looks if not look.done]
            if self._looks and self.turns < self._since + PATIENCE:
                self.next = self.turns + 1
            else:
                self._disarm()
                self.next = self._due()
        if not self._looks and self.turns >= self.next and self._affordable():
            self._arm()
        return lot

    def _due(self) -> int:
        """The turn before the next one that is to be looked at."""
        return next((n for n in FIRST if n > self.turns), ((self.turns + 1) // EVERY + 1) * EVERY) - 1

    def _affordable(self) -> bool:
        """Whether the next look is within the share; else ``next`` says when to ask again."""
        if self.turns < FIRST[-1]:
            return True
        began, before = self._began
        elapsed = max(0.0, self.clock() - began - (self._waited() - before))  # without the time in which others had our core
        missing = self._spent + self._latest - COST_SHARE * elapsed
        if missing <= 0:
            return True
        earned = COST_SHARE * elapsed / self.turns
        self.next = self.turns + (max(1, min(LONGEST, math.ceil(missing / earned))) if earned > 0 else EVERY)
        return False

    def _arm(self) -> None:
        self._latest = 0.0
        watch = Stopwatch(self.clock)
        self._look_for_new_ones()
        held = [self._held(hooks) for hooks in self._hooks]
        holders = {i: sum(i in mine for mine in held) for i in range(len(self._names))}
        self.lot = LayerLot(self._names, holders)
        copied = self._rounds[self._round % len(self._rounds)] if self._rounds else set()
        self._round += 1
        for hooks, mine in zip(self._hooks, held, strict=True):
            if mine:
                hooks.look = Look(self, hooks, mine, copied)
                self._looks.append(hooks.look)
        self._since, self.next = self.turns, self.turns + (1 if self._looks else EVERY)
        self.charge(watch.seconds())

    def _disarm(self) -> None:
        for hooks in self._hooks:
            hooks.look = None
        self._looks, self.lot = [], None

    # -- what ----------------------------------------------------------------------------------------------------------

    def _name_layers(self) -> None:
        found = layers(self._models)
        self._names = list(found)
        self._layer_of = {id(p): (p, i) for i, parameters in enumerate(found.values()) for p in parameters}
        self.kept = Kept()
        self._rounds, used = [], 0
        for i, parameters in enumerate(found.values()):
            limit = limit_on(parameters[0].device)
            size = self.kept.plan(i, parameters, limit)
            if not self._rounds or used + size > limit:
                self._rounds.append(set())
                used = 0
            self._rounds[-1].add(i)
            used += size
            self.kept.size = max(self.kept.size, used)

    def _look_for_new_ones(self) -> None:
        """Name the layers anew where an optimizer trains what none of them has: unfrozen, added to it, put in another's place."""
        held = (p for hooks in self._hooks for group in hooks.optimizer.param_groups for p in group["params"])
        new = {id(p) for p in held if id(p) not in self._layer_of and counts(p)} - self._strangers
        if new:
            self._name_layers()
            self._strangers.update(new - self._layer_of.keys())

    def _held(self, hooks: StepHooks) -> dict[int, list[Tensor]]:
        """The optimizer's parameters by layer."""
        mine: dict[int, list[Tensor]] = {}
        for group in hooks.optimizer.param_groups:
            for p in group["params"]:
                _, layer = self._layer_of.get(id(p), (None, None))
                if layer is not None and p.requires_grad:
                    mine.setdefault(layer, []).append(p)
        return mine

    def _guarded(self, what: Callable[[], LayerLot | None]) -> LayerLot | None:
        try:
            return what()
        except Exception as e:  # noqa: BLE001 — nothing of ours escapes into training
            self.failed(e)
        return None


class Look:
    """One optimizer's step, seen whole: ``StepHooks`` calls ``before`` and, where the step was done, ``after``."""

    def __init__(self, meter: LayerMeter, hooks: StepHooks, held: dict[int, list[Tensor]], copied: set[int]) -> None:
        """``held``: its parameters by layer; ``copied``: the layers whose update is measured too."""
        self.done = False
        self._meter, self._hooks, self._held, self._copied = meter, hooks, held, copied
        self._layers: list[int] = []
        self._live: list[Tensor] = []
        self._copies: list[Tensor] = []

    def before(self) -> None:
        """The step begins: copy the weights."""
        self._guarded(self._copy)

    def after(self) -> None:
        """The step was done, gradients still in place."""
        self._guarded(self._measure)

    def _guarded(self, what: Callable[[], int]) -> None:
        watch = Stopwatch(self._meter.clock)
        try:
            with torch.no_grad():
                moved = what()
        except Exception as e:  # noqa: BLE001 — nothing of ours escapes into training
            self._meter.failed(e)
            return
        self._meter.charge(max(watch.seconds(), moved / DEVICE_BANDWIDTH))

    def _copy(self) -> int:
        """Returns, as ``_measure``, how many bytes a device reads and writes for it: that is not waited for, and so not timed."""
        chosen = [(layer, p) for layer, parameters in self._held.items() if layer in self._copied for p in parameters]
        if not chosen or capturing(chosen[0][1]):
            return 0
        self._layers, self._live, self._copies = self._meter.kept.copies(chosen)
        return 2 * _on_device(self._copies)

    def _measure(self) -> int:
        self.done, self._hooks.look = True, None
        lot, keys, grads = self._meter.lot, [], []
        for layer, parameters in self._held.items():
            for p in parameters:
                value = dense(p.grad) if p.grad is not None else None
                if value is not None:
                    keys.append(("grad", layer))
                    grads.append(value)
        if lot is None or not grads or capturing(grads[0]):
            return 0
        found = _norms(keys, grads)
        if self._copies:
            found += _norms([("weight", layer) for layer in self._layers], self._copies)
            torch._foreach_sub_(self._copies, self._live)
            found += _norms([("moved", layer) for layer in self._layers], self._copies)
        skipped = vars(self._hooks.optimizer).get("found_inf")
        if isinstance(skipped, Tensor):
            found.append(([SKIPPED], skipped.detach().reshape(1)))
        lot.add(self._held, _together(found))
        return _on_device(grads) + 5 * _on_device(self._copies)


def _norms(keys: list[Key], tensors: list[Tensor]) -> list[tuple[list[Key], Tensor]]:
    """L2 norms by device and precision, with the keys of each; summed in float32 at least, as squares of half types overflow at 256."""
    groups: dict[tuple[torch.device, torch.dtype], tuple[list[Key], list[Tensor]]] = {}
    for key, t in zip(keys, tensors, strict=True):
        summed_in = torch.float64 if t.dtype is torch.float64 else torch.float32
        of, group = groups.setdefault((t.device, summed_in), ([], []))
        of.append(key)
        group.append(t)
    return [
        (of, torch.stack(list(torch._foreach_norm(group, 2, dtype=summed_in)))) for (_, summed_in), (of, group) in groups.items()
    ]


def _together(found: list[tuple[list[Key], Tensor]]) -> list[tuple[list[Key], Tensor]]:
    """One vector per device and precision: each is a copy and an event on a GPU."""
    groups: dict[tuple[torch.device, torch.dtype], tuple[list[Key], list[Tensor]]] = {}
    for keys, vector in found:
        of, vectors = groups.setdefault((vector.device, vector.dtype), ([], []))
        of += keys
        vectors.append(vector)
    return [(of, torch.cat(vectors)) for of, vectors in groups.values()]


def _on_device(tensors: list[Tensor]) -> int:
    """Bytes of those that do not lie in host memory."""
    return sum(nbytes(t) for t in tensors if t.device.type != "cpu")
