"""``sitter drill grad-explosion``."""

from typing import ClassVar

from sitter.drill.guarded import GuardFault


class GradExplosion(GuardFault):
    """The gradients of one step are 10,000 × too large, so that the optimizer's moments are ruined for a long time.

    The guard must see it in the gradient's norm, since the loss says it too late or not at all, and put back the moments as well.
    """

    name: ClassVar[str] = "grad-explosion"
    title: ClassVar[str] = "one step's gradients explode; the guard puts back weights and optimizer"
    builtin_plant: ClassVar[str] = "grad@told:1"
