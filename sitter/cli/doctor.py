"""``sitter doctor``: what works here, what does not, what to do."""

import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import click
import zmq

from sitter.cli.common import counted
from sitter.clock import SystemClock
from sitter.host.gpus import Gpus
from sitter.paths import RUNS
from sitter.version import VERSION
from sitter_wire import local
from sitter_wire.places import Endpoints, PlaceError, RunDir, runtime_dir

Check = tuple[bool | None, str]
"""True: well. None: a normal state that limits something. False: needs mending."""


@click.command("doctor", short_help="Try what sitter needs from this machine and directory.")
def command() -> int:
    """Try what sitter needs from this machine and this directory; exit code 1 if something must be mended."""
    bad = 0
    for name, check in CHECKS.items():
        try:
            well, text = check()
        except (OSError, sqlite3.Error, zmq.ZMQError) as e:
            well, text = False, str(e)
        bad += well is False
        click.echo(f"{ {True: 'ok', None: '--', False: '!!'}[well] }  {name:<18} {text}")
    return 1 if bad else 0


def _python() -> Check:
    return sys.version_info >= (3, 11), f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, sitter {VERSION}"


def _runtime() -> Check:
    try:
        places = Endpoints(runtime_dir() / f"doctor-{os.getpid()}")
    except PlaceError as e:
        return False, str(e)
    return True, f"{places.directory.parent} is ours, 0700"


def _sockets() -> Check:
    directory = runtime_dir() / f"doctor-{os.getpid()}"
    places = Endpoints(directory)
    places.create()
    context = zmq.Context()
    try:
        pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        pull.bind(Endpoints.url(places.data))
        push.connect(Endpoints.url(places.data))
        push.send(b"?")
        if pull.poll(2000):
            return True, "a message goes through"
        return False, "no message came through within 2 s: is the directory on a network file system?"
    finally:
        context.destroy(linger=0)
        shutil.rmtree(directory, ignore_errors=True)


def _place() -> Check:
    """mmap, record locks and WAL are tried in the directory where runs would lie, not guessed from its type."""
    here = Path.cwd() / RUNS
    there = here if here.is_dir() else Path.cwd()
    reason = local.why_not(there)
    if not reason:
        return True, f"{there}: mmap, locks and WAL work"
    try:
        return None, f"{there} does not carry {reason}: recorder and history of runs made here go to {local.base()}"
    except PlaceError as e:
        return False, f"{there} does not carry {reason}, and there is {e}"


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    return free > 2e9, f"{free / 1e9:.0f} GB free here" + ("" if free > 2e9 else "; checkpoints need room")


def _gpu() -> Check:
    gpus = Gpus(SystemClock())
    try:
        seen = gpus.look(slow=True)
        if seen.gpus:
            return True, ", ".join(f"{g.index}: {g.name}" for g in seen.gpus)
        return None, seen.note or "no GPU"
    finally:
        gpus.close()


def _terminal() -> Check:
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    size = shutil.get_terminal_size()
    return True if utf8 else None, f"{size.columns}×{size.lines}, {'UTF-8' if utf8 else 'no UTF-8: drawn in ASCII'}"


def _logout() -> Check:
    """systemd may kill what a user leaves behind."""
    conf = Path("/etc/systemd/logind.conf")
    said = conf.read_text(encoding="utf-8", errors="replace").lower().replace(" ", "") if conf.is_file() else ""
    kills = "killuserprocesses=yes" in said.splitlines()
    if kills:
        return None, "KillUserProcesses=yes: runs are started in a scope of their own; `loginctl enable-linger` keeps it after logout"
    return True, "processes outlive the login"


def _runs() -> Check:
    here = Path.cwd() / RUNS
    n = sum((RunDir(p).run_toml).is_file() for p in here.iterdir()) if here.is_dir() else 0
    return True, f"{counted(n, 'run')} under {here}" if n else "none yet in this directory"


CHECKS: dict[str, Callable[[], Check]] = {
    "python": _python,
    "runtime directory": _runtime,
    "sockets": _sockets,
    "run directory": _place,
    "disk": _disk,
    "GPU": _gpu,
    "terminal": _terminal,
    "logout": _logout,
    "runs": _runs,
}
