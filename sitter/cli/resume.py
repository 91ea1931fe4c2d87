"""``sitter resume``: a dead run goes on from its newest verified checkpoint, also on another host or from another place."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from sitter import config
from sitter.cli.again import Past, choose_whole, described
from sitter.cli.common import asking, run_option
from sitter.errors import LaunchError, RunError, SitterError, TakenError
from sitter.locks import ELSEWHERE, is_held, take
from sitter.model import Status
from sitter.paths import FoundRun, find, look, register, runs, unseen
from sitter.supervise import boots
from sitter.supervise.daemon_process import start_daemon
from sitter.supervise.launch import launch
from sitter.supervise.pending import undecided
from sitter.supervise.process import TrainingProcess
from sitter_wire import rundir
from sitter_wire.places import Endpoints, PlaceError, RunDir, check_own_run
from sitter_wire.queries import GetStatus
from sitter_wire.rundir import RunInfo

ORDERLY = ("stopped", "preempted")
RESUMED = "is being resumed already, by another command; `sitter status` says how it is"


@click.command("resume", short_help="Go on with a dead run from its newest good checkpoint.")
@run_option
@click.option("--all", "every", is_flag=True, help="Every run that crashed, was given up or pre-empted; for @reboot and start scripts.")
def command(run: str | None, every: bool) -> int:
    """Start a dead run's own command again; it goes on from the newest good checkpoint, after a stop or a pre-emption from the newest
    verified one."""
    if not every:
        found = find(run, acts=True)
        why = _alive(found)
        if why:
            raise RunError(f"{found.info.name} {why}")
        try:
            with _alone(found):
                said = _resume(found)
                boots.forget(found.run)  # whoever starts it has looked at it
        except TakenError:
            raise RunError(f"{found.info.name} {RESUMED}") from None
        click.echo(said)
        return 0
    return _all()


def _all() -> int:
    """One line for each run that was started by ``sitter run``, but for those that are over, or one that there is none; 1 where one could
    not go on, or is left alone since it came no further when it was last started here. What ``--restart`` has given up is tried again: a
    boot may have mended what ended it, a GPU or a mount. boots.py says how often."""
    failed = said = 0
    for found in runs():
        if not found.info.command or not found.info.supervised:
            continue
        try:
            why = _alive(found)
            if why:
                said += 1
                click.echo(f"{found.info.name} {why}")
                continue
            status = _status(found)
            if status.state not in ("crashed", "preempted"):
                continue
            said += 1
            with _alone(found):
                told = boots.counted(found.run, status.step, status.checkpoints)
                if told.left_alone:
                    failed += 1
                    click.echo(_left_alone(found, told))
                else:
                    click.echo(_resume(found, status, boot=told))
        except TakenError:
            click.echo(f"{found.info.name} {RESUMED}")
        except (SitterError, PlaceError, OSError) as e:
            failed += 1
            click.echo(f"sitter: {found.info.name}: {e}", err=True)
    for path in unseen():
        said += 1
        click.echo(f"sitter: {path.name}: {path} is not to be seen: if its disk is not mounted yet, ask again then", err=True)
    if not (said or failed):
        click.echo("nothing to resume: no run that `sitter run` started has crashed or was pre-empted")
    return 1 if failed else 0


@contextlib.contextmanager
def _alone(found: FoundRun) -> Iterator[None]:
    """Two commands at once must not count, and start, one run side by side: the first holds a lock until it has. Raises PlaceError,
    RunError; TakenError where another command resumes it, or has just done so."""
    run = found.run
    check_own_run(run)  # its command would be executed as us
    try:
        lock = take(run.resume_lock)
    except OSError as e:
        raise RunError(f"cannot lock {run.resume_lock}: {e.strerror}; expected a run directory that can be written") from e
    if lock is None:
        raise TakenError
    with lock:
        if _alive(look(run)):
            raise TakenError
        yield


def _left_alone(found: FoundRun, told: boots.Boots) -> str:
    """The sentence; the first time a daemon is there for a moment, which writes it down and tells whoever is to be told."""
    if boots.read_boots(found.run) != told:
        boots.write(found.run, told)
        if found.daemon_pid is None:
            start_daemon(found.run)
    return f"{found.info.name} is left alone: {told.left_alone}; `sitter resume -r {found.info.name}` starts it all the same"


def _alive(found: FoundRun) -> str:
    """What to say where there is nothing dead to go on with; empty where there is."""
    if found.agent_pid is not None:
        return f"is alive (process {found.agent_pid}); `sitter unpause` ends a pause, `sitter attach` shows it"
    if is_held(found.run.agent_lock):
        return f"is alive, and {ELSEWHERE}"
    process = TrainingProcess.find(found.run)
    if process is not None and process.alive():
        return f"is alive (process {process.pid}, no agent in it yet); `sitter attach` shows it"
    if undecided(found.run):
        return "is about to be started again by itself; `sitter status` says when, `sitter stop` calls it off"
    return ""


def _resume(found: FoundRun, status: Status | None = None, *, boot: boots.Boots | None = None) -> str:
    """Start it; the sentence about that. ``boot``: nobody looks, so it is counted, and it begins anew where it died before its first
    checkpoint. Raises SitterError, OSError."""
    name = found.info.name
    if not found.info.command:
        hint = f"start your script again with SITTER_RUN={found.run.path}"
        raise RunError(f"{name} was not started by sitter, so its command is unknown; {hint}")
    found, moved = _here(found)
    info = found.info
    command, cwd = _command(info, found.run.path, moved=moved)
    status = status or _status(found)
    if status.state == "finished" and not _has_more(status):
        raise RunError(f"{name} has finished at step {status.step:,}; there is nothing to go on with")
    past = Past(found.run)
    # Not by the state: a crash whose restart was called off is stopped, or pre-empted, but its last checkpoint may be of after the trouble.
    chosen, damaged = choose_whole(past.checkpoints(), orderly=past.end in ORDERLY)
    if chosen is None and (boot is None or damaged):
        again = f"start it anew with `sitter run -- {' '.join(info.command)}`"
        raise RunError(f"{name} has no verified checkpoint to go on from{''.join(f'; {why}' for why in damaged)}; {again}")
    for why in damaged:
        click.echo(f"sitter: {why}; passed over", err=True)
    furthest, pauses = status.step if chosen is not None else None, config.load(found.run.sitter_toml).restart
    if found.daemon_pid is None:
        start_daemon(found.run)
    with _counting(found.run, boot):
        launched = launch(
            found.run, command, resume=chosen.path if chosen is not None else "", cwd=cwd, restart=info.restart, furthest=furthest,
            pause_s=pauses.pause, pause_most_s=pauses.pause_most,
        )  # fmt: skip
    if launched.note:
        click.echo(f"sitter: {launched.note}", err=True)
    place = f" in {cwd}" if moved else ""
    return f"{name} goes on {described(chosen, [])}{place}; `sitter attach -r {name}` shows it"


def _has_more(status: Status) -> bool:
    """Whether a run whose command ended well may yet have steps to come: it left early, or was killed behind a shell script that ended well
    all the same; or how far it had come is not known, since its history was damaged."""
    return status.step is None or (status.total is not None and status.step < status.total - 1)


@contextlib.contextmanager
def _counting(run: RunDir, boot: boots.Boots | None) -> Iterator[None]:
    """The start is on disk before it is made, since it may be the machine's last act; one that another command was quicker with is not."""
    if boot is not None:
        boots.write(run, msgspec.structs.replace(boot, starts=boot.starts + 1))
    try:
        yield
    except TakenError:
        if boot is not None:
            boots.write(run, boot)
        raise


def _status(found: FoundRun) -> Status:
    with asking(found) as asked:
        status: Status = asked.ask(GetStatus())
    return status


# -- another host, another place ---------------------------------------------------------------------------------------------


def _here(found: FoundRun) -> tuple[FoundRun, bool]:
    """The run with addresses of this host and place. The recorded ones may be another run's: those of the one that it was copied from."""
    info, run = found.info, found.run
    own = Endpoints.of_run(run.path).directory
    moved = info.host != platform.node() or bool(info.sockets and Path(info.sockets).name != own.name)
    if not moved or found.daemon_pid is not None:
        return found, moved
    rundir.write(run, msgspec.structs.replace(info, sockets=os.fspath(own)))
    register(run)
    return look(run), moved


def _command(info: RunInfo, run: Path, *, moved: bool) -> tuple[list[str], str]:
    """The command and its directory as they are here: where the run was moved, the directory that lies to it as before, and what the
    command names below the old one looked for below the new one. Raises LaunchError."""
    if not moved:
        return info.command, info.cwd
    beside = os.path.normpath(run / info.cwd_from_run) if info.cwd_from_run else ""
    places = [place for place in dict.fromkeys((beside, info.cwd)) if place and Path(place).is_dir()]
    for place in places:
        command = [_moved(word, info.cwd, place) for word in info.command]
        if all(Path(place, word).exists() for word in command if word.endswith((".py", ".sh"))):
            return command, place
    script = next((word for word in info.command if word.endswith((".py", ".sh"))), "")
    looked = " and ".join(places) or "no directory"
    raise LaunchError(
        f"the run comes from {info.host or 'another host'}, where it ran in {info.cwd}; {script or 'that directory'} was not found here"
        f" (looked in {looked}); put it there, or write its directory as cwd into {run / 'run.toml'}"
    )


def _moved(word: str, old: str, new: str) -> str:
    if not old or not word.startswith(old.rstrip("/") + "/") or Path(word).exists():
        return word
    there = Path(new) / Path(word).relative_to(old)
    return str(there) if there.exists() else word
