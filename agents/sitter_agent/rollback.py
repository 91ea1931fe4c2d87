"""Going back: which state, and putting it back. Says what it put back and what it could not."""

from dataclasses import dataclass
from typing import Any, Literal

from sitter_agent import rng
from sitter_agent.checkpoint_files import DamagedError, Sidecar
from sitter_agent.core import Core
from sitter_agent.feed import Position
from sitter_agent.handlers import raised_by_handler
from sitter_agent.loader_position import position_in
from sitter_agent.retention import on_line
from sitter_agent.snapshots import Snapshot
from sitter_wire.commands import Rollback
from sitter_wire.events import Restored

Detail = dict[str, float | int | str | bool | list[str] | None]
"""What an outcome says beside its sentence, by name."""


class Refused(Exception):  # noqa: N818 — it is an answer, not an error
    """A command that is not carried out, with the sentence why."""

    def __init__(self, text: str, detail: Detail | None = None) -> None:
        super().__init__(text)
        self.detail: Detail = detail or {}


@dataclass
class Source:
    """A state to go back to, from memory or disk."""

    captured: object
    """The adapter's."""
    branch: int
    step: int
    micro: int
    rng: dict[str, Any]
    """What ``sitter_agent.rng.capture`` gave; empty where it is not known."""
    position: Position | None
    scales: dict[str, float]
    """Of all knobs; the framework's are put back with ``captured``."""
    epoch: int | None
    snapshot: Snapshot | None
    text: str
    """What it is, for people."""
    no_position: str = "there was no loader, or it did not say"
    """Why ``position`` is None, where it is."""

    @property
    def kind(self) -> Literal["snapshot", "checkpoint"]:
        """Memory or disk."""
        return "snapshot" if self.snapshot is not None else "checkpoint"


def roll_back(core: Core, action: Rollback) -> tuple[str, Detail]:
    """Carry it out, here at the safe point. Raises Refused where nothing was touched."""
    if not core.has_state():
        raise Refused("no state is known here: call agent.state(save=…, load=…), or start(model=…, optimizer=…)")
    if action.unless_finite and core.adapter.finite():
        raise Refused(
            "all parameters and optimizer state are finite: the logged value is at fault, not the model",
            {"finite": True},
        )
    core.ring.clear_up_to(core.clear(), core.progress)
    source = _exactly(core, action.to) if action.to is not None else _newest(core, action.before)
    if source.snapshot is not None:
        core.ring.hold(source.snapshot)
    try:
        return restore(core, source, replay=action.replay)
    finally:
        if source.snapshot is not None:
            core.ring.release(source.snapshot)


def restore(core: Core, source: Source, *, replay: bool) -> tuple[str, Detail]:
    """Put a state back in place and open a new branch."""
    p = core.progress
    left, from_branch = p.done, source.branch
    knobs_before = {name: knob.effective() for name, knob in core.free_knobs.items()}
    generators = rng.capture()
    missing: list[str] = []
    rewound = _rewind(core, source, missing) if replay else False
    try:
        missing += _put_back(core, source)
    except Exception as e:
        if raised_by_handler(e):
            raise
        raise Refused(
            f"putting back step {source.step} ({source.text}) failed ({type(e).__name__}: {e}): the state may be mixed; "
            "go back to another one"
        ) from e
    finally:
        # By default the data go on, and with them every generator: the same batches again are what --replay is for.
        missing += rng.restore(source.rng if replay and source.rng else generators)
    branch = core.new_branch()
    p.fork(branch, source.step)
    p.micro = source.micro
    if rewound:
        p.epoch = source.epoch
    core.ring.keep_line(p)
    core.vault.keep_line = list(p.line)
    for name, before in knobs_before.items():
        core.free_knobs[name].put_back(before, source.scales.get(name, core.free_knobs[name].scale))
    if not p.managed and p.given:
        missing.append("the script's own step counter")
    core.event(
        Restored(
            branch=branch, step=source.step, from_branch=from_branch, left=left, source=source.kind, replay=replay,
            missing=missing,
        )
    )  # fmt: skip
    for hook in core.hooks:
        try:
            hook(source.step)
        except Exception as e:  # the script's own hook; its failure is told, and training goes on
            if raised_by_handler(e):
                raise
            missing.append(f"what the script's own on_restore does ({type(e).__name__}: {e})")
            core.rail.caught("on_restore", e)
    data = "with its data" if rewound else "data go on"
    text = f"back from step {left} to {source.step} ({source.text}), {data}"
    if missing:
        text += "; not put back: " + "; ".join(missing)
    return text, {
        "step": source.step, "from": left, "lost": left - source.step, "branch": branch, "source": source.kind,
        "replay": replay, "exact": replay and rewound and not missing, "missing": missing,
    }  # fmt: skip


def _put_back(core: Core, source: Source) -> list[str]:
    """The state, whole. An interrupt in the midst of it (Ctrl-C, an alarm of the script) must not leave a mixture to the script, which may
    save what it finds: the state is put back again, and the interrupt goes on once the command is answered."""
    try:
        return core.adapter.restore(source.captured)
    except BaseException as e:
        if isinstance(e, Exception) and not raised_by_handler(e):
            raise
        core.interrupt = e
        return core.adapter.restore(source.captured)


def from_checkpoint(core: Core, side: Sidecar) -> Source:
    """Read one from disk. Raises DamagedError."""
    captured, found = core.vault.load(core.adapter, side)
    meta: dict[str, Any] = found
    position, why_not = position_in(core.feed, meta.get("loader"))
    return Source(
        captured=captured, branch=side.branch, step=side.step, micro=int(meta.get("micro") or 0),
        rng=rng.from_plain(meta["rng"]) if meta.get("rng") else {}, position=position, scales=dict(meta.get("scales") or {}),
        epoch=meta.get("epoch"), snapshot=None, text=f"checkpoint {side.file}", no_position=why_not,
    )  # fmt: skip


def _rewind(core: Core, source: Source, missing: list[str]) -> bool:
    if core.feed is None:
        missing.append("the data: the loop is the script's own")
        return False
    if source.position is None:
        missing.append(f"the data: where the loader stood then is not known ({source.no_position})")
        return False
    try:
        doubts = core.feed.rewind(source.position)
    except Exception as e:  # the script's loader: its failure is told, and the state is put back all the same
        if raised_by_handler(e):
            raise
        missing.append(f"the data: the loader failed when it was begun again ({type(e).__name__}: {e})")
        return False
    missing += doubts
    return not any("went on" in d or "ended after" in d for d in doubts)


def _of_snapshot(s: Snapshot) -> Source:
    kind = "cleared snapshot" if s.cleared else "snapshot, not cleared"
    return Source(s.captured, s.branch, s.step, s.micro, s.rng, s.position, s.scales, s.epoch, s, kind)


def _newest(core: Core, before: int | None) -> Source:
    cleared = core.ring.cleared(before, core.progress)
    if cleared:
        return _of_snapshot(_soundest(core, cleared))
    clear, place = core.clear(), core.progress.place
    damaged: list[str] = []
    for side in reversed(core.vault.all()):
        if not on_line(core.progress.line, side) or not side.verified or (before is not None and side.step > before):
            continue
        followed = (
            clear is not None
            and place(clear[0]) is not None
            and core.vault.clear_step(side.branch, side.step) is not None
        )
        if side.cleared or followed:
            try:
                return from_checkpoint(core, side)
            except DamagedError as e:
                damaged.append(str(e))
    where = "" if before is None else f" at or before step {before}"
    also = f"; {'; '.join(damaged)}" if damaged else ""
    raise Refused(
        f"there is no cleared snapshot and no verified checkpoint{where} on this line of branches{also}",
        {"before": before},
    )


def _soundest(core: Core, cleared: list[Snapshot]) -> Snapshot:
    """The newest that is finite throughout. A snapshot is cleared by what was logged after it, and a daemon that slept through the onset
    judges by what looks healthy; weights that are not finite heal in no case. Where all are so, the script means it: the newest."""
    return next((snapshot for snapshot in cleared if core.adapter.sound(snapshot.captured)), cleared[0])


def _exactly(core: Core, step: int) -> Source:
    snapshot = core.ring.at_step(step, core.progress)
    if snapshot is not None:
        return _of_snapshot(snapshot)
    mine = [s for s in core.vault.all() if on_line(core.progress.line, s)]
    for side in reversed(mine):
        if side.step == step:
            try:
                return from_checkpoint(core, side)
            except DamagedError as e:
                raise Refused(str(e)) from e
    steps = sorted({*core.ring.steps(core.progress), *(s.step for s in mine)})
    near = sorted(sorted(steps, key=lambda s: abs(s - step))[:4])
    have = f"the nearest are {', '.join(map(str, near))}" if near else "there are none yet"
    raise Refused(f"there is no state of step {step}: {have}", {"nearest": [str(s) for s in near]})
