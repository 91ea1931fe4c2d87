"""The interventions of a run as rules that repeat them, at the same steps of the same branches."""

from sitter.report.interventions import Intervention

HEAD = """\
# What was done to run {name}, to be done again: sitter run --rules THIS_FILE -- COMMAND
# Each is carried out at the safe point of its step. The guard stays what it is; `mode = "off"` under [rules.guard] keeps it out of it.
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
        parts.append(f'{who}[rules.repeat_{number:03}]\nat = {step}\nbranch = {branch}\ndo = "{do}"\nmode = "act"\nlimit = ""\n')
    if not done:
        parts.append("# Nothing was done.\n")
    return "\n".join(parts)


def _do(one: Intervention) -> str | None:
    match one.verb:
        case "set":
            return _line(one.action.removeprefix("set ")).replace('"', "'")
        case "rollback":
            return None if one.after is None else f"rollback --to {one.after:.0f}"
        case "drop":
            return f"drop {one.dropped or 0}" if one.dropped else None
        case _:
            return None


def _where(one: Intervention) -> tuple[int, int]:
    """The step and branch at which it was asked of the training. A rollback was applied on the branch before the one that it opened."""
    if one.verb == "rollback" and one.before is not None:
        return int(one.before), max(one.branch - 1, 0)
    return one.step, one.branch


def _line(text: str) -> str:
    """On one line, whatever others wrote."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
