"""Commands on the training thread: checked, carried out at a safe point, answered once. Idempotent by id."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from sitter_agent.checkpoint_files import Sidecar
from sitter_agent.core import Core
from sitter_agent.handlers import raised_by_handler
from sitter_agent.knobs import check_expected
from sitter_agent.parking import Parking
from sitter_agent.rollback import Detail, Refused, roll_back
from sitter_agent.state_copy import copy_for_checkpoint
from sitter_wire import commands as wire
from sitter_wire.events import Done, KnobChanged, Paused

REMEMBERED = 10_000
"""Answers kept for repeats; each a few hundred bytes."""

LAST_CHECKPOINT_S = 600.0
"""So long a stop waits for its checkpoint, which a slow disk may well need: the training ends here, nothing waits for it."""

Said = tuple[str, Detail]
"""What was done, in a sentence and in numbers."""


class Commands:
    """``take`` is called by the control thread; everything else by the training thread."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._inbox: deque[wire.Command] = deque()
        self._answers: OrderedDict[str, wire.Outcome | None] = OrderedDict()
        self._lock = threading.Lock()
        self._later = 0
        """Before this step there is nothing to do about what was there at the last look."""
        self.arrived = threading.Event()
        self.pause: wire.Pause | None = None
        self.parking = Parking(core, self.arrived.set)
        self._going_on = ""
        self._last_words: Said | None = None
        """What the stop that ended the loop had to say."""
        self._do: dict[type[wire.Action], Callable[[wire.Command], Said | None]] = {
            wire.SetKnob: self._set,
            wire.Rollback: self._rollback,
            wire.TakeCheckpoint: self._checkpoint,
            wire.DropBatches: self._drop,
            wire.Pause: self._pause,
            wire.Unpause: self._unpause,
            wire.Stop: self._stop,
        }

    # -- control thread ----------------------------------------------------------------------------------------------------

    def take(self, command: wire.Command) -> None:
        """Hold a command for the safe point; a repeat of one that was answered is answered again at once."""
        with self._lock:
            if command.id in self._answers:
                outcome = self._answers[command.id]
            elif any(c.id == command.id for c in self._inbox):
                return
            else:
                self._inbox.append(command)
                self.arrived.set()
                return
        if outcome is not None and self._core.link is not None:
            self._core.link.answer(outcome)

    # -- training thread -----------------------------------------------------------------------------------------------------

    def waiting(self) -> bool:
        """Whether there is anything to do now. One look at a deque, where it is empty: this is asked at every safe point."""
        return bool(self._inbox) and (self.arrived.is_set() or self._core.progress.done >= self._later)

    def carry_out(self) -> None:
        """Everything that has arrived and is due; unpause and stop first while paused."""
        self.arrived.clear()
        while True:
            with self._lock:
                command = self._first()
                if command is None:
                    self._later = min((c.at for c in self._inbox if c.at is not None), default=0)
                    return
                self._answers[command.id] = None
                while len(self._answers) > REMEMBERED:
                    self._answers.popitem(last=False)
            self._one(command)

    def _first(self) -> wire.Command | None:
        """The first that is due; None where none is."""
        if self.pause is not None:
            for command in self._inbox:
                if isinstance(command.action, wire.Unpause | wire.Stop):
                    self._inbox.remove(command)
                    return command
        done = self._core.progress.done
        for command in self._inbox:
            if command.at is None or command.at <= done or command.branch not in (None, self._core.progress.branch):
                self._inbox.remove(command)
                return command
        return None

    def _one(self, command: wire.Command) -> None:
        try:
            why_not = self._refusal(command)
            if why_not is not None:
                self._answer(command, *why_not)
                return
            said = self._do[type(command.action)](command)
            if said is not None:
                self._answer(command, "applied", *said)
        except Refused as e:
            self._answer(command, "rejected", str(e), e.detail)
        except ValueError as e:
            self._answer(command, "rejected", str(e))
        except Exception as e:  # whatever went wrong, silence is never success, and training goes on
            if raised_by_handler(e):
                self._answer(command, "rejected", "a signal handler of the script interrupted it")
                raise
            self._answer(command, "rejected", f"it failed inside the training process: {type(e).__name__}: {e}")
            self._core.rail.caught(f"command {type(command.action).__name__}", e)
        interrupt, self._core.interrupt = self._core.interrupt, None
        if interrupt is not None:
            raise interrupt

    def _refusal(self, command: wire.Command) -> tuple[wire.OutcomeStatus, str] | None:
        core = self._core
        if command.session != core.session:
            return (
                "rejected",
                f"it was meant for session {command.session[:8]}, this is {core.session[:8]}: the training was restarted since",
            )
        if core.clock() > command.deadline:
            return (
                "expired",
                f"it came {core.clock() - command.deadline:.1f} s after its deadline, before the next safe point",
            )
        if command.branch is not None and command.branch != core.progress.branch:
            return (
                "rejected",
                f"it was decided on branch {command.branch}, the training is on {core.progress.branch}: look again, then decide",
            )
        return None

    def _answer(
        self, command: wire.Command, status: wire.OutcomeStatus, text: str, detail: Detail | None = None
    ) -> None:
        p = self._core.progress
        outcome = wire.Outcome(
            id=command.id, status=status, step=p.done, branch=p.branch, text=text, detail=detail or {}
        )
        with self._lock:
            self._answers[command.id] = outcome
        self._core.event(Done(outcome=outcome))
        if self._core.link is not None:
            self._core.link.answer(outcome)

    def expire_rest(self) -> None:
        """The training is over: what is still held can no longer be carried out."""
        while self._inbox:
            command = self._inbox.popleft()
            if command.session == self._core.session:
                self._answer(command, "expired", "the training ended before the next safe point")

    # -- the actions -----------------------------------------------------------------------------------------------------------

    def _set(self, command: wire.Command) -> Said:
        action = command.action
        assert isinstance(action, wire.SetKnob)
        knobs = self._core.knobs()
        knob = knobs.get(action.knob)
        if knob is None:
            known = ", ".join(sorted(knobs)) or "none"
            raise Refused(f"there is no knob {action.knob}; known here: {known}")
        if action.hold and action.op == "scale":
            raise Refused(f"only a value can be held, not a scale: give {action.knob} as a number")
        check_expected(knob, action.expect)
        old, new = knob.change(action.op, action.amount, group=action.group, hold=action.hold)
        self._changed(knob.spec.name, old, new, command.by)
        note = f" ({knob.spec.note})" if knob.spec.note else ""
        held = ", held" if knob.held else ""
        return f"{action.knob} {old:g} → {new:g}{held}{note}", {
            "old": old,
            "new": new,
            "scale": knob.scale,
            "held": knob.held,
        }

    def _rollback(self, command: wire.Command) -> Said:
        action = command.action
        assert isinstance(action, wire.Rollback)
        if self._core.away:
            raise Refused(self._core.away)
        text, detail = roll_back(self._core, action)
        knobs = self._core.knobs()
        for name, factor in action.also_scale.items():
            try:
                knob = knobs.get(name)
                if knob is None:
                    raise ValueError(f"there is no knob {name}")
                old, new = knob.change("scale", factor, group=None, hold=False)
            except ValueError as e:
                text += f"; {name} × {factor:g} refused: {e}"
                detail[f"{name}_refused"] = str(e)
                continue
            self._changed(name, old, new, command.by)
            text += f"; {name} {old:g} → {new:g}"
            detail[f"{name}_old"], detail[f"{name}_new"] = old, new
        return text, detail

    def _changed(self, name: str, old: float, new: float, by: str) -> None:
        knob = self._core.knobs()[name]
        self._core.event(KnobChanged(knob=name, old=old, new=new, scale=knob.scale, held=knob.held, by=by))

    def _checkpoint(self, command: wire.Command) -> Said | None:
        action = command.action
        assert isinstance(action, wire.TakeCheckpoint)
        refused = copy_for_checkpoint(
            self._core, why=action.why or command.by, cleared=action.cleared, pinned=action.pinned,
            done=lambda side, why: self._checkpoint_done(command, side, why),
        )  # fmt: skip
        if refused is not None:
            raise Refused(refused)
        return None

    def _checkpoint_done(self, command: wire.Command, side: Sidecar | None, why: str) -> None:
        """On the writer thread: only now is it known what became of it."""
        if side is None:
            self._answer(command, "rejected", f"no checkpoint: {why}")
            return
        place = str(self._core.run.checkpoints / side.file)
        self._answer(
            command, "applied", f"checkpoint of step {side.step} written and read back: {place}",
            {
                "step": side.step, "branch": side.branch, "path": place, "bytes": side.bytes, "verified": side.verified,
                "cleared": side.cleared,
            },
        )  # fmt: skip

    def _drop(self, command: wire.Command) -> Said:
        action = command.action
        assert isinstance(action, wire.DropBatches)
        if self._core.feed is None:
            raise Refused("batches can only be dropped in agent.loop or agent.batches, which fetch them")
        if not 0 < action.count <= 1_000_000:
            raise Refused(f"drop {action.count}: expected a number of batches from 1 to 1,000,000")
        self._core.feed.drop += action.count
        return f"the next {self._core.feed.drop} batches are dropped", {"count": self._core.feed.drop}

    def _pause(self, command: wire.Command) -> Said | None:
        assert isinstance(command.action, wire.Pause)
        paused = self.pause is not None
        if not paused:
            self._core.event(Paused(paused=True, why=command.by))
        self.pause = command.action
        self._core.progress.paused = True
        if command.action.free:
            try:
                self.parking.begin(lambda done, *said: self._answer(command, "applied" if done else "rejected", *said), paused=paused)
            except BaseException:  # an interrupt of the script's, raised again: what is not answered by `applied` holds nobody
                if not paused:
                    self.end_pause("it was interrupted")
                raise
            return None
        return f"paused at step {self._core.progress.done}" + (", held" if command.action.hold else ""), {
            "hold": command.action.hold
        }

    def _unpause(self, command: wire.Command) -> Said:
        if self.pause is None:
            raise Refused("the training is not paused")
        blocked = self.end_pause(command.by)
        if blocked:
            raise Refused(f"it cannot go on yet: {blocked}; it is tried again and again, and goes on once there is room")
        return f"going on from step {self._core.progress.done}", {}

    def end_pause(self, why: str) -> str:
        """Go on. Empty, or the sentence why that cannot be yet: then it goes on as soon as it can."""
        if self.pause is not None:
            self._going_on = why
            blocked = self.parking.end()
            if blocked:
                return blocked
            self.pause = None
            self._core.progress.paused = False
            self._core.event(Paused(paused=False, why=why))
        return ""

    def look_at_parking(self) -> None:
        """Often, while paused."""
        if not self._inbox:
            self.arrived.clear()
        if not self.parking.look():
            self.end_pause("there is no checkpoint")
        elif self.parking.due:
            self.end_pause(self._going_on)

    def _stop(self, command: wire.Command) -> Said:
        action = command.action
        assert isinstance(action, wire.Stop)
        p = self._core.progress
        text, detail = f"stopped after step {p.done}", Detail()
        if p.stopping and self._last_words is not None and (not action.checkpoint or "checkpoint" in self._last_words[1]):
            return self._last_words  # two were asked at once: one checkpoint of this state is enough
        self.parking.end()  # what is saved and what the script finds shall be where it was, if there is room
        if action.checkpoint:
            text += self._last_checkpoint(detail, action.why or "stop")
        self.stop_now(action.why or command.by)
        self._last_words = text, detail
        return text, detail

    def _last_checkpoint(self, detail: Detail, why: str) -> str:
        """The training ends here, so here it is waited for: what the outcome says of it must be true."""
        told: list[tuple[Sidecar | None, str]] = []
        refused = copy_for_checkpoint(
            self._core,
            why=why,
            cleared=False,
            pinned=False,
            full_check=True,
            done=lambda side, why: told.append((side, why)),
        )
        if refused is None:
            self._core.vault.wait(LAST_CHECKPOINT_S)
        side, reason = told[0] if told else (None, refused or f"it was not written within {LAST_CHECKPOINT_S / 60:.0f} minutes")
        detail["checkpoint"] = None if side is None else str(self._core.run.checkpoints / side.file)
        return f"; no checkpoint: {reason}" if side is None else f"; checkpoint {side.file} written and read back"

    def stop_now(self, why: str) -> None:
        """The loop ends here as if ``total`` were reached."""
        self.parking.leave()
        self.end_pause(f"stop: {why}")
        self._core.progress.stopping = True
