"""``sitter drill hang``."""

from typing import ClassVar

from sitter.drill.settings import Settings
from sitter.drill.still import StillFault


class Hang(StillFault):
    """The training thread sleeps in the midst of a step, as in a deadlock: alive, no CPU, no step.

    It must be told apart from a long step, with the line on which it stands, and the stacks of all threads must lie in a file. A pause of
    this run's own is waited for much longer than what is set here: the rule's default is two minutes of doing nothing.
    """

    name: ClassVar[str] = "hang"
    title: ClassVar[str] = "the training sleeps for ever; cause and line are said, the stacks taken"
    told: ClassVar[str] = "hang"
    settings: ClassVar[Settings] = {"rules.stalled": {"still_minutes": 0.1, "do": "notify"}}
    says: ClassVar[str] = "stands still"
    line: ClassVar[str] = "drill_stands_still"
    state: ClassVar[str] = "stalled"
