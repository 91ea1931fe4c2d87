"""``sitter drill nan``."""

from typing import ClassVar

from sitter.drill.guarded import GuardFault


class Nan(GuardFault):
    """The loss becomes NaN, as from a broken shard or an overflow. Without anybody there the model is lost from that step on.

    In the built-in model three batches are NaN; in your own training one parameter of the model is made NaN. The guard must see it in the
    loss, put back a snapshot from before, and the training must go on with a finite loss.
    """

    name: ClassVar[str] = "nan"
    title: ClassVar[str] = "the loss becomes NaN; the guard goes back to a healthy state"
    own: ClassVar[bool] = True
    builtin_plant: ClassVar[str] = "nan@told:3"
