"""Copies of tensors into host memory that is allocated once and used again.

In place into preallocated memory a copy costs what the memory bus asks; fresh clones pay for every page again (45 ms against 488 at
128 MB). GPU tensors go through a small pinned buffer: torch's pinned allocator rounds every request up to a power of two, so pinning
the whole could take twice the memory.
"""

import copy
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sitter_agent.memory import LARGE, pages

STAGING_BYTES = 32 << 20
"""Two halves, one filled by the device while the other is emptied; a power of two, so that the pinned allocator adds nothing."""


class Leaf(NamedTuple):
    """Stands in a captured value where a tensor was; the tensor lies in the capture's memory under ``path``."""

    path: str


def rebuild(value: Any, path: str, visit: Callable[[Any, str], Any]) -> Any:
    """A copy of nested plain containers, of the same types, with ``visit(leaf, path)`` in place of every Tensor or Leaf.

    Numbers, strings and whatever is not known (functions, modules, the optimizer inside a scheduler's state) go over as they are: copying
    them deeply could copy the whole model.
    """
    kind = type(value)
    if kind is Leaf or isinstance(value, Tensor):
        return visit(value, path)
    if kind is dict:
        return {k: rebuild(v, f"{path}/{k}", visit) for k, v in value.items()}
    if kind is list:
        return [rebuild(v, f"{path}/{i}", visit) for i, v in enumerate(value)]
    if isinstance(value, tuple):
        parts = [rebuild(v, f"{path}/{i}", visit) for i, v in enumerate(value)]
        return kind(*parts) if hasattr(kind, "_fields") else tuple(parts)
    if isinstance(value, dict):
        same = copy.copy(value)  # keeps a Counter a Counter and a defaultdict its factory
        for k, v in value.items():
            same[k] = rebuild(v, f"{path}/{k}", visit)
        return same
    if isinstance(value, deque):
        return deque((rebuild(v, f"{path}/{i}", visit) for i, v in enumerate(value)), value.maxlen)
    if isinstance(value, (set, bytearray)):
        return copy.copy(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return value.copy()
    return value


class Gathered:
    """What one capture is to hold: live tensors by path, in order."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def add(self, tensor: Tensor, path: str) -> Leaf:
        """Note a live tensor."""
        self.tensors[path] = tensor
        return Leaf(path)

    def value(self, value: Any, path: str) -> Any:
        """A copy of ``value`` whose tensors are noted here and replaced by leaves."""
        return rebuild(value, path, self.add)


def thaw(value: Any, host: dict[str, Tensor]) -> Any:
    """A captured value with its tensors again: clones, so that nobody writes into the capture."""
    return rebuild(value, "", lambda leaf, _: host[leaf.path].clone() if isinstance(leaf, Leaf) else leaf)


def is_plain(t: Tensor) -> bool:
    """Whether it can be copied by foreach into an ordinary host tensor: dense, real memory, no subclass with a mind of its own."""
    return t.layout is torch.strided and not t.is_quantized and type(t.detach()) is Tensor


def nbytes(t: Tensor) -> int:
    """Bytes of its values (a sparse tensor: of values and indices)."""
    if t.layout is torch.sparse_coo:
        return nbytes(t._values()) + nbytes(t._indices())
    return int(t.numel() * t.element_size())


def copy_out(live: dict[str, Tensor], pool: dict[str, Tensor], staging: "Staging | None" = None) -> dict[str, Tensor]:
    """Host copies of ``live`` by path, in the memory of ``pool`` (an earlier result) where shape and type fit.

    A tensor that stands under two paths is copied once.
    """
    with torch.inference_mode(False), torch.no_grad():  # memory made in a script's inference mode could not be written outside of it
        return _copied(live, pool, staging)


def _copied(live: dict[str, Tensor], pool: dict[str, Tensor], staging: "Staging | None") -> dict[str, Tensor]:
    host: dict[str, Tensor] = {}
    done: dict[int, Tensor] = {}
    taken: set[int] = set()
    near: tuple[list[Tensor], list[Tensor]] = ([], [])
    far: tuple[list[Tensor], list[Tensor]] = ([], [])
    for path, tensor in live.items():
        copied = done.get(id(tensor))
        if copied is None:
            source = tensor.detach()
            if not is_plain(source):
                copied = source.cpu().clone() if source.device.type != "cpu" else source.clone()
            else:
                copied = _room(pool.get(path), source, taken)
                sources, targets = near if source.device.type == "cpu" else far
                sources.append(source)
                targets.append(copied)
            taken.add(id(copied))
            done[id(tensor)] = copied
        host[path] = copied
    if near[0]:
        torch._foreach_copy_(near[1], near[0])
    if far[0]:
        _from_device(far[0], far[1], staging)
    return host


def _room(old: Tensor | None, source: Tensor, taken: set[int]) -> Tensor:
    """Host memory for ``source``: the old one where it fits and nobody has taken it for this capture."""
    if old is not None and old.shape == source.shape and old.dtype == source.dtype and id(old) not in taken and is_plain(old):
        return old
    nbytes = source.numel() * source.element_size()
    if nbytes < LARGE or not source.is_contiguous():
        return torch.empty_like(source, device="cpu")
    return torch.frombuffer(pages(nbytes), dtype=source.dtype).view(source.shape)


def copy_in(pairs: Iterable[tuple[Tensor, Tensor]]) -> list[int]:
    """Copy host tensors into live ones, in place: pairs (live, host). Returns the indices of pairs that would not be written."""
    near: dict[int, tuple[Tensor, Tensor]] = {}
    failed = []
    with torch.no_grad():
        for i, (live, host) in enumerate(pairs):
            if live.device.type == "cpu" and is_plain(live) and is_plain(host):
                near[i] = (live.detach(), host)
            elif not _written(live, host):
                failed.append(i)
        if near:
            try:
                torch._foreach_copy_([live for live, _ in near.values()], [host for _, host in near.values()])
            except RuntimeError:  # one that cannot be written (an expanded buffer) must not keep the others back
                failed += [i for i, (live, host) in near.items() if not _written(live, host)]
    return sorted(failed)


def _written(live: Tensor, host: Tensor) -> bool:
    """Whether ``live`` holds the values of ``host`` now."""
    try:
        live.copy_(host)  # itself: a sparse tensor's detached twin would get new values, and it would not
    except (RuntimeError, NotImplementedError, TypeError):
        return _equal(live, host)  # a constant that is expanded over its shape stands as it stood
    return True


def _equal(live: Tensor, host: Tensor) -> bool:
    try:
        return bool(torch.equal(live.cpu(), host))
    except (RuntimeError, NotImplementedError, TypeError):
        return False


def drop_grad(p: Tensor) -> None:
    """Its gradient counts no more.

    On a GPU its memory stays, zeroed: a CUDA graph goes on writing there and nowhere else, and an optimizer that steps outside
    of the graph would find no gradient, for which a ``GradScaler`` raises.
    """
    if p.grad is not None and p.is_cuda and p.grad.layout is torch.strided:
        with torch.no_grad():
            p.grad.detach().zero_()
    else:
        p.grad = None


class Staging:
    """A small buffer between device and pageable host memory, pinned where there is CUDA.

    The device fills one half while the other is emptied into its places. On a CPU build it is ordinary memory, and nothing waits.
    """

    def __init__(self, size: int = STAGING_BYTES) -> None:
        self.half = size // 2
        pin = torch.cuda.is_available()
        self._buffer = torch.empty(self.half * 2, dtype=torch.uint8, pin_memory=pin, device="cpu")
        self._events: list[Any] = [None, None]

    def fetch(self, sources: list[Tensor], targets: list[Tensor]) -> None:
        """Copy contiguous tensors of one device into contiguous host tensors of the same sizes, all bytes."""
        device = sources[0].device
        if device.type != "cuda":
            self._fetch(sources, targets)
            return
        with torch.cuda.device(device):  # an event waits for the stream of the current device, and belongs to it
            self._events = [torch.cuda.Event(), torch.cuda.Event()]
            self._fetch(sources, targets)

    def _fetch(self, sources: list[Tensor], targets: list[Tensor]) -> None:
        waiting: list[tuple[Tensor, Tensor]] = []
        side, used = 0, 0
        filling: list[tuple[Tensor, Tensor]] = []
        for source, target in zip(sources, targets, strict=True):
            src, dst = source.reshape(-1).view(torch.uint8), target.reshape(-1).view(torch.uint8)
            at, total = 0, src.numel()
            while at < total:
                n = min(total - at, self.half - used)
                start = side * self.half + used
                stage = self._buffer[start : start + n]
                stage.copy_(src[at : at + n], non_blocking=True)
                filling.append((dst[at : at + n], stage))
                at, used = at + n, used + n
                if used == self.half:
                    self._mark(side)
                    self._drain(1 - side, waiting)
                    waiting, filling, side, used = filling, [], 1 - side, 0
        self._mark(side)
        self._drain(1 - side, waiting)
        self._drain(side, filling)

    def _mark(self, side: int) -> None:
        if self._events[side] is not None:
            self._events[side].record()

    def _drain(self, side: int, pieces: list[tuple[Tensor, Tensor]]) -> None:
        if pieces and self._events[side] is not None:
            self._events[side].synchronize()
        for place, stage in pieces:
            place.copy_(stage)


def _from_device(sources: list[Tensor], targets: list[Tensor], staging: Staging | None) -> None:
    """CUDA through the staging buffer where both sides are contiguous; everything else by a plain copy."""
    through: dict[torch.device, tuple[list[Tensor], list[Tensor]]] = {}
    for source, target in zip(sources, targets, strict=True):
        if staging is not None and source.is_cuda and source.is_contiguous() and target.is_contiguous() and source.numel():
            theirs = through.setdefault(source.device, ([], []))
            theirs[0].append(source)
            theirs[1].append(target)
        else:
            target.copy_(source)
    if staging is not None:
        for theirs in through.values():
            staging.fetch(*theirs)
