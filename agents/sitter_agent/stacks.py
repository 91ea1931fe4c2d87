"""The stacks of all threads as text, from whichever thread asks. Answers only when the interpreter's lock is free."""

import sys
import threading
import traceback
from types import FrameType

MOST_FRAMES = 60
"""Per thread, innermost kept: a recursion that ran away must not make a message too large to send."""


def dump() -> str:
    """One block per thread, as a traceback prints it, the main thread first."""
    names = {t.ident: t.name for t in threading.enumerate()}
    main = threading.main_thread().ident
    blocks = []
    for ident, frame in sorted(sys._current_frames().items(), key=lambda item: item[0] != main):
        frames = traceback.StackSummary.extract(_walk(frame), lookup_lines=False)
        lines = "".join(traceback.format_list(list(reversed(frames))))
        blocks.append(f"Thread {names.get(ident, 'unknown')} ({ident}), most recent call last:\n{lines}")
    return "\n".join(blocks)


def _walk(frame: FrameType | None) -> list[tuple[FrameType, int]]:
    out: list[tuple[FrameType, int]] = []
    while frame is not None and len(out) < MOST_FRAMES:
        out.append((frame, frame.f_lineno))
        frame = frame.f_back
    return out
