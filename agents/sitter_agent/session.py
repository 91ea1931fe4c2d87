"""Who may be the agent: one living process per run, held by a POSIX lock.

An flock would stay with forked workers after the trainer's death. A POSIX lock belongs to the process, but goes when
the process closes ANY descriptor of that file: so it is opened once, here, and never closed while the process is the
agent.
"""

import fcntl
import json
import os
import secrets
import time
from pathlib import Path

from sitter_agent.fork import watch
from sitter_agent.say import say
from sitter_wire.places import PlaceError, RunDir, check_lock_file, small_file

_descriptors: dict[str, int] = {}
"""Lock files of this process by real path; open for as long as it is the agent there."""
_holders: "dict[str, Session]" = {}
"""The live session of this process for each of them."""


class Session:
    """This process is the agent of ``run`` until ``release``. ``id``: start time and a random part, 24 ASCII
    characters; ids sort by time."""

    def __init__(self, run: RunDir, key: str) -> None:
        self.run, self._key = run, key
        self.pid = os.getpid()
        self.id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        self.live = True
        self._last_branch = -1
        watch(self)

    @property
    def mine(self) -> bool:
        """Whether this very process is the agent: not a forked child, not released."""
        return self.live and os.getpid() == self.pid

    def new_branch(self) -> int:
        """The run's next branch number, counted from 0 and never given twice. Written by temp file and rename.

        A file that cannot be read or written costs the number's life beyond this process, not the training.
        """
        number = self._last_branch + 1
        try:
            number = max(number, _read_branch(self.run.next_branch))
            temp = self.run.next_branch.with_suffix(f".tmp{os.getpid()}")
            temp.write_text(f"{number + 1}\n", encoding="ascii")
            temp.replace(self.run.next_branch)
        except (OSError, ValueError) as e:
            say(f"cannot keep the next branch number in {self.run.next_branch} ({e}); a restart may use {number} again")
        self._last_branch = number
        return number

    def release(self) -> None:
        """Stop being the agent; another process may take over. Closing the file is what lets go of its lock."""
        if not self.mine:
            return
        self.live = False
        _holders.pop(self._key, None)
        _let_go(self._key)

    def forked(self) -> None:
        """In a forked child: not the agent. The parent's lock was not inherited and is not touched."""
        self.live = False
        _holders.pop(self._key, None)


def claim(run: RunDir) -> tuple[Session | None, str]:
    """Become the agent of ``run``: the session and "", or None and the reason, one sentence, why not."""
    key = str(run.agent_lock.resolve())
    held = _holders.get(key)
    if held is not None and held.mine:
        return None, f"this process is already the agent of {run.name} (session {held.id}): close that one first"
    try:
        check_lock_file(run.agent_lock)
        if key not in _descriptors:
            _descriptors[key] = os.open(run.agent_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fd = _descriptors[key]
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            who = _holder(fd)
            _let_go(key)
            return None, f"another process{who} is the agent of {run.name}: this one records nothing"
        session = Session(run, key)
        session._last_branch = _read_branch(run.next_branch) - 1
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"pid": session.pid, "session": session.id}).encode(), 0)
    except PlaceError as e:
        return None, str(e)
    except ValueError as e:
        _let_go(key)
        return None, f"{run.next_branch} {e}; write a number larger than every branch of the run into it"
    except OSError as e:
        _let_go(key)
        return (
            None,
            f"cannot lock {run.agent_lock}: {e.strerror}; it must be writable and its file system must know locks",
        )
    _holders[key] = session
    return session, ""


def _let_go(key: str) -> None:
    """Close the lock file, and with it give up whatever lock this process has on it."""
    fd = _descriptors.pop(key, None)
    if fd is not None:
        os.close(fd)


def _read_branch(path: Path) -> int:
    try:
        text = small_file(path).decode("latin-1").strip()
    except FileNotFoundError:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise ValueError(f"holds {text[:20]!r}, expected the next branch number")
    return int(text)


def _holder(fd: int) -> str:
    try:
        return f" (pid {int(json.loads(os.pread(fd, 4096, 0))['pid'])})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
