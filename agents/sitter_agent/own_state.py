"""Did the script load a state of its own before ``start``, and is it newer than the checkpoint that we are to go on from?"""

from typing import Any, NamedTuple

STEP_KEYS = ("step", "global_step", "steps", "iteration", "iter", "it")
"""Names under which a state of one's own tells its step, at its top."""


class Loaded(NamedTuple):
    """What the script has loaded itself. ``step`` None: it has loaded something, and of which step is not known."""

    anything: bool
    step: int | None


NOTHING = Loaded(False, 0)


def of_optimizers(optimizers: list[Any]) -> Loaded:
    """A fresh optimizer has no state at all; Adam and its kin keep their steps in it, SGD does not."""
    steps = [_number(state.get("step")) for o in optimizers for state in getattr(o, "state", {}).values() if isinstance(state, dict)]
    if not steps:
        return NOTHING
    return Loaded(True, max((s for s in steps if s is not None), default=None))


def of_state(state: Any) -> Loaded:
    """A framework-free state that names its step; where it does not, it is taken for a beginning."""
    if not isinstance(state, dict):
        return NOTHING
    steps = [n for key in STEP_KEYS if (n := _number(state.get(key))) is not None]
    return Loaded(True, max(steps)) if steps and max(steps) > 0 else NOTHING


def contest(loaded: Loaded, step: int, file: str) -> tuple[bool, str]:
    """Whether the script's own state stands, and the words about it (empty: it has none, so there is nothing to say)."""
    if not loaded.anything:
        return False, ""
    if loaded.step is None:
        return True, (
            f"the script has loaded an optimizer state of its own, of which step is not known: it stands, and {file} (step {step}) was not "
            "put back; start(step=…) lets the two be compared"
        )
    if loaded.step >= step:
        older = "older" if loaded.step > step else "no newer"
        return True, f"the script has loaded its own state of step {loaded.step}: it stands, since {file} (step {step}) is {older}"
    return False, f"the script had loaded its own state of step {loaded.step}, which is older"


def _number(value: Any) -> int | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
