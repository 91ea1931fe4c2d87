"""What happens just after a full optimizer step, in this order: automatic signals, commands, a pause, a snapshot, shipping."""

import contextlib

from sitter_agent.commands import Commands
from sitter_agent.core import Core
from sitter_agent.counting import Counting
from sitter_agent.feed import Feed
from sitter_agent.handlers import raised_by_handler
from sitter_agent.loader_position import take_up_position
from sitter_agent.notices import Notices
from sitter_agent.quick import Put
from sitter_agent.say import say
from sitter_agent.state_copy import take_snapshot
from sitter_agent.stopwatch import Aftermath, Stopwatch
from sitter_agent.tensors import on_gpu
from sitter_wire.events import GoodBye, LoopStart

STUCK_AFTER = 16
"""Turns without a step, beyond four times the usual number of one step: a scaler that skips every step must not keep a rollback out."""
GIVE_UP_AFTER = 3
"""Snapshots that failed (memory that is not there, a ``save`` that raises): it would go on so in every step."""
HEARD_S = 3.0
"""A daemon that pings each second and was heard so recently is there."""
PAUSE_LOOK_S = 0.25
"""Between two looks around in a pause, where no command comes."""
FILES_LOOK_S = 1.0
"""Between two looks for the files that end a held pause without a daemon."""
KNOBS_S = 30.0
"""So often what the knobs stand at is told."""
MOST_KNOWN = 16
"""Sets of names of our own signals that have a short way into the file: they change only as the gradient norm is among them or not."""

Known = tuple[tuple[str, ...], Put]
"""Such a set and its way."""
UNKNOWN: Known = (), lambda step, branch, values: False


class SafePoint(Counting):
    """Runs on the training thread. Nothing in here raises, but the one deliberate KeyboardInterrupt of ``raise_if_stopped``."""

    def __init__(self, core: Core, commands: Commands, notices: Notices) -> None:
        super().__init__(core.adapter, core.progress)
        self.core, self.commands, self.notices = core, commands, notices
        self._ended = core.clock()
        """Monotonic seconds at which the last safe point was over: ``step_time`` is counted from there."""
        self._waited = 0.0
        """Seconds for which this step has waited for data."""
        self._dry = 0
        """Turns since the last step …"""
        self._usual = 1
        """… and how many one step took last."""
        self._cleared: tuple[int, int] | None = None
        self._interrupted = False
        """The KeyboardInterrupt of a stop was raised: once is enough."""
        self._uncopied = 0
        """Snapshots that failed."""
        self._aftermath = Aftermath()
        self._told = False
        """The loop's length was told."""
        self._epochs_total = 0
        self._workers: int | None = None
        self._knobs_due = 0.0
        self._known: dict[tuple[str, ...], Known] = {}
        self._last = UNKNOWN
        """The one that was used last, nearly always the one that is needed next."""
        self.said_goodbye = ""
        self.closed = False
        """The session was ended, or this is a forked child: a loop that still runs only counts."""
        self.begin()

    # -- what a loop tells ------------------------------------------------------------------------------------------------

    def loop_begins(self, total: int | None, epochs: int | None = None) -> None:
        """Tell of its length."""
        super().loop_begins(total, epochs)
        self.said_goodbye, self._told = "", True
        with self.core.rail.around("the loop's beginning"):
            self._tell_length(total, epochs)

    def turns_begin(self, feed: object) -> None:
        """Take the first snapshot before the first step."""
        self._adapter = self.core.adapter
        super().turns_begin(feed)
        with self.core.rail.around("the first turn"):
            if not self._told:
                self._told = True
                self._tell_length(self.progress.total, None)
            self.core.feed = feed if isinstance(feed, Feed) else None
            self._tell_workers(self.core.feed)
            take_up_position(self.core)
            self._first_snapshot()
            self._ended = self.core.clock()

    def epoch_over(self, epochs: int, count: int) -> None:
        """Tell how many steps ``count`` epochs will be, going by those done; the loop itself still ends by epochs."""
        with self.core.rail.around("the epoch's end"):
            total = round(self.progress.done / epochs * count)
            if total and total != self._epochs_total:
                self._epochs_total = total
                self._tell_length(total, count)

    def _tell_length(self, total: int | None, epochs: int | None) -> None:
        self.core.event(LoopStart(total=total, epochs=epochs, step=self.progress.done))

    def _tell_workers(self, feed: Feed | None) -> None:
        workers = None if feed is None else feed.workers
        if workers is not None and workers != self._workers:
            self._workers = workers
            self.core.event(LoopStart(step=self.progress.done, workers=workers))

    def turn_over(self, waited: float) -> None:
        """Count, and where the optimizer stepped, be a safe point."""
        p = self.progress
        p.micro += 1
        self._waited += waited
        n = self.steps_taken()
        if n > 0:
            self._usual, self._dry = max(1, self._dry + 1), 0
            self._reached(n)
            return
        self._dry += 1
        if self._dry > STUCK_AFTER + 4 * self._usual and self.core.rail.on:
            with self.core.rail.around("a safe point without a step"):
                self._serve()

    def loop_over(self, how: str) -> None:
        """Say good-bye; what follows is logged under the last step."""
        with self.core.rail.around("the loop's end"):
            if self.closed:
                self.core.adapter.close()
                return
            self.core.pending.poll()
            self.good_bye(how)

    def good_bye(self, how: str, why: str = "") -> None:
        """Once per loop; and where an exception ends the script, for the last time."""
        if how == "crashed" or (not self.said_goodbye and how in ("total", "stopped", "left early", "closed")):
            self.said_goodbye = how
            self.core.event(GoodBye(how=how, why=why))  # type: ignore[arg-type]

    # -- a loop of the script's own ----------------------------------------------------------------------------------------

    def own(self, step: int | None) -> None:
        """``agent.safe_point()`` in a loop of the script's own."""
        p, core = self.progress, self.core
        if p.managed:
            return
        self._adapter = core.adapter
        if not self._told:
            self._told = True
            with core.rail.around("the first safe point"):
                self._tell_length(p.total, None)
        p.micro += 1
        n = self.steps_taken()
        if step is not None:
            with core.rail.around("safe_point(step)"):
                p.say(step)
        if n > 0:
            self._reached(n)
        elif not core.snapshots_ready and core.rail.on:
            with core.rail.around("the first safe point"):  # called before the first step: the state it began with
                p.done = p.current
                self._first_snapshot()
        self.raise_if_stopped()

    def raise_if_stopped(self) -> None:
        """The one exception that is meant: a stop in a loop that we do not run."""
        if self.progress.stopping and not self._interrupted and not self.progress.managed:
            self._interrupted = True
            with self.core.rail.around("the stop"):
                self.good_bye("stopped")
            raise KeyboardInterrupt(f"sitter: stopped by command after step {self.progress.done}")

    # -- the safe point itself ---------------------------------------------------------------------------------------------

    def _reached(self, n: int) -> None:
        p, core = self.progress, self.core
        step = p.current
        p.done = step if p.given and not p.managed else p.done + n
        if not p.given or p.managed:
            p.current = p.done
        if not core.rail.on:
            return
        try:
            now = core.clock()
            p.safe_point_at = now
            if self._aftermath.going:
                self._aftermath.turn()
            self._signals(step, now)
            if now >= self._knobs_due:
                self._knobs_due = now + KNOBS_S
                self._tell_knobs(step)
            if core.free_knobs:
                self._knobs()
            ring, link = core.ring, core.link
            if link is not None and link.clear is not self._cleared:
                self._cleared = link.clear
                ring.clear_up_to(self._cleared, p)
            self._serve()
            if not core.snapshots_ready:
                self._first_snapshot()
            elif ring.may_be_due(now) and ring.due(p.done, p.points, core.heard(HEARD_S)):
                self._snapshot()
            if link is not None:
                link.ship()
            self._ended = core.clock()
        except Exception as e:  # nothing of ours escapes into training
            if raised_by_handler(e):
                raise
            core.rail.caught("the safe point", e)

    def _snapshot(self) -> None:
        core, watch = self.core, Stopwatch(self.core.clock)
        try:
            snapshot = take_snapshot(core)
            if snapshot is not None:
                beside = watch.seconds() - snapshot.seconds
                core.ring.charge(max(0.0, beside) + min(self._aftermath.seconds(), snapshot.seconds))
                self._aftermath.begin()
        except Exception as e:
            if raised_by_handler(e):
                raise
            self._uncopied += 1
            core.rail.caught("a snapshot", e)
            if self._uncopied >= GIVE_UP_AFTER:
                core.ring.drop_all()
                text = f"snapshots are given up after {self._uncopied} failures ({type(e).__name__}: {e}); checkpoints serve"
                say(text)
                core.remark(text, "warning")

    def _signals(self, step: int, now: float) -> None:
        core, p = self.core, self.progress
        values: dict[str, object] = {"step_time": now - self._ended}
        if p.managed and core.feed is not None:
            values["data_wait"] = self._waited
        self._waited = 0.0
        logged = core.logged
        for name, value in core.adapter.sample(step).items():
            if name in logged:
                continue
            if type(value) is float:
                values[name] = value
            elif on_gpu(value):
                core.pending.add(step, p.branch, name, value)
            elif hasattr(value, "vectors"):
                core.lot(step, value)
            else:
                values[name] = value
        for name, knob in core.free_knobs.items():
            if name not in logged:
                values[name] = knob.effective()
        names, put = self._last
        if tuple(values) != names:
            names, put = self._last = self._known.get(tuple(values), UNKNOWN)
        if not put(step, p.branch, values.values()):
            self._record(step, values)
        if core.pending:
            core.pending.poll()

    def _record(self, step: int, values: dict[str, object]) -> None:
        """What the short way cannot take, as in ``Agent.log``."""
        recorder, names = self.core.recorder, tuple(values)
        recorder.log(step, self.progress.branch, values)
        put = recorder.short_way(names)
        if put is not None and len(self._known) < MOST_KNOWN:
            self._known[names] = names, put

    def _tell_knobs(self, step: int) -> None:
        """What the framework's knobs stand at, but the rate, which is told at every step: nobody else says it until it is changed."""
        core = self.core
        values: dict[str, object] = {
            knob.spec.name: knob.effective()
            for knob in core.adapter.knobs()
            if knob.spec.name not in core.logged and knob.spec.name != "lr" and not knob.waits
        }
        if values:
            core.recorder.log(step, self.progress.branch, values)

    def _knobs(self) -> None:
        for knob in self.core.free_knobs.values():
            said = knob.keep()
            if said:
                self.core.remark(said, "warning")

    def _serve(self) -> None:
        """Commands, a notice from outside, and the pause that may come of them."""
        if self.commands.waiting():
            self.commands.carry_out()
            self.begin()
            self._knobs_due = 0.0  # a knob was moved, or a state put back that has its own
        if self.notices.pending is not None:
            self.notices.carry_out(self.core)
        if self.commands.pause is not None:
            try:
                self._wait_out()
            finally:
                # Ctrl-C, or what a handler of the script raises: it must find a state that can be read.
                if self.commands.parking.begun:
                    self.commands.parking.leave()

    def _wait_out(self) -> None:
        core, commands, began = self.core, self.commands, self.core.clock()
        looked = began
        while commands.pause is not None and not self.progress.stopping:
            commands.arrived.wait(PAUSE_LOOK_S)
            if commands.waiting():
                commands.carry_out()
                self.begin()
            if self.notices.pending is not None:
                self.notices.carry_out(core)
            if commands.pause is None:
                break
            commands.look_at_parking()
            if commands.pause is None:
                break
            now = core.clock()
            core.progress.safe_point_at = now
            if commands.pause.hold or commands.parking.waits:
                if now - looked >= FILES_LOOK_S:
                    looked = now
                    self._look_for_files()
            elif (
                now - max(began, (core.link.last_heard or 0.0) if core.link is not None else 0.0)
                > core.pause_gives_way_s
            ):
                text = f"no daemon was heard for {core.pause_gives_way_s:.0f} s while paused: the training goes on"
                say(text)
                commands.end_pause(text)
            if core.link is not None:
                core.link.ship()

    def _look_for_files(self) -> None:
        for path, what in ((self.core.run.unpause, "unpause"), (self.core.run.stop, "stop")):
            if not path.exists():
                continue
            with contextlib.suppress(OSError):  # a file that cannot be removed is an order all the same
                path.unlink(missing_ok=True)
            if what == "stop":
                self.commands.stop_now(f"the file {path.name} was found")
            else:
                self.commands.end_pause(f"the file {path.name} was found")

    def _first_snapshot(self) -> None:
        core = self.core
        if core.snapshots_ready or not core.has_state():
            return
        core.snapshots_ready = True
        said = core.ring.prepare(core.adapter.nbytes())
        limit = core.vault.describe()
        core.remark(f"{said} · {limit}")
        say(f"{said} · {limit}")
        if core.ring.slots:
            take_snapshot(core, first=True)
        self._ended = core.clock()
