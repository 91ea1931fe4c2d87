"""Going on from a checkpoint in a new process."""

from typing import Any

from sitter_agent import rng
from sitter_agent.checkpoint_files import Sidecar
from sitter_agent.core import Core
from sitter_agent.handlers import raised_by_handler
from sitter_agent.knobs import FreeKnob
from sitter_agent.loader_position import Waiting
from sitter_agent.own_state import Loaded, contest
from sitter_agent.say import in_words, say
from sitter_wire.events import KnobChanged


def take_up(core: Core, captured: object, meta: dict[str, Any], side: Sidecar, step: int | None = None) -> str:
    """Put a checkpoint's state back before the first step, unless the script has loaded one itself that is as new; the sentence that says
    what was, and what could not be. ``step``: how many the script says that its own state has behind it."""
    p = core.progress
    loaded = core.adapter.loaded() if step is None else Loaded(step > 0, step)
    stands, words = contest(loaded, side.step, side.file)
    if stands:
        p.done = p.current = side.step if loaded.step is None else loaded.step
        missing = _knobs_again(core, meta)
        return f"{words}; not put back: {'; '.join(missing)}" if missing else words
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
    missing += _knobs_again(core, meta)
    loader = meta.get("loader")
    if isinstance(loader, dict) and "state" in loader:  # put back, and told, when the loop begins and the loader is known
        core.loader_waits = Waiting(loader, rng.from_plain(states) if isinstance(states, dict) and states else {})
    else:
        why_not = loader.get("why_not") if isinstance(loader, dict) else None
        missing.append(f"the loader's position ({f'{why_not}: ' if why_not else ''}it begins a pass)")
    text = f"going on from step {side.step} (checkpoint {side.file}{f'; {words}' if words else ''})"
    return f"{text}; not put back: {'; '.join(missing)}" if missing else text


def _knobs_again(core: Core, meta: dict[str, Any]) -> list[str]:
    """What had been commanded, on all groups or one, and pinned values. Returns in words what could not be: the state is back by now, so
    that a knob which the script has changed since must not make the whole of it a failure."""
    missing: list[str] = []
    settings, scales = meta.get("knobs"), meta.get("scales")
    for knob in core.adapter.knobs():
        name, old = knob.spec.name, knob.effective()
        try:
            if isinstance(settings, dict) and name in settings and hasattr(knob, "put"):
                knob.put(settings[name])
            elif isinstance(scales, dict) and float(scales.get(name, 1.0)) != 1.0:
                knob.change("scale", float(scales[name]), group=None, hold=False)
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            missing.append(f"the knob {name} ({e})")
            continue
        if knob.scale != 1.0 or knob.held or knob.effective() != old:
            core.event(KnobChanged(knob=name, old=old, new=knob.effective(), scale=knob.scale, held=knob.held, by="resume"))
    own = meta.get("own_knobs")
    core.knobs_to_come = dict(own) if isinstance(own, dict) else {}
    for free in core.free_knobs.values():
        own_knob_again(core, free)
    return missing


def own_knob_again(core: Core, knob: FreeKnob) -> None:
    """One of the script's own, once it is declared, which may be long after the state was put back; it is told what became of it."""
    settings = core.knobs_to_come.pop(knob.spec.name, None)
    if settings is None:
        return
    level, old = "info", knob.effective()
    try:
        text = knob.take_up(settings)
        if knob.scale != 1.0 or knob.held:
            core.event(
                KnobChanged(knob=knob.spec.name, old=old, new=knob.effective(), scale=knob.scale, held=knob.held, by="resume")
            )
        else:
            level = "warning"
    except Exception as e:
        if raised_by_handler(e):
            raise
        text, level = f"knob {knob.spec.name}: what the run had set is not put back ({in_words(e)})", "warning"
    say(text)
    core.remark(text, level)
