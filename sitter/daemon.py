"""The daemon of one run: ``python -m sitter.daemon RUN_DIRECTORY``. What it consists of stands in ``sitter.wiring``.

It goes into the background once it answers (``--foreground`` stays); whoever started it learns from the exit code and one sentence on
stderr whether it did: 0 it watches, 1 it could not, 2 the settings are wrong, 3 another daemon has the run.
"""

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from sitter.clock import SystemClock
from sitter.control.spent_files import delete_spent
from sitter.errors import DaemonError, DamagedError
from sitter.locks import ELSEWHERE, holder, is_held, take_within
from sitter.paths import register
from sitter.store.aside import set_aside
from sitter.supervise.background import serve_detached
from sitter.supervise.daemon_process import ANOTHER
from sitter.wiring import Daemon
from sitter_wire.places import RunDir

log = logging.getLogger("sitter.daemon")

READERS_S = 10.0
"""So long a new daemon waits for commands that read the run's files, while a training waits for it. Each has them for some milliseconds,
for seconds on a host that swaps, and for long where its output waits for a pager: then the agent starts a daemon once it has left."""


def watch(run: RunDir, ready: Callable[[], None]) -> int:
    """Take the run's lock and serve; ``ready`` is called once questions can be asked. Returns the exit code."""
    # A command that reads a run without a daemon has the lock for a moment, and must not be what leaves the run without one.
    lock = take_within(run.daemon_lock, READERS_S)
    if lock is None:
        pid = holder(run.daemon_lock)
        if pid is None and is_held(run.daemon_lock):
            raise DaemonError(f"the daemon of run {run.name} {ELSEWHERE}")
        if pid is None:
            raise DaemonError(f"a command that reads the run {run.name} has kept its lock for {READERS_S:.0f} s: end it, or let it go on")
        sys.stderr.write(f"sitter: another daemon (process {pid}) has the run {run.name}\n")
        return ANOTHER
    clock = SystemClock()
    try:
        daemon = Daemon(run, clock)
    except DamagedError as e:
        log.error("%s", e)
        set_aside(run.history, clock.wall())
        daemon = Daemon(run, clock)
    daemon.core.damaged.say()
    register(run)
    signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
    signal.signal(signal.SIGINT, lambda *_: daemon.stop())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    log.info("watching %s", run.path)
    try:
        ready()
        daemon.serve()
    finally:
        closed = daemon.close()
        lock.close()
    if closed:
        delete_spent(run)  # without the lock: it may take seconds, in which a training that starts wants a daemon
    return 0


def main() -> None:
    """Goes into the background once it serves, unless told to stay."""
    arguments = [a for a in sys.argv[1:] if a != "--foreground"]
    if len(arguments) != 1:
        sys.exit("usage: python -m sitter.daemon RUN_DIRECTORY [--foreground]")
    run = RunDir(Path(arguments[0]).resolve())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    sys.exit(serve_detached(lambda ready: watch(run, ready), run.daemon_log, stay="--foreground" in sys.argv))


if __name__ == "__main__":
    main()
