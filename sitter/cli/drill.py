"""``sitter drill``: plant a fault on purpose, and see whether the set-up withstands it."""

import contextlib
import difflib
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from sitter import config
from sitter.cli.common import json_option, print_json
from sitter.cli.run import prepare
from sitter.clock import duration
from sitter.drill import runner
from sitter.drill.base import Fault
from sitter.drill.catalogue import FAULTS
from sitter.drill.scene import READY_S, START_S, Scene
from sitter.drill.settings import put_over
from sitter.errors import LaunchError, UsageError
from sitter.supervise.launch import why_not_startable


def _duration(_ctx: click.Context, param: click.Parameter, value: str) -> float:
    """``90s``, ``15m`` in seconds."""
    try:
        seconds = duration(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise UsageError(f"--{(param.name or '').replace('_', '-')} {value}: expected a length of time such as 60s, 5m or 2h")
    return seconds


@click.command("drill", short_help="Plant a fault to prove a set-up before it is trusted.")
@json_option
@click.option(
    "--rules", "rules", type=click.Path(dir_okay=False, path_type=Path),
    help="Settings to be proven (else ./sitter.toml, else the defaults).",
)  # fmt: skip
@click.option(
    "--start-within", default=f"{START_S:.0f}s", callback=_duration, metavar="TIME", show_default=True,
    help="Time for the script to start the agent.",
)  # fmt: skip
@click.option(
    "--patience", default=f"{READY_S / 60:.0f}m", callback=_duration, metavar="TIME", show_default=True,
    help="Time until the fault can be planted.",
)  # fmt: skip
@click.argument("fault", required=False, metavar="FAULT")
@click.argument("command_line", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD…]")
def command(
    as_json: bool, rules: Path | None, start_within: float, patience: float, fault: str | None, command_line: tuple[str, ...]
) -> int:  # fmt: skip
    """Plant FAULT in a training of its own, and say whether it was noticed, how soon, what was done, and what it cost.

    Without CMD a small built-in model is trained; with it your own script, really, for as long as the drill takes. `sitter drill list`
    names the faults. Exit code 0: all that was promised held; 1: it did not, or the drill could not be held; 2: wrong usage.
    """
    if fault is None or fault == "list":
        _list(as_json=as_json)
        return 0
    chosen, words = _fault(fault), list(command_line)
    own = bool(words)
    if own and not chosen.own:
        able = ", ".join(name for name, f in FAULTS.items() if f.own)
        raise UsageError(f"drill {fault} needs the built-in model: leave `-- {words[0]} …` out, or take one of {able}")
    why = why_not_startable(words)
    if why:
        raise LaunchError(why)
    words = words or runner.builtin_command(chosen)
    _be_endable()

    def say(line: str) -> None:
        click.echo(line, err=True)

    if rules is None and Path("sitter.toml").is_file():
        rules = Path("sitter.toml").resolve()
    with chosen.place() as place, contextlib.chdir(place):
        run = prepare(words, name=runner.run_name(chosen.name), rules=rules, mode="", then="", restart=chosen.restart)
        settings = put_over(run, chosen.settings)
        say(f"sitter drill {chosen.name}: {chosen.title}. Run {run.name}")
        if own:
            say("your script really trains for a while now, and is ended when the verdict is in; whatever it writes itself is written")
        if config.load(run.sitter_toml).notify:
            say(f"whoever is set up to be notified is notified, of run {run.name}: that is part of the set-up")
        if settings:
            say(f"for this drill alone: {'; '.join(settings)}")
        report = runner.hold(chosen, Scene(run, words, say, own=own, start_s=start_within, ready_s=patience), settings)
    if as_json:
        print_json(report)
    else:
        click.echo("\n".join(report.lines()))
    return 0 if report.verdict == "PASS" else 1


def _fault(name: str) -> Fault:
    if name not in FAULTS:
        near = difflib.get_close_matches(name, FAULTS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(FAULTS)}"
        raise UsageError(f"there is no fault {name!r}; {hint}")
    return FAULTS[name]()


def _list(*, as_json: bool) -> None:
    if as_json:
        print_json([{"fault": name, "title": fault.title, "own_command": fault.own} for name, fault in FAULTS.items()])
        return
    width = max(map(len, FAULTS))
    for name, fault in FAULTS.items():
        click.echo(f"{name:<{width}}  {fault.title}{' *' if fault.own else ''}")
    click.echo("* also on your own training: sitter drill FAULT -- python train.py")


def _be_endable() -> None:
    """A drill that is ended from outside ends what it has started."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
