"""What was done to a training from outside: by whom, why, from what to what."""

import msgspec

from sitter.model import LogEntry, Struct
from sitter.report.course import Course, course
from sitter.store.reader import Reader
from sitter_wire.events import Done, KnobChanged, Restored, SessionStart

CHANGING = ("set", "rollback", "drop", "pause", "unpause", "stop")
"""Verbs of actions after which the training is not what it would have been, or not when. A checkpoint changes nothing."""
MOST_LOG = 100_000

Detail = dict[str, float | int | str | bool | list[str] | None]


class Intervention(Struct, frozen=True):
    """One. ``step`` is where it was applied, on ``branch``; ``time`` unix seconds; ``who``: ``operator`` or a rule's name.

    ``before`` and ``after``: of a knob its effective values, of a rollback or a restart the steps. ``dropped``: batches. ``lost``: steps.
    Of a rollback ``of_branch``: on which branch the state lay that was put back, and ``replayed``: whether the same batches came again.
    ``left``: it was done before a restart from an earlier state, so that nothing of it is in the run any more."""

    step: int
    branch: int
    time: float
    who: str
    action: str
    why: str
    text: str
    before: float | None = None
    after: float | None = None
    of_branch: int | None = None
    dropped: int | None = None
    lost: int | None = None
    replayed: bool = False
    left: bool = False

    @property
    def verb(self) -> str:
        """``set``, ``rollback``…"""
        return self.action.split()[0]


def interventions(reader: Reader, log: "list[LogEntry] | None" = None, made: "Course | None" = None) -> list[Intervention]:
    """Those that were applied, in order; a restart is one, since its process began anew. Raises StoreError."""
    log = reader.logbook(limit=MOST_LOG) if log is None else log
    made = course(reader) if made is None else made
    ended, asked = "", False
    put_back = (stored.happening.event for stored in reader.events(["restored"]))
    lay = {event.branch: event.from_branch for event in put_back if isinstance(event, Restored)}
    details = _details(reader)
    found: list[Intervention] = []
    why: dict[str, str] = {}
    approved: dict[str, str] = {}
    for entry in log:
        if entry.kind == "finding" and entry.rule is not None and entry.status in ("warning", "critical", "info"):
            why[entry.rule] = entry.detail
        elif entry.kind == "command" and entry.status == "sent" and entry.rule is not None:
            why[f"{entry.rule}: {entry.action}"] = entry.detail.removeprefix(f"{entry.action}: ")
        elif entry.kind == "proposal" and entry.status == "approved" and entry.rule is not None:
            said = f"approved, as rule {entry.rule} proposed: {why.get(entry.rule, '')}"
            approved |= dict.fromkeys((entry.action or "").split("; "), said)
        elif entry.kind == "outcome" and entry.status == "applied" and _verb(entry) in CHANGING:
            if entry.rule is None:
                why[""] = approved.pop(entry.action or "", "")
            found.append(_applied(entry, why, details, lay))
        elif entry.kind == "incident" and entry.status == "crashed":
            ended = entry.detail.partition(": ")[2] if ": crashed at step" in entry.detail else entry.detail
        elif entry.kind == "restart" and entry.status == "restarting":
            asked = True
        elif entry.kind == "restart" and entry.status == "started":
            found.append(_restart(entry, ended, made, who="sitter" if asked else "operator"))
            ended, asked = "", False
    done = sorted([*found, *_with_others(reader, found)], key=lambda i: i.time)
    return [msgspec.structs.replace(i, left=True) if i.verb != "restart" and _left(i, made) else i for i in done]


def _restart(entry: LogEntry, why: str, made: Course, *, who: str) -> Intervention:
    """Where the process before it had come to, where this one went on, and how much of that is done again."""
    _, resumed = made.resumed.get(entry.branch or 0, (None, None))
    thrown = [t for t in made.thrown if t.next_branch == entry.branch]
    came = max((t.to for t in thrown), default=resumed)
    return _one(
        entry, "restart", who=who, why=why, text="the training was started again", before=came, after=resumed,
        lost=sum(t.to - t.after for t in thrown),
    )  # fmt: skip


def _left(one: Intervention, made: Course) -> bool:
    if one.verb == "rollback" and one.before is not None:
        return made.left_by_restart(one.branch, one.step + 1)  # what it opened
    return made.left_by_restart(one.branch, one.step)


def _with_others(reader: Reader, found: list[Intervention]) -> list[Intervention]:
    """Knobs that were changed together with something else, such as the rate that a rollback also cut: no outcome of their own."""
    known = {(i.step, i.branch, i.after) for i in found if i.verb == "set"}
    backs = {(i.step, i.branch): i for i in found if i.verb == "rollback"}
    extra = []
    for stored in reader.events(["knob_changed"]):
        event, at = stored.happening.event, stored.happening
        if isinstance(event, KnobChanged) and (at.step, at.branch, event.new) not in known:
            factor = f"{event.new / event.old:g}x" if event.old else f"{event.new:g}"
            back = backs.get((at.step, at.branch))
            extra.append(Intervention(
                step=at.step, branch=at.branch, time=stored.wall if back is None else back.time,  # as a part of it, it stands below it
                who=event.by.removeprefix("rule:") or "operator", action=f"set {event.knob}={factor}",
                why="" if back is None else "part of going back", text=f"{event.knob} {event.old:g} → {event.new:g}", before=event.old,
                after=event.new,
            ))  # fmt: skip
    return extra


def _applied(
    entry: LogEntry, why: dict[str, str], details: dict[tuple[int, int, str], Detail], lay: dict[int, int]
) -> Intervention:
    detail = details.get((entry.step or 0, entry.branch or 0, entry.detail), {})
    verb, rule = _verb(entry), entry.rule
    before, after = (detail.get("old"), detail.get("new")) if verb == "set" else (detail.get("from"), detail.get("step"))
    return _one(
        entry, entry.action or "", who=rule or "operator", why=_reason(entry, why), text=entry.detail,
        before=_number(before), after=_number(after), dropped=_whole(detail.get("count")) if verb == "drop" else None,
        lost=_whole(detail.get("lost")), of_branch=lay.get(entry.branch or 0) if verb == "rollback" else None,
        replayed=detail.get("replay") is True and "data go on" not in entry.detail,
    )  # fmt: skip


def _reason(entry: LogEntry, why: dict[str, str]) -> str:
    """What was said as this was sent, such as a warm-up's stage; else what its rule found last."""
    return why.get(f"{entry.rule}: {entry.action}") or why.get(entry.rule or "", "")


def _one(entry: LogEntry, action: str, **fields: object) -> Intervention:
    given = {"step": entry.step or 0, "branch": entry.branch or 0, "time": entry.time, "action": action, **fields}
    return msgspec.convert(given, Intervention)


def _verb(entry: LogEntry) -> str:
    return (entry.action or "").split(maxsplit=1)[0] if entry.action else ""


def _details(reader: Reader) -> dict[tuple[int, int, str], Detail]:
    """The numbers of the outcomes, as the agent said them."""
    found: dict[tuple[int, int, str], Detail] = {}
    for stored in reader.events(["outcome"]):
        event = stored.happening.event
        if isinstance(event, Done):
            outcome = event.outcome
            found[outcome.step, outcome.branch, outcome.text] = outcome.detail
    return found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def first_start(reader: Reader) -> SessionStart | None:
    """What the first process said of itself; None where that is not known."""
    for stored in reader.events(["start"]):
        if isinstance(stored.happening.event, SessionStart):
            return stored.happening.event
    return None
