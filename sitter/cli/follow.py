"""``--no-ui``: the training's output in the foreground, its exit code in the end."""

import signal
import sys
import threading
import time
from types import FrameType

import click

from sitter.client import Client
from sitter.errors import SitterError
from sitter.model import Answered, ExitNow
from sitter.supervise.exit import read_exit
from sitter_wire.commands import Stop
from sitter_wire.places import RunDir
from sitter_wire.queries import Act

LOOK_S = 0.1


class Interrupts:
    """Counts Ctrl-C from now on, instead of dying of it."""

    def __init__(self) -> None:
        self.count = 0
        self._before = signal.signal(signal.SIGINT, self._count)

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

    def close(self) -> None:
        """As it was before."""
        signal.signal(signal.SIGINT, self._before)


def follow(run: RunDir, interrupts: Interrupts) -> int:
    """Copies train.log to stdout until the training has ended; returns its exit code (128 + n for signal n).

    Ctrl-C asks for checkpoint and stop, also one that came while the training was being started; a second one ends only the waiting (exit
    code 130).
    """
    asking: threading.Thread | None = None
    try:
        with run.train_log.open("rb") as log:
            while True:
                ended = read_exit(run)
                _copy(log.read())
                if ended is not None:
                    _copy(log.read())
                    if asking is not None:
                        asking.join(2.0)  # what became of the stop is about to be said
                    return exit_code(ended)
                if interrupts.count > 1:
                    click.echo(f"\nsitter: {run.name} goes on; `sitter attach -r {run.name}` comes back", err=True)
                    return 130
                if interrupts.count == 1 and asking is None:
                    click.echo("\nsitter: asking for checkpoint and stop; Ctrl-C again leaves it running", err=True)
                    asking = threading.Thread(target=_ask_to_stop, args=(run,), daemon=True)
                    asking.start()
                time.sleep(LOOK_S)  # a file that another process appends to offers no event to wait for
    finally:
        interrupts.close()


def exit_code(ended: ExitNow) -> int:
    """As a shell would say it."""
    if ended.signal is not None:
        return 128 + ended.signal
    return ended.code if ended.code is not None else 1


def _ask_to_stop(run: RunDir) -> None:
    client = Client(run)
    try:
        answer: Answered = client.ask(Act(action=Stop(checkpoint=True, why="Ctrl-C")), 10.0)
        click.echo(f"sitter: stop {answer.status}: {answer.text}", err=True)
    except SitterError as e:
        click.echo(f"sitter: {e}", err=True)
    finally:
        client.close()


def _copy(data: bytes) -> None:
    if data:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
