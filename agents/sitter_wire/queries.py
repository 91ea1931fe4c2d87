"""What a client (TUI, CLI) asks the daemon. One request, one reply, matched by id; replies may come out of order."""

from typing import Annotated, Any, Literal

import msgspec

from sitter_wire.bounds import Count, Finite, Name
from sitter_wire.commands import AnyAction

Columns = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
"""No screen is wider, and each costs memory."""
Offset = Annotated[int, msgspec.Meta(gt=-86400, lt=86400)]
"""Seconds; as ``datetime.timezone`` takes them."""


class Query(msgspec.Struct, frozen=True, kw_only=True, tag_field="q"):
    """One question or demand."""


class GetStatus(Query, frozen=True, tag="status"):
    """The present, as in ``sitter status --json``. Reply: ``sitter.model.Status``."""


class GetCurves(Query, frozen=True, tag="curves"):
    """Signals over the present line of branches, reduced to ``columns`` buckets. Reply: ``sitter.model.Curves``.

    ``axis``: ``step``, ``hours`` (since the run began). ``lo``/``hi`` bound it (None = the ends). ``abandoned`` adds the stretches that
    were left by a restore.
    """

    signals: Annotated[list[Name], msgspec.Meta(max_length=10_000)]
    columns: Columns = 200
    axis: Literal["step", "hours"] = "step"
    lo: Finite | None = None
    hi: Finite | None = None
    abandoned: bool = False


class GetLogbook(Query, frozen=True, tag="logbook"):
    """Logbook entries with ``id`` > after, oldest first, at most ``limit`` (the newest ones). Reply: list of LogEntry."""

    after: Count = 0
    limit: Count = 1000


class GetDays(Query, frozen=True, tag="days"):
    """A row a day. Reply: list of ``sitter.model.DayRow``. ``utc_offset`` in seconds says where a day begins."""

    utc_offset: Offset = 0


class GetSince(Query, frozen=True, tag="since"):
    """What happened since a wall time (unix seconds). Reply: ``sitter.model.Since``."""

    since: Finite


class Settle(Query, frozen=True, tag="settle"):
    """Answer once all that the daemon knows now is committed, for whoever reads the history right after. Reply: Answered."""


class GetRules(Query, frozen=True, tag="rules"):
    """Every rule with mode, parameters and state. Reply: list of ``sitter.model.RuleState``."""


class Act(Query, frozen=True, tag="act"):
    """Send an action to the agent and wait for its outcome up to ``wait`` seconds. Reply: ``sitter.model.Answered``."""

    action: AnyAction
    wait: Finite = 30.0


class StopNow(Query, frozen=True, tag="stop_now"):
    """SIGTERM to the training's process group, 30 s, then SIGKILL. Reply: Answered."""


class Approve(Query, frozen=True, tag="approve"):
    """Do what proposal ``id`` proposes. Reply: Answered."""

    id: Name


class Veto(Query, frozen=True, tag="veto"):
    """Drop proposal ``id``. Reply: Answered."""

    id: Name


class Snooze(Query, frozen=True, tag="snooze"):
    """No proposals of this rule for ``seconds``; its findings go on being written down. Reply: Answered."""

    rule: Name
    seconds: Finite


class SetMode(Query, frozen=True, tag="mode"):
    """The preset of the run: watch, guard, act. Reply: Answered."""

    mode: Literal["watch", "guard", "act"]


class AddNote(Query, frozen=True, tag="note"):
    """One line of the operator's for the logbook. Reply: Answered."""

    text: str


class TestNotify(Query, frozen=True, tag="notify_test"):
    """Send a test through every notifier. Reply: Answered."""


AnyQuery = (
    GetStatus
    | GetCurves
    | GetLogbook
    | GetDays
    | GetSince
    | Settle
    | GetRules
    | Act
    | StopNow
    | Approve
    | Veto
    | Snooze
    | SetMode
    | AddNote
    | TestNotify
)


QUESTIONS = (GetStatus, GetCurves, GetLogbook, GetDays, GetSince, GetRules, Settle)
"""They change nothing, and may be asked again."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Client → daemon."""

    id: Count
    query: AnyQuery


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Daemon → client: ``data`` on success, else ``error`` in one sentence with ``usage`` True where the asker erred."""

    id: int
    data: Any = None
    error: str | None = None
    usage: bool = False
