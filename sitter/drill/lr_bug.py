"""``sitter drill lr-bug``."""

from typing import ClassVar

from sitter.drill.base import Ended, Planted
from sitter.drill.guarded import GuardFault
from sitter.drill.scene import Failed, Scene

USUAL_AGAIN = 3.0
SETTLED = 150
"""Steps. The built-in model warms its rate up for 100; within them the loss falls so fast that it stands about where it was although the
model is lost, and the guard, which goes by loss and gradient, may see it late."""


class LrBug(GuardFault):
    """The script multiplies its own learning rate by 100, as after an edited schedule, and the training diverges.

    The guard must go back and say that the rate is at fault, and afterwards the usual one must be in use again.
    """

    name: ClassVar[str] = "lr-bug"
    title: ClassVar[str] = "the script's learning rate jumps 100 ×; the guard goes back and puts it right"
    builtin_plant: ClassVar[str] = "lr@told"

    def plant(self, scene: Scene) -> Planted:
        """After the warm-up, and after the rate was seen as it should be."""
        scene.ready()
        knob = scene.going(SETTLED).knobs.get("lr")
        self._usual = knob.effective if knob is not None else None
        return super().plant(scene)

    def hold(self, scene: Scene, planted: Planted) -> Ended:
        """Recovered, and the rate that is used is the usual one again."""
        ended = super().hold(scene, planted)
        usual, status = self._usual, scene.status()
        knob = status.knobs.get("lr") if status is not None else None
        if knob is None or knob.effective is None or usual is None:
            raise Failed("a learning rate was expected among the knobs, found none")
        if knob.effective > USUAL_AGAIN * usual:
            raise Failed(f"the rate was expected to be about {usual:.3g} again, found {knob.effective:.3g}")
        rate = f"lr {knob.scheduled:.3g} × {knob.scale:.3g} = {knob.effective:.3g}"
        return Ended(did=ended.did, how=f"{ended.how}, {rate}", steps_lost=ended.steps_lost)
