"""``sitter resume``: a dead run goes on from its newest verified checkpoint."""

import click

from sitter.cli.common import asking, run_option, settle
from sitter.errors import RunError, SitterError
from sitter.model import CheckpointInfo, Status
from sitter.paths import FoundRun, find, runs
from sitter.store.lines import Stretch
from sitter.store.reader import Reader
from sitter.supervise.checkpoint import why_not_whole
from sitter.supervise.daemon_process import start_daemon
from sitter.supervise.launch import launch
from sitter_wire.queries import GetStatus

RESUMABLE = ("crashed", "preempted", "stopped")


@click.command("resume", short_help="Go on with a dead run from its newest good checkpoint.")
@run_option
@click.option("--all", "every", is_flag=True, help="Every run that crashed or was pre-empted; for @reboot and start scripts.")
def command(run: str | None, every: bool) -> int:
    """Start a dead run's own command again; it goes on from the newest good checkpoint, else the newest verified one."""
    if not every:
        _resume(find(run, acts=True))
        return 0
    failed = 0
    for found in runs():
        if found.live or not found.info.command:
            continue
        try:
            if _status(found)[0].state in ("crashed", "preempted"):
                _resume(found)
        except SitterError as e:
            failed += 1
            click.echo(f"sitter: {found.info.name}: {e}", err=True)
    return 1 if failed else 0


def _resume(found: FoundRun) -> None:
    name = found.info.name
    if found.live:
        raise RunError(
            f"{name} is alive (process {found.agent_pid}); `sitter unpause` ends a pause, `sitter attach` shows it"
        )
    if not found.info.command:
        hint = f"start your script again with SITTER_RUN={found.run.path}"
        raise RunError(f"{name} was not started by sitter, so its command is unknown; {hint}")
    status, line = _status(found)
    if status.state == "finished":
        raise RunError(f"{name} has finished at step {status.step}; there is nothing to go on with")
    left, damaged = [c for c in status.checkpoints if on_line(c, line)], list[str]()
    while (chosen := choose(left)) is not None and (why := why_not_whole(chosen)):
        damaged.append(why)
        left.remove(chosen)
    if chosen is None:
        anew = f"start it anew with `sitter run -- {' '.join(found.info.command)}`"
        raise RunError(f"{name} has no verified checkpoint to go on from{''.join(f'; {why}' for why in damaged)}; {anew}")
    for why in damaged:
        click.echo(f"sitter: {why}; passed over", err=True)
    if found.daemon_pid is None:
        start_daemon(found.run)
    launch(found.run, found.info.command, resume=chosen.path, cwd=found.info.cwd)
    kind = "good" if chosen.good else "verified, not yet called good"
    click.echo(f"{name} goes on from step {chosen.step:,} ({kind}); `sitter attach -r {name}` shows it")


def choose(checkpoints: list[CheckpointInfo]) -> CheckpointInfo | None:
    """The newest good one, else the newest verified one."""
    verified = [c for c in checkpoints if c.verified]
    return max([c for c in verified if c.good] or verified, key=lambda c: (c.branch, c.step), default=None)


def on_line(checkpoint: CheckpointInfo, line: list[Stretch]) -> bool:
    """Whether it lies on this line of branches, and not on what a restore left behind."""
    return any(s.branch == checkpoint.branch and (s.to is None or checkpoint.step <= s.to) for s in line)


def _status(found: FoundRun) -> tuple[Status, list[Stretch]]:
    """The status, and the present line of branches."""
    with asking(found) as asked:
        status: Status = asked.ask(GetStatus())
        settle(asked)
        reader = Reader(found.run.history)
        try:
            return status, reader.line()
        finally:
            reader.close()
