"""``sitter ls``: the runs that are known here."""

import click

from sitter.cli.common import json_option, print_json
from sitter.paths import FoundRun, runs


@click.command("ls", short_help="List the runs, newest first.")
@json_option
def command(as_json: bool) -> int:
    """List runs, newest first: those under ./sitter-runs and every one this user has started anywhere."""
    found = runs()
    if as_json:
        print_json([_row(f) for f in found])
        return 0
    if not found:
        click.echo("no runs yet; `sitter demo` shows one, `sitter run -- python train.py` starts yours")
        return 0
    width = max(len(f.info.name) for f in found)
    for f in found:
        click.echo(f"{f.info.name:<{width}}  {_state(f):<22}  {f.info.created[:16].replace('T', ' ')}  {f.run.path}")
    return 0


def _state(found: FoundRun) -> str:
    if found.live:
        return "live" if found.daemon_pid else "live, nobody watches"
    return "ended, daemon there" if found.daemon_pid else "ended"


def _row(found: FoundRun) -> dict[str, object]:
    return {
        "run": found.info.name,
        "directory": str(found.run.path),
        "created": found.info.created,
        "live": found.live,
        "agent_pid": found.agent_pid,
        "daemon_pid": found.daemon_pid,
        "command": found.info.command,
    }
