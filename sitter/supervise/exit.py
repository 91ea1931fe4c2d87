"""How the training ended, as its parent wrote it down."""

import json

import msgspec

from sitter.model import ExitNow
from sitter_wire.places import RunDir, small_file


def read_exit(run: RunDir, started: float | None = None) -> ExitNow | None:
    """exit.json; None where there is none (it runs, had no parent, or the parent was killed).

    ``started``: unix seconds; an end before that belongs to an earlier training of this run, and is none. A damaged file says so in
    ``error``, with code and signal unknown.
    """
    try:
        text = small_file(run.exit_json)
    except FileNotFoundError:
        return None
    except OSError as e:
        return ExitNow(code=None, signal=None, error=f"{run.exit_json} does not say how the training ended: {e}")
    try:
        found = msgspec.convert(json.loads(text), ExitNow)
    except (ValueError, RecursionError, OverflowError) as e:
        return ExitNow(code=None, signal=None, error=f"{run.exit_json} does not say how the training ended: {e}")
    if started is not None and found.time is not None and found.time < started:
        return None
    return found
