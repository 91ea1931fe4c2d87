"""Parameters and buffers of a module: copied out, put back in place, laid out as its ``state_dict`` would be."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sitter_agent.frameworks.torch_memory import Gathered, Leaf, copy_in, drop_grad, thaw

WRAPPERS = ("DistributedDataParallel", "DataParallel")


@dataclass
class ModuleImage:
    """``leaves``: full name → where its copy lies, tied ones under each of their names. ``layout``: the keys of ``state_dict()`` in their
    order; a key that is no parameter or buffer has its value here. ``names``: where such a key is not the tensor's full name."""

    leaves: dict[str, Leaf] = field(default_factory=dict)
    layout: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


def unwrap(module: Any) -> Any:
    """The user's own module inside ``torch.compile`` and data-parallel wrappers, so that names are those of the bare model."""
    while isinstance(module, nn.Module):
        if "_orig_mod" in module._modules:
            module = module._modules["_orig_mod"]
        elif type(module).__name__ in WRAPPERS and "module" in module._modules:
            module = module._modules["module"]
        else:
            break
    return module


def live_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by full name, tied ones under each name; not those without values (meta, not yet initialised)."""
    found: dict[str, Tensor] = {}
    for prefix, part in module.named_modules(remove_duplicate=False):
        dot = f"{prefix}." if prefix else ""
        for own in (part._parameters, part._buffers):
            for name, t in own.items():
                if t is not None and t.device.type != "meta" and not is_lazy(t):
                    found[dot + name] = t
    return found


def without_values(module: nn.Module) -> list[str]:
    """Names of parameters and buffers on the meta device."""
    return [
        name
        for source in (module.named_parameters(), module.named_buffers())
        for name, t in source
        if t.device.type == "meta" and not is_lazy(t)
    ]


def gather(module: nn.Module, path: str, into: Gathered) -> ModuleImage:
    """What there is to copy; tensors go to ``into``."""
    image = ModuleImage()
    by_id: dict[int, str] = {}
    for name, t in live_tensors(module).items():
        first = by_id.setdefault(id(t), name)
        image.leaves[name] = image.leaves[first] if first != name else into.add(t, f"{path}/{name}")
    for key, value in module.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and id(value) in by_id:
            image.layout[key] = image.leaves[by_id[id(value)]]
            if key not in image.leaves:
                image.names[key] = by_id[id(value)]
        elif not isinstance(value, Tensor) or (value.device.type != "meta" and not is_lazy(value)):
            image.layout[key] = into.value(value, f"{path}//{key}")
    return image


def restore(module: nn.Module, image: ModuleImage, host: dict[str, Tensor], name: str) -> list[str]:
    """Put it back in place and drop gradients. Returns what could not be put back, in words."""
    missing, pairs, labels = [], [], []
    done: set[int] = set()
    for full, live in live_tensors(module).items():
        if id(live) in done:
            continue
        done.add(id(live))
        leaf = image.leaves.get(full)
        kept = host.get(leaf.path) if leaf is not None else None
        if kept is None:
            missing.append(f"{name}: {full} was not there yet")
        elif kept.shape != live.shape:
            missing.append(f"{name}: {full} had shape {list(kept.shape)} and has {list(live.shape)} now")
        else:
            pairs.append((live, kept))
            labels.append(full)
    missing += [f"{name}: {labels[i]} would not be written in place" for i in copy_in(pairs)]
    for p in module.parameters():
        drop_grad(p)
    for key, value in image.layout.items():
        owner, _, last = key.rpartition(".")
        if last == "_extra_state" and key not in image.leaves:
            module.get_submodule(owner).set_extra_state(thaw(value, host))
    return few(missing)


def few(sentences: list[str], most: int = 5) -> list[str]:
    """At most ``most`` of them, and how many more there were."""
    rest = len(sentences) - most
    return sentences if rest <= 0 else [*sentences[:most], f"and {rest} more"]
