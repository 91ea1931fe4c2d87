"""Opening the TUI on a run's daemon; textual is imported here and nowhere earlier."""

import contextlib
import os
import sys

from sitter.cli.reference import reference_curves
from sitter.client import Client
from sitter.tui.app import App
from sitter_wire.places import RunDir

LAST_LOOK = "last_look"
"""An empty file in the run directory; its time is when an operator last left the screen."""


def show(run: RunDir, *, ref: str | None = None, plain: bool = False) -> None:
    """Blocks until the operator leaves; the run goes on."""
    mark = run.path / LAST_LOOK
    since = mark.stat().st_mtime if mark.exists() else None
    curves = reference_curves(ref) if ref else None
    looking, acting = Client(run), Client(run)  # a demand that waits must not keep the screen waiting
    try:
        App(looking, acting=acting, run_name=run.name, ref=curves, since=since, ascii=plain).run(mouse=False)
    finally:
        looking.close()
        acting.close()
        with contextlib.suppress(OSError):  # a read-only place has no memory of who looked
            mark.touch()


def why_no_screen() -> str:
    """What is missing to draw on; empty where nothing is."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "this is no terminal"
    if os.environ.get("TERM", "") in ("", "dumb"):
        return f"this terminal cannot be drawn on (TERM={os.environ.get('TERM', '')})"
    return ""
