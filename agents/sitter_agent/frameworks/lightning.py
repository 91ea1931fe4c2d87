"""Lightning: ``Trainer(..., callbacks=[SitterCallback()])`` is all. Works for ``lightning`` and for ``pytorch_lightning``."""

import math
import sys
from typing import TYPE_CHECKING, Any

from sitter_agent.frameworks.following import Follower, harmless
from sitter_agent.frameworks.torch_grad import GradNormMeter
from sitter_agent.handlers import raised_by_handler
from sitter_agent.say import in_words, say

if TYPE_CHECKING or "pytorch_lightning" not in sys.modules or "lightning" in sys.modules:
    from lightning.pytorch import Callback
else:
    from pytorch_lightning import Callback


class SitterCallback(Callback):  # type: ignore[misc]
    """Looks after a ``Trainer``: the loss of EVERY step, gradient norm before clipping, validation, knobs, snapshots, rollback, stop.

    A rollback puts weights, optimizers and schedulers back; ``trainer.global_step`` and the data go on. With manual optimization the
    loss is what ``training_step`` returns. Settings as for ``sitter_agent.start``: ``goal``, ``better``, ``name``, ``extra``…
    """

    def __init__(self, **settings: Any) -> None:
        self._follow = Follower(**settings)
        self._meter = GradNormMeter()
        self._last_step = 0
        self._known: dict[str, Any] = {}

    @harmless
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the agent on what the trainer made."""
        optimizers = list(trainer.optimizers)
        step = self._follow.begin(
            step=trainer.global_step,
            total=_total(trainer),
            model=pl_module,
            optimizer=optimizers or None,
            scheduler=[c.scheduler for c in trainer.lr_scheduler_configs] or None,
            scaler=getattr(trainer.precision_plugin, "scaler", None),
        )
        if step > trainer.global_step:
            _count_from(trainer, step)
        self._last_step = trainer.global_step

    @harmless
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Gradients are unscaled and not yet clipped here."""
        if trainer.gradient_clip_val and optimizer is trainer.optimizers[0]:
            self._meter.after_step(optimizer)
            self._follow.grad_norm(self._meter.take())

    @harmless
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """One micro-batch; a full step where the trainer counted one. A stop ends the training as ``max_steps`` would."""
        self._follow.loss(outputs.get("loss") if isinstance(outputs, dict) else outputs)
        if trainer.global_step == self._last_step:
            return
        self._last_step = trainer.global_step
        if self._follow.stepped(trainer.global_step):
            trainer.should_stop = True

    @harmless
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """What was known before is not what this validation will say."""
        self._known = dict(trainer.callback_metrics)

    @harmless
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """The metrics that this validation logged, under their own names (``val_loss``, ``val/loss`` are the same)."""
        if trainer.sanity_checking:
            return
        new = {n: v for n, v in trainer.callback_metrics.items() if self._known.get(n) is not v}
        self._follow.evaluated(new, trainer.global_step)

    @harmless
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave everything as it was found."""
        self._follow.end()

    @harmless
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The training was broken off."""
        self._follow.end()


def _count_from(trainer: Any, step: int) -> None:
    """A newer checkpoint than the trainer knows of was put back: it counts its optimizer steps in one of two places."""
    try:
        loop = trainer.fit_loop.epoch_loop
        if trainer.lightning_module.automatic_optimization:
            loop.automatic_optimization.optim_progress.optimizer.step.total.completed += step - trainer.global_step
        else:
            loop.manual_optimization.optim_step_progress.total.completed += step - trainer.global_step
    except AttributeError as e:
        say(f"the weights are of step {step}, and this Lightning's own counter could not be moved there ({e}): it runs longer than meant")


def _total(trainer: Any) -> int | None:
    """Optimizer steps in all, where the trainer knows."""
    if trainer.max_steps > 0:
        return int(trainer.max_steps)
    try:
        estimated = trainer.estimated_stepping_batches
    except Exception as e:  # of a foreign trainer, from a loader without a length or a setting that it does not expect here
        if raised_by_handler(e):
            raise
        say(f"the number of steps is not known ({in_words(e)})")
        return None
    return int(estimated) if math.isfinite(estimated) and estimated > 0 else None
