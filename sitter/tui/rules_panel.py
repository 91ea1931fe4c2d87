"""Every rule: what it may do, what it found, what is left of its budget."""

from sitter.model import RuleState
from sitter.tui import formats
from sitter.tui.lines import Line, fit, line_width, pack, plain, spread, wrap
from sitter.tui.panel import Panel
from sitter.tui.view import View

_MODE = {"off": "dim", "watch": "info", "ask": "warn", "act": "good", "broken": "bad"}


class RulesPanel(Panel):
    """A line a rule; the enlarged panel says what each one does and its parameters."""

    TITLE = "rules"
    HELP = (
        "Each rule with its mode: off, watch (only writes down), ask (waits for you), act (does it). ● marks the guard. "
        "Then how often it found something, what is left of its budget, and its last finding. `:snooze RULE 2h` silences "
        "one, `:mode watch` takes all hands off. Enter enlarges and explains each."
    )
    SIZE = 11

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """The guard first, then whoever found most."""
        if view.rules is None:
            return [[("–", "dim")]]
        found = [r for r in view.rules if not view.find or view.find.lower() in f"{r.name} {r.title} {r.last_text}".lower()]
        if not found:
            return [[(f"no rule matches {view.find!r}" if view.find else "no rules", "dim")]]
        widest = min(19, max(len(r.name) for r in found))
        out: list[Line] = []
        for rule in sorted(found, key=lambda r: (not r.guard, -r.findings)):
            out.append(rule_line(rule, view.now, widest, width))
            if view.enlarged == self.id:
                out.extend(_explained(rule, width))
        return out


def rule_line(rule: RuleState, now: float, widest: int, width: int) -> Line:
    """Name, mode, findings, budget, and what it saw last."""
    mode = "broken" if rule.broken else rule.mode if rule.mode == rule.effective else f"{rule.mode}→{rule.effective}"
    style = _MODE["broken" if rule.broken else rule.effective]
    head: Line = [
        ("● " if rule.guard else "  ", "good"), (f"{plain(rule.name)[:widest]:<{widest}} ", ""), (f"{mode:<6}", style),
        (f"{rule.findings:>3} ×  " if rule.findings else "    –  ", "" if rule.findings else "faint"),
        (plain(rule.last_text or rule.title), "" if rule.last_text else "dim"),
    ]  # fmt: skip
    tail: list[tuple[int, Line]] = []
    if rule.snoozed_until is not None and rule.snoozed_until > now:
        tail.append((0, [(f"snoozed until {formats.clock_time(rule.snoozed_until, now)}", "warn")]))
    if rule.delay:
        tail.append((2, [(f"after {rule.delay:.0f} s", "dim")]))
    if rule.limit:
        tail.append((1, [(f"{formats.count(rule.left)} left of {plain(rule.limit)}", "bad" if rule.left == 0 else "dim")]))
    if not tail:
        return fit(head, width)
    right = pack(tail, width // 3)
    return spread(fit(head, width - line_width(right) - 1), right, width)


def _explained(rule: RuleState, width: int) -> list[Line]:
    params = "  ".join(f"{name} = {value}" for name, value in rule.params.items())
    texts = [plain(t).replace("``", "`") for t in (rule.doc, params) if t]
    return [[("      " + line, "dim")] for text in texts for line in wrap(text, max(10, width - 8))]
