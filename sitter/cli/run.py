"""``sitter run``: start a training under its small parent, watch it, leave it whenever one likes."""

import os
import sys
from pathlib import Path

import click

from sitter import config
from sitter.cli.follow import Interrupts, follow
from sitter.control.ruleset.build import check
from sitter.control.ruleset.preset import preset_of
from sitter.errors import LaunchError, SitterError, UsageError
from sitter.paths import RUNS, register
from sitter.supervise.daemon_process import start_daemon, stop_daemon
from sitter.supervise.death import in_words
from sitter.supervise.exit import read_exit
from sitter.supervise.launch import launch, why_not_startable
from sitter.version import VERSION
from sitter_wire import rundir
from sitter_wire.places import Endpoints, RunDir


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option("--name", metavar="NAME", help="Name of the run; without it month, day and the script's name.")
@click.option(
    "--rules",
    "rules",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings for this run (else ./sitter.toml, else the defaults).",
)
@click.option(
    "--mode",
    type=click.Choice(["watch", "guard", "act"]),
    help="watch: nothing acts. guard (default): the guard acts, the rest asks. act: all act.",
)
@click.option(
    "--no-ui", "no_ui", is_flag=True, help="Stay in the foreground, follow the output, return the training's exit code."
)
@click.option(
    "--restart", type=click.IntRange(0), default=0, metavar="N", help="Start it again after a crash, at most so many times."
)
@click.option("--then", "then", metavar="CMD", default="", help="A command for when the run is finished or given up.")
@click.argument("command_line", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD…")
def command(
    name: str | None, rules: Path | None, mode: str | None, no_ui: bool, restart: int, then: str, command_line: tuple[str, ...]
) -> int:
    """Start a training and open the screen on it. Leaving the screen (q), or closing the terminal, stops nothing."""
    words = list(command_line)
    why = why_not_startable(words)
    if why:
        raise LaunchError(why)  # before anything is made: a spelling mistake leaves no run behind
    run = prepare(words, name=name, rules=rules, mode=mode or "", then=then, restart=restart)
    if name is not None and run.name != name:
        click.echo(f"sitter: there is a run {name} already: this one is {run.name}", err=True)
    interrupts = Interrupts() if no_ui else None
    try:
        start_daemon(run)
        pauses = config.load(run.sitter_toml).restart
        launched = launch(run, words, restart=restart, pause_s=pauses.pause, pause_most_s=pauses.pause_most)
    except SitterError as e:
        stop_daemon(run)
        if interrupts is not None and read_exit(run) is not None:
            code = follow(run, interrupts)
            click.echo(f"sitter: {e}", err=True)
            return code
        raise
    if launched.note:
        click.echo(f"sitter: {launched.note}", err=True)
    if no_ui or not sys.stdout.isatty():
        return follow(run, interrupts or Interrupts())
    from sitter.cli.screen import show  # textual takes a moment to import, and --no-ui has no use for it

    show(run)
    click.echo(how_it_was_left(run))
    return 0


def how_it_was_left(run: RunDir) -> str:
    """What is said when the screen is left."""
    ended = read_exit(run)
    if ended is None:
        return f"{run.name} goes on; `sitter attach -r {run.name}` comes back"
    return f"{run.name} is over ({in_words(ended.code, ended.signal)}); `sitter attach -r {run.name}` shows it again"


def prepare(command_line: list[str], *, name: str | None, rules: Path | None, mode: str, then: str, restart: int = 0) -> RunDir:
    """The run directory, made only once the settings are known to be right. Raises SitterError, PlaceError."""
    settings = rules or Path("sitter.toml")
    if rules is not None and not rules.is_file():
        raise UsageError(f"--rules {rules}: there is no such file")
    read = config.load(settings)
    check(read, str(settings))
    Endpoints.of_run(Path.cwd() / RUNS / (name or "any"))  # the place of the sockets is looked at before anything is made
    script = next((word for word in command_line if word.endswith((".py", ".sh"))), command_line[0])
    run = rundir.create(
        Path.cwd() / RUNS,
        name or rundir.default_name(script),
        command=command_line,
        supervised=True,
        sockets="",
        version=VERSION,
        mode=mode,
        then=then,
        restart=restart,
        rules=rules,
    )
    info = rundir.read(run)
    preset_of(info, read)
    places = Endpoints.of_run(run.path)
    places.create()
    rundir.write(run, rundir.with_sockets(info, os.fspath(places.directory)))
    register(run)
    return run
