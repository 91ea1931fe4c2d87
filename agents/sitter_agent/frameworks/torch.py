"""PyTorch: the whole training state copied and put back in place, the knobs of the optimizers, the signals they offer."""

from collections.abc import Callable
from typing import Any, BinaryIO

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sitter_agent.frameworks import torch_capture, torch_file, torch_found, torch_model, torch_optimizer, torch_parked
from sitter_agent.frameworks.torch_amp import LossScale
from sitter_agent.frameworks.torch_capture import TorchCapture
from sitter_agent.frameworks.torch_grad import GradNormMeter, all_finite
from sitter_agent.frameworks.torch_layer_meter import LayerMeter
from sitter_agent.frameworks.torch_memory import Gathered, Staging, copy_out, nbytes
from sitter_agent.frameworks.torch_offer import offer
from sitter_agent.frameworks.torch_scale import StepHooks
from sitter_agent.handlers import raised_by_handler
from sitter_agent.own_state import Loaded, of_optimizers
from sitter_agent.state import Knob

STATE_PER_PARAM = {"SGD": 1, "RMSprop": 1, "Adagrad": 1, "Adadelta": 2, "Rprop": 2, "Muon": 1, "Adafactor": 0, "Lion": 1, "LBFGS": 20}
"""Tensors of the parameter's size that an optimizer keeps, to foresee the memory before its first step; 2 (Adam's) where not named."""


class TorchAdapter:
    """Implements ``sitter_agent.state.Adapter``.

    ``model`` and ``optimizer`` may be dicts (``{"G": g, "D": d}``), lists or None, ``scheduler`` too. ``extra``: modules, tensors,
    generators, or things with ``state_dict``. Everything but ``save`` and ``load`` runs on the training thread at a safe point.
    """

    name = "torch"
    suffix = ".pt"

    def __init__(
        self, model: Any = None, optimizer: Any = None, scheduler: Any = None, scaler: Any = None, extra: dict[str, Any] | None = None
    ) -> None:
        self.user_logs_grad_norm = False
        self._models: dict[str, nn.Module] = {n: torch_model.unwrap(m) for n, m in torch_capture.named(model).items()}
        bare = {n: torch_found.bare_optimizer(o) for n, o in torch_capture.named(optimizer).items()}
        self._optimizers = {n: o for i, (n, o) in enumerate(bare.items()) if o not in list(bare.values())[:i]}
        self._schedulers = torch_capture.named(scheduler)
        self._scaler = scaler
        self._odd: list[str] = []
        self._extra = self._known_extra(extra or {})
        self._staging: Staging | None = None
        self._born_infinite = {name for name, t in self._live_model_tensors() if not all_finite([t])}
        self._meters = {n: GradNormMeter() for n in self._optimizers}
        self._hooks = {
            n: StepHooks(o, n, self._meters[n].after_step) for n, o in self._optimizers.items() if torch_found.can_hook(o)
        }
        self._sampled: list[tuple[StepHooks, GradNormMeter, str, str, str]] = []
        for i, (n, hooks) in enumerate(self._hooks.items()):
            suffix = f"/{n}" if i else ""
            self._sampled.append((hooks, self._meters[n], f"lr{suffix}", f"lr_scheduled{suffix}", f"grad_norm{suffix}"))
        self._knobs: list[Knob] = list(offer(list(self._hooks.values())))
        self._layers = LayerMeter(self._models, self._hooks.values(), tell=self._odd.append)  # until a session listens: see ``remarks``
        self._loss_scale = LossScale(scaler)

    # -- state -------------------------------------------------------------------------------------------------------

    def nbytes(self) -> int:
        """Bytes of host memory that one capture takes, with the optimizer state foreseen that its first step will make."""
        gathered, _ = self._gather()
        total = sum(nbytes(t) for t in {id(t): t for t in gathered.tensors.values()}.values())
        return total + sum(_foreseen(o) for o in self._optimizers.values() if not o.state)

    def capture(self, into: object | None) -> TorchCapture:
        """A copy of everything in host memory, in the memory of ``into`` (an earlier capture) where shapes fit."""
        self._heal()
        gathered, made = self._gather()
        old = into if isinstance(into, TorchCapture) else None
        if old is not None:
            old.whole = False
        if self._staging is None and any(t.is_cuda for t in gathered.tensors.values()):
            self._staging = Staging()
        made.host = copy_out(gathered.tensors, old.host if old is not None else {}, self._staging)
        made.whole = True
        return made

    def restore(self, captured: object) -> list[str]:
        """Put a capture back in place. Gradients are dropped, and optimizer state that it lacks is removed.

        Returns, in words, what could not be put back. Raises TypeError or ValueError for what is no whole capture; then nothing
        was touched.
        """
        if not isinstance(captured, TorchCapture):
            raise TypeError(f"expected a capture of a torch training, found {type(captured).__name__}")
        if not captured.whole:
            raise ValueError("this capture was overwritten in part and cannot be restored; use another one")
        self._heal()
        host, missing = captured.host, []
        for n, model in self._models.items():
            missing += self._part(_called("model", n), captured.models.get(n), torch_model.restore, model, host)
        for n, optimizer in self._optimizers.items():
            missing += self._part(_called("optimizer", n), captured.optimizers.get(n), torch_optimizer.restore, optimizer, host)
        for n, scheduler in self._schedulers.items():
            missing += self._loaded(_called("scheduler", n), captured.schedulers.get(n), scheduler, captured)
        if self._scaler is not None and captured.scaler:
            missing += self._loaded("scaler", captured.scaler, self._scaler, captured)
        for n, thing in self._extra.items():
            missing += self._loaded(f"extra {n}", captured.extra.get(n), thing, captured)
        missing += torch_capture.restore_rng(captured.rng, host)
        for meter in self._meters.values():
            meter.drop()
        self._layers.drop()
        return missing

    def finite(self) -> bool:
        """Whether parameters, buffers and optimizer state are finite; what was not at start (a mask of -inf) is left out."""
        tensors = [t for name, t in self._live_model_tensors() if name not in self._born_infinite]
        for optimizer in self._optimizers.values():
            tensors += torch_optimizer.tensors(optimizer)
        return all_finite(tensors)

    def sound(self, captured: object) -> bool:
        """``finite`` of a capture: of the parameters, buffers and optimizer state in it."""
        if not isinstance(captured, TorchCapture):
            raise TypeError(f"expected a capture of a torch training, found {type(captured).__name__}")
        born = {
            leaf.path for n, image in captured.models.items() for full, leaf in image.leaves.items() if (n, full) in self._born_infinite
        }
        return all_finite(t for path, t in captured.host.items() if path.startswith(("model:", "optimizer:")) and path not in born)

    def park(self) -> tuple[torch_parked.Parked | None, str]:
        """What of the state, and of the gradients, lies on a GPU."""
        self._heal()
        gathered, _ = self._gather()
        parked = torch_parked.Parked(torch_parked.with_gradients(gathered.tensors.values()), beside=self._layers)
        if not parked.nbytes:
            return None, "nothing of the state lies on a GPU"
        graphs = torch_parked.graphs()
        if graphs:
            return None, f"CUDA graphs ({graphs} in this process) hold the addresses of the state"
        return parked, ""

    def save(self, captured: object, file: BinaryIO, meta: dict[str, object]) -> None:
        """Stream a capture into ``file``; ``torch.load(path, weights_only=True)["model"]`` reads it. Touches nothing that trains."""
        if not isinstance(captured, TorchCapture):
            raise TypeError(f"expected a capture of a torch training, found {type(captured).__name__}")
        torch_file.save(captured, file, meta)

    def load(self, file: BinaryIO) -> tuple[object, dict[str, object]]:
        """What ``save`` wrote: a capture and its meta. Raises ValueError where the file is cut short, altered or something else."""
        return torch_file.load(file)

    # -- steering ----------------------------------------------------------------------------------------------------

    def knobs(self) -> list[Knob]:
        """lr, weight_decay, momentum, beta2, where the optimizers have them."""
        return self._knobs

    def loaded(self) -> Loaded:
        """By the optimizers' own state."""
        return of_optimizers(list(self._optimizers.values()))

    def steps_done(self) -> int | None:
        """Steps of the first optimizer: with several, its full turns. None where no hook sees them (replays of a CUDA graph, and
        after ``close``)."""
        for hooks in self._hooks.values():
            return None if hooks.in_graph or hooks.closed else hooks.steps
        return None

    def sample(self, step: int) -> dict[str, Any]:
        """``lr`` as the last step used it, ``lr_scheduled`` as the schedule asked for it, ``grad_norm`` where it was taken;
        ``loss_scale`` where it may have changed, and a lot of what was seen of the layers.

        Of the first param group. Further optimizers have their name behind a slash: ``lr/D``. A 0-d tensor where the value lies
        on a device.
        """
        values: dict[str, Any] = {}
        for hooks, meter, lr, lr_scheduled, grad_norm in self._sampled:
            hooks.heal()
            scheduled, used = hooks.used
            if used is not None and scheduled is not None:
                values[lr] = used
                values[lr_scheduled] = scheduled
            meter.enabled = not self.user_logs_grad_norm
            if meter.taken is not None:
                norm = meter.take()
                if norm is not None:
                    values[grad_norm] = norm
        layers = self._layers
        layers.turns += 1
        if layers.turns >= layers.next:
            lot = layers.turn()
            if lot is not None:
                values["grad_norm.*"] = lot
        if self._loss_scale.known:
            loss_scale = self._loss_scale.take()
            if loss_scale is not None:
                values["loss_scale"] = loss_scale
        return values

    def remarks(self) -> list[str]:
        """What is not covered, or only in part; scans the process for a forgotten average of the weights."""
        things, hooks = torch_found.living(), list(self._hooks.values())
        found = torch_found.remarks(self._models, self._optimizers, self._schedulers, self._extra, hooks, things)
        return self._odd + found + self._loss_scale.look_for(things)

    def tell_to(self, tell: Callable[[str], object]) -> None:
        """What fails of the hooks and of the look at the layers."""
        self._layers.tell = tell
        for hooks in self._hooks.values():
            hooks.tell = tell

    def rest(self) -> None:
        """Scale nothing and measure nothing any more; steps are still counted."""
        for hooks in self._hooks.values():
            hooks.rest()
        self._layers.close()
        self._loss_scale.close()

    def close(self) -> None:
        """Take off every hook, and let go of all that is the script's: the next attempt in a notebook needs the memory."""
        for hooks in self._hooks.values():
            hooks.close()
        self._layers.close()
        self._loss_scale.close()
        for held in (self._models, self._optimizers, self._schedulers, self._extra, self._hooks, self._meters, self._knobs):
            held.clear()
        self._sampled.clear()
        self._scaler = self._staging = None

    # -- parts -------------------------------------------------------------------------------------------------------

    def _gather(self) -> tuple[Gathered, TorchCapture]:
        gathered, made = Gathered(), TorchCapture()
        for n, model in self._models.items():
            made.models[n] = torch_model.gather(model, f"model:{n}", gathered)
        for n, thing in self._extra.items():
            made.extra[n] = torch_capture.gather_extra(thing, f"extra:{n}", gathered)
        covered = {id(t) for t in gathered.tensors.values()}
        for n, optimizer in self._optimizers.items():
            made.optimizers[n] = torch_optimizer.gather(optimizer, f"optimizer:{n}", gathered, covered)
        for n, scheduler in self._schedulers.items():
            if hasattr(scheduler, "state_dict"):
                made.schedulers[n] = gathered.value(scheduler.state_dict(), f"scheduler:{n}")
        if self._scaler is not None:
            made.scaler = gathered.value(self._scaler.state_dict(), "scaler")
        made.rng = torch_capture.gather_rng(gathered)
        return gathered, made

    @staticmethod
    def _part(name: str, image: Any, restore: Any, live: Any, host: dict[str, Tensor]) -> list[str]:
        """One part; a failure in it is told, and the others are put back all the same."""
        if image is None:
            return [f"{name} is not in this state"]
        try:
            return list(restore(live, image, host, name))
        except Exception as e:  # half a restore with the rest untouched would be worse
            if raised_by_handler(e):
                raise
            return [f"{name} ({type(e).__name__}: {e})"]

    def _loaded(self, name: str, state: Any, thing: Any, captured: TorchCapture) -> list[str]:
        if state is None:
            return [f"{name} is not in this state"]
        try:
            return torch_capture.restore_extra(thing, state, captured.host, name, from_file=captured.from_file)
        except Exception as e:  # as above
            if raised_by_handler(e):
                raise
            return [f"{name} ({type(e).__name__}: {e})"]

    def _known_extra(self, extra: dict[str, Any]) -> dict[str, Any]:
        kept = {}
        for n, thing in extra.items():
            try:
                torch_capture.gather_extra(thing, n, Gathered())
            except TypeError as e:
                self._odd.append(f"extra {n!r} is not in snapshots ({e})")
            else:
                kept[str(n)] = thing
        return kept

    def _live_model_tensors(self) -> list[tuple[tuple[str, str], Tensor]]:
        """By model and full name, which stay when ``model.to()`` or the script puts another tensor there; tied ones once."""
        seen: dict[int, tuple[tuple[str, str], Tensor]] = {}
        for n, model in self._models.items():
            for full, t in torch_model.live_tensors(model).items():
                seen.setdefault(id(t), ((n, full), t))
        return list(seen.values())

    def _heal(self) -> None:
        for hooks in self._hooks.values():
            hooks.heal()


def _foreseen(optimizer: Any) -> int:
    per_param = STATE_PER_PARAM.get(type(optimizer).__name__, 2)
    if type(optimizer).__name__ == "SGD" and not any(g.get("momentum") for g in optimizer.param_groups):
        per_param = 0
    return per_param * sum(nbytes(p) for g in optimizer.param_groups for p in g["params"] if p.requires_grad and not is_lazy(p))


def _called(kind: str, name: str) -> str:
    return f"{kind} {name}" if name else kind
