"""What is left of a training's process group when its leader has ended. Standard library only, since the small parent has this.

The leader need not be the training: ``sitter run -- ./train.sh`` starts a shell, which dies of a SIGTERM at once, while the training in it
takes the same signal as a notice and is writing its last checkpoint.
"""

import json
import os
import time
from pathlib import Path

AGENT_LOCK = "agent.lock"
KILLED_S = 2.0
"""What is inside a driver call dies of SIGKILL when that returns; it is not waited for longer than this."""
LAST_WRITE_S = 60.0
"""A notice waits up to 20 s for a safe point, and as long for the checkpoint."""
LOOK_S = 0.05


def last_agent(run: Path) -> tuple[int, str]:
    """Process and session that had the agent's lock last; (0, "") where it names none."""
    try:
        fd = os.open(run / AGENT_LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            told = json.loads(os.read(fd, 4096))
            return int(told["pid"]), str(told["session"])
        finally:
            os.close(fd)
    except (OSError, ValueError, TypeError, KeyError):
        return 0, ""


def let_finish(group: int, run: Path, seconds: float = LAST_WRITE_S) -> None:
    """Wait for the run's agent, where that is one of the group and not its leader. For a group that was told to end."""
    pid, _ = last_agent(run)
    deadline = time.monotonic() + seconds
    while pid not in (0, group) and _is_of(pid, group) and time.monotonic() < deadline:
        time.sleep(LOOK_S)


def clear_group(group: int, patience_s: float = 3.0) -> None:
    """End what a dead training left of its process group: SIGTERM, ``patience_s``, SIGKILL. Its leader must not have been reaped yet, so
    that the group's number still is its own."""
    for number, seconds in ((15, patience_s), (9, KILLED_S)):
        deadline = time.monotonic() + seconds
        if not _others(group):
            return
        _send(group, number)
        while _others(group) and time.monotonic() < deadline:
            time.sleep(LOOK_S)


def _send(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except OSError:
        pass


def _others(group: int) -> bool:
    try:
        found = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
    except OSError:
        return True  # no /proc: they are asked, and killed, in any case
    return any(_is_of(pid, group) for pid in found if pid != group)


def _is_of(pid: int, group: int) -> bool:
    """Whether this process lives, and is of that group."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[2]) == group and fields[0] not in (b"Z", b"X")
    except (OSError, ValueError, IndexError):
        return False
