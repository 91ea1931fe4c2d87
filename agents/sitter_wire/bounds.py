"""Numbers and names as they may come over the wire. What decodes and lies outside is garbage, dropped at the border: SQLite holds 64 bits,
the kernel knows no process above 2³¹, and a time that is not a number would never be over."""

from typing import Annotated

import msgspec

Whole = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]
"""A step or a branch."""
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
Small = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
"""A process, a thread, a signal's number."""
Finite = Annotated[float, msgspec.Meta(ge=-1e18, le=1e18)]
"""Seconds, factors: neither infinite nor NaN."""
Name = Annotated[str, msgspec.Meta(max_length=256)]
"""A session, an id, a rule."""
