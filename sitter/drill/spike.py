"""``sitter drill spike``."""

from typing import ClassVar

from sitter.drill.guarded import GuardFault


class Spike(GuardFault):
    """The loss jumps far above its usual level and leaves the model damaged, as from a stretch of bad data.

    The inputs of six batches are 100 × too large. The guard must go back, and see to it that these batches are not met again.
    """

    name: ClassVar[str] = "spike"
    title: ClassVar[str] = "bad batches make the loss jump; the guard goes back and past them"
    builtin_plant: ClassVar[str] = "spike@told:6"
