"""What a rule remembers of the signals, and how it is copied: at every snapshot, and again for each restore that goes back to one."""

import copy
from collections import deque
from typing import Any, ClassVar, Self

PLAIN = (float, int, str, bool, type(None))
HOLDS_PLAIN = (list, deque, set, dict)


class Memory:
    """Base of what rules remember, whole or in part. A copy shares nothing with what it was made from that either could change.

    Lists, deques, sets and dictionaries in it hold plain values (numbers, names, tuples of these), so that they are copied as they are:
    ``copy.deepcopy`` looks at each value of the thousands that a window may hold, at every snapshot. Whatever else can change is a
    ``Memory`` itself.
    """

    __slots__ = ()
    _slots: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._slots = tuple(name for kind in cls.__mro__ for name in vars(kind).get("__slots__", ()))

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        new = self.__class__.__new__(self.__class__)
        for name in (*self._slots, *getattr(self, "__dict__", ())):
            held = getattr(self, name)
            if isinstance(held, HOLDS_PLAIN):
                held = held.copy()
            elif not isinstance(held, PLAIN):
                held = copy.deepcopy(held, memo)
            setattr(new, name, held)
        return new
