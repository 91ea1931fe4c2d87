"""What the recorder's files hold beyond the history: taken in at the start, when a session begins, and when one is gone."""

from sitter.control.flow import Flow
from sitter.ingest import files
from sitter.ingest.intake import Intake
from sitter.locks import holder, session_of
from sitter.store.writer import Writer
from sitter_wire.places import RunDir

PATIENCE_S = 60.0
SLICE_S = 0.25


class Backlog:
    """Reads no faster than the history takes it. Where the history takes nothing (its disk is full), what is left stays in the files, which
    nobody deletes before it is committed, and ``unread`` says that it is to be read again."""

    def __init__(self, run: RunDir, intake: Intake, writer: Writer, flow: Flow) -> None:
        self._run, self._intake, self._writer, self._flow = run, intake, writer, flow
        self.live: str | None = None
        """The session that was left to its agent's shipments."""
        self.unread = False
        """Something was left."""
        self.unreadable: list[str] = []

    def read(self, *, live: str | None = None) -> bool:
        """All of it; False where something was left. ``live``: a session to leave to its agent's shipments."""
        self.live, self.unread = live, True
        if not self._room():
            return False
        self.unreadable = files.unreadable(self._run.recorder)
        folders = files.sessions(self._run.recorder)
        # Asked after the listing: of the others that are listed, none is written any more.
        writing = session_of(self._run.agent_lock) if holder(self._run.agent_lock) is not None else None
        for folder in folders:
            if folder.name == live:
                continue
            self._intake.begins(folder.name, files.dropped(folder) + 1)
            for segment in files.read(folder, self._intake.wanted(folder.name) - 1):
                header = segment.header
                if not self._room():
                    return False
                self._intake.begins(header.session, segment.begins)
                records = self._intake.take_read(header.session, segment.records, live=folder.name == writing)
                if records:  # else it is known to the end, and the present is another's
                    self._flow.session(header.session, (header.wall_ns, header.mono_ns))
                    self._flow.records(header.session, records, past=True)
        self.unread = False
        return True

    def _room(self) -> bool:
        """Whether the history takes more, waited for as long as it works; no longer once it says that it cannot."""
        waited = 0.0
        while not self._writer.room:
            if self._writer.trouble or waited >= PATIENCE_S:
                return False
            self._writer.flush(SLICE_S)
            waited += SLICE_S
        return True
