"""How the training ended, as its parent wrote it down."""

import json

import msgspec

from sitter.model import ExitNow
from sitter_wire.places import RunDir


def read_exit(run: RunDir, started: float | None = None) -> ExitNow | None:
    """exit.json; None where there is none (it runs, had no parent, or the parent was killed).

    ``started``: unix seconds; an end before that belongs to an earlier training of this run, and is none. A damaged file says so in
    ``error``, with code and signal unknown.
    """
    try:
        text = run.exit_json.read_bytes()
    except OSError:
        return None
    try:
        found = msgspec.convert(json.loads(text), ExitNow)
    except (ValueError, msgspec.ValidationError) as e:
        return ExitNow(code=None, signal=None, error=f"{run.exit_json} does not say how the training ended: {e}")
    if started is not None and found.time is not None and found.time < started:
        return None
    return found
