"""Whether the daemon before this one left in order. One that died while its training lived left nobody to say so: its successor does."""

from typing import Any

from sitter.clock import Clock, human
from sitter.control.core import Core
from sitter.locks import session_of
from sitter.store.reader import Reader

SERVING = "serving"
"""Kept in the history while a daemon watches: its process, the session, and when it was last known to. Cleared when it leaves in order."""
NOTED_EVERY_S = 30.0


class Succession:
    """``begin`` once the core knows whether the training lives, ``tick`` once a second, ``end`` before the history is closed."""

    def __init__(self, core: Core, reader: Reader, clock: Clock, pid: int) -> None:
        self._core, self._clock, self._pid = core, clock, pid
        self._before: dict[str, Any] | None = reader.get(SERVING)
        self._noted = 0.0
        self._session: str | None = None

    def begin(self) -> None:
        """Say what happened to the predecessor, where it died and the training went on without anybody watching. (One that was started
        anew since, as after a reboot that ended both, did not go on.)"""
        before, core = self._before, self._core
        if before and core.life.alive and session_of(core.run.agent_lock) in (None, before.get("session")):
            since = human(max(0.0, self._clock.wall() - before["at"]))
            text = f"the daemon (process {before['pid']:.0f}) was gone, last known {since} ago; the training went on, and is watched again"
            core.log_entry("restart", step=core.present.step, branch=core.present.branch, status="daemon", detail=text)
            core.tell("daemon_gone", f"{core.run.name}: {text}", f"daemon gone {before['pid']:.0f}")
        self._note()

    def tick(self) -> None:
        """Keep the time from growing old, and the session the present one."""
        session = self._core.present.session
        if self._clock.monotonic() - self._noted >= NOTED_EVERY_S or (session is not None and session.id != self._session):
            self._note()

    def end(self) -> None:
        """It leaves in order."""
        self._core.keep(SERVING, None)

    def _note(self) -> None:
        self._noted = self._clock.monotonic()
        session = self._core.present.session
        self._session = session.id if session is not None else None
        self._core.keep(SERVING, {"pid": self._pid, "at": self._clock.wall(), "session": self._session})
