"""``--no-ui``: the training's output in the foreground, its exit code in the end.

Where a machine is going down, whoever says so may know only this process (a container's first, a batch job's step): so SIGTERM and SIGUSR1
are passed on to the training's parent, which knows what they mean at that moment, and the end is followed as any other.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType

import click

from sitter.cli.common import asking
from sitter.errors import SitterError
from sitter.locks import holder
from sitter.model import Answered, ExitNow
from sitter.paths import look
from sitter.supervise.death import in_words
from sitter.supervise.exit import read_exit
from sitter.supervise.pending import parent_pid, read_attempts
from sitter.supervise.process import TrainingProcess
from sitter_wire.commands import Stop
from sitter_wire.places import RunDir
from sitter_wire.queries import Act

LOOK_S = 0.1
ALONE_S = 2.0
"""So often it is looked whether anybody is left who could write down how it ended."""
NO_AGENT = "no agent began in it, so nothing was recorded; a script is looked after from its `sitter_agent.start(…)` on"
NOTICES = (signal.SIGTERM, signal.SIGUSR1)


class Interrupts:
    """Counts Ctrl-C from now on, instead of dying of it, and keeps notices to be passed on."""

    def __init__(self) -> None:
        self.count = 0
        self.notices: list[int] = []
        self._before = {number: signal.signal(number, self._heard) for number in (signal.SIGINT, *NOTICES)}

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self.count += 1
        else:
            self.notices.append(number)

    def close(self) -> None:
        """As it was before."""
        for number, before in self._before.items():
            signal.signal(number, before)


def follow(run: RunDir, interrupts: Interrupts) -> int:
    """Copies train.log to stdout until the training has ended; returns its exit code (128 + n for signal n). Who was not guarded is told.

    Ctrl-C asks for checkpoint and stop, also one that came while the training was being started; a second one ends only the waiting (exit
    code 130). Where the training and its parent are gone and nobody has written down how it ended, that is said, and the code is 1.
    """
    stopping: threading.Thread | None = None
    next_look, told = time.monotonic() + ALONE_S, set[float]()
    try:
        with run.train_log.open("rb") as log:
            while True:
                ended = read_exit(run)
                _copy(log.read())
                if ended is not None:
                    _copy(log.read())
                    _tell_restarts(run, told)
                    if ended.given_up:
                        click.echo(f"sitter: {run.name}: {in_words(ended.code, ended.signal)}; {ended.given_up}", err=True)
                    if stopping is not None:
                        stopping.join(2.0)  # what became of the stop is about to be said
                    if not ended.error and not run.agent_lock.exists() and os.environ.get("SITTER") != "off":
                        click.echo(f"sitter: {run.name}: {NO_AGENT}", err=True)
                    return exit_code(ended)
                while interrupts.notices:
                    _pass_on(run, interrupts.notices.pop(0))
                if interrupts.count > 1:
                    click.echo(f"\nsitter: {run.name} goes on; `sitter attach -r {run.name}` comes back", err=True)
                    return 130
                if interrupts.count == 1 and stopping is None:
                    click.echo("\nsitter: asking for checkpoint and stop; Ctrl-C again leaves it running", err=True)
                    stopping = threading.Thread(target=_ask_to_stop, args=(run,), daemon=True)
                    stopping.start()
                if time.monotonic() >= next_look:
                    _tell_restarts(run, told)
                    if _nobody_is_left(run):
                        _copy(log.read())
                        click.echo(f"sitter: {_gone(run)}", err=True)
                        return 1
                    next_look = time.monotonic() + ALONE_S
                time.sleep(LOOK_S)  # a file that another process appends to offers no event to wait for
    finally:
        interrupts.close()


def exit_code(ended: ExitNow) -> int:
    """As a shell would say it."""
    if ended.signal is not None:
        return 128 + ended.signal
    return ended.code if ended.code is not None else 1


def _ask_to_stop(run: RunDir) -> None:
    try:
        with asking(look(run), acts=True) as asked:
            answer: Answered = asked.ask(Act(action=Stop(checkpoint=True, why="Ctrl-C")), 10.0)
        click.echo(f"sitter: stop {answer.status}: {answer.text}", err=True)
    except SitterError as e:
        click.echo(f"sitter: {e}", err=True)


def _pass_on(run: RunDir, number: int) -> None:
    """To the parent; where that was killed, to the training itself."""
    pid = parent_pid(run)
    if pid is None:
        process = TrainingProcess.find(run)
        pid = process.pid if process is not None and process.alive() else None
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        click.echo(f"sitter: {signal.Signals(number).name} is passed on to {run.name}", err=True)


def _tell_restarts(run: RunDir, told: set[float]) -> None:
    """A line for each end that is followed by another start; the training's own words are of the one or the other. ``told``: when those
    attempts began of which it was said."""
    for attempt in read_attempts(run).attempts:
        if attempt.then and attempt.started not in told:
            told.add(attempt.started)
            click.echo(f"sitter: {run.name}: {in_words(attempt.code, attempt.signal)}; {attempt.then}", err=True)


def _nobody_is_left(run: RunDir) -> bool:
    process = TrainingProcess.find(run)
    lives = process is not None and process.alive()
    return not lives and parent_pid(run) is None and holder(run.agent_lock) is None and read_exit(run) is None


def _gone(run: RunDir) -> str:
    if run.run_toml.exists():
        return f"{run.name} is gone, and its parent with it: nobody saw how it ended"
    return f"the run directory {run.path} is there no more: was it moved? Whether the training lives cannot be said from here"


def _copy(data: bytes) -> None:
    if data:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
