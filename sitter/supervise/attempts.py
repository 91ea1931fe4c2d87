"""How often a training may be started again, when, and what became of each attempt. Standard library only: the small parent has this.

Policy (``Attempts.ended``): at most ``most`` restarts, and three attempts in a row that came no further end it earlier. Further means a
step beyond any that an earlier attempt reached; where the training tells no steps, it means that it lived for a minute. The pause
before a restart is ``first_s`` after progress, doubled for every attempt without, never above ``cap_s``.

``attempts.json`` in the run directory says it to everybody else, by temp file and rename: ``of``, ``attempts`` (each with pid, times, code,
signal, where its output lies in train.log, the step it reached, and ``then``: what followed) and ``next`` (number, at, said) while a
restart is being prepared. It speaks of the present only while parent.pid is locked.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sitter.supervise.late_files import LateFiles

ATTEMPTS = "attempts.json"

FIRST_S, CAP_S = 5.0, 300.0
"""The driver needs a moment to give back a dead process's memory; a full disk or a lost mount is looked at every five minutes."""
WITHOUT = 3
"""Attempts in a row that came no further."""
LIVED_S = 60.0
MOST_KEPT = 100


def in_words(seconds: float) -> str:
    """``0:20``, ``5:00``."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


class Attempts:
    """The starts of one ``sitter run`` or ``sitter resume``."""

    def __init__(
        self, run: Path, most: int, *, first_s: float = FIRST_S, cap_s: float = CAP_S, furthest: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """``furthest``: the step that the run had reached before, as far as that is known."""
        self.most, self._first_s, self._cap_s, self._clock = most, first_s, cap_s, clock
        self.files = LateFiles(run)
        self.furthest = furthest
        self.restarts = 0
        self.without = 0
        self.given_up = ""
        self._list: list[dict[str, Any]] = []
        self._next: dict[str, Any] | None = None

    def began(self, pid: int, started: float, log_from: int, resume: str) -> None:
        """The training runs."""
        self._list.append({"pid": pid, "started": started, "log": [log_from, log_from], "resume": resume})
        del self._list[:-MOST_KEPT]
        self._next = None
        self._write()

    def failed(self, started: float, log_from: int, resume: str) -> None:
        """The training could not even be started; an attempt all the same, of no process."""
        self._list.append({"pid": 0, "started": started, "log": [log_from, log_from], "resume": resume})
        del self._list[:-MOST_KEPT]

    def over(self, **how: Any) -> None:
        """It has ended, and what follows is being decided."""
        self._list[-1].update(how)
        if self.restarts < self.most:
            self._next = {"number": self.restarts + 1, "at": None, "said": "looking for the checkpoint to go on from"}
        self._write()

    def reached(self, step: int | None, *, steps_known: bool) -> None:
        """Count progress. ``step``: None where this attempt told none; ``steps_known``: whether the run has ever told any."""
        last = self._list[-1]
        last["step"] = step
        if (step is not None and step > (self.furthest or 0)) if steps_known else last.get("lived", 0.0) >= LIVED_S:
            self.furthest, self.without = step, 0
        else:
            self.without += 1

    def stuck(self) -> str:
        """Why there is no point in another attempt; empty where there is."""
        if self.without >= WITHOUT:
            where = f"past step {self.furthest:,}" if self.furthest else "to a first step"
            return f"given up: {self.without} attempts in a row did not get {where}"
        if self.restarts >= self.most:
            times = "once" if self.restarts == 1 else f"{self.restarts} times"
            return f"given up: it was started again {times}, which is as often as it may be"
        return ""

    def pause_s(self) -> float:
        """Before the next start."""
        return min(self._cap_s, self._first_s * 2.0 ** min(self.without, 20))

    def planned(self, said: str) -> float:
        """The next start, said to all; returns its pause in seconds."""
        pause = self.pause_s()
        self.restarts += 1
        self._next = {"number": self.restarts, "at": self._clock() + pause, "said": said}
        self._list[-1]["then"] = f"restarting in {in_words(pause)} ({self.restarts} of {self.most}), {said}"
        self._write()
        return pause

    def ended(self, why: str) -> None:
        """There will be no other start."""
        self._next, self.given_up = None, why
        self._write()

    def _write(self) -> None:
        """A disk that is full must not keep a training from being started again: it is written when there is room."""
        if self.most:
            about = {"of": self.most, "restarts": self.restarts, "attempts": self._list, "next": self._next, "given_up": self.given_up}
            self.files.put(ATTEMPTS, about)


def oom_kills() -> int | None:
    """How many processes of this cgroup the kernel has killed for want of memory so far; None: it does not say."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    root = Path("/sys/fs/cgroup")
    for line in lines:
        number, controllers, path = line.split(":", 2)
        folders = []
        if number == "0" and not controllers:  # version 2
            folders = [(root / path.lstrip("/"), "memory.events"), (root, "memory.events")]
        elif "memory" in controllers.split(","):
            folders = [(root / "memory" / path.lstrip("/"), "memory.oom_control"), (root / "memory", "memory.oom_control")]
        for folder, name in folders:  # in a container the path may be the host's, and the cgroup itself is mounted at the root
            try:
                told = dict(x.split(maxsplit=1) for x in (folder / name).read_text().splitlines())
                return int(told["oom_kill"])
            except (OSError, ValueError, KeyError):
                continue
    return None
