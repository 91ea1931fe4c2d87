"""What each rule may do in this run: its defaults, overruled by sitter.toml, capped by the run's preset."""

import msgspec

from sitter.config import Config, parse_limit, unknown
from sitter.model import Mode, Preset


class RuleSetting(msgspec.Struct, frozen=True, kw_only=True):
    """``limit`` = (how many actions, in how many seconds), rolling. ``explicit``: the mode was named in sitter.toml. ``cools``: it waits
    between two unasked actions."""

    name: str
    guard: bool
    mode: Mode
    explicit: bool
    delay: float
    limit: tuple[int, float] | None
    limit_text: str
    cools: bool = True


class RuleDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule's class says of itself. ``mode`` is meant under the preset ``guard``."""

    name: str
    guard: bool
    mode: Mode
    delay: float
    limit: str
    cools: bool = True


def settings(defaults: list[RuleDefaults], config: Config, where: str) -> dict[str, RuleSetting]:
    """One setting per rule. Raises ConfigError where sitter.toml names a rule that is not there."""
    known = [d.name for d in defaults]
    for name in config.rules:
        if name not in known:
            raise unknown(name, known, where, "rule", config.lines.get(f"rules.{name}"))
    out = {}
    for d in defaults:
        mine = config.rules.get(d.name)
        limit = d.limit if mine is None or mine.limit is None else mine.limit
        out[d.name] = RuleSetting(
            name=d.name,
            guard=d.guard,
            mode=d.mode if mine is None or mine.mode is None else mine.mode,
            explicit=mine is not None and mine.mode is not None,
            delay=d.delay if mine is None or mine.delay is None else mine.delay,
            limit=parse_limit(limit, f"{where}: [rules.{d.name}] limit"),
            limit_text=limit,
            cools=d.cools,
        )
    return out


def effective(setting: RuleSetting, preset: Preset) -> Mode:
    """``watch``: nothing acts. ``guard``: the rule's own mode. ``act``: what would ask acts, unless sitter.toml says otherwise."""
    if setting.mode == "off":
        return "off"
    if preset == "watch":
        return "watch"
    if preset == "act" and not setting.explicit and setting.mode == "ask":
        return "act"
    return setting.mode
