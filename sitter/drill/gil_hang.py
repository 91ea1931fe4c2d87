"""``sitter drill gil-hang``."""

from typing import ClassVar

from sitter.drill.settings import Settings
from sitter.drill.still import StillFault


class GilHang(StillFault):
    """C code waits and keeps Python's interpreter lock, as a driver call may: not even the agent's own thread can answer.

    It must be told apart from a dead and from a stopped process, by looking from outside; the line must be said all the same.
    """

    name: ClassVar[str] = "gil-hang"
    title: ClassVar[str] = "C code waits and keeps Python's lock; looked at from outside, cause and line are said"
    told: ClassVar[str] = "gil-hang"
    settings: ClassVar[Settings] = {"rules.stalled": {"hung_seconds": 6.0, "do": "notify"}}
    says: ClassVar[str] = "keeps Python's interpreter lock (GIL)"
    line: ClassVar[str] = "drill_holds_the_gil"
    state: ClassVar[str] = "hung"
