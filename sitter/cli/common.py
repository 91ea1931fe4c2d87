"""What the commands share: which run is meant, whom to ask, how an answer is shown, what the exit code is."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click
import msgspec

from sitter.client import Client
from sitter.clock import UNKNOWN, iso
from sitter.errors import DaemonError
from sitter.grammar import USAGE, demand_in_words, parse_all
from sitter.locks import holder
from sitter.model import Answered
from sitter.paths import FoundRun, find
from sitter.supervise.daemon_process import start_daemon
from sitter.supervise.pending import undecided
from sitter.supervise.process import TrainingProcess
from sitter_wire.places import RunDir
from sitter_wire.queries import QUESTIONS, AnyQuery, GetStatus, Settle

ANSWERS_S = 10.0
"""A daemon that is there answers within this, on a host that swaps, too."""

run_option = click.option(
    "-r",
    "--run",
    "run",
    metavar="RUN",
    help="Name or directory of the run; without it the only live one, else the newest.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Machine-readable; times in ISO 8601, unknown as null."
)


class Asked(Protocol):
    """The daemon, or a run without one."""

    def ask(self, query: AnyQuery, timeout: float = 5.0) -> Any:
        """The answer."""
        ...

    def close(self) -> None:
        """No more questions."""
        ...


@contextmanager
def asking(found: FoundRun, *, acts: bool = False) -> Iterator[Asked]:
    """The run's daemon; where there is none and the training lives and is to be acted on, one is started; else the run's own files."""
    asked: Asked
    if acts and (found.live or _starts(found)):
        if found.daemon_pid is None:
            start_daemon(found.run)
        asked = Client(found.run)
    else:
        asked = _Looking(found.run)
    try:
        yield asked
    finally:
        asked.close()


class _Looking:
    """Asks the daemon of a run, or its files where there is none, whichever it is at that moment: a daemon leaves soon after the training's
    end, has the run's lock until all is committed, and answers nobody meanwhile."""

    def __init__(self, run: RunDir) -> None:
        """Raises as ``Offline``, but for a daemon that has just come."""
        self._run = run
        self._begin()

    def _begin(self) -> None:
        self._pid = holder(self._run.daemon_lock)
        if self._pid is not None:
            self._asked: Asked = Client(self._run)
            return
        from sitter.offline import Offline  # 0.2 s of imports, which nobody needs whose run has a daemon

        try:
            self._asked = Offline(self._run)
        except DaemonError:
            if holder(self._run.daemon_lock) is None:
                raise
            self._begin()

    def ask(self, query: AnyQuery, timeout: float = 5.0) -> Any:
        """As ``Client.ask``, and as ``Offline.ask`` once the daemon has left."""
        while True:
            try:
                return self._asked.ask(query, timeout)
            except DaemonError:
                if self._pid is None or holder(self._run.daemon_lock) == self._pid or not isinstance(query, QUESTIONS):
                    raise  # what was asked for may have been done
            self._asked.close()
            self._begin()

    def close(self) -> None:
        """No more questions."""
        self._asked.close()


def _starts(found: FoundRun) -> bool:
    """Whether its training lives without an agent, yet or any more, or its parent may be about to start it again."""
    process = TrainingProcess.find(found.run)
    return (process is not None and process.alive()) or undecided(found.run)


def settle(asked: Asked) -> None:
    """Before the history is read: what was logged a moment ago shall be in it. Says so where it cannot be."""
    answer: Answered = asked.ask(Settle())
    if answer.status != "applied":
        click.echo(f"sitter: {answer.text}", err=True)


def demand(verb: str, words: Sequence[str], run: str | None) -> int:
    """Send what ``verb words`` asks for, print each answer, return the exit code: 0 only if all was applied."""
    wanted = parse_all([verb, *words])
    with asking(find(run, acts=True), acts=True) as asked:
        asked.ask(GetStatus(), ANSWERS_S)  # of a daemon that is stopped one is told now, and not when the order's own time is over
        answers = [(query, asked.ask(query, 45.0)) for query in wanted]
    for query, answer in answers:
        say(demand_in_words(query), answer)
    return 0 if all(answer.status == "applied" for _, answer in answers) else 1


def say(what: str, answer: Answered) -> None:
    """One line: what was asked, what became of it, why."""
    applied = answer.status == "applied"
    head = "" if applied and answer.text.startswith(what) else f"{what}: " if applied else f"{what}: {answer.status}: "
    click.echo(head + answer.text, err=not applied)


def demand_command(verb: str, short: str, *more: str) -> click.Command:
    """A command whose words are the grammar's, so that the TUI's ``:`` line and the shell speak one language.

    ``short`` is its line in ``sitter --help``, ``more`` the further paragraphs of its own page.
    """

    @click.command(
        verb, help="\n\n".join([short, *more]), short_help=short, options_metavar="[-r RUN]",
        context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},  # `snooze RULE -1h` asks for no help
    )  # fmt: skip
    @click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar=USAGE[verb].removeprefix(verb).strip())
    @run_option
    def command(words: tuple[str, ...], run: str | None) -> int:
        if words == ("-h",):
            click.echo(click.get_current_context().get_help())
            return 0
        return demand(verb, words, run)

    return command


def counted(n: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{n:,} {noun}{'s' if n != 1 else ''}"


def plain(value: Any) -> Any:
    """For JSON: non-finite numbers as ``"nan"``, ``"inf"``, ``"-inf"``; fields named as times as ISO 8601."""
    return _plain(msgspec.to_builtins(value), "")


TIMES = frozenset({"time", "ends_at", "made", "due", "began", "ended", "started", "snoozed_until"})


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v, str(key)) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, "") for v in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        if name in TIMES:
            at = iso(value)
            return None if at == UNKNOWN else at
    return value


def print_json(value: Any) -> None:
    """One object, indented."""
    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def print_json_line(value: Any) -> None:
    """One object on one line."""
    click.echo(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))
