"""``sitter``: commands are imported only when used, and every error ends in one sentence and an exit code."""

import difflib
import importlib
import os
import sys

import click

from sitter.cli.catalogue import COMMANDS
from sitter.errors import SitterError, UsageError
from sitter.version import VERSION
from sitter_wire.places import PlaceError


class Catalogue(click.Group):
    """A group whose commands are looked up in ``COMMANDS``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the catalogue's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Imports the command's module."""
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[name]).command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the nearest right name."""
        near = [] if args[0] in COMMANDS else difflib.get_close_matches(args[0], COMMANDS, 1, 0.6)
        if near:
            raise UsageError(f"no such command {args[0]!r}; did you mean {near[0]}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """`sitter logbook | head`: where the reader has left that is no failure, which click would make of it."""
        try:
            done = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter shall not say it either, at its exit
            return 0
        return done


@click.group(cls=Catalogue, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(VERSION, prog_name="sitter")
def root() -> None:
    """Watch, steer and rescue one long training run.

    `sitter run -- python train.py` starts one and opens the screen on it; `sitter attach` opens it at any time. The other commands work
    beside it, from any terminal. `sitter COMMAND -h` says more about each. Exit codes: 0 done or applied; 1 rejected, expired, not
    answered or failed, with the reason; 2 wrong usage.
    """


def main() -> None:
    """The console script. Exit codes: 0 done or applied; 1 rejected, expired, not answered, failed; 2 wrong usage."""
    if sys.platform == "win32":
        sys.exit("sitter: native Windows is not supported; run it inside WSL2")
    try:
        sys.exit(root.main(prog_name="sitter", standalone_mode=False) or 0)
    except click.UsageError as e:
        if isinstance(e, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # the help itself, from click 8.2 on
            e.show()
            sys.exit(2)
        where = e.ctx.command_path if e.ctx is not None else "sitter"
        said = " ".join(e.format_message().split()).rstrip(".")
        said = said.replace("a valid integer range", "a whole number").replace("a valid float range", "a number")
        click.echo(f"sitter: {said[:1].lower() + said[1:]}; `{where} --help` says what may be given", err=True)
        sys.exit(2)
    except click.ClickException as e:
        click.echo(f"sitter: {e.format_message()}", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except SitterError as e:
        click.echo(f"sitter: {e}", err=True)
        sys.exit(e.exit_code)
    except PlaceError as e:
        click.echo(f"sitter: {e}", err=True)
        sys.exit(1)
    except OSError as e:
        where = f"{e.filename}: " if e.filename else ""
        click.echo(f"sitter: {where}{e.strerror or e}; make that place usable, and ask again", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
