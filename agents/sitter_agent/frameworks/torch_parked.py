"""The state's memory on a GPU given back for a while: its bytes wait in host memory.

Not the tensors are moved but the storages under them: each is shrunk to nothing and grown again, as FSDP does it. So every parameter, view,
tied weight and flat buffer is afterwards the object that it was, in whatever holds it: optimizers, schedulers, hooks, the script.
"""

import gc
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from sitter_agent.memory import memory_left
from sitter_agent.snapshots import size

LEAST = 1024
"""Bytes; smaller storages stay. They would free nothing, and a rate or a step counter on the device may be asked for meanwhile."""
MARGIN = 256 << 20
"""Bytes of host memory that must be left beside what is moved."""

KIND = "cuda"
"""Of the device that is freed."""

NO_ROOM: Any = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
"""Under its older name before torch 2.5."""

Grow = Callable[[torch.UntypedStorage, int], None]


class Beside(Protocol):
    """Who holds memory of ours on the device, with nothing in it that is needed later. ``take_again`` never raises."""

    def let_go(self, kind: str) -> None:
        """Of all on devices of this kind."""
        ...

    def take_again(self) -> None:
        """Before the training makes other use of what is free."""
        ...


class Parked:
    """``nbytes``: of all that can be moved. ``freed``: how much less the process holds on the device since, with the allocator's cache."""

    def __init__(
        self, tensors: Iterable[Tensor], grow: Grow = lambda storage, n: storage.resize_(n), *, beside: Beside | None = None
    ) -> None:
        self._kind, self._grow, self._beside = KIND, grow, beside
        self._tensors = [t for t in {id(t): t for t in tensors}.values() if _movable(t, KIND)]
        self._devices = {t.device for t in self._tensors}
        self._storages = {s._cdata: s for s in (t.untyped_storage() for t in self._tensors) if s.resizable() and s.nbytes() >= LEAST}
        self.nbytes = sum(s.nbytes() for s in self._storages.values())
        self._host: dict[int, Tensor] = {}
        self.freed = 0

    def no_room(self, need: int = 0) -> str:
        """Why the host cannot take it, or ``need`` bytes where that is more; empty where it can."""
        need, left = max(need, self.nbytes), memory_left()
        if left is None or left >= need + MARGIN:
            return ""
        return f"{size(need)} of state do not fit into the host's memory, of which {size(left)} are left"

    def go(self) -> None:
        """Move it. Raises MemoryError where the host has no room; then nothing was moved. After whatever else, ``back`` puts it right."""
        if why := self.no_room():
            raise MemoryError(why)
        self._settle()
        before = self._held()
        copies: dict[int, Tensor] = {}
        with torch.inference_mode(False), torch.no_grad():
            for key, storage in self._storages.items():
                copies[key] = torch.empty(storage.nbytes(), dtype=torch.uint8, device="cpu")
                copies[key].copy_(_bytes(storage))
        self._settle()
        self._host = copies
        for storage in self._storages.values():
            storage.resize_(0)
        if self._beside is not None:
            self._beside.let_go(self._kind)
        self._give_back()
        self.freed = max(0, before - self._held())

    def back(self) -> None:
        """Every bit where it was. Raises MemoryError where the device has no room: then all of it waits in host memory as before."""
        grown: list[torch.UntypedStorage] = []
        try:
            with torch.no_grad():
                for key, host in self._host.items():
                    storage = self._storages[key]
                    grown.append(storage)
                    self._grow(storage, len(host))
                    _bytes(storage).copy_(host)
            self._settle()
        except NO_ROOM as e:
            for storage in grown:
                storage.resize_(0)
            self._give_back()
            raise MemoryError(f"the GPU has no room for the {size(self.nbytes)} of state: {str(e).split('. ')[0]}") from e
        self._host.clear()
        if self._beside is not None:
            self._beside.take_again()

    def strand(self) -> None:
        """For a training that ends before there is room again: the same tensors, with their values in host memory, so that the script can
        still save them."""
        hosts = {key: host.untyped_storage() for key, host in self._host.items()}
        with torch.no_grad():
            for t in self._tensors:
                host = hosts.get(t.untyped_storage()._cdata)
                if host is not None:
                    t.data = torch.empty(0, dtype=t.dtype, device="cpu").set_(host, t.storage_offset(), t.size(), t.stride())
        self._host.clear()

    def _held(self) -> int:
        if self._kind == "cuda":
            return sum(torch.cuda.memory_reserved(device) for device in self._devices)
        return sum(s.nbytes() for s in self._storages.values())

    def _settle(self) -> None:
        if self._kind == "cuda":
            for device in self._devices:
                torch.cuda.synchronize(device)

    def _give_back(self) -> None:
        if self._kind == "cuda":
            torch.cuda.empty_cache()


def with_gradients(tensors: Iterable[Tensor]) -> list[Tensor]:
    """These, and the gradients of those that have one: what was not stepped on yet is part of what goes on."""
    found = list(tensors)
    return found + [t.grad for t in found if t.is_leaf and t.grad is not None]


def graphs() -> int:
    """CUDA graphs in this process (``torch.compile(mode="reduce-overhead")`` makes them too): they hold the addresses of the state."""
    kind: Any = torch.cuda.CUDAGraph
    return sum(1 for thing in gc.get_objects() if issubclass(type(thing), kind))


def _movable(t: Tensor, kind: str) -> bool:
    return bool(t.device.type == kind and t.layout is torch.strided and not t.is_quantized and _has_storage(t))


def _has_storage(t: Tensor) -> bool:
    try:
        return bool(t.untyped_storage().nbytes() > 0)
    except (RuntimeError, NotImplementedError):  # a subclass with a mind of its own
        return False


def _bytes(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
