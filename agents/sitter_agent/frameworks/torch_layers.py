"""What a model's layers are and what they are called: at most 16 of them, by the path of their modules."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

MOST_LAYERS = 16
FEW = MOST_LAYERS // 2
"""So many layers a shorter path has to leave, else numbered modules (the blocks of a deep network) are merged with their neighbours."""
WRAPPED = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""What torch's wrappers put between a module and its name; nobody calls a layer so."""


def layers(models: Mapping[str, nn.Module]) -> dict[str, list[Tensor]]:
    """The trainable parameters of each layer, in the order of the models and in each in the order of its modules.

    A layer is a module that owns parameters, named by its path, behind the model's name where that has one (``G.blocks.0``); what the root
    itself owns goes by its own name. Where they are more than ``MOST_LAYERS``, by the beginnings of their paths, then merged with their
    neighbours (``blocks.0-3``). A parameter that several share (tied weights) is counted with the first of them.
    """
    found: dict[tuple[str, ...], list[Tensor]] = {}
    seen: set[int] = set()
    for name, model in models.items():
        for path, module in model.named_modules():
            at = (*([name] if name else []), *(part for part in path.split(".") if part and part not in WRAPPED))
            for own, p in module._parameters.items():
                if p is None or id(p) in seen or not counts(p):
                    continue
                seen.add(id(p))
                found.setdefault(at if path else (*at, own), []).append(p)
    names = layer_names(list(found))
    out: dict[str, list[Tensor]] = {}
    for path_parts, parameters in found.items():
        out.setdefault(names[path_parts], []).extend(parameters)
    return out


def layer_names(paths: Sequence[tuple[str, ...]], most: int = MOST_LAYERS) -> dict[tuple[str, ...], str]:
    """The layer that each module's path belongs to; the layers stand in the order of their first paths.

    >>> layer_names([("blocks", str(i), part) for i in range(6) for part in ("attn", "mlp", "norm")])[("blocks", "0", "mlp")]
    'blocks.0'
    """
    depth = max(map(len, paths), default=0)
    while depth > 1 and len({path[:depth] for path in paths}) > most:
        depth -= 1
    heads = list(dict.fromkeys(path[:depth] for path in paths))
    if len(heads) < FEW and any(len(path) > depth for path in paths):
        depth += 1  # so deep they are too many: the numbered ones among them stay, by several
        heads = _numbered_only(paths, depth)
    joined = _joined(heads, most)
    out = {}
    for path in paths:
        head = next(path[:n] for n in range(min(depth, len(path)), 0, -1) if path[:n] in joined)
        out[path] = joined[head]
    return out


def _numbered_only(paths: Iterable[tuple[str, ...]], depth: int) -> list[tuple[str, ...]]:
    """The paths' beginnings of that depth where they end in a number, and one shorter elsewhere."""
    return list(
        dict.fromkeys(path[:depth] if len(path) >= depth and path[depth - 1].isdigit() else path[: depth - 1] for path in paths)
    )


def _joined(heads: list[tuple[str, ...]], most: int) -> dict[tuple[str, ...], str]:
    """A name for each; where they are too many, as few neighbours as possible share one: first those with numbers, then all."""
    for numbered in (True, False):
        for size in range(1, len(heads) + 2):
            chunks = _chunks(heads, size, numbered)
            if len(chunks) <= most:
                return {head: _span(chunk) for chunk in chunks for head in chunk}
    raise AssertionError("one chunk of all is at most any number of them")


def _chunks(heads: list[tuple[str, ...]], size: int, numbered: bool) -> list[list[tuple[str, ...]]]:
    """Neighbours, ``size`` to a chunk; ``numbered``: of one parent and with a number, the others alone."""
    chunks: list[list[tuple[str, ...]]] = []
    for head in heads:
        last = chunks[-1] if chunks else []
        alike = not numbered or (head[-1].isdigit() and last and last[-1][-1].isdigit() and last[-1][:-1] == head[:-1])
        if last and alike and len(last) < size:
            last.append(head)
        else:
            chunks.append([head])
    return chunks


def _span(chunk: list[tuple[str, ...]]) -> str:
    first, last = chunk[0], chunk[-1]
    if first == last:
        return ".".join(first)
    return f"{'.'.join(first)}-{last[-1] if first[:-1] == last[:-1] else '.'.join(last)}"


def counts(p: Tensor) -> bool:
    """Whether it is trained, has values, and they are all here: of a sharded parameter this process has only a part."""
    return p.requires_grad and not is_lazy(p) and p.device.type != "meta" and not _sharded(p)


def _sharded(p: Tensor) -> bool:
    return bool(getattr(p, "_is_flat_param", False)) or hasattr(p, "placements")


def unheld(models: Mapping[str, nn.Module], optimizers: Iterable[Any], things: Iterable[Any] = ()) -> list[str]:
    """One sentence for each model with trainable parameters that no optimizer holds: no step changes them. ``things`` of this process are
    looked at for optimizers too.

    Nothing is said where it is not known: without an optimizer, with one that does not show its parameters, of sharded models.
    """
    held: set[int] = set()
    known = list(optimizers)
    if not known or not all(hasattr(o, "param_groups") for o in known):
        return []
    others = (thing for thing in things if isinstance(thing, torch.optim.Optimizer))
    for optimizer in (*known, *others):
        held.update(id(p) for group in getattr(optimizer, "param_groups", ()) for p in group["params"])
    said = []
    for name, model in models.items():
        named = list(model.named_parameters(prefix=name))
        if any(_sharded(p) for _, p in named):
            continue
        left = [full for full, p in named if p.requires_grad and id(p) not in held]
        if left:
            are, them = (f"and {len(left) - 1} more are", "them") if len(left) > 1 else ("is", "it")
            said.append(f"{left[0]} {are} trainable but no optimizer holds {them}: no step will change {them}")
    return said
