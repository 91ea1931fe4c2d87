"""Where fresh segments come from: numbered, kept under the cap, and asked for again only after a while where the disk
refused."""

import time
from collections.abc import Callable
from pathlib import Path

from sitter_agent.say import Once
from sitter_agent.segments import PAGE, Segment, allocate, delete_foreign, files_of_others
from sitter_wire.events import AnyEvent, Gap, Remark
from sitter_wire.records import segment_name

RETRY_NS = 1_000_000_000
"""Between two tries to get a segment from a disk that refused one."""


class Supply:
    """Makes one session's segment files. ``notes`` collects the events that should be recorded once there is room.

    ``refused`` is why the disk gave none at the last try, None where it did.
    """

    def __init__(self, directory: Path, session: str, segment_bytes: int, cap_bytes: int, once: Once) -> None:
        self._directory, self._session = directory, session
        self._bytes, self._cap = -(-segment_bytes // PAGE) * PAGE, cap_bytes
        self._once = once
        self._made = 0
        self._retry_at = 0
        self._others = 0
        self.notes: list[AnyEvent] = []
        self.refused: OSError | None = None
        self.look_around()

    def look_around(self) -> None:
        """Count the bytes of the run's other sessions; reads directories, so not from inside ``log``."""
        self._others = sum(size for _, size in files_of_others(self._directory, self._session))

    def make(
        self,
        need: int,
        held: Callable[[], int],
        drop_oldest: Callable[[], Segment | None],
        breathe: Callable[[], None] | None = None,
    ) -> Segment | None:
        """A fresh segment of at least ``need`` bytes; None where the disk refuses.

        ``held``: bytes in this session's segments; ``drop_oldest`` lets go of the oldest that may go, None where there
        is none.
        """
        now = time.monotonic_ns()
        if self.refused is not None and now < self._retry_at:
            return None
        index = self._made + 1
        self._made = index
        size = max(self._bytes, -(-need // PAGE) * PAGE)
        folder = self._directory / self._session
        try:
            if self._others + size + held() > self._cap:
                self._keep_cap(size, held, drop_oldest)
            # Never the run directory itself: where that was moved or removed, an empty one in its place would be taken for the run.
            self._directory.mkdir(exist_ok=True)
            folder.mkdir(exist_ok=True)
            return allocate(folder / segment_name(index), size, breathe)
        except OSError as e:
            self._retry_at, self.refused = now + RETRY_NS, e
            self._once(
                "disk", f"cannot record in {folder}: {e.strerror}; training and, once there is room, recording go on"
            )
            return None

    def _keep_cap(self, extra: int, held: Callable[[], int], drop_oldest: Callable[[], Segment | None]) -> None:
        """Delete the oldest files, other sessions' first, until ``extra`` more bytes fit under the cap."""
        files = list(files_of_others(self._directory, self._session))
        others = sum(size for _, size in files)
        freed: list[str] = []
        for path, size in files:
            if others + held() + extra <= self._cap:
                break
            delete_foreign(path)
            others -= size
            freed.append(f"{path.parent.name}/{path.name}")
        self._others = others
        why = f"the recorder is at its cap of {self._cap} bytes"
        if freed:
            self.notes.append(
                Remark(text=f"{why}: {len(freed)} segments of earlier sessions were deleted", level="warning")
            )
        first = last = 0
        while others + held() + extra > self._cap:
            oldest = drop_oldest()
            if oldest is None:
                break
            oldest.delete()
            first, last = first or oldest.first, oldest.last
        if first:
            self.notes.append(Gap(first=first, last=last, why=why))
