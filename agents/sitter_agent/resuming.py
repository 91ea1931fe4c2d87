"""Going on from a checkpoint in a new process."""

from typing import Any

from sitter_agent import rng
from sitter_agent.checkpoint_files import Sidecar
from sitter_agent.core import Core
from sitter_agent.loader_position import Waiting
from sitter_wire.events import KnobChanged


def take_up(core: Core, captured: object, meta: dict[str, Any], side: Sidecar) -> str:
    """Put a checkpoint's state back before the first step; the sentence that says what was, and what could not be."""
    p = core.progress
    missing = core.adapter.restore(captured)
    states = meta.get("rng")
    if isinstance(states, dict) and states:
        missing += rng.restore(rng.from_plain(states))
    else:
        missing.append("random numbers")
    p.done = p.current = side.step
    p.micro = int(meta.get("micro") or 0)
    epoch = meta.get("epoch")
    p.epoch = int(epoch) if isinstance(epoch, int) else None
    scales = meta.get("scales")
    for knob in core.adapter.knobs():
        scale = float(scales.get(knob.spec.name, 1.0)) if isinstance(scales, dict) else 1.0
        if scale != 1.0:
            old, new = knob.change("scale", scale, group=None, hold=False)
            core.event(
                KnobChanged(knob=knob.spec.name, old=old, new=new, scale=knob.scale, held=knob.held, by="resume")
            )
    loader = meta.get("loader")
    if isinstance(loader, dict) and "state" in loader:  # put back, and told, when the loop begins and the loader is known
        core.loader_waits = Waiting(loader, rng.from_plain(states) if isinstance(states, dict) and states else {})
    else:
        why_not = loader.get("why_not") if isinstance(loader, dict) else None
        missing.append(f"the loader's position ({f'{why_not}: ' if why_not else ''}it begins a pass)")
    text = f"going on from step {side.step} (checkpoint {side.file})"
    return f"{text}; not put back: {'; '.join(missing)}" if missing else text
