"""Plants a fault in the training on purpose. Imported only where ``SITTER_DRILL`` is in the environment: ``sitter drill`` puts it there.

The three that any script can be given: ``nan`` (one parameter becomes NaN), ``hang`` (the training thread sleeps), ``gil-hang`` (it waits
inside C code that keeps Python's interpreter lock). With any other value it only says when the training is ready for a fault.
"""

import ctypes
import math
import os
import sys
import time
from typing import Any

from sitter_agent.core import Core
from sitter_agent.safe_point import SafePoint
from sitter_wire import drill

ENOUGH = 30
"""Safe points, and logged points where the fault shows in a signal: by then the rules know what is usual."""
STANDS_S = 3600.0


class DrilledSafePoint(SafePoint):
    """A safe point like any other, at whose end the fault is planted once it was asked for."""

    _fault, _over, _ready, _safe_points = "", True, False, 0

    def arm(self) -> "DrilledSafePoint":
        """From now on. A training that was started again after the fault is left alone."""
        self._fault = os.environ.get(drill.VARIABLE, "")
        self._over = (self.core.run.path / drill.PLANTED).exists()
        return self

    def _reached(self, n: int) -> None:
        super()._reached(n)
        if not self._over and self.core.rail.on:
            self._over = True  # what fails once is not tried again in every step
            with self.core.rail.around("the drill"):
                self._over = self._drill()

    def _drill(self) -> bool:
        """Whether there is nothing more to do here."""
        core, run = self.core, self.core.run.path
        self._safe_points += 1
        if not self._ready:
            self._ready = self._is_ready()
            return self._ready and self._fault not in drill.BY_AGENT  # the rest is somebody else's
        if (run / drill.GO).exists():
            what = poison(core) if self._fault == "nan" else HANGS[self._fault].__doc__
            core.remark(f"drill: {what}")
            drill.tell(run, drill.PLANTED, step=self.progress.done, at=time.time(), what=what)
            if self._fault in HANGS:
                if core.link is not None:
                    core.link.ship()
                HANGS[self._fault]()
            return True
        return False

    def _is_ready(self) -> bool:
        """Say so once the fault can be planted: the rules know the training, and there is something to go back to."""
        core, p = self.core, self.progress
        about: dict[str, Any] = {"step": p.done, "snapshots": core.ring.slots}
        if self._safe_points < ENOUGH:
            return False
        if self._fault not in HANGS:
            if not core.has_state():
                about["trouble"] = "the script has told the agent no state: start(model=…, optimizer=…) or agent.state(save=…, load=…)"
            elif core.progress.points < ENOUGH:
                return False
            elif core.ring.slots:
                snapshot = core.ring.newest_cleared(None, p)
                if snapshot is None or snapshot.step == p.line[-1][1]:
                    return False
            elif core.clear() is None:
                return False
        drill.tell(core.run.path, drill.READY, **about)
        return True


# -- the faults --------------------------------------------------------------------------------------------------------------


def poison(core: Core) -> str:
    """Make one parameter NaN, in place; the sentence that says which. Raises ValueError where there is none."""
    torch = sys.modules.get("torch")
    models = vars(core.adapter).get("_models")  # of the torch adapter, which has no use for telling anybody
    if torch is not None and isinstance(models, dict):
        every = [pair for model in models.values() for pair in model.named_parameters()]
        named = [(name, p) for name, p in every if p.requires_grad and p.is_floating_point()]
        if not named:
            raise ValueError("the model has no parameter that is trained")
        name, parameter = named[-1]  # near the loss: what it feeds into is NaN at the next step
        with torch.no_grad():
            parameter.fill_(math.nan)
        return f"the parameter {name} was made NaN"
    state, path = _poisoned(core.adapter.capture(None), "")
    if not path:
        raise ValueError("the state that agent.state() tells holds no floating-point number")
    core.adapter.restore(state)
    return f"{path} in the state was made NaN"


def _poisoned(tree: Any, path: str) -> tuple[Any, str]:
    """The same with its first floating-point leaf NaN, and that leaf's path; empty where there is none."""
    if isinstance(tree, float):
        return math.nan, path or "the number"
    if getattr(getattr(tree, "dtype", None), "kind", "") == "f" and getattr(tree, "ndim", 0):
        tree.fill(math.nan)
        return tree, path or "the array"
    if isinstance(tree, dict | list | tuple):
        parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in parts:
            new, found = _poisoned(value, f"{path}/{key}" if path else str(key))
            if found:
                if isinstance(tree, dict):
                    return {**tree, key: new}, found
                changed = [new if i == key else v for i, v in enumerate(tree)]
                return (tuple(changed) if isinstance(tree, tuple) else changed), found
    return tree, ""


def drill_stands_still() -> None:
    """the training thread was made to sleep"""
    time.sleep(STANDS_S)


def drill_holds_the_gil() -> None:
    """the training thread was made to wait in C code that keeps Python's interpreter lock"""
    ctypes.PyDLL(None).poll(None, 0, int(1000 * STANDS_S))


HANGS = {"hang": drill_stands_still, "gil-hang": drill_holds_the_gil}
