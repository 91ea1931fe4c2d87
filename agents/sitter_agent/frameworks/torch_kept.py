"""Memory for copies of a few layers' weights, on the device where they lie: bounded, allocated once and used again."""

import math

import torch
from torch import Tensor

from sitter_agent.frameworks.torch_grad import dense
from sitter_agent.frameworks.torch_memory import nbytes
from sitter_agent.memory import LARGE, pages

COPY_BYTES = 64 << 20
"""Of weights copied at a time. Where all are more, their layers take turns; of a layer that alone is more, evenly spread rows count."""
DEVICE_SHARE = 1000
"""…and no more than this part of a GPU's memory, to which a training may have been fitted closely."""
ALIGNED = 512
SMALL = 4096
"""Values; so small a parameter is copied whole also where of its layer only some rows are."""


class Kept:
    """Holds one set of copies at a time: what it gave last is overwritten by what it gives next, on the same device."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes that the largest set will take."""
        self._every: dict[int, int] = {}
        """For a layer that is too large: every how manieth row is copied."""
        self._room: dict[torch.device, Tensor] = {}

    def plan(self, layer: int, parameters: list[Tensor], limit: int) -> int:
        """How many bytes that layer will take, at most ``limit``."""
        size = sum(_aligned(p) for p in parameters)
        if size <= limit:
            return size
        self._every[layer] = math.ceil(size / limit)
        return limit

    def room(self, device: torch.device) -> Tensor:
        """The bytes there, allocated when asked for first."""
        room = self._room.get(device)
        if room is None:
            with torch.inference_mode(False):  # made in a script's inference mode, it could not be written outside
                if device.type == "cpu" and self.size >= LARGE:
                    room = torch.frombuffer(pages(self.size), dtype=torch.uint8)
                else:
                    room = torch.empty(self.size, dtype=torch.uint8, device=device)
            self._room[device] = room
        return room

    def let_go(self, kind: str) -> list[torch.device]:
        """Of the memory on devices of this kind, which are told; it is allocated again when it is asked for."""
        gone = [device for device in self._room if device.type == kind]
        for device in gone:
            del self._room[device]
        return gone

    def copies(self, chosen: list[tuple[int, Tensor]]) -> tuple[list[int], list[Tensor], list[Tensor]]:
        """For what of these parameters can be copied: its layer, the live values, and their copies. Fewer where there is no more room."""
        layers: list[int] = []
        live: list[Tensor] = []
        made: list[Tensor] = []
        used: dict[torch.device, int] = {}
        for layer, p in chosen:
            values = dense(p)
            if values is None or (values.dtype is not p.dtype and not p.is_complex()):  # of 8 bits: that would be a fresh copy each time
                continue
            values = _spread(values, self._every.get(layer, 1))
            room, start = self.room(values.device), used.get(values.device, 0)
            size = nbytes(values)
            if start + size > room.numel():
                continue
            used[values.device] = start + _aligned(values)
            flat = room[start : start + size].view(values.dtype)
            layers.append(layer)
            live.append(values)
            made.append(flat.as_strided(values.shape, values.stride()) if _compact(values) else flat.view(values.shape))
        if made:
            torch._foreach_copy_(made, live)
        return layers, live, made


def limit_on(device: torch.device) -> int:
    """Bytes of weights copied at a time."""
    if device.type != "cuda":
        return COPY_BYTES
    return min(COPY_BYTES, int(torch.cuda.get_device_properties(device).total_memory) // DEVICE_SHARE)


def _spread(values: Tensor, every: int) -> Tensor:
    """Every so manieth row, as a view: of an embedding frequent and rare words alike; of few rows, every so manieth value."""
    if every == 1 or values.numel() <= SMALL:
        return values
    if values.shape[0] >= 4 * every or not values.is_contiguous():
        return values[::every]
    return values.view(-1)[::every]


def _compact(values: Tensor) -> bool:
    """Whether they lie without gaps and none twice, in whatever order of dimensions: then copies can lie in the same, which is faster."""
    expected = 1
    for stride, size in sorted(zip(values.stride(), values.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _aligned(t: Tensor) -> int:
    return -(-nbytes(t) // ALIGNED) * ALIGNED
