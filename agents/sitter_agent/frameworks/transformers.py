"""Hugging Face's ``Trainer``: ``Trainer(..., callbacks=[SitterCallback()])`` is all."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import transformers

from sitter_agent.frameworks.following import Follower, harmless, wrap
from sitter_agent.say import say


class SitterCallback(transformers.TrainerCallback):  # type: ignore[misc]
    """Looks after a ``Trainer``: the loss and gradient norm of EVERY step, validation, knobs, snapshots, rollback, stop.

    (``on_log`` gives a mean per ``logging_steps`` and leaves NaN out.) A rollback puts weights, optimizer and scheduler back;
    ``state.global_step`` and the data go on. After a restart ``global_step`` goes on from the checkpoint, and the data begin a pass.
    Settings as for ``sitter_agent.start``: ``goal``, ``better``, ``name``, ``extra``…
    """

    def __init__(self, **settings: Any) -> None:
        self._follow = Follower(**settings)
        self._take_off: list[Callable[[], None]] = []

    @harmless
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the agent on what the trainer made."""
        trainer = _trainer_above()
        accelerator = getattr(trainer, "accelerator", None)
        self._unwrap()
        if trainer is None:
            say("the Trainer was not found above its callback: there is no loss of every step")
        else:
            self._take_off.append(wrap(trainer, "training_step", self._follow.loss))
        if accelerator is not None and hasattr(accelerator, "clip_grad_norm_"):
            self._take_off.append(wrap(accelerator, "clip_grad_norm_", self._follow.grad_norm))
        state.global_step = self._follow.begin(
            step=state.global_step,
            total=state.max_steps if state.max_steps > 0 else None,
            model=kwargs.get("model"),
            optimizer=kwargs.get("optimizer"),
            scheduler=kwargs.get("lr_scheduler"),
            scaler=getattr(accelerator, "scaler", None),
        )

    @harmless
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One full step; a stop ends the training as ``max_steps`` would."""
        if self._follow.stepped(state.global_step):
            control.should_training_stop = True

    @harmless
    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """``eval_loss`` is recorded as ``val_loss``, the other metrics under their own names."""
        self._follow.evaluated(metrics or {}, state.global_step)

    @harmless
    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave everything as it was found."""
        self._unwrap()
        self._follow.end()

    def _unwrap(self) -> None:
        while self._take_off:
            self._take_off.pop()()


def _trainer_above() -> Any:
    """The ``Trainer`` that called: callbacks are not told, and its ``training_step`` alone sees the loss of every step."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        me = frame.f_locals.get("self")
        if isinstance(me, transformers.Trainer):
            return me
        frame = frame.f_back
    return None
