"""Starting a run's daemon from the command line."""

import contextlib
import os
import signal
import subprocess
import sys

from sitter.errors import ConfigError, DaemonError
from sitter.locks import holder
from sitter_wire.places import RunDir

PATIENCE_S = 60.0
"""It answers within 2 s; where others want the cores, or the disk is cold, it may take half a minute."""
ANOTHER = 3
"""Exit code of a daemon that found another one there, which is as good."""


def start_daemon(run: RunDir) -> None:
    """Returns once a daemon answers for this run. Raises DaemonError with the daemon's own sentence where it could not start,
    ConfigError where the run's settings are wrong."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sitter.daemon", str(run.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            start_new_session=True,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise DaemonError(f"the daemon for {run.name} could not be started: {e}; see {run.daemon_log}") from e
    if done.returncode not in (0, ANOTHER):
        said = [line for line in done.stderr.strip().splitlines() if line]
        text = (
            said[-1].removeprefix("sitter: ")
            if said
            else f"the daemon for {run.name} could not be started; see {run.daemon_log}"
        )
        raise ConfigError(text) if done.returncode == ConfigError.exit_code else DaemonError(text)


def stop_daemon(run: RunDir) -> None:
    """Ask the run's daemon to leave, where there is one; it commits first."""
    pid = holder(run.daemon_lock)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
