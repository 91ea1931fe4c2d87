"""Values for ``log``: floats at once; values on a GPU without ever waiting for the GPU."""

import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

MAX_PENDING = 64

Record = Callable[[int, int, dict[str, float]], object]


class Lot(Protocol):
    """Numbers that belong together, in vectors of which some may lie on a GPU. A ``sample`` may have one among its values."""

    vectors: list[Any]

    def values(self, numbers: list[list[float]]) -> list[dict[str, float]]:
        """What the numbers in ``vectors`` say, in sets of which each is one record."""
        ...


class Pending:
    """GPU values on their way to host memory: copied ``non_blocking`` into pinned memory, their events queried, never waited for."""

    def __init__(self, record: Record, lost: Callable[[], object] = lambda: None) -> None:
        """``lost`` is told of each value that is dropped."""
        self._record, self._lost = record, lost
        self._waiting: deque[tuple[int, int, str | Lot, Any, Any]] = deque()
        self._buffers: list[Any] | None = None
        self._lot_at: Any = None
        """Pinned memory for a lot. There is one at a time."""
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, step: int, branch: int, name: str, value: Any) -> None:
        """Start the copy of a 0-d (or one-element) CUDA tensor. Dropped and counted beyond ``MAX_PENDING``, and in a CUDA graph."""
        torch = sys.modules["torch"]
        if torch.cuda.is_current_stream_capturing():  # pinning or asking now would break the script's capture of a CUDA graph
            self._drop()
            return
        if len(self._waiting) >= MAX_PENDING:
            self.poll()
            if len(self._waiting) >= MAX_PENDING:
                self._drop()
                return
        with torch.no_grad(), torch.cuda.device(value.device):
            # Converted on the GPU first: a non_blocking copy between types goes through pageable memory, which waits.
            number = value.detach().reshape(()).to(torch.float64)
            if self._buffers is None:  # once and for all: pinning memory may make the GPU's streams wait for each other
                with torch.inference_mode(False):  # made in a script's inference mode, none of it could be written outside
                    made = torch.empty(MAX_PENDING, dtype=torch.float64, pin_memory=True, device="cpu")
                    self._buffers = list(made.unbind())
            buffer = self._buffers.pop()
            buffer.copy_(number, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._waiting.append((step, branch, name, buffer, event))

    def add_lot(self, step: int, branch: int, lot: Lot) -> None:
        """Record a lot at once where it lies in host memory, else start its copy. Dropped while another one is on its way, as above."""
        torch = sys.modules["torch"]
        far = [vector for vector in lot.vectors if vector.is_cuda]
        if not far:
            for values in lot.values([vector.tolist() for vector in lot.vectors]):
                self._record(step, branch, values)
            return
        if torch.cuda.is_current_stream_capturing() or any(type(name) is not str for _, _, name, _, _ in self._waiting):
            self._drop()
            return
        total = sum(vector.numel() for vector in lot.vectors)
        with torch.no_grad():
            if self._lot_at is None or self._lot_at.numel() < total:
                with torch.inference_mode(False):
                    self._lot_at = torch.empty(total, dtype=torch.float64, pin_memory=True, device="cpu")
            rows = self._lot_at[:total].split([vector.numel() for vector in lot.vectors])
            events = []
            for row, vector in zip(rows, lot.vectors, strict=True):
                if not vector.is_cuda:
                    row.copy_(vector)
                    continue
                with torch.cuda.device(vector.device):
                    row.copy_(vector.to(torch.float64), non_blocking=True)
                    event = torch.cuda.Event()
                    event.record()
                events.append(event)
        self._waiting.append((step, branch, lot, rows, _All(events)))

    def _drop(self) -> None:
        self.dropped += 1
        self._lost()

    def poll(self) -> None:
        """Record under their own step those that have arrived. In order: behind one that has not, nothing is looked at."""
        ready: list[tuple[int, int, dict[str, float]]] = []
        lots: list[tuple[int, int, dict[str, float]]] = []
        free = self._buffers if self._buffers is not None else []
        while self._waiting and self._waiting[0][4].query():
            step, branch, name, buffer, _ = self._waiting.popleft()
            if not isinstance(name, str):
                lots.extend((step, branch, values) for values in name.values([row.tolist() for row in buffer]))
                continue
            if not ready or ready[-1][:2] != (step, branch) or name in ready[-1][2]:  # a step of several turns logs several times
                ready.append((step, branch, {}))
            ready[-1][2][name] = float(buffer)
            free.append(buffer)
        ready += lots  # in records of their own: mixed with what happens to arrive beside them, each mixture would be another set of names
        for step, branch, values in ready:
            self._record(step, branch, values)


class _All:
    """Several devices' events as one."""

    def __init__(self, events: list[Any]) -> None:
        self._events = events

    def query(self) -> bool:
        """Whether all have come."""
        return all(event.query() for event in self._events)


def on_gpu(value: Any) -> bool:
    """Whether it is one number that this process would wait for a CUDA device to read."""
    return bool(getattr(value, "is_cuda", False)) and value.numel() == 1
