"""Rules read anew while the run goes on. The file's stamp is looked at every two seconds, which also works where no event would tell."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sitter.config import Config, load
from sitter.control.core import Core
from sitter.control.dispatcher import Dispatcher
from sitter.control.flow import Flow
from sitter.control.incidents import Incidents
from sitter.control.recall import past
from sitter.control.ruleset.build import build, files, parameters, rule_places
from sitter.control.ruleset.rule_files import SOURCE
from sitter.errors import ConfigError
from sitter.rules.base import Rule
from sitter.rules.engine import Engine
from sitter.rules.view import Sample
from sitter.store.reader import Reader
from sitter_wire.records import Happening

EVERY_S = 2.0
ELSEWHERE = ("notify", "checkpoints", "restart")
"""Settings that are read once, when the daemon starts."""

Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class Parts:
    """What is changed when the rules are. ``rules`` is the one dictionary that all who look rules up share."""

    rules: dict[str, Rule]
    engine: Engine
    dispatcher: Dispatcher
    incidents: Incidents
    flow: Flow
    past: Callable[[], Iterable[Sample | Happening]]
    """The last points and events, for a rule that has seen nothing yet."""
    log: Callable[..., None]


def reload(core: Core, reader: Reader) -> "Reload":
    """Of a running daemon."""

    def before() -> Iterable[Sample | Happening]:
        session = core.present.session
        return past(reader, session.id) if session is not None else ()

    parts = Parts(
        rules=core.rules, engine=core.engine, dispatcher=core.dispatcher, incidents=core.incidents, flow=core.flow, past=before,
        log=core.log_entry,
    )  # fmt: skip
    made = Reload(core.run.sitter_toml, core.config, rule_places(core.run, core.info), parts)
    core.warnings.others.append(lambda: made.trouble)
    return made


class Reload:
    """``tick`` every ``EVERY_S``. A file that is wrong leaves the rules as they are, and says so in ``trouble`` for as long as it is."""

    def __init__(self, path: Path, config: Config, places: tuple[Path, ...], parts: Parts) -> None:
        self._path, self._config, self._places, self._parts = path, config, places, parts
        self._stamps = self._seen = self._look()
        self.trouble = ""

    def tick(self) -> None:
        """Where a file has changed: the new rules, or a sentence why not. Read once it has stayed the same from one look to the next: an
        editor that empties it first, or takes it away, is not done yet."""
        stamps, seen = self._look(), self._seen
        self._seen = stamps
        if stamps == self._stamps or stamps != seen:
            return
        was_there, self._stamps = self._stamps[0][1] is not None, stamps
        try:
            if was_there and stamps[0][1] is None:
                raise ConfigError(f"{self._path} is gone; write it again (an empty one means the defaults, which hold for the next daemon)")
            config = load(self._path)
            rules, chosen = build(config, str(self._path), places=self._places)
        except ConfigError as e:
            text = f"the rules stay as they are: {e}"
            if text != self.trouble:
                self._parts.log("note", status="warning", detail=text)
            self.trouble = text
            return
        self.trouble = ""
        before, self._config = self._config, config
        self._stamps = self._seen = self._look()  # of the rule files that it names now
        said = self._use(rules)
        self._parts.dispatcher.use(chosen)
        if config.mode != before.mode:
            self._parts.dispatcher.set_preset(config.mode)
            said.append(f"mode {config.mode}")
        later = [f"[{name}]" for name in ELSEWHERE if getattr(config, name) != getattr(before, name)]
        if later:
            said.append(f"{', '.join(later)} when the daemon starts next")
        self._parts.log("note", status="rules", detail=f"{self._path.name} was read again: {'; '.join(said) or 'nothing changed'}")
        for name in self._new:
            self._stands(self._parts.rules[name])

    def _look(self) -> list[tuple[str, Stamp]]:
        try:
            named = files(self._config, self._places)
        except ConfigError:  # one is gone: whoever reads them next says so
            named = []
        return [(str(path), _stamp(path)) for path in (self._path, *named)]

    def _use(self, made: list[Rule]) -> list[str]:
        """Rules that are the same keep what they know; the others are told the past. What changed, in words."""
        parts, known = self._parts, dict(self._parts.rules)
        rules = [known[r.name] if r.name in known and _same(known[r.name], r) else r for r in made]
        new = [r for r in rules if known.get(r.name) is not r]
        gone = [name for name in known if name not in {r.name for r in rules}]
        for name in gone:
            parts.incidents.over(name, "its rule was taken out")
        parts.rules.clear()
        parts.rules.update({r.name: r for r in rules})
        parts.engine.use(rules)
        if new:
            parts.engine.warm(new, parts.past())
        self._new = [r.name for r in new]
        added, changed = [r.name for r in new if r.name not in known], [r.name for r in new if r.name in known]
        words = {"added": added, "changed": changed, "taken out": gone}
        return [f"{', '.join(names)} {what}" for what, names in words.items() if names]

    def _stands(self, rule: Rule) -> None:
        """What a new rule would have found already, and is still so."""
        found = rule.standing(self._parts.engine.view)
        if found is not None:
            self._parts.flow.finding(found)


def _same(one: Rule, other: Rule) -> bool:
    """The same rule with the same parameters. Rules of the user's own, and those of Python files, are classes made anew at each reading."""
    return parameters(one) == parameters(other) and _made_of(type(one)) == _made_of(type(other))


def _made_of(kind: type[Rule]) -> tuple[object, ...]:
    return kind.__module__, kind.__qualname__, kind.__bases__, getattr(kind, SOURCE, None)


def _stamp(path: Path) -> Stamp:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino
