"""What kind of training it is, by the names of what it logs: whoever logs a reward need not say that it is reinforcement learning."""

import re
from collections.abc import Iterable

from sitter.rules import rl

JUDGE = re.compile(r"(?:^|[^a-z\d])(?:d|disc|discriminator)(?:[^a-z]|$)")
"""The discriminator in a name (``loss_D``, ``d2_loss``); a ``loss_3d`` has none."""


def kind_by(names: Iterable[str]) -> str:
    """``rl``: a reward, an entropy with a divergence; ``gan``: the loss of a discriminator (``d_loss``, ``train/disc_loss``); else
    ``supervised``. A reward's parts, as preference learning logs them (``rewards/margins``), are none."""
    known = set(names)
    if known & set(rl.REWARD) or (known & set(rl.ENTROPY) and known & set(rl.KL)):
        return "rl"
    if any("loss" in name.lower() and JUDGE.search(name.lower()) for name in known):
        return "gan"
    return "supervised"
