"""``pause --free``: a checkpoint, then the state into host memory and the GPU's given back; put back, bit for bit, before anything goes on.

Where the GPU has no room when it is to go on (another process has it), the training cannot go on: it stays paused, says so, and tries again
until there is room or it is stopped. It would help nothing to give up and restore a checkpoint, which needs the same room.
"""

from collections.abc import Callable

from sitter_agent.checkpoint_files import Sidecar
from sitter_agent.core import Core
from sitter_agent.handlers import raised_by_handler
from sitter_agent.say import in_words, say
from sitter_agent.snapshots import size
from sitter_agent.state import Parked
from sitter_agent.state_copy import copy_for_checkpoint

AGAIN_S = 5.0
"""Between two attempts to put the state back."""
REMIND_S = 600.0

Detail = dict[str, float | int | str | bool | list[str] | None]
Answer = Callable[[bool, str, Detail], None]


class Parking:
    """One session's. All on the training thread but for what the checkpoint writer tells."""

    def __init__(self, core: Core, woken: Callable[[], None]) -> None:
        self._core, self._woken = core, woken
        self._answer: Answer | None = None
        self._told: list[tuple[Sidecar | None, str]] = []
        self._parked: Parked | None = None
        self._tried: float | None = None
        self._reminded = 0.0
        self._saved = ""
        self._held = False
        """It was paused before."""

    @property
    def begun(self) -> bool:
        """It was asked for and is not over: its checkpoint is being written, or the state is away."""
        return self._answer is not None or self._parked is not None

    @property
    def waits(self) -> bool:
        """It is to go on, and had no room."""
        return self._tried is not None

    def begin(self, answer: Answer, *, paused: bool) -> None:
        """Hand the present state to the checkpoint writer. ``answer(done, sentence, numbers)`` is called once, maybe at once. ``paused``:
        the training was before."""
        if self.begun:
            answer(False, "that was asked for before: the GPU's memory is being freed, or is free", {})
            return
        if why := self._no_room():
            step = self._core.progress.done
            answer(True, f"paused at step {step}; nothing was freed, and no checkpoint was taken for it: {why}", {"freed": 0, "moved": 0})
            return
        self._told, self._answer, self._held = [], answer, paused
        told = self._told

        def done(side: Sidecar | None, why: str) -> None:
            told.append((side, why))
            self._woken()

        try:
            refused = copy_for_checkpoint(self._core, why="pause --free", cleared=False, pinned=False, full_check=True, done=done)
        except BaseException as e:
            if not isinstance(e, Exception) or raised_by_handler(e):
                self._answer = None  # nothing was begun
                raise
            refused = in_words(e)
        if refused is not None:
            told.append((None, refused))

    def _no_room(self) -> str:
        """Known before anything is copied: a host that swaps, or kills for want of memory, is worse than a GPU that is not free. Where
        there are no snapshots the checkpoint takes a copy of its own; it is gone before the state moves."""
        core = self._core
        try:
            parked, _ = core.adapter.park()
            return parked.no_room(0 if core.ring.slots else core.adapter.nbytes()) if parked is not None else ""
        except Exception as e:  # told where it is really done
            if raised_by_handler(e):
                raise
            return ""

    def look(self) -> bool:
        """Often, while paused: once the checkpoint is written the state goes. False where the pause is to end, since there is none."""
        if self._answer is None or not self._told:
            return True
        side, why = self._told.pop()
        answer, self._answer = self._answer, None
        if side is None:
            stands = "nothing was freed" if self._held else "not paused"
            answer(False, f"{stands}, since no checkpoint could be written first: {why}", {})
            return self._held
        self._saved = side.file
        freed, moved, words = self._away()
        text = f"paused at step {self._core.progress.done}; checkpoint {side.file} written and read back; {words}"
        place = str(self._core.run.checkpoints / side.file)
        answer(True, text, {"freed": freed, "moved": moved, "path": place, "step": side.step})
        return True

    def _away(self) -> tuple[int, int, str]:
        try:
            parked, why = self._core.adapter.park()
            if parked is None:
                return 0, 0, f"nothing was freed: {why}"
            self._parked = parked
            parked.go()
        except Exception as e:
            if raised_by_handler(e):
                raise
            self.end()
            return 0, 0, f"nothing was freed: {e if isinstance(e, MemoryError) else f'{type(e).__name__}: {e}'}"
        self._core.away = f"the state lies in host memory, as it is in the checkpoint {self._saved}; `sitter unpause` puts it back first"
        return parked.freed, parked.nbytes, f"{size(parked.nbytes)} of state lie in host memory, {size(parked.freed)} of the GPU are free"

    def end(self) -> str:
        """Put the state back, if it is away. Empty where it is there, so that the training may go on; else the sentence why not."""
        if self._answer is not None:
            answer, self._answer = self._answer, None
            answer(False, "the pause was ended before its checkpoint was written; nothing was moved", {})
        if self._parked is None:
            return ""
        now = self._core.clock()
        try:
            self._parked.back()
        except MemoryError as e:
            if self._tried is None or now - self._reminded >= REMIND_S:
                text = f"the training cannot go on yet: {e}; it is tried every {AGAIN_S:.0f} s, and goes on once there is room"
                self._reminded = now
                self._core.remark(text, "warning")
                say(text)
            self._tried = now
            return str(e)
        except Exception as e:  # a driver that gave up: no kernel of this process will ever run again
            if raised_by_handler(e):
                raise
            self._strand(f"{type(e).__name__}: {e}")
            self._core.progress.stopping = True
        self._parked, self._tried, self._core.away = None, None, ""
        return ""

    def _strand(self, why: str) -> str:
        assert self._parked is not None
        self._parked.strand()
        self._parked, self._tried, self._core.away = None, None, ""
        text = f"the training ends here, with its state left in host memory: {why}; the checkpoint {self._saved} has it too"
        self._core.remark(text, "warning")
        say(text)
        return text

    @property
    def due(self) -> bool:
        """It was to go on, had no room, and is to be tried again now."""
        return self._tried is not None and self._core.clock() - self._tried >= AGAIN_S

    def leave(self) -> str:
        """The training ends here, or an exception of the script's own passes: what is found must be tensors that can be read. What is said
        of it; empty where all is as it was."""
        why = self.end() if self.begun else ""
        return self._strand(why) if self._parked is not None else ""
