"""The language of demands, one for the command line and the TUI's ``:`` line: words to queries, and actions to words.

    set lr=0.5x [weight_decay=0.1 | lr@GROUP=3e-4]… [--hold]     checkpoint     rollback [--to STEP] [--replay]     drop N
    pause [--free] [--hold]     unpause     stop [--now]     approve ID     veto ID     snooze RULE 1h     mode watch|guard|act
    note TEXT
"""

import math
import re
from collections.abc import Callable, Sequence

import msgspec

from sitter import model
from sitter.clock import duration, human
from sitter.errors import UsageError
from sitter_wire import commands, queries

_KNOB = re.compile(r"(?P<knob>[A-Za-z_][\w.\-/]*)(?:@(?P<group>[^=]+))?=(?P<amount>.*)", re.DOTALL)
_STEP = re.compile(r"(\d+(?:\.\d+)?)([kM]?)")


def number(text: str, what: str) -> float:
    """A finite number. Raises UsageError, which names ``what`` it was for."""
    try:
        x = float(text)
    except ValueError:
        x = math.nan
    if not math.isfinite(x):
        raise UsageError(f"{what}: expected a number such as 3e-4, found {text!r}")
    return x


def step(text: str, what: str = "a step such as 12,340 or 12.5k") -> int:
    """A step, or ``what`` else is counted: ``1200``, ``12,340``, ``12.5k``. Raises UsageError."""
    found = _STEP.fullmatch(text.strip().replace(",", "").replace("_", ""))
    if not found:
        raise UsageError(f"expected {what}, found {text!r}")
    return round(float(found[1]) * {"": 1, "k": 1_000, "M": 1_000_000}[found[2]])


def parse_set(words: Sequence[str]) -> list[commands.SetKnob]:
    """``lr=0.5x lr@head=3e-4 --hold`` as actions, in their order. Raises UsageError."""
    hold = "--hold" in words
    knobs = [_knob(word, hold) for word in words if word != "--hold"]
    if not knobs:
        raise UsageError("set needs a knob and what it is to be: `set lr=0.5x` halves the rate, `set lr=3e-4` replaces it")
    return knobs


def _knob(word: str, hold: bool) -> commands.SetKnob:
    found = _KNOB.fullmatch(word)
    if not found:
        raise UsageError(f"expected KNOB=VALUE such as lr=0.5x or lr=3e-4, found {word!r}")
    knob, group, amount = found["knob"], found["group"], found["amount"]
    if amount[-1:] in ("x", "×"):
        factor = number(amount[:-1], knob)
        if factor <= 0:
            raise UsageError(f"{knob}: a scale must be above 0, found {amount!r}")
        if hold:
            raise UsageError(f"{knob}: --hold pins an absolute value such as {knob}=3e-4, found the scale {amount!r}")
        return commands.SetKnob(knob=knob, op="scale", amount=factor, group=group)
    return commands.SetKnob(knob=knob, op="value", amount=number(amount, knob), group=group, hold=hold)


def _options(words: Sequence[str], verb: str, flags: Sequence[str] = (), valued: Sequence[str] = ()) -> dict[str, str]:
    """The options of a verb that takes nothing else; a flag is its own value."""
    out: dict[str, str] = {}
    rest = list(words)
    while rest:
        name, given, value = rest.pop(0).partition("=")
        if name in flags and not given:
            out[name] = name
        elif name in valued:
            if not given and not rest:
                raise UsageError(f"{verb} {name} needs a value: `{USAGE[verb]}`")
            out[name] = value if given else rest.pop(0)
        else:
            raise UsageError(f"{verb} does not know {name!r}: expected `{USAGE[verb]}`")
    return out


def _exactly(words: Sequence[str], verb: str, n: int) -> Sequence[str]:
    if len(words) != n:
        raise UsageError(f"expected `{USAGE[verb]}`, found {len(words)} word{'s' if len(words) != 1 else ''} after {verb}")
    return words


def _set(words: Sequence[str]) -> list[queries.AnyQuery]:
    return [queries.Act(action=knob) for knob in parse_set(words)]


def _rollback(words: Sequence[str]) -> list[queries.AnyQuery]:
    given = _options(words, "rollback", flags=("--replay",), valued=("--to",))
    to = step(given["--to"]) if "--to" in given else None
    return [queries.Act(action=commands.Rollback(to=to, replay="--replay" in given, why="asked for by hand"))]


def _checkpoint(words: Sequence[str]) -> list[queries.AnyQuery]:
    _options(words, "checkpoint")
    return [queries.Act(action=commands.TakeCheckpoint(why="asked for by hand"), wait=300.0)]


def _drop(words: Sequence[str]) -> list[queries.AnyQuery]:
    (n,) = _exactly(words, "drop", 1)
    batches = step(n, "a number of batches such as 3")
    if batches < 1:
        raise UsageError("drop needs at least 1 batch: `drop 3` discards the next three")
    return [queries.Act(action=commands.DropBatches(count=batches))]


def _pause(words: Sequence[str]) -> list[queries.AnyQuery]:
    given = _options(words, "pause", flags=("--hold", "--free"))
    action = commands.Pause(hold="--hold" in given, free="--free" in given)
    return [queries.Act(action=action, wait=300.0 if action.free else 30.0)]


def _unpause(words: Sequence[str]) -> list[queries.AnyQuery]:
    _options(words, "unpause")
    return [queries.Act(action=commands.Unpause())]


def _stop(words: Sequence[str]) -> list[queries.AnyQuery]:
    if "--now" in _options(words, "stop", flags=("--now",)):
        return [queries.StopNow()]
    return [queries.Act(action=commands.Stop(checkpoint=True, why="asked for by hand"), wait=60.0)]


def _approve(words: Sequence[str]) -> list[queries.AnyQuery]:
    return [queries.Approve(id=_exactly(words, "approve", 1)[0])]


def _veto(words: Sequence[str]) -> list[queries.AnyQuery]:
    return [queries.Veto(id=_exactly(words, "veto", 1)[0])]


def _snooze(words: Sequence[str]) -> list[queries.AnyQuery]:
    rule, text = _exactly(words, "snooze", 2)
    try:
        seconds = duration(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"snooze needs how long, such as 30m, 2h or 1d, found {text!r}")
    return [queries.Snooze(rule=rule, seconds=seconds)]


def _mode(words: Sequence[str]) -> list[queries.AnyQuery]:
    (mode,) = _exactly(words, "mode", 1)
    if mode not in ("watch", "guard", "act"):
        raise UsageError(f"expected `{USAGE['mode']}`, found {mode!r}")
    return [msgspec.convert({"q": "mode", "mode": mode}, queries.SetMode)]


def _note(words: Sequence[str]) -> list[queries.AnyQuery]:
    text = " ".join(words).strip()
    if not text:
        raise UsageError("note needs its text: `note raised the rate after the talk with Ana`")
    return [queries.AddNote(text=text)]


VERBS: dict[str, Callable[[Sequence[str]], list[queries.AnyQuery]]] = {
    "set": _set, "rollback": _rollback, "checkpoint": _checkpoint, "drop": _drop, "pause": _pause, "unpause": _unpause,
    "stop": _stop, "approve": _approve, "veto": _veto, "snooze": _snooze, "mode": _mode, "note": _note,
}  # fmt: skip
"""Every verb of the language: a new one is one function and one line here and in ``USAGE``."""

USAGE = {
    "set": "set KNOB=0.5x | KNOB=3e-4 … [--hold]", "rollback": "rollback [--to STEP] [--replay]", "checkpoint": "checkpoint",
    "drop": "drop N", "pause": "pause [--free] [--hold]", "unpause": "unpause", "stop": "stop [--now]", "approve": "approve ID",
    "veto": "veto ID", "snooze": "snooze RULE DURATION", "mode": "mode watch|guard|act", "note": "note TEXT",
}  # fmt: skip


def parse_all(words: Sequence[str]) -> list[queries.AnyQuery]:
    """The queries that a line asks for, in their order: one, but for ``set`` with several knobs. Raises UsageError."""
    if not words:
        raise UsageError(f"expected a command: {', '.join(VERBS)}")
    verb = VERBS.get(words[0])
    if verb is None:
        near = _nearest(words[0], list(VERBS))
        hint = f"; did you mean {near!r}?" if near else f"; expected one of {', '.join(VERBS)}"
        raise UsageError(f"{words[0]!r} is no command{hint}")
    return verb(words[1:])


def parse(words: Sequence[str]) -> queries.AnyQuery:
    """The one query that a line asks for. Raises UsageError."""
    found = parse_all(words)
    if len(found) != 1:
        raise UsageError(f"expected one knob at a time, found {len(found)}")
    return found[0]


def _nearest(word: str, names: list[str]) -> str | None:
    import difflib  # only on the way to an error

    close = difflib.get_close_matches(word, names, 1, 0.6)
    return close[0] if close else None


def in_words(action: model.Proposable) -> str:
    """An action as a person says it: ``lr × 0.5``, ``back to 12,280 or before, batches go on``."""
    match action:
        case commands.SetKnob():
            where = f" of {action.group}" if action.group else ""
            change = f"× {action.amount:g}" if action.op == "scale" else f"= {action.amount:g}"
            return f"{action.knob}{where} {change}" + (", held" if action.hold else "")
        case commands.Rollback():
            return _rollback_in_words(action)
        case commands.TakeCheckpoint():
            return "checkpoint"
        case commands.DropBatches():
            return f"drop {action.count:,} batch{'es' if action.count != 1 else ''}"
        case commands.Pause():
            return "pause and free the GPU" if action.free else "pause"
        case commands.Unpause():
            return "go on"
        case commands.Stop():
            return "checkpoint and stop" if action.checkpoint else "stop"
        case commands.DumpStacks():
            return "dump the stacks"
        case model.EndAndRestart():
            return "stop now, and start again"
        case model.Notification():
            return f"notify: {action.text}"


def proposed(finding: model.Finding) -> str:
    """What a finding's proposal would do, with all that follows: ``lr × 0.5, from a tenth of it up within 200 steps``."""
    what = ", then ".join(in_words(a) for a in finding.actions)
    after = finding.afterwards
    if after is None:
        return what
    warmup = f", from a tenth of it up within {after.warmup:,} steps" if after.warmup else ""
    back = f", given back after {after.back_after:,} healthy steps" if after.back_after else ""
    return what + warmup + back


def _rollback_in_words(action: commands.Rollback) -> str:
    if action.to is not None:
        text = f"back to {action.to:,}"
    elif action.before is not None:
        text = f"back to {action.before:,} or before"
    else:
        text = "back to the newest good state"
    text += ", same batches again" if action.replay else ", batches go on"
    return text + "".join(f", {knob} × {factor:g}" for knob, factor in action.also_scale.items())


def spelled(action: model.Proposable) -> str:
    """An action as the command line spells it: ``set lr=0.5x``, ``rollback``; for the logbook."""
    match action:
        case commands.SetKnob():
            where = f"@{action.group}" if action.group else ""
            return f"set {action.knob}{where}={action.amount:g}{'x' if action.op == 'scale' else ''}{' --hold' * action.hold}"
        case commands.Rollback():
            return f"rollback{f' --to {action.to}' if action.to is not None else ''}{' --replay' * action.replay}"
        case commands.DropBatches():
            return f"drop {action.count}"
        case commands.DumpStacks():
            return "stacks"
        case commands.Pause():
            return f"pause{' --free' * action.free}{' --hold' * action.hold}"
        case model.EndAndRestart():
            return "stop --now"
        case model.Notification():
            return "notify"
        case _:
            return type(action).__name__.removeprefix("Take").lower()


def demand_in_words(query: queries.AnyQuery) -> str:
    """A demand as a person says it; the outcome is shown beside it."""
    match query:
        case queries.Act():
            return in_words(query.action)
        case queries.StopNow():
            return "stop now"
        case queries.Approve():
            return f"approve {query.id}"
        case queries.Veto():
            return f"veto {query.id}"
        case queries.Snooze():
            return f"snooze {query.rule} for {human(query.seconds)}"
        case queries.SetMode():
            return f"mode {query.mode}"
        case queries.AddNote():
            return f"note: {query.text}"
        case _:
            return type(query).__name__


class Known(msgspec.Struct, frozen=True):
    """Names that may complete a line."""

    knobs: Sequence[str] = ()
    rules: Sequence[str] = ()
    proposals: Sequence[str] = ()
    steps: Sequence[int] = ()


def completions(line: str, known: Known) -> list[str]:
    """Whole lines that ``line`` may become, best first."""
    words = line.split(" ")
    head, last = words[:-1], words[-1]
    if not head:
        return [verb for verb in VERBS if verb.startswith(last)]
    options: Sequence[str]
    match head[0], len(head):
        case "set", _:
            options = [*(f"{knob}=" for knob in known.knobs), *(["--hold"] if len(head) > 1 else [])]
        case "rollback", _ if head[-1] == "--to":
            options = [str(s) for s in known.steps]
        case "rollback", _:
            options = [o for o in ("--to", "--replay") if o not in head]
        case "stop", 1:
            options = ["--now"]
        case "pause", _:
            options = [o for o in ("--hold", "--free") if o not in head]
        case ("approve" | "veto"), 1:
            options = known.proposals
        case "snooze", 1:
            options = known.rules
        case "snooze", 2:
            options = ["30m", "2h", "1d"]
        case "mode", 1:
            options = ["watch", "guard", "act"]
        case _:
            options = []
    return [" ".join([*head, option]) for option in options if option.startswith(last) and option != last]
