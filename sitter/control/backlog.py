"""What the recorder's files hold beyond the history: taken in at the start, when a session begins, and when one is gone."""

import time
from collections.abc import Iterator
from pathlib import Path

from sitter.control.flow import Flow
from sitter.control.mishaps import note
from sitter.ingest import files
from sitter.ingest.intake import Intake
from sitter.locks import holder, session_of
from sitter.store.writer import Writer
from sitter_wire.places import RunDir

PATIENCE_S = 60.0
"""A history that takes nothing for so long, and does not say why, is not waited for any longer."""
FLUSH_S = 0.25
"""Between two looks at whether it takes something again."""
SLICE_S = 0.05
"""So long is read at a time: agent and clients have their turn in between."""
AT_ONCE = 500
"""Records taken in before it is asked whether there is time and room for more: the rules look at them for some 15 ms."""


class Backlog:
    """Reads in slices, one segment in memory, and no faster than the history takes it. First what sessions that are over have left, oldest
    first; then what lies in the files of the one that is being written, until its agent speaks: the rest comes by its shipments. (One that
    hangs before it ever spoke ships nothing, and its files are all there is to judge by.) Both ways lead through the intake, which takes
    each record once.

    Where the history takes nothing (its disk is full), what is left stays in the files, which nobody deletes before it is committed."""

    def __init__(self, run: RunDir, intake: Intake, writer: Writer, flow: Flow) -> None:
        self._run, self._intake, self._writer, self._flow = run, intake, writer, flow
        self._work: Iterator[None] = iter(())
        self.live: str | None = None
        """The session that is left to its agent's shipments."""
        self.earlier = False
        """Something is left of a session that is over: nothing that comes after it may be taken before it, nor is the present known."""
        self.unread = False
        """Something is left."""
        self.living: set[str] | None = None
        """The sessions that may still be written; None where it is not known which."""
        self.unreadable: list[str] = []
        """A sentence for each segment that cannot be read: what may be in it is not waited for."""

    def begin(self, *, live: str | None = None) -> None:
        """All of it is to be read, from what is there now. ``live``: a session to leave to its agent's shipments."""
        self.live, self._work = live, self._reading()
        self.earlier = self.unread = True

    def slice(self, seconds: float = SLICE_S) -> bool:
        """Go on for so long at most, and while there is room. Whether all is read."""
        until = time.monotonic() + seconds
        while self.unread and self._writer.room:
            if next(self._work, self) is self:  # the end, for it gives nothing else
                self.earlier = self.unread = False
            if time.monotonic() >= until:
                break
        return not self.unread

    def read(self, *, live: str | None = None) -> bool:
        """All of it at once, for who has no loop to keep free; False where something was left."""
        self.begin(live=live)
        while self._room() and not self.slice():
            pass
        return not self.unread

    def _room(self) -> bool:
        """Whether the history takes more, waited for as long as it works; no longer once it says that it cannot."""
        waited = 0.0
        while not self._writer.room:
            if self._writer.trouble or waited >= PATIENCE_S:
                return False
            self._writer.flush(FLUSH_S)
            waited += FLUSH_S
        return True

    def _reading(self) -> Iterator[None]:
        """In steps of some milliseconds."""
        held, before = self._writing()
        folders = files.sessions(self._run.recorder)
        # Asked after the listing: of the others that are listed, none is written any more.
        held_now, writing = self._writing()
        unknown = (held and before is None) or (held_now and writing is None)
        self.living = None if unknown else {session for session in (before, writing, self.live) if session is not None}
        self.unreadable = []
        for folder in folders:
            yield
            self.unreadable += files.unreadable(folder)
        for folder in sorted(folders, key=lambda folder: folder.name == writing):
            lives = folder.name == writing
            if lives:
                self.earlier = False
            try:
                yield from self._session(folder, lives=lives)
            except Exception as e:  # noqa: BLE001 — what cannot be read for a bug of ours must not keep what follows from being read
                note(e)

    def _writing(self) -> tuple[bool, str | None]:
        """Whether a process is the run's agent, and which session it writes, as far as it says."""
        lock = self._run.agent_lock
        return (True, session_of(lock)) if holder(lock) is not None else (False, None)

    def _session(self, folder: Path, *, lives: bool) -> Iterator[None]:
        if lives and folder.name == self.live:
            return
        for segment in files.read(folder, self._intake.wanted(folder.name) - 1):
            header, records = segment.header, sorted(segment.records, key=lambda record: record.seq)
            self._intake.begins(header.session, segment.begins)
            for at in range(0, len(records), AT_ONCE):
                new = self._intake.take_read(header.session, records[at : at + AT_ONCE], live=lives)
                if new:  # else it is known to the end, and the present is another's
                    self._flow.session(header.session, (header.wall_ns, header.mono_ns))
                    self._flow.records(header.session, new, past=True)
                yield
                if lives and folder.name == self.live:
                    return  # its agent has spoken meanwhile
        if not lives:
            self._intake.begins(folder.name, files.dropped(folder) + 1)
