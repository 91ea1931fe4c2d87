"""A history to write to and read from, and points as an agent would have logged them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sitter.clock import SystemClock
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter_wire.records import Point

SESSION = "s1"
WALL, MONO = 1_700_000_000_000_000_000, 5_000_000_000_000


def make_points(
    n: int, *, names: tuple[str, ...] = ("loss",), first_seq: int = 1, first_step: int = 0, branch: int = 0,
    value: Callable[[int, int], float] = lambda step, i: step + i / 10, every_ns: int = 10_000_000, start_ns: int = MONO, stride: int = 1,
) -> list[Point]:  # fmt: skip
    """``n`` points; ``value(step, i)`` gives the value of the i-th name."""
    return [
        Point(
            first_seq + k, first_step + k * stride, branch, start_ns + (first_seq + k) * every_ns, names,
            tuple(value(first_step + k * stride, i) for i in range(len(names))),
        )
        for k in range(n)
    ]  # fmt: skip


class Store:
    """A writer and a reader on one history."""

    session = SESSION
    wall, mono = WALL, MONO

    def __init__(self, path: Path) -> None:
        self.path = path
        self.committed: list[dict[str, int]] = []
        self._writers: list[Writer] = []
        self.reader = Reader(path)
        self.writer = self.open()

    def open(self, **options: Any) -> Writer:
        """A new writer, started and with the session known."""
        writer = Writer(self.path, on_commit=self.committed.append, clock=SystemClock(), **options)
        self._writers.append(writer)
        writer.start()
        writer.session(SESSION, WALL, MONO, 42)
        self.writer = writer
        return writer

    def put(self, records: list[Any], session: str = SESSION) -> None:
        """Records, committed."""
        assert self.writer.records(session, records)
        assert self.writer.flush(), self.writer.trouble

    def points(self, n: int, **options: Any) -> list[Point]:
        """As ``make_points``."""
        return make_points(n, **options)

    def close(self) -> None:
        """Ends all."""
        self.reader.close()
        for writer in self._writers:
            writer.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "history.db")
    yield made
    made.close()


@pytest.fixture
def points() -> Callable[..., list[Point]]:
    return make_points


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Polls with a deadline, for what has no event."""

    def wait(true: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    return wait
