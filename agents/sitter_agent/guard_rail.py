"""Nothing of ours escapes into training.

Every public entry of the agent stands behind a rail: an exception of ours is caught, said once per kind, recorded as a
remark where that works, and after too many the agent switches itself off. ``KeyboardInterrupt``, ``SystemExit`` and our
own deliberate stop (a ``KeyboardInterrupt`` as well) are not ``Exception`` and pass.
"""

import functools
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from sitter_agent.handlers import raised_by_handler
from sitter_agent.say import Once, in_words, say

FAILURES_ALLOWED = 50
"""In all; a failure in every step of a fast loop must not go on for hours, one now and then must not cost the guard."""


class GuardRail:
    """Counts failures and decides when it is enough.

    ``remark`` records a sentence (may itself fail); ``off`` is called once, when the agent switches itself off.
    """

    def __init__(
        self,
        *,
        remark: Callable[[str], object] | None = None,
        off: Callable[[], object] | None = None,
        limit: int = FAILURES_ALLOWED,
    ) -> None:
        self.on = True
        self.failures = 0
        self.remark, self.switch_off, self.limit = remark, off, limit
        self._once = Once()

    def caught(self, where: str, error: Exception) -> None:
        """Take note of a failure in ``where``. Never raises."""
        self.failures += 1
        kind = f"{where}:{type(error).__name__}"
        if kind not in self._once.seen:
            text = f"{where} failed ({in_words(error)}{_place(error)}); training goes on"
            self._once(kind, text)
            self._record(text)
        if self.on and self.failures >= self.limit:
            self.on = False
            text = f"switched off after {self.failures} failures, the last in {where}; training goes on unguarded"
            say(text)
            self._record(text)
            try:
                if self.switch_off is not None:
                    self.switch_off()
            except Exception as e:  # noqa: BLE001 — the rail itself must hold
                say(f"switching off failed as well ({in_words(e)}); training goes on")

    def _record(self, text: str) -> None:
        try:
            if self.remark is not None:
                self.remark(text)
        except Exception as e:  # noqa: BLE001 — recording a failure may fail for the same reason
            self._once("remark", f"a remark could not be recorded ({in_words(e)})")

    @contextmanager
    def around(self, where: str) -> Iterator[None]:
        """``with rail.around("safe point"): …``: a failure inside ends the block and nothing else."""
        try:
            yield
        except Exception as e:  # what the rail is for
            if raised_by_handler(e):
                raise
            self.caught(where, e)


OFF = GuardRail()
"""Where nothing is recorded."""
OFF.on = False


class _HasRail(Protocol):
    rail: GuardRail


S = TypeVar("S", bound=_HasRail)
P = ParamSpec("P")
R = TypeVar("R")


def guarded(fallback: R) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """Decorate a method of something with a ``rail``: where it fails or the rail is off, it returns ``fallback``.

    Costs about 0.1 µs a call. The hottest entry writes its own ``try`` and calls ``rail.caught``.
    """

    def decorate(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        where = method.__name__

        @functools.wraps(method)
        def rail_around(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
            if not self.rail.on:
                return fallback
            try:
                return method(self, *args, **kwargs)
            except Exception as e:  # what the rail is for
                if raised_by_handler(e):
                    raise
                self.rail.caught(where, e)
                return fallback

        return cast(Callable[Concatenate[S, P], R], rail_around)

    return decorate


def _place(error: Exception) -> str:
    try:
        frame = traceback.extract_tb(error.__traceback__)[-1]
    except Exception:  # noqa: BLE001 — a place is nice to have
        return ""
    return f", {frame.filename.rpartition('/')[2]}:{frame.lineno}"
