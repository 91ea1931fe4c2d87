"""Copies of the whole state: what the adapter holds, and beside it random numbers, loader position, knob scales, counters."""

import datetime
from collections.abc import Callable
from typing import Any

from sitter_agent import rng
from sitter_agent.checkpoint_files import Sidecar
from sitter_agent.checkpoints import Job
from sitter_agent.core import Core
from sitter_agent.feed import Position
from sitter_agent.handlers import raised_by_handler
from sitter_agent.loader_position import kept
from sitter_agent.say import in_words, say
from sitter_agent.snapshots import Snapshot
from sitter_wire.events import SnapshotTaken


def fill_in(core: Core, snapshot: Snapshot) -> None:
    """Add to a snapshot what is not the adapter's."""
    snapshot.rng = rng.capture()
    snapshot.position = _position(core)
    snapshot.scales, snapshot.knobs, snapshot.own_knobs = _commanded(core)
    snapshot.epoch = core.progress.epoch


def _commanded(core: Core) -> tuple[dict[str, float], dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """``scales``, ``knobs`` and ``own_knobs`` of a snapshot that is taken now."""
    scales = {name: knob.scale for name, knob in core.knobs().items()}
    return scales, {k.spec.name: k.settings() for k in core.adapter.knobs() if hasattr(k, "settings")}, _own_knobs(core)


def _own_knobs(core: Core) -> dict[str, dict[str, Any]]:
    """Also of those that this process has yet to declare. One whose ``get`` fails costs its own, not the snapshot."""
    found = dict(core.knobs_to_come)
    for name, knob in core.free_knobs.items():
        try:
            settings = knob.settings()
        except Exception as e:
            if raised_by_handler(e):
                raise
            core.rail.caught(f"get() of the knob {name}", e)
            continue
        if settings:
            found[name] = settings
    return found


def _position(core: Core) -> Position | None:
    """Where the loader stands. One that fails to say costs the replay of its batches, not the snapshot."""
    if core.feed is None:
        return None
    try:
        return core.feed.position()
    except Exception as e:
        if raised_by_handler(e):
            raise
        if not core.position_unknown:
            core.position_unknown = True
            text = f"the loader does not say where it stands ({in_words(e)}): a rollback cannot rewind its batches"
            say(text)
            core.remark(text, "warning")
        return None


def take_snapshot(core: Core, *, first: bool = False, any_slot: bool = False) -> Snapshot | None:
    """Into the ring, and tell of it. None where no slot may go."""
    take = core.ring.first if first else core.ring.take
    kwargs: dict[str, Any] = {} if first else {"any_slot": any_slot}
    snapshot = take(core.adapter, lambda s: fill_in(core, s), core.progress, core.progress.points, **kwargs)
    if snapshot is not None:
        core.event(
            SnapshotTaken(
                slot=snapshot.slot, branch=snapshot.branch, step=snapshot.step, bytes=snapshot.nbytes,
                seconds=snapshot.seconds,
            )
        )  # fmt: skip
    return snapshot


def present_state(core: Core) -> Snapshot:
    """The state of now: the snapshot of this very step, a new one in the ring, or, where no slot may go, a copy beside it."""
    p = core.progress
    here = core.ring.at_step(p.done, p)
    if (
        here is not None and here.branch == p.branch and here.micro == p.micro  # a script may count the same step again
        and (here.scales, here.knobs, here.own_knobs) == _commanded(core)  # something may have been set since, in a pause
    ):  # fmt: skip
        return here
    taken = take_snapshot(core, any_slot=True) if core.ring.slots else None
    if taken is not None:
        return taken
    copy = Snapshot(
        -1, core.adapter.capture(None), p.branch, p.done, p.micro, core.clock(), core.progress.points, core.adapter.nbytes()
    )
    fill_in(core, copy)
    return copy


def copy_for_checkpoint(
    core: Core, *, why: str, cleared: bool, pinned: bool, full_check: bool = False,
    done: Callable[[Sidecar | None, str], None] | None = None,
) -> str | None:  # fmt: skip
    """Hand a state to the checkpoint writer: the newest cleared snapshot, or the present state. None, or the sentence why not."""
    if not core.has_state():
        return "no state is known here: call agent.state(save=…, load=…), or start(model=…, optimizer=…)"
    if core.away:
        return core.away
    core.ring.clear_up_to(core.clear(), core.progress)
    # Without snapshots (a state too large for memory) checkpoints serve: what is written now may be cleared by what follows.
    from_memory = cleared and core.ring.slots > 0
    snapshot = core.ring.newest_cleared(None, core.progress) if from_memory else present_state(core)
    if snapshot is None:
        return "there is no cleared snapshot yet"
    core.ring.hold(snapshot)
    return _write(core, snapshot, why=why, pinned=pinned, full_check=full_check, done=done)


def snapshot_for_checkpoint(core: Core, *, why: str, done: Callable[[Sidecar | None, str], None]) -> str | None:
    """Where the training thread does not come to a safe point in time: the newest snapshot that lies in memory. From any thread."""
    snapshot = core.ring.hold_newest(core.progress)
    if snapshot is None:
        return "no snapshot lies in memory"
    return _write(core, snapshot, why=why, pinned=False, full_check=False, done=done)


def _write(
    core: Core, snapshot: Snapshot, *, why: str, pinned: bool, full_check: bool, done: Callable[[Sidecar | None, str], None] | None
) -> str | None:
    job = Job(
        snapshot=snapshot, meta=meta_of(core, snapshot), line=[(b, s) for b, s in core.progress.line if s <= snapshot.step], why=why,
        pinned=pinned, full_check=full_check or pinned, goal=core.goal_value, done=[done] if done else [],
    )  # fmt: skip
    core.vault.keep_line = list(core.progress.line)
    refused = core.vault.write(core.adapter, job)
    if refused is not None:
        core.ring.release(snapshot)
    return refused


def meta_of(core: Core, snapshot: Snapshot) -> dict[str, object]:
    """What a checkpoint says beside the state, in plain types."""
    return {
        "step": snapshot.step, "branch": snapshot.branch, "micro": snapshot.micro, "epoch": snapshot.epoch,
        "session": core.session, "rng": rng.to_plain(snapshot.rng), "scales": dict(snapshot.scales),
        "knobs": snapshot.knobs, "own_knobs": snapshot.own_knobs,
        "written": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "loader": kept(snapshot.position, tensors=core.adapter.name == "torch"),
    }  # fmt: skip
