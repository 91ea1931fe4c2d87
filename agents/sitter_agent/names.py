"""What a signal is recorded under, whatever a framework or a person calls it."""

from collections.abc import Mapping

from sitter_wire.aliases import ALIASES


def canonical(name: str) -> str:
    """The name a signal is recorded under."""
    return ALIASES.get(name, name)


class Names:
    """Renames what needs it; sets of names that need nothing, the usual case, cost one look-up."""

    def __init__(self) -> None:
        self._plain: set[tuple[str, ...]] = set()

    def __call__(self, values: Mapping[str, object]) -> Mapping[str, object]:
        """The same values under canonical names. Where both are given, the canonical one stays and the other keeps its own name."""
        names = tuple(values)
        if names in self._plain:
            return values
        if not any(name in ALIASES for name in names):
            if len(self._plain) < 1000:
                self._plain.add(names)
            return values
        out: dict[str, object] = {}
        for name, value in values.items():
            other = ALIASES.get(name, name)
            out[name if other != name and (other in values or other in out) else other] = value
        return out
