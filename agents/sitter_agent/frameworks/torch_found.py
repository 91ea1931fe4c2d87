"""What is found out about a torch training at start, and said to the operator in one sentence each."""

import gc
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from sitter_agent.frameworks import torch_model
from sitter_agent.frameworks.torch_amp import scalers
from sitter_agent.frameworks.torch_layers import unheld
from sitter_agent.frameworks.torch_offer import lr_note
from sitter_agent.frameworks.torch_scale import StepHooks


def bare_optimizer(optimizer: Any) -> Any:
    """The optimizer that really steps, inside the wrappers of accelerate and Lightning, which have no hooks of their own."""
    for _ in range(8):
        if "_optimizer_step_pre_hooks" in vars(optimizer):
            return optimizer
        inner = vars(optimizer).get("optimizer", vars(optimizer).get("_optimizer"))
        if inner is None or not hasattr(inner, "param_groups"):
            return optimizer
        optimizer = inner
    return optimizer


def can_hook(optimizer: Any) -> bool:
    """Whether its step has torch's hooks."""
    return "_optimizer_step_pre_hooks" in vars(optimizer) and hasattr(optimizer, "register_step_pre_hook")


def living() -> list[Any]:
    """All modules, optimizers and gradient scalers of this process: one scan over everything the garbage collector knows (0.1 s a million
    objects)."""
    kinds = (nn.Module, torch.optim.Optimizer, scalers())
    return [thing for thing in gc.get_objects() if issubclass(type(thing), kinds)]


def forgotten_modules(covered: Iterable[nn.Module], things: list[Any]) -> list[str]:
    """Type names of modules that live in this process, look like a covered one (the same parameter shapes in the same order) and share
    nothing with it: a forgotten EMA, a target network. ``things``: ``living``.
    """
    ours = list(covered)
    known = {id(m) for root in ours for m in root.modules()}
    params = {id(p) for root in ours for p in root.parameters()}
    shapes = {_shapes(root) for root in ours}
    shapes.discard(())
    if not shapes:
        return []
    found = _alike(things, known, params, shapes)
    if found:
        # Models of an earlier attempt in this process (a notebook's cell, a search) may be dead and only not yet collected.
        things.clear()
        gc.collect()
        things += living()
        found = _alike(things, known, params, shapes)
    return found


def _alike(things: list[Any], known: set[int], params: set[int], shapes: set[tuple[Any, ...]]) -> list[str]:
    found: list[str] = []
    seen: set[int] = set()
    for thing in things:
        if not issubclass(type(thing), nn.Module) or id(thing) in known or "_parameters" not in thing.__dict__:
            continue
        own = [id(p) for p in thing.parameters()]
        if not own or not params.isdisjoint(own) or not seen.isdisjoint(own) or _shapes(thing) not in shapes:
            continue
        seen.update(own)
        found.append(type(thing).__name__)
    return found


def _shapes(module: nn.Module) -> tuple[Any, ...]:
    return tuple(tuple(p.shape) for p in module.parameters() if not torch.nn.parameter.is_lazy(p))


def remarks(
    models: dict[str, nn.Module], optimizers: dict[str, Any], schedulers: dict[str, Any], extra: dict[str, Any], hooks: list[StepHooks],
    things: list[Any],
) -> list[str]:  # fmt: skip
    """Sentences about what is not covered, or only in part. ``things``: ``living``."""
    said: list[str] = []
    modules = [*models.values(), *(e for e in extra.values() if isinstance(e, nn.Module))]
    found = forgotten_modules(modules, things)
    if found:
        kinds = ", ".join(sorted(set(found)))
        said.append(
            f"{len(found)} module{'s' if len(found) > 1 else ''} shaped like the model ({kinds}) would not be rolled back: an average of "
            "the weights or a target network? Give it to start(extra={\"ema\": …})"
        )
    for name, model in models.items():
        meta = torch_model.without_values(model)
        if meta:
            said.append(f"{_of('model', name)}: {len(meta)} tensors have no values (device meta), such as {meta[0]}: not in snapshots")
    said += unheld(models, optimizers.values(), things)
    hooked = {id(h.optimizer) for h in hooks}
    for name, optimizer in optimizers.items():
        who = f"{_of('optimizer', name)} {type(optimizer).__name__}"
        if id(optimizer) not in hooked:
            said.append(f"{who}: its step has no hooks, so there are no knobs, and every turn of the loop counts as a step")
        elif lr_note(optimizer):
            said.append(f"{who}: lr {lr_note(optimizer)}")
    return said + _schedulers(schedulers, optimizers)


def _schedulers(schedulers: dict[str, Any], optimizers: dict[str, Any]) -> list[str]:
    said = []
    groups = {id(g) for o in optimizers.values() for g in o.param_groups}
    for name, scheduler in schedulers.items():
        who = f"{_of('scheduler', name)} {type(scheduler).__name__}"
        if not (hasattr(scheduler, "state_dict") and hasattr(scheduler, "load_state_dict")):
            said.append(f"{who}: has no state_dict, so a rollback leaves it where it is")
        driven = getattr(scheduler, "optimizer", None)
        # A wrapper (accelerate's, Lightning's) hands out the same group dicts: they say whose schedule this is.
        if optimizers and driven is not None and hasattr(driven, "param_groups") and groups.isdisjoint(map(id, driven.param_groups)):
            said.append(f"{who}: drives an optimizer that was not given to start(): its rate is neither shown nor rolled back")
    return said


def _of(kind: str, name: str) -> str:
    return f"{kind} {name}" if name else kind
