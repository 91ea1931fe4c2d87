"""What both forms of a report say, in words and in rows."""

import msgspec

from sitter.clock import human, iso
from sitter.model import Incident
from sitter.report.facts import Facts
from sitter.report.interventions import Intervention
from sitter.version import VERSION

UNTOUCHED = "no action was taken: the run equals an unwatched one"
SHORT_S = 120.0
"""A daemon that is started again, or comes with the first seconds of a run, has watched all of it."""
ROW = ("step", "when", "who", "what", "from → to", "why", "batches dropped")


def title(facts: Facts) -> str:
    """The run's name and what became of it."""
    return f"{facts.info.name}: {facts.state}"


def head(facts: Facts) -> list[tuple[str, str]]:
    """What ran, where, how it ended."""
    info, start, t = facts.info, facts.start, facts.totals
    rows = [("command", " ".join(info.command)), ("commit", info.git_commit), ("host", info.host)]
    rows = [(name, text or "not known") for name, text in rows]
    if start is not None and start.versions:
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in start.versions.items())))
    if t.began is not None and t.ended is not None:
        rows.append(("time", f"{iso(t.began)} to {iso(t.ended)}, {human(t.ended - t.began)}"))
    total = f" of {facts.total:,}" if facts.total else ""
    rows.append(("steps", f"{t.steps:,}{total}"))
    for name, ends in facts.ends.items():
        (first_at, first), (last_at, last), (best_at, best) = ends.first, ends.last, ends.best
        came = f"{last:.4g}"
        if ends.lost is not None:
            came = f"{ends.lost[1]} from step {ends.lost[0]:,} on ({came} at {last_at:,} was the last)"
        text = f"{first:.4g} at step {first_at:,} → {came}; best {best:.4g} at {best_at:,}"
        rows.append((name + (", the goal" if name == facts.goal else ""), text))
    return rows


def sums(facts: Facts) -> list[tuple[str, str]]:
    """The totals."""
    t = facts.totals
    steps = {cause: f" ({n:,} steps thrown away)" for cause, n in t.steps_lost.items()}
    lost = "; ".join(f"{cause} {human(seconds)}{steps.get(cause, '')}" for cause, seconds in t.lost.items()) or "none"
    return [
        ("hours of training", f"{t.trained / 3600:.2f}"),
        ("GPU hours", "unknown: no GPU was seen" if t.gpu_hours is None else f"{t.gpu_hours:.2f} ({t.gpus} GPU{'s' * (t.gpus != 1)})"),
        ("time lost", lost),
        ("energy of the GPUs", "unknown" if t.energy_kwh is None else f"{t.energy_kwh:.2f} kWh"),
        ("restarts", f"{t.restarts}"),
        ("checkpoints written", f"{t.checkpoints}"),
        ("incidents", f"{t.incidents}"),
        ("interventions", f"{len(facts.interventions)}"),
    ]


def row(one: Intervention) -> tuple[str, ...]:
    """Of the table of interventions."""
    change = ""
    if one.verb in ("rollback", "restart") and one.before is not None:
        to = "the start" if one.after is None else f"{one.after:,.0f}"
        change = f"step {one.before:,.0f} → {to}, {one.lost or 0:,} steps lost"
    elif one.before is not None and one.after is not None:
        change = f"{one.before:g} → {one.after:g}"
    dropped = "" if one.dropped is None else f"{one.dropped:,}"
    if one.verb == "rollback" and not one.replayed and one.lost:
        dropped = f"those of {one.lost:,} steps"
    why = one.why or ("by hand" if one.who == "operator" else "")
    left = "; left behind by a later restart" if one.left else ""
    return f"{at(one):,}", _when(one.time), one.who, one.action, change, why + left, dropped


def _when(time: float) -> str:
    """In the zone that stands at the top of the report."""
    return iso(time)[:19].replace("T", " ")


def at(one: Intervention) -> int:
    """The step that had been reached when it was done."""
    return int(one.before) if one.verb in ("rollback", "restart") and one.before is not None else one.step


def incident_row(one: Incident) -> tuple[str, ...]:
    """Of the table of incidents."""
    ended = one.verdict or ("still open" if one.ended is None else "over")
    lost = "" if one.steps_lost is None else f"{one.steps_lost:,}"
    return f"{one.onset:,}", _when(one.began), one.rule, one.text, ended, lost


INCIDENT_ROW = ("onset", "when", "rule", "what was seen", "how it ended", "steps lost")


def _watched(facts: Facts) -> str:
    """``Training was watched by sitter 0.1.0``: where that is so, and for how much of it."""
    t = facts.totals
    if not t.watched:
        return f"Training was recorded by sitter {VERSION}, without anybody watching it"
    if t.trained - t.watched > max(SHORT_S, 0.01 * t.trained):
        return f"Training was watched by sitter {VERSION} for {100 * t.watched / t.trained:.0f} % of its time"
    return f"Training was watched by sitter {VERSION}"


def methods(facts: Facts) -> str:
    """A sentence to paste into a paper."""
    if not facts.interventions:
        return f"{_watched(facts)}; {UNTOUCHED}."
    done = _warmups_as_one([one for one in facts.interventions if not one.left])
    parts = "; ".join(_told(one) for one in done[:20])
    left = sum(one.left for one in facts.interventions)
    more, n = len(done) - 20, len(done)
    rest = f"; and {more:,} more, listed in the report" if more > 0 else ""
    if left:
        rest += f"; {left:,} earlier {'ones belong' if left != 1 else 'one belongs'} to steps that were done again from before"
    return f"{_watched(facts)}, and {n:,} intervention{'s were' if n != 1 else ' was'} made: {parts}{rest}."


WARMUP = "warm-up after "


def _warmups_as_one(done: list[Intervention]) -> list[Intervention]:
    """The stages of a warm-up, one after the other, as one change from the value that it begins with to the last."""
    found: list[Intervention] = []
    for one in done:
        what = one.why.partition(": ")[0]
        last = found[-1] if found else None
        if last is not None and what.startswith(WARMUP) and last.who == one.who and last.why == what:
            found[-1] = msgspec.structs.replace(last, after=one.after)
        else:
            found.append(msgspec.structs.replace(one, why=what, before=one.after) if what.startswith(WARMUP) else one)
    return found


def _told(one: Intervention) -> str:
    by = "by hand" if one.who == "operator" else f"by rule {one.who}" if one.who != "sitter" else "by sitter"
    why = f", since {one.why}" if one.why and (one.who != "operator" or one.verb == "restart") else ""
    why = f", {one.why}" if one.who == "operator" and one.why.startswith("approved") else why
    match one.verb:
        case "set":
            what = f"{one.action.removeprefix('set ').partition('=')[0]} was changed from {one.before:g} to {one.after:g}" if (
                one.before is not None and one.after is not None
            ) else f"`{one.action}` was applied"  # fmt: skip
            if one.why.startswith(WARMUP):
                what, why = f"a warm-up brought {what.replace('was changed ', '')}", ""
        case "rollback":
            what = "the state was put back" if one.after is None else f"the state was put back to that of step {one.after:,.0f}"
            what += ", and the same batches came again" if one.replayed else ", and the batches in between were left out"
        case "drop":
            what = f"{one.dropped or 0:,} batches were left out"
        case "restart":
            what = f"the training was started again from {'the start' if one.after is None else f'step {one.after:,.0f}'}"
        case other:
            what = {"pause": "it was paused", "unpause": "it went on", "stop": "it was stopped"}.get(other, f"`{one.action}` was applied")
    return f"at step {at(one):,} {what} ({by}{why})"
