"""Exceptions that are not ours although they came up in our code: those that the script's own signal handlers raise."""

import signal
from types import CodeType
from typing import Any

_CALL = "__call__"

NOTICES = ("SIGTERM", "SIGUSR1")
"""What a scheduler sends before it takes the machine away."""

chained: list[Any] = []
"""Handlers of the script that one of ours stands before, and calls."""


def raised_by_handler(error: BaseException) -> bool:
    """Whether a Python signal handler of the script raised it (a time-out by SIGALRM, a notice by SIGTERM).

    Python runs handlers between any two instructions, so also in the midst of ours; such an exception is for the script
    and must go on to it. Looked at only when something was caught, so that it may take its time.
    """
    codes = _handler_codes()
    tb = error.__traceback__
    while tb is not None:
        if tb.tb_frame.f_code in codes:
            return True
        tb = tb.tb_next
    return False


def _handler_codes() -> set[CodeType]:
    found: set[CodeType] = set()
    handlers: list[Any] = list(chained)
    for number in signal.valid_signals():
        try:
            handlers.append(signal.getsignal(number))
        except (ValueError, OSError):
            continue
    for handler in handlers:
        while hasattr(handler, "func") and not hasattr(handler, "__code__"):  # functools.partial
            handler = handler.func
        if not callable(handler):
            continue
        code = getattr(handler, "__code__", None) or getattr(getattr(type(handler), _CALL, None), "__code__", None)
        if isinstance(code, CodeType):
            found.add(code)
    return found
