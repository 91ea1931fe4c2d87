"""The names that frameworks and people give to the loss, and the one that it is recorded under."""

from collections.abc import Mapping

ALIASES = {
    "train_loss": "loss", "train/loss": "loss", "training_loss": "loss", "loss/train": "loss",
    "eval_loss": "val_loss", "val/loss": "val_loss", "eval/loss": "val_loss", "valid_loss": "val_loss", "validation_loss": "val_loss",
    "loss/val": "val_loss", "test_loss": "val_loss",
}  # fmt: skip


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
