"""How the training ended, as its parent wrote it down."""

import json

import msgspec

from sitter.model import ExitNow
from sitter.supervise.identity import boot_id
from sitter_wire.places import RunDir, small_file


def read_exit(run: RunDir, began: tuple[float, float] | None = None) -> ExitNow | None:
    """exit.json; None where there is none (it runs, had no parent, or the parent was killed).

    ``began``: (unix, monotonic) seconds; an end before that belongs to an earlier training of this run, and is none. The monotonic ones
    count where the wall clock was turned back since. A damaged file says so in ``error``, with code and signal unknown.
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
    if began is None or found.time is None or found.time >= began[0]:
        return found
    later = found.mono is not None and found.mono >= began[1] and found.boot == boot_id()
    return found if later else None
