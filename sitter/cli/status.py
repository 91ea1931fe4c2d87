"""``sitter status``: the present, in a few lines or as the contract's JSON."""

import math
import time
from collections.abc import Iterator

import click

from sitter.cli.common import asking, counted, json_option, print_json, run_option
from sitter.clock import human, iso
from sitter.control.board import ENDED
from sitter.grammar import proposed
from sitter.model import Status
from sitter.paths import find
from sitter.supervise.death import signal_name
from sitter_wire.queries import GetStatus


@click.command("status", short_help="Say how a run is: verdict, step, goal, loss, rate, proposals.")
@run_option
@json_option
def command(run: str | None, as_json: bool) -> int:
    """Say how the run is: verdict, step, goal, loss, rate, proposals, checkpoints."""
    with asking(find(run, acts=False)) as asked:
        status: Status = asked.ask(GetStatus())
    if as_json:
        print_json(status)
        return 0
    for line in lines(status):
        click.echo(line)
    return 0


def lines(s: Status) -> list[str]:
    """The status for people. Unknown is shown as –."""
    total = f" / {s.total:,}" if s.total is not None else ""
    step = f"{s.step:,}" if s.step is not None else "–"
    head = f"{s.verdict}  {s.run}  {s.state}  step {step}{total}  branch {_known(s.branch)}  mode {s.mode}"
    return [head, *_training(s), *_machine(s), *_care(s), *_processes(s)]


def _training(s: Status) -> Iterator[str]:
    if s.ends_at is not None:
        yield f"ends      {iso(s.ends_at)}"
    if s.goal is not None:
        best = f" (best {number(s.goal.best)} at {s.goal.best_step:,})" if s.goal.best_step is not None else ""
        yield f"goal      {s.goal.name} {number(s.goal.last)}{best}, {s.goal.better} is better"
    if "loss" in s.signals:
        slope = f", {s.slope_per_k:+.3g} per 1,000 steps" if s.slope_per_k is not None else ""
        yield f"loss      {number(s.signals['loss'].last)}{slope}"
    for name, k in s.knobs.items():
        known = f"{number(k.scheduled)} × {k.scale:g} = {number(k.effective)}" if k.effective is not None else "–"
        yield f"{name:<9} {known}{' held' if k.held else ''}"


def _machine(s: Status) -> Iterator[str]:
    if s.steps_per_s is not None:
        wait = f", {100 * s.data_wait:.0f} % of it waiting for data" if s.data_wait is not None else ""
        yield f"speed     {s.steps_per_s:.3g} steps/s{wait}"
    for g in s.gpus:
        yield f"gpu{g.index}      {g.name}  {_known(g.util)} %  {_known(g.temp)} °C  {_known(g.power)} W"


def _care(s: Status) -> Iterator[str]:
    if s.blind:
        yield f"guard     blind: {s.blind}"
    elif s.watching:
        yield f"watching  {', '.join(s.watching)}"
    yield from (f"warning   {w}" for w in s.warnings)
    for p in s.proposals:
        what = proposed(p.finding)
        when = "waits for your answer" if p.due is None else f"at {iso(p.due)} unless vetoed"
        yield f"proposal  {p.id}: {p.said()} → {what} · {when} · sitter approve {p.id} | sitter veto {p.id}"
    if s.checkpoints:
        newest, good = s.checkpoints[-1], sum(c.good for c in s.checkpoints)
        best = next((f", best at step {c.step:,}" for c in s.checkpoints if c.best), "")
        yield f"saved     {counted(len(s.checkpoints), 'checkpoint')}, newest at step {newest.step:,}, {good} good{best}"
    if s.incidents.total:
        yield f"incidents {s.incidents.total}, {s.incidents.open} open"


def _processes(s: Status) -> Iterator[str]:
    if s.restart is not None:
        yield f"restart   {s.restart.in_words(time.time())}, {s.restart.said}"
    if s.exit is not None:
        yield f"exit      {signal_name(s.exit.signal) if s.exit.signal is not None else f'code {_known(s.exit.code)}'}"
    if s.agent is not None and s.agent.last_seen_s is not None and s.state not in ENDED:
        yield f"agent     process {s.agent.pid}, heard {human(s.agent.last_seen_s)} ago, {s.agent.dropped} records dropped"
    if s.daemon is None:
        yield "daemon    none"


def number(x: float | None) -> str:
    """Four digits; – where it is not known."""
    if x is None:
        return "–"
    return f"{x:.4g}" if math.isfinite(x) else str(x)


def _known(x: object) -> str:
    return "–" if x is None else f"{x:g}" if isinstance(x, float) else str(x)
