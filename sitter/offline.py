"""A run without a daemon, looked at by a command: takes the daemon's lock for that time, takes in what the recorder holds, answers the
same questions, and deletes nothing. Where the place cannot be written it does the same in a scratch copy; so too where sitter.toml cannot
be read: nothing may become of what other rules than the run's own say."""

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

from sitter.clock import SystemClock
from sitter.config import Config, load
from sitter.control.client_link import Answer, Refused
from sitter.control.core import Core
from sitter.control.demands import Reach
from sitter.control.history_queries import look_up
from sitter.control.ruleset.preset import preset_of
from sitter.errors import ConfigError, DaemonError, UsageError
from sitter.locks import ELSEWHERE, holder, is_held, take_within
from sitter.model import Answered
from sitter.paths import look
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter_wire import queries
from sitter_wire.places import RunDir, check_own_run

OTHERS_S = 15.0
"""So long other commands that read the same run are waited for, one after the other."""
LOOKS = (queries.GetStatus, queries.GetCurves, queries.GetLogbook, queries.GetDays, queries.GetSince, queries.Settle)
"""What is answered whatever stands in sitter.toml."""


def _kept(run: RunDir) -> str:
    """By whom, and what to do."""
    pid = holder(run.daemon_lock)
    if pid is not None:
        return f"a daemon (process {pid}) has just taken run {run.name}: ask again"
    if is_held(run.daemon_lock):
        return f"the daemon of run {run.name} {ELSEWHERE}"
    return f"another command that reads run {run.name} keeps it: ask again"


class Offline:
    """Has the client's ``ask``."""

    def __init__(self, run: RunDir) -> None:
        """Raises DaemonError where a daemon has just taken the run or another command keeps it, StoreError where the history cannot be
        read."""
        self._unread: ConfigError | None = None
        # What was opened is closed where the rest fails: this process may go on, and would keep the run from its next command.
        with contextlib.ExitStack() as opened:
            try:
                self._begin(run, load(run.sitter_toml), opened)
            except ConfigError as e:
                opened.close()
                self._unread = e
                self._begin(run, Config(), opened)
                self._core.warnings.others.append(lambda: f"nobody watches, for want of settings that can be read: {self._unread}")
            self._opened = opened.pop_all()

    def _begin(self, run: RunDir, config: Config, opened: contextlib.ExitStack) -> None:
        info, clock = look(run).info, SystemClock()
        self._lock: IO[str] | None = None
        history = run.history
        try:
            check_own_run(run)  # else whatever we wrote there would be in its owner's way
            self._lock = take_within(run.daemon_lock, OTHERS_S, reads=True)
        except OSError:
            history = self._copy(run, opened)
        else:
            if self._lock is None:
                raise DaemonError(_kept(run))
            opened.callback(self._lock.close)
            if self._unread is not None:
                history = self._copy(run, opened)
        self._writer = Writer(history, on_commit=lambda _: None, clock=clock)
        opened.callback(self._writer.close)
        self._writer.start()
        self._reader = Reader(history)
        opened.callback(self._reader.close)
        core = self._core = Core(
            run=run,
            info=info,
            config=config,
            preset=preset_of(info, config),
            clock=clock,
            writer=self._writer,
            reader=self._reader,
            send=lambda _: False,
            notify=lambda *_: None,
            on_gone=lambda: None,
        )
        core.board.serving = False
        core.life.look()
        core.read_files()
        core.life.look()
        reach = Reach(
            read=self._read,
            when_safe=lambda told: told(self._writer.flush()),
            log=core.log_entry,
            rules=core.rule_states,
            stop=lambda action, wait, answer: self._no_daemon(answer),
            stop_now=self._no_daemon,
            rollback_sent=lambda: None,
            unanswered=lambda _: None,
            test_notify=self._no_daemon,
        )
        self._demands = core.demands(reach)

    def ask(self, query: queries.AnyQuery, timeout: float = 5.0) -> Any:
        """As ``Client.ask``; what needs a daemon is rejected. Raises ConfigError: that needs the settings, and they cannot be read."""
        answers: list[Any] = []
        if self._unread is not None and not isinstance(query, LOOKS):
            raise self._unread
        if isinstance(query, queries.Act):
            self._no_daemon(answers.append)
        else:
            self._demands(query, answers.append)
        (answer,) = answers
        if isinstance(answer, Refused):
            raise (UsageError if answer.usage else DaemonError)(answer.text)
        return answer

    def close(self) -> None:
        """Commits, gives the lock back."""
        self._opened.close()

    def _read(self, query: queries.Query, answer: Answer) -> None:
        settled = self._writer.flush()
        answer(look_up(self._reader, query, lambda: settled))

    def _no_daemon(self, answer: Answer, *_: object) -> None:
        state = self._core.life.state()
        answer(
            Answered(status="rejected", text=f"nothing to act on: the training does not run ({state}), and no daemon watches it")
        )

    def _copy(self, run: RunDir, opened: contextlib.ExitStack) -> Path:
        scratch = opened.enter_context(tempfile.TemporaryDirectory(prefix="sitter-"))
        real = run.history.resolve()  # a link where the run lies on a network file system: the WAL lies beside the real file
        for name in (real.name, f"{real.name}-wal"):
            source = real.parent / name
            if source.exists():
                shutil.copyfile(source, Path(scratch) / name)
        return Path(scratch) / run.history.name
