"""What the code of others may do to the daemon: nothing. It may raise what it likes, return what it likes, and never come to an end.

The methods of a rule from a Python file are put into ``bounded`` ones: what is no finding becomes an error, as does whatever they raise,
``sys.exit()`` included, and a call that does not end is ended. The engine switches off a rule whose method raises, and says why.
"""

import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import msgspec

from sitter.model import Finding
from sitter.rules.base import Rule

LOOK_S = 2.0
LOOKS = 3
"""A call in which the main thread still is at so many looks in a row is ended."""
SIGNAL = signal.SIGVTALRM
"""Of no use to anybody else here."""
SAYS = ("observe", "tick", "standing")
"""What returns a finding."""
TELLS = ("happened",)
ASKED: dict[str, object] = {
    "state": None, "set_state": None, "fresh": None, "refused": None, "knowledge": None, "limits": "", "spends": True,
}  # fmt: skip
LOOKED_AT: dict[str, object] = {"open_trip": False, "suspicious": None, "wants_stacks": False}
"""Nobody expects those in these two to raise: what stands here is said instead, and the rule's next word is the error."""

Kind = TypeVar("Kind", bound=type[Rule])


class EndlessError(Exception):
    """A call that does not come to an end."""


class _Enough(BaseException):
    """Raised in the midst of it; no ``except Exception`` of its own holds it up."""


class _Watch:
    """A thread that looks every ``LOOK_S`` whether the main thread is still in the same call, and after ``LOOKS`` such looks sends it a
    signal. Of a process that was stopped, or a host that slept, one look is late, and none is skipped."""

    def __init__(self) -> None:
        self.call: int | None = None
        """The number of the call that the main thread is in."""
        self._calls = 0
        self._begun = False

    def begin(self) -> None:
        """A call begins."""
        self._calls += 1
        self.call = self._calls
        if not self._begun:
            self._begun = True
            signal.signal(SIGNAL, self._interrupt)
            threading.Thread(target=self._look, name="sitter-careful", daemon=True).start()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Not where it has just come to its end, or is being ended: raised there, it would end the daemon."""
        if self.call is not None and frame is not None and frame.f_code.co_filename not in _OURS:
            raise _Enough

    def _look(self) -> None:
        main, last, looks = threading.main_thread().ident, None, 0
        while main is not None:
            time.sleep(LOOK_S)
            looks = looks + 1 if self.call is not None and self.call == last else 0
            last = self.call
            if looks >= LOOKS:
                signal.pthread_kill(main, SIGNAL)


_watch = _Watch()
_OURS = {_Watch.begin.__code__.co_filename, contextmanager.__code__.co_filename}
"""Whose code that is into which ``limited`` puts the call."""


@contextmanager
def limited() -> Iterator[None]:
    """Ends what is done in it when it takes too long. Raises EndlessError. Only in the main thread, which is where a daemon runs rules;
    what waits inside C code is ended when that returns."""
    if threading.current_thread() is not threading.main_thread() or _watch.call is not None:
        yield  # one inside another is ended with that
        return
    try:
        _watch.begin()
        yield
        _watch.call = None
    except _Enough:
        raise EndlessError(f"it did not come to an end within {LOOKS * LOOK_S:g} s") from None
    finally:
        _watch.call = None


def bounded(kind: Kind) -> Kind:
    """The class, with what it overrides put into bounds."""
    for name in (*SAYS, *TELLS, *ASKED):
        own = getattr(kind, name)
        if own is not getattr(Rule, name) or name in ("state", "set_state"):  # those two copy whatever it put into its memory
            setattr(kind, name, _method(own, name))
    for name, instead in LOOKED_AT.items():
        own = getattr(kind, name)
        if own is not getattr(Rule, name):
            setattr(kind, name, property(_looked(own, instead)))
    return kind


def _method(own: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(own)
    def call(rule: Rule, *given: Any) -> Any:
        failed = vars(rule).get("_failed")
        if failed is not None and name not in ASKED:
            raise failed
        try:
            with limited():
                said = own(rule, *given)
                return _finding(said, rule) if name in SAYS else said
        except SystemExit as e:
            error: Exception = RuntimeError(f"it called sys.exit({e.code!r})")
        except Exception as e:  # noqa: BLE001 — the code of others
            error = e
        if name in ASKED:
            vars(rule)["_failed"] = error
            return ASKED[name]
        raise error

    return call


def _looked(own: object, instead: object) -> Callable[[Rule], Any]:
    """``own``: a property, or a plain value."""

    def look(rule: Rule) -> Any:
        try:
            with limited():
                return own.fget(rule) if isinstance(own, property) and own.fget else own
        except (Exception, SystemExit) as e:  # noqa: BLE001
            vars(rule)["_failed"] = e if isinstance(e, Exception) else RuntimeError("it called sys.exit()")
            return instead

    return look


def _finding(said: object, rule: Rule) -> Finding | None:
    """Raises TypeError, ValueError: it is none that can be written down."""
    if said is None:
        return None
    if not isinstance(said, Finding):
        raise TypeError(f"expected a finding, made by self.found(…), or None; it returned {str(said)[:80]!r}")
    evidence = {name: int(value) if isinstance(value, bool) else value for name, value in dict(said.evidence).items()}
    try:
        whole = msgspec.convert(msgspec.to_builtins(msgspec.structs.replace(said, evidence=evidence), enc_hook=_number), Finding)
    except (msgspec.ValidationError, TypeError) as e:
        raise ValueError(f"its finding is none: {e}") from None
    return msgspec.structs.replace(whole, rule=rule.name)


def _number(value: object) -> object:
    """numpy's and torch's scalars are numbers like others."""
    item = getattr(value, "item", None)
    if callable(item):
        number = item()
        return int(number) if isinstance(number, bool) else number
    raise TypeError(f"expected a number or a text, found {type(value).__name__}")
