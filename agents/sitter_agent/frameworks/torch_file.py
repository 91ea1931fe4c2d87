"""A capture as a file that ``torch.load(path, weights_only=True)`` reads without sitter.

    {"model": state_dict, "optimizer": state_dict, "scheduler": …, "scaler": …, "rng": …, "extra": …, "buffers": …, "params": …,
     "layout": how to read it, "sitter": meta}

Where several models or optimizers were given, their entries are dicts by name.
"""

import zipfile
from collections import Counter, OrderedDict
from pathlib import PurePath
from typing import Any, BinaryIO

import torch
from torch import Tensor

from sitter_agent.frameworks.torch_capture import TorchCapture
from sitter_agent.frameworks.torch_memory import Gathered, Leaf, rebuild
from sitter_agent.frameworks.torch_model import ModuleImage
from sitter_agent.frameworks.torch_optimizer import OptimizerImage

FORMAT = 1
ARRAY = "__ndarray__"
_DROPPED = object()


def save(capture: TorchCapture, file: BinaryIO, meta: dict[str, object]) -> None:
    """Stream ``capture`` into ``file``, which needs no more than ``write``."""
    host = capture.host
    whole: dict[str, Any] = {
        "model": _one_or_named({n: _plain(image.layout, host) for n, image in capture.models.items()}),
        "optimizer": _one_or_named({n: _optimizer_to_plain(image, host) for n, image in capture.optimizers.items()}),
        "scheduler": _one_or_named({n: _plain(state, host) for n, state in capture.schedulers.items()}),
        "scaler": _plain(capture.scaler, host),
        "rng": _plain(capture.rng, host),
        "extra": {n: _extra_to_plain(value, host) for n, value in capture.extra.items()},
        "buffers": {n: _beside(image, host) for n, image in capture.models.items()},
        "params": {
            n: {f"{g}.{i}": host[leaf.path] for (g, i), leaf in image.loose.items()} for n, image in capture.optimizers.items()
        },
        "layout": {
            "format": FORMAT,
            "names": {kind: list(part) for kind, part in _parts(capture).items()},
            "tensor_names": {n: image.names for n, image in capture.models.items()},
            "modules": [n for n, value in capture.extra.items() if isinstance(value, ModuleImage)],
        },
        "sitter": _plain(meta, host),
    }
    torch.save(whole, file)


def load(file: BinaryIO) -> tuple[TorchCapture, dict[str, object]]:
    """Read what ``save`` wrote. Raises ValueError where the file is cut short, altered, or something else.

    The zip checksums are compared first: torch itself reads altered numbers without a word.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"checkpoint is altered: {damaged} does not fit its checksum; use another checkpoint")
        file.seek(0)
        whole = torch.load(file, map_location="cpu", weights_only=True)
    except ValueError:
        raise
    except Exception as e:
        raise ValueError(f"checkpoint cannot be read ({type(e).__name__}: {_first_line(e)}); use another checkpoint") from e
    if not isinstance(whole, dict) or not isinstance(whole.get("layout"), dict) or "sitter" not in whole:
        raise ValueError("this is a torch file, but no checkpoint of sitter: expected the entries model, optimizer, layout, sitter")
    if whole["layout"].get("format") != FORMAT:
        raise ValueError(f"checkpoint has format {whole['layout'].get('format')}, expected {FORMAT}: upgrade sitter")
    try:
        return _read(whole)
    except (KeyError, TypeError, AttributeError, IndexError) as e:
        raise ValueError(f"checkpoint lacks what its layout promises ({type(e).__name__}: {e}); use another checkpoint") from e


def _read(whole: dict[str, Any]) -> tuple[TorchCapture, dict[str, object]]:
    layout, into = whole["layout"], Gathered()
    names = layout["names"]
    capture = TorchCapture(from_file=True, whole=True)
    for n, state in _by_name(whole["model"], names["models"]).items():
        capture.models[n] = _module_from_plain(state, whole["buffers"][n], layout["tensor_names"][n], f"model:{n}", into)
    for n, state in _by_name(whole["optimizer"], names["optimizers"]).items():
        capture.optimizers[n] = _optimizer_from_plain(state, whole["params"][n], f"optimizer:{n}", into)
    for n, state in _by_name(whole["scheduler"], names["schedulers"]).items():
        capture.schedulers[n] = into.value(_revived(state), f"scheduler:{n}")
    capture.scaler = into.value(_revived(whole["scaler"]), "scaler")
    capture.rng = into.value(whole["rng"], "rng")
    for n, value in whole["extra"].items():
        if n in layout["modules"]:
            capture.extra[n] = _module_from_plain(value["state"], value["buffers"], value["names"], f"extra:{n}", into)
        else:
            capture.extra[n] = into.value(_revived(value), f"extra:{n}")
    capture.host = into.tensors
    return capture, _revived(whole["sitter"])


def _parts(capture: TorchCapture) -> dict[str, dict[str, Any]]:
    return {"models": capture.models, "optimizers": capture.optimizers, "schedulers": capture.schedulers}


def _one_or_named(parts: dict[str, Any]) -> Any:
    return parts[""] if list(parts) == [""] else parts


def _by_name(part: Any, names: list[str]) -> dict[str, Any]:
    return {"": part} if names == [""] else {n: part[n] for n in names}


# -- parts -----------------------------------------------------------------------------------------------------------


def _beside(image: ModuleImage, host: dict[str, Tensor]) -> dict[str, Tensor]:
    """Buffers that ``state_dict`` leaves out (persistent=False)."""
    inside = {leaf.path for leaf in image.layout.values() if isinstance(leaf, Leaf)}
    return {name: host[leaf.path] for name, leaf in image.leaves.items() if leaf.path not in inside}


def _extra_to_plain(value: Any, host: dict[str, Tensor]) -> Any:
    if isinstance(value, ModuleImage):
        return {"state": _plain(value.layout, host), "buffers": _beside(value, host), "names": dict(value.names)}
    return _plain(value, host)


def _module_from_plain(
    state: dict[str, Any], beside: dict[str, Tensor], names: dict[str, str], path: str, into: Gathered
) -> ModuleImage:
    image = ModuleImage(names=dict(names))
    for key, value in state.items():
        image.layout[key] = into.value(_revived(value), f"{path}//{key}")
        if isinstance(image.layout[key], Leaf):
            image.leaves[names.get(key, key)] = image.layout[key]
    for name, value in beside.items():
        image.leaves[name] = into.add(value, f"{path}/{name}")
    return image


def _optimizer_to_plain(image: OptimizerImage, host: dict[str, Tensor]) -> dict[str, Any]:
    """As ``torch.optim.Optimizer.state_dict`` lays it out: parameters numbered through the groups."""
    number: dict[tuple[int, int], int] = {}
    groups = []
    for g, (values, size) in enumerate(zip(image.groups, image.sizes, strict=True)):
        for i in range(size):
            number[g, i] = len(number)
        groups.append({**_plain(values, host), "params": [number[g, i] for i in range(size)]})
    state: dict[Any, Any] = {number[at]: _plain(value, host) for at, value in image.state.items()}
    state.update({key: _plain(value, host) for key, value in image.other.items()})
    return {"state": state, "param_groups": groups}


def _optimizer_from_plain(plain: dict[str, Any], loose: dict[str, Tensor], path: str, into: Gathered) -> OptimizerImage:
    image, at = OptimizerImage(), {}
    for g, group in enumerate(plain["param_groups"]):
        values = {k: _revived(v) for k, v in group.items() if k != "params"}
        image.groups.append(into.value(values, f"{path}/group{g}"))
        image.sizes.append(len(group["params"]))
        at.update({n: (g, i) for i, n in enumerate(group["params"])})
    for key, value in plain["state"].items():
        if isinstance(key, str):
            image.other[key] = into.value(_revived(value), f"{path}/{key}")
        else:
            g, i = at[key]
            image.state[g, i] = into.value(_revived(value), f"{path}/{g}.{i}")
    for place, tensor in loose.items():
        g, i = (int(n) for n in place.split("."))
        image.loose[g, i] = into.add(tensor, f"{path}/param{place}")
    return image


# -- values ----------------------------------------------------------------------------------------------------------


def _plain(value: Any, host: dict[str, Tensor]) -> Any:
    """``value`` in what ``weights_only`` allows: tensors, numbers, strings and plain containers. What is neither is left out."""
    found = _plain_or_dropped(value, host)
    return None if found is _DROPPED else found


def _plain_or_dropped(value: Any, host: dict[str, Tensor]) -> Any:
    if isinstance(value, Leaf):
        return host[value.path]
    kind = type(value)
    if value is None or kind in (bool, int, float, str, bytes, complex) or isinstance(value, (Tensor, torch.dtype, torch.device)):
        return value
    if isinstance(value, dict):
        made = {_key(k): _plain_or_dropped(v, host) for k, v in value.items()}
        made = {k: v for k, v in made.items() if v is not _DROPPED}
        return Counter(made) if kind is Counter else OrderedDict(made) if kind is OrderedDict else made
    if isinstance(value, tuple):
        return tuple(_plain(v, host) for v in value)
    if isinstance(value, (list, set, frozenset)) or kind.__name__ == "deque":
        return [_plain(v, host) for v in value]
    if isinstance(value, PurePath):
        return str(value)
    if kind.__module__ == "numpy" and hasattr(value, "dtype"):
        return value.item() if kind.__name__ != "ndarray" else _array(value)
    for base in (int, float, str):
        if isinstance(value, base):
            return base(value)
    return _DROPPED


def _key(key: Any) -> Any:
    return key if type(key) in (str, int, float, bool, tuple) else str(key)


def _array(value: Any) -> Any:
    try:
        return {ARRAY: torch.from_numpy(value.copy())}
    except TypeError:
        return value.tolist()


def _revived(value: Any) -> Any:
    """Arrays again where the file holds their tensors."""

    def walk(v: Any) -> Any:
        if isinstance(v, dict):
            if set(v) == {ARRAY}:
                return v[ARRAY].numpy()
            for k, inner in v.items():
                v[k] = walk(inner)
            return v
        if isinstance(v, (list, tuple)):
            return type(v)(walk(inner) for inner in v)
        return v

    return walk(rebuild(value, "", lambda t, _: t))


def _first_line(e: Exception) -> str:
    return str(e).strip().split("\n")[0][:200]
