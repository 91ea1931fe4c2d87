"""The state of an optimizer: copied out, and put back in place.

Never by ``load_state_dict``: that aliases the snapshot, which the next step then corrupts, and replaces the param groups under the
scheduler's feet.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from sitter_agent.frameworks.torch_memory import Gathered, Leaf, copy_in, drop_grad, rebuild, thaw

NOT_VALUES = ("params", "param_names")
"""Keys of a param group that hold no values of the training state."""


COUNTERS = ("step", "mu_product")
"""Keys of a parameter's state that torch keeps on the CPU, where reading them waits for no device, unless capturable or fused."""


@dataclass
class OptimizerImage:
    """``groups``: the plain values of each param group, ``sizes``: how many parameters each has. ``state``: per (group, place in group)
    what the optimizer keeps for that parameter. ``other``: what it keeps under names of its own. ``loose``: parameters that it
    trains and that no model covers."""

    groups: list[dict[str, Any]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    state: dict[tuple[int, int], Any] = field(default_factory=dict)
    other: dict[str, Any] = field(default_factory=dict)
    loose: dict[tuple[int, int], Leaf] = field(default_factory=dict)


def gather(optimizer: Any, path: str, into: Gathered, covered: set[int]) -> OptimizerImage:
    """What there is to copy; tensors go to ``into``. ``covered``: ids of the parameters that a model has already given."""
    image = OptimizerImage()
    for g, group in enumerate(optimizer.param_groups):
        values = {k: v for k, v in group.items() if k not in NOT_VALUES}
        image.groups.append(into.value(values, f"{path}/group{g}"))
        image.sizes.append(len(group["params"]))
        for i, p in enumerate(group["params"]):
            state = optimizer.state.get(p)
            if state is not None:
                image.state[g, i] = into.value(state, f"{path}/{g}.{i}")
            if id(p) not in covered and p.device.type != "meta" and not is_lazy(p):
                image.loose[g, i] = into.add(p, f"{path}/param{g}.{i}")
    for key, value in optimizer.state.items():
        if isinstance(key, str):
            image.other[key] = into.value(value, f"{path}/{key}")
    return image


def tensors(optimizer: Any) -> list[Tensor]:
    """Every tensor in its state."""
    found = Gathered()
    for key, value in optimizer.state.items():
        found.value(value, str(id(key)))
    return list(found.tensors.values())


def restore(optimizer: Any, image: OptimizerImage, host: dict[str, Tensor], name: str) -> list[str]:
    """Put it back in place; state that the image lacks is removed. Returns what could not be put back."""
    missing: list[str] = []
    groups = optimizer.param_groups
    if [len(g["params"]) for g in groups] != image.sizes:
        missing.append(
            f"{name}: its param groups held {image.sizes} parameters then and {[len(g['params']) for g in groups]} now; those that are "
            "new start with empty state"
        )
    put = _Putter(host)
    for g, group in enumerate(groups):
        if g < len(image.groups):
            put.group(group, image.groups[g])
        for i, p in enumerate(group["params"]):
            drop_grad(p)
            if (g, i) in image.loose:
                put.in_place(p, image.loose[g, i])
            want = image.state.get((g, i))
            if want is None:
                optimizer.state.pop(p, None)
                continue
            here = p.device
            step_device = here if group.get("capturable") or group.get("fused") else torch.device("cpu")
            live = optimizer.state.get(p)
            if isinstance(live, dict) and isinstance(want, dict):
                put.mapping(live, want, here, step_device)
            else:
                optimizer.state[p] = put.fresh(want, here, step_device)
    for key in [k for k in optimizer.state if isinstance(k, str) and k not in image.other]:
        del optimizer.state[key]
    for key, want in image.other.items():
        optimizer.state[key] = thaw(want, host)
    if put.finish():
        missing.append(f"{name}: part of its state would not be written in place")
    return missing


class _Putter:
    """Collects the in-place copies, so that they are done at once."""

    def __init__(self, host: dict[str, Tensor]) -> None:
        self._host = host
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._used: set[int] = set()

    def finish(self) -> list[int]:
        return copy_in(self._pairs)

    def in_place(self, live: Any, leaf: Leaf) -> bool:
        """Whether ``live`` takes the value where it lies. A tensor that two places share can take only one: the second gets its own."""
        host = self._host[leaf.path]
        if not isinstance(live, Tensor) or live.shape != host.shape or live.dtype != host.dtype or live.layout != host.layout:
            return False
        if id(live) in self._used:
            return any(a is live and b is host for a, b in self._pairs)
        self._used.add(id(live))
        self._pairs.append((live, host))
        return True

    def fresh(self, want: Any, device: torch.device, step_device: torch.device, key: str = "") -> Any:
        """New tensors on the parameter's device; a step counter where torch keeps it (on the CPU unless capturable or fused)."""

        def visit(leaf: Any, path: str) -> Any:
            if not isinstance(leaf, Leaf):
                return leaf
            at = step_device if (key or path).rsplit("/", 1)[-1] in COUNTERS else device
            return self._host[leaf.path].to(at, copy=True)

        return rebuild(want, key, visit)

    def mapping(self, live: dict[Any, Any], want: dict[Any, Any], device: torch.device, step_device: torch.device) -> None:
        """The state of one parameter. Lists (LBFGS's history) are made anew: their entries move about between steps."""
        for key in [k for k in live if k not in want]:
            del live[key]
        for key, value in want.items():
            now = live.get(key)
            if isinstance(value, Leaf) and self.in_place(now, value):
                continue
            if isinstance(value, dict) and isinstance(now, dict):
                self.mapping(now, value, device, step_device)
            else:
                live[key] = self.fresh(value, device, step_device, str(key))

    def group(self, live: dict[str, Any], want: dict[str, Any]) -> None:
        """The values of one param group. Keys that came since stay: a scheduler made later lives on them."""
        for key, value in want.items():
            now = live.get(key)
            if isinstance(value, Leaf):
                if not self.in_place(now, value):
                    live[key] = self._host[value.path].clone()
            elif isinstance(now, Tensor) and isinstance(value, (int, float)):
                with torch.no_grad():
                    now.fill_(value)
            else:
                live[key] = thaw(value, self._host)
