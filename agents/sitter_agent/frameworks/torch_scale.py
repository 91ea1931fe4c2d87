"""The scale on an optimizer's numbers: put on in the step's pre-hook and taken off in its post-hook, so that no scheduler ever sees it.

Writing ``group["lr"]`` between the steps is lost or wrong for 7 of torch's 16 schedulers: closed forms overwrite it, chained forms
compute from it, ReduceLROnPlateau compares with it.
"""

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from sitter_agent.frameworks.torch_grad import capturing
from sitter_agent.handlers import raised_by_handler
from sitter_agent.say import say

CUDA = torch.backends.cuda.is_built()
"""Whether a step could be captured in a CUDA graph at all."""

try:
    from torch._C._dynamo.eval_frame import get_eval_frame_callback as compiling
except ImportError:  # not public: a torch without it gets the slower way

    def compiling() -> Any:
        """Unknown: take it as if it were so."""
        return True


def untraced(hook: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """A hook that torch.compile neither traces (a compiled ``opt.step`` with a float lr crashed on hooks that it traced) nor compiles.

    Where nothing is being compiled, which is nearly always, it is called as it is: the wrapper of ``torch._dynamo.disable`` costs each
    of the two hooks some 2 µs where the caches are cold.
    """
    careful = torch._dynamo.disable(hook)

    def quick(optimizer: Any, args: Any, kwargs: Any) -> Any:
        return hook(optimizer, args, kwargs) if compiling() is None else careful(optimizer, args, kwargs)

    quick._torchdynamo_disable = True  # type: ignore[attr-defined]
    quick._torchdynamo_disable_msg = "a hook of sitter's"  # type: ignore[attr-defined]
    torch._dynamo.eval_frame.skip_code(quick.__code__)
    return quick


class Field:
    """One number of a param group that a knob moves: where it stands and how a scale combines with it.

    ``inverse``: the scale moves 1 - value (momentum, betas), so that 0.9 × "0.5" is 0.95.
    """

    def __init__(self, name: str, key: str, index: int | None = None, *, inverse: bool = False) -> None:
        self.name, self.key, self.index, self.inverse = name, key, index, inverse

    def read(self, group: dict[str, Any]) -> float | Tensor | None:
        """The value as the group has it; None where there is none (``lr=None`` of a relative-step optimizer)."""
        value = group.get(self.key)
        if self.index is not None:
            value = value[self.index] if isinstance(value, (tuple, list)) and len(value) > self.index else None
        return value if isinstance(value, (int, float, Tensor)) and not isinstance(value, bool) else None

    def combine(self, scheduled: float, scale: float) -> float:
        """Scheduled and scale to effective."""
        if scale == 1.0:
            return scheduled
        return 1 - (1 - scheduled) * scale if self.inverse else scheduled * scale

    def ratio(self, effective: float, scheduled: float) -> float | None:
        """The scale that leads from scheduled to effective; None where no scale does."""
        top, bottom = (1 - effective, 1 - scheduled) if self.inverse else (effective, scheduled)
        return top / bottom if bottom else None

    def with_value(self, group: dict[str, Any], value: float) -> Any:
        """What ``group[key]`` has to be for this field to be ``value``."""
        if self.index is None:
            return value
        pair = list(group[self.key])
        pair[self.index] = value
        return tuple(pair)


class Setting:
    """What is asked of one field: a scale for all groups, more for some, and pinned values. Groups by label."""

    def __init__(self) -> None:
        self.scale = 1.0
        self.by_group: dict[str, float] = {}
        self.held: dict[str, float] = {}

    def scale_of(self, label: str) -> float:
        """The scale of one group."""
        return self.scale * self.by_group.get(label, 1.0)

    def reset(self) -> None:
        """Ask for nothing any more."""
        self.scale, self.by_group, self.held = 1.0, {}, {}

    @property
    def idle(self) -> bool:
        """Whether it changes nothing."""
        return self.scale == 1.0 and not self.by_group and not self.held

    def effective(self, field: Field, label: str, scheduled: float) -> float:
        """What is used where the schedule asks for ``scheduled``."""
        held = self.held.get(label)
        return field.combine(scheduled, self.scale_of(label)) if held is None else held


class _Lifeline(tuple[Any, ...]):
    """The arguments of a scaled step. It dies with the step's frame, also when an exception ended it, and then the scale comes off.

    So a scheduler that steps after a caught exception already finds its own rate again.
    """

    ended: Callable[[], None]

    def __del__(self) -> None:
        ended = getattr(self, "ended", None)
        if ended is not None:  # else it was interrupted while it was made
            ended()


class Look(Protocol):
    """Somebody who looks at one whole step. Neither raises."""

    def before(self) -> None:
        """The step begins. Called again where it was not done in the end."""
        ...

    def after(self) -> None:
        """It was done, or only the device knows whether (``found_inf`` of the optimizer), gradients still in place."""
        ...


class StepHooks:
    """Our two hooks on one optimizer. They count its steps and carry the scale; nothing that goes wrong in them leaves them."""

    def __init__(self, optimizer: Any, name: str, after: Callable[[Any], None] | None = None) -> None:
        """``after(optimizer)`` is called once for every step that was done, gradients still in place."""
        self.optimizer, self.name = optimizer, name
        self.settings: list[tuple[Field, Setting]] = []
        self.steps = 0
        self.broken: str | None = None
        self.closed = False
        self.in_graph = False
        """The step was captured in a CUDA graph. Its replays run no hook: they are not seen, and no scale reaches them."""
        self.used: tuple[float | Tensor | None, float | Tensor | None] = (None, None)
        self.look: Look | None = None
        """Who looks at the next step; takes itself off."""
        self.tell: Callable[[str], object] = say
        self._after_step = after
        self._depth = 0
        self._active = False
        self._lr: float | Tensor | None = None
        """Which rate ``used`` was made of; None where it holds the scaled one."""
        self._serial = 0
        self._undo: list[tuple[dict[str, Any], str, Any, Any]] = []
        self._undo_tensors: list[tuple[Tensor, Tensor]] = []
        self._room: dict[int, Tensor] = {}
        self._handles = [
            optimizer.register_step_pre_hook(untraced(self._before)),
            optimizer.register_step_post_hook(untraced(self._after)),
        ]

    def label(self, i: int) -> str:
        """The name of group ``i``: its own, the optimizer's, or its number."""
        groups = self.optimizer.param_groups
        own = groups[i].get("name")
        mine = str(own) if own else str(i)
        if not self.name:
            return mine
        return f"{self.name}/{mine}" if len(groups) > 1 or own else self.name

    def refresh(self) -> None:
        """To be called when a setting changed."""
        self._active = not all(setting.idle for _, setting in self.settings)

    def heal(self) -> None:
        """Take off a scale that an exception inside ``step()`` or our own hooks left on. Must not be called from inside a step."""
        if self._depth or self._undo or self._undo_tensors:
            self._depth = 0
            self._take_off()

    def _ended(self, serial: int) -> None:
        if serial == self._serial:  # a traceback kept somewhere may outlive its step by many others
            self.heal()

    def rest(self) -> None:
        """From the next step on scale nothing and look at no gradient; go on counting."""
        for _, setting in self.settings:
            setting.reset()
        self.refresh()
        self._after_step = self.look = None

    def close(self) -> None:
        """Take both hooks off. Steps are counted no more."""
        self.closed = True
        self.look = None
        self.heal()
        for handle in self._handles:
            handle.remove()

    def _before(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            if self._depth:
                if _is_inside_step(optimizer):
                    self._depth += 1
                    return None
                self.heal()
            self._depth = 1
            self._serial += 1
            if CUDA:
                self._look_for_graph(optimizer)
            groups = optimizer.param_groups
            if groups:
                lr = groups[0].get("lr")
                if lr is not self._lr or type(lr) is not float:  # else all is noted: the same number, which cannot change
                    self._lr = lr
                    self._note_used(lr)
            if self.look is not None:
                self.look.before()
            if self._active:
                lifeline = _Lifeline(args)  # before the scale: an interrupt (Ctrl-C) between two lines here takes it off as well
                lifeline.ended = partial(self._ended, self._serial)
                self._put_on(optimizer)
                return lifeline, kwargs
        except Exception as e:  # noqa: BLE001 — nothing of ours may reach the user's step
            self._break(e)
        return None

    def _after(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self._depth -= 1
            if self._depth > 0:
                return
            self._depth = 0
            if self._undo or self._undo_tensors:
                self._take_off()
            skipped = _skipped(optimizer) if "found_inf" in optimizer.__dict__ else False
            self.steps += not skipped
            if skipped is False and self._after_step is not None:
                self._after_step(optimizer)
            if not skipped and self.look is not None:
                self.look.after()
        except Exception as e:  # noqa: BLE001 — as above
            self._break(e)

    def _look_for_graph(self, optimizer: Any) -> None:
        params: Any = optimizer.param_groups[0]["params"] if optimizer.param_groups else ()
        was, self.in_graph = self.in_graph, bool(len(params)) and capturing(params[0])
        if self.in_graph and not was:
            self.tell(
                f"the step of {type(optimizer).__name__} is captured in a CUDA graph: every turn of the loop counts as a step, its "
                "knobs have no effect, and the gradient norm is seen only where the script logs it"
            )

    def _note_used(self, lr: float | Tensor | None) -> None:
        if isinstance(lr, Tensor):
            lr = lr.detach().clone() if lr.device.type != "cpu" else float(lr)
        self.used = (lr, lr)

    def _put_on(self, optimizer: Any) -> None:
        seen: set[int] = set()
        for i, group in enumerate(optimizer.param_groups):
            label = self.label(i)
            for field, setting in self.settings:
                if setting.idle:
                    continue
                value = field.read(group)
                if value is None:
                    continue
                if isinstance(value, Tensor):
                    if id(value) not in seen:  # groups may share the tensor they got as a default
                        seen.add(id(value))
                        self._put_on_tensor(field, setting, label, value)
                else:
                    original = group[field.key]
                    scaled = field.with_value(group, setting.effective(field, label, value))
                    self._undo.append((group, field.key, original, scaled))
                    group[field.key] = scaled
                if i == 0 and field.name == "lr":
                    now = field.read(group)
                    if isinstance(now, Tensor):
                        now = now.detach().clone() if now.device.type != "cpu" else float(now)
                    self.used, self._lr = (self.used[0], now), None

    def _put_on_tensor(self, field: Field, setting: Setting, label: str, value: Tensor) -> None:
        with torch.no_grad():
            kept = self._room.get(id(value))
            if kept is None or kept.dtype != value.dtype or kept.device != value.device:
                kept = self._room[id(value)] = torch.empty_like(value)
            kept.copy_(value)
            self._undo_tensors.append((value, kept))
            held = setting.held.get(label)
            if held is not None:
                value.fill_(held)
            elif field.inverse:
                value.neg_().add_(1).mul_(setting.scale_of(label)).neg_().add_(1)
            else:
                value.mul_(setting.scale_of(label))

    def _take_off(self) -> None:
        # Forgotten only once it is done, and doing it twice is the same as once: an interrupt in here leaves it to the next call.
        while self._undo:
            group, key, original, scaled = self._undo[-1]
            if group.get(key) is scaled:  # else the step itself set a new one (its own warm-up): that is the schedule's word
                group[key] = original
            self._undo.pop()
        with torch.no_grad():
            while self._undo_tensors:
                live, kept = self._undo_tensors[-1]
                live.copy_(kept)
                self._undo_tensors.pop()

    def _break(self, e: Exception) -> None:
        """Something of ours failed: off with the scale, say it once, let the training go on. The script's own signal goes to the script."""
        if raised_by_handler(e):
            self.heal()
            raise e
        self._active, self._depth = False, 0
        for _, setting in self.settings:
            setting.reset()  # so that no knob claims what is not done
        try:
            self._take_off()
        except Exception as again:  # noqa: BLE001 — told below, like the first
            e = again
        if self.broken is None:
            what = f"{type(e).__name__}: {e}"
            self.broken = f"the hooks on {type(self.optimizer).__name__} failed ({what}); its knobs are back at × 1"
            self.tell(self.broken)


def _skipped(optimizer: Any) -> bool | None:
    """Whether a fused optimizer under GradScaler fired its hooks though it skipped the step; None where only the device knows.

    Reading that would wait for the device. It counts as a step then, as HF and Lightning count, and its gradients, which may be the
    infinite ones of a skipped step, are not looked at.
    """
    found_inf = getattr(optimizer, "found_inf", None)
    if found_inf is None:
        return False
    if isinstance(found_inf, Tensor) and found_inf.device.type != "cpu":
        return None
    return bool(found_inf)


def _is_inside_step(optimizer: Any) -> bool:
    """Whether an outer ``step()`` of this optimizer is still running: ``super().step()`` of a subclass fires the hooks again.

    Asked only when the outer post-hook has not run yet: that, or an exception ended the step before it could.
    """
    hooked = sum(1 for c in type(optimizer).__mro__ if getattr(c.__dict__.get("step"), "hooked", False))
    if hooked < 2:
        return False
    calls = 0
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if "wrapper" in code.co_name and code.co_filename.endswith("optimizer.py") and frame.f_locals.get("self") is optimizer:
            calls += 1
        frame = frame.f_back
    return calls > 1
