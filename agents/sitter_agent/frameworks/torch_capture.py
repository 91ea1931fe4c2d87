"""One copy of a torch training state in host memory, and the parts that are neither module nor optimizer."""

import copy
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sitter_agent.frameworks import torch_model
from sitter_agent.frameworks.torch_memory import Gathered, Leaf, copy_in, nbytes, thaw
from sitter_agent.frameworks.torch_model import ModuleImage
from sitter_agent.frameworks.torch_optimizer import OptimizerImage


@dataclass
class TorchCapture:
    """Parts by the names they were given; ``host`` holds the tensors of all, by path. ``from_file``: container types may have been
    simplified on the way. ``whole`` is False while it is being written."""

    models: dict[str, ModuleImage] = field(default_factory=dict)
    optimizers: dict[str, OptimizerImage] = field(default_factory=dict)
    schedulers: dict[str, Any] = field(default_factory=dict)
    scaler: Any = None
    rng: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Tensor] = field(default_factory=dict)
    from_file: bool = False
    whole: bool = False

    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(nbytes(t) for t in {id(t): t for t in self.host.values()}.values())


def named(value: Any) -> dict[str, Any]:
    """One thing, a dict, a list or None, as a dict; a single one has the empty name."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {str(k): v for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return {str(i): v for i, v in enumerate(value) if v is not None} if len(value) != 1 else {"": value[0]}
    return {"": value}


def gather_rng(into: Gathered) -> dict[str, Any]:
    """The generators of torch: CPU, and every CUDA device where CUDA has been used."""
    found: dict[str, Any] = {"torch": into.add(torch.get_rng_state(), "rng/torch")}
    if torch.cuda.is_initialized():
        states = torch.cuda.get_rng_state_all()
        found["cuda"] = [into.add(state, f"rng/cuda{i}") for i, state in enumerate(states)]
    return found


def restore_rng(captured: dict[str, Any], host: dict[str, Tensor]) -> list[str]:
    """Put the generators back. Returns what could not be."""
    if "torch" in captured:
        torch.set_rng_state(host[captured["torch"].path])
    devices = captured.get("cuda", [])
    if not devices:
        return []
    if not torch.cuda.is_available() or torch.cuda.device_count() != len(devices):
        return [f"random numbers of {len(devices)} CUDA devices: this process has another number of devices"]
    torch.cuda.set_rng_state_all([host[leaf.path] for leaf in devices])
    return []


def gather_extra(thing: Any, path: str, into: Gathered) -> Any:
    """What there is to copy of a module, a tensor, a generator, or anything with ``state_dict``. Raises TypeError for the rest."""
    if isinstance(thing, nn.Module):
        return torch_model.gather(thing, path, into)
    if isinstance(thing, Tensor):
        return into.add(thing, path)
    if isinstance(thing, torch.Generator):
        return into.add(thing.get_state(), path)
    if hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
        return into.value(thing.state_dict(), path)
    raise TypeError(f"extra: expected a module, tensor, generator or something with state_dict, found {type(thing).__name__}")


def restore_extra(thing: Any, captured: Any, host: dict[str, Tensor], name: str, *, from_file: bool) -> list[str]:
    """Put one of ``extra`` back in place. Returns what could not be."""
    if isinstance(thing, nn.Module) and isinstance(captured, ModuleImage):
        return torch_model.restore(thing, captured, host, name)
    if isinstance(thing, Tensor) and isinstance(captured, Leaf):
        kept = host[captured.path]
        if kept.shape != thing.shape or copy_in([(thing, kept)]):
            return [f"{name}: had shape {list(kept.shape)} and has {list(thing.shape)} now"]
        return []
    if isinstance(thing, torch.Generator) and isinstance(captured, Leaf):
        thing.set_state(host[captured.path])
        return []
    return load_state(thing, captured, host, name, from_file=from_file)


def load_state(thing: Any, captured: Any, host: dict[str, Tensor], name: str, *, from_file: bool) -> list[str]:
    """By the thing's own ``load_state_dict``, with a copy of its own, since schedulers keep what they are given."""
    if not hasattr(thing, "load_state_dict"):
        return [f"{name}: {type(thing).__name__} has no load_state_dict and goes on as it is"]
    state = thaw(captured, host)
    if from_file and hasattr(thing, "state_dict"):
        state = like(thing.state_dict(), state)
    thing.load_state_dict(state)
    return []


def like(live: Any, value: Any) -> Any:
    """``value`` in the container types of ``live``, which a file simplified: a defaultdict again, a deque, a Path."""
    kind = type(live)
    if isinstance(live, dict) and isinstance(value, dict):
        same = copy.copy(live)
        if kind is not dict:
            same.clear()
        else:
            same = {k: v for k, v in live.items() if k not in value and _unsaveable(v)}
        for k, v in value.items():
            same[k] = like(live.get(k), v)
        return same
    if isinstance(live, tuple) and hasattr(kind, "_fields") and isinstance(value, (list, tuple)):
        return kind(*value)
    if isinstance(live, list) and isinstance(value, list):
        return [like(a, v) for a, v in zip(live, value, strict=True)] if len(live) == len(value) else value
    if isinstance(live, deque) and isinstance(value, list):
        return deque(value, live.maxlen)
    if value is None or live is None or isinstance(value, kind) or isinstance(live, (Tensor, int, float)):
        return value
    try:
        return kind(value)
    except (TypeError, ValueError):
        return value


def _unsaveable(value: Any) -> bool:
    """Whether a file could not have held it (a function, an object): then the live one stays."""
    return not isinstance(value, (type(None), bool, int, float, str, bytes, list, tuple, dict, set, Tensor))
