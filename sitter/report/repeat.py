"""The interventions of a run as rules that repeat them, at the same steps of the same branches."""

import math

from sitter.report.interventions import Intervention

HEAD = """\
# What was done to run {name}, to be done again: sitter run --rules THIS_FILE -- COMMAND
# Each is carried out at the safe point of its step. The guard stays what it is; `mode = "off"` under [rules.guard] keeps it out of it.
# A state that is gone back to is first kept as a checkpoint, at its step.
"""


def toml(name: str, done: list[Intervention]) -> str:
    """A ``sitter.toml``. What does not change the numbers (pauses, restarts, a stop) stands in it as a remark."""
    parts = [HEAD.format(name=_line(name))]
    number = 0
    for one in done:
        do = _do(one)
        who = f"# {_line(one.who)}{f': {_line(one.why)}' if one.why else ''}\n"
        if do is None:
            parts.append(f"# step {one.step}, branch {one.branch}: {_line(one.action)} ({_line(one.text)})\n")
            continue
        number += 1
        step, branch = _where(one)
        if one.verb == "rollback" and one.after is not None:
            lay = branch if one.of_branch is None else one.of_branch
            parts.append(_rule(f"repeat_{number:03}_state", int(one.after), lay, "checkpoint"))
        parts.append(who + _rule(f"repeat_{number:03}", step, branch, do))
    if not done:
        parts.append("# Nothing was done.\n")
    return "\n".join(parts)


def _rule(name: str, step: int, branch: int, do: str) -> str:
    return f'[rules.{name}]\nat = {step}\nbranch = {branch}\ndo = "{do}"\nmode = "act"\nlimit = ""\n'


def _do(one: Intervention) -> str | None:
    match one.verb:
        case "set":
            return _exactly(_line(one.action.removeprefix("set ")).replace('"', "'"), one)
        case "rollback":
            return None if one.after is None else f"rollback --to {one.after:.0f}"
        case "drop":
            return f"drop {one.dropped or 0}" if one.dropped else None
        case _:
            return None


def _exactly(change: str, one: Intervention) -> str:
    """``lr=0.333333x`` with all digits: the logbook has six of them, the values before and after have all."""
    knob, _, given = change.partition("=")
    text, *options = given.split()
    scale = text.endswith("x")
    if one.before is None or one.after is None or (scale and not one.before):
        return change
    amount = one.after / one.before if scale else one.after
    if not math.isclose(amount, float(text.removesuffix("x")), rel_tol=1e-4):  # bounded, or of several groups: as it was asked for
        return change
    return " ".join([f"{knob}={amount:.12g}{'x' if scale else ''}", *options])


def _where(one: Intervention) -> tuple[int, int]:
    """The step and branch at which it was asked of the training. A rollback was applied on the branch before the one that it opened."""
    if one.verb == "rollback" and one.before is not None:
        return int(one.before), max(one.branch - 1, 0)
    return one.step, one.branch


def _line(text: str) -> str:
    """On one line, whatever others wrote."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
