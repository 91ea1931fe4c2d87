"""Everything the daemon knows and decides, without a socket of its own: so a command can also look at a run that has no daemon."""

import logging
from collections.abc import Callable
from functools import partial

from sitter.clock import Clock
from sitter.config import Config
from sitter.control.backlog import SLICE_S, Backlog
from sitter.control.board import Board
from sitter.control.damaged_histories import TOLD_ASIDE, DamagedHistories
from sitter.control.damaged_records import DamagedRecords
from sitter.control.demands import Demands, Reach
from sitter.control.dispatcher import KEPT, Dispatcher
from sitter.control.flow import Flow, entry
from sitter.control.gaps import KEPT as GAPS
from sitter.control.gaps import Gaps
from sitter.control.good_checkpoints import GoodCheckpoints
from sitter.control.incidents import Incidents
from sitter.control.learned import Learned
from sitter.control.life import Life
from sitter.control.mishaps import guarded
from sitter.control.orders import ORDERS, Given, Orders
from sitter.control.present import Present
from sitter.control.rate_plans import RATE_PLANS, RatePlans
from sitter.control.recall import Recall
from sitter.control.ruleset.build import build, rule_places
from sitter.control.sight import Sight
from sitter.control.sitter_warnings import SitterWarnings
from sitter.control.spent_budgets import SpentBudgets
from sitter.control.stillness import Stillness
from sitter.control.tally import Tally
from sitter.control.unknown_events import TOLD_PASSED, UnknownEvents
from sitter.control.verdicts import VERDICT, Verdicts
from sitter.grammar import spelled
from sitter.ingest.intake import Intake
from sitter.locks import session_of
from sitter.model import EndAndRestart, EntryKind, Finding, Notification, Preset, RuleState
from sitter.rules.base import Rule
from sitter.rules.engine import Engine
from sitter.rules.stalled import Stalled
from sitter.rules.view import RunView
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter_wire.codec import GarbageError
from sitter_wire.commands import AnyAction, Command, Outcome, Rollback
from sitter_wire.events import Done, Restored
from sitter_wire.messages import ShipmentHeader
from sitter_wire.places import RunDir
from sitter_wire.rundir import RunInfo

log = logging.getLogger(__name__)

UNANSWERED = "not answered in time; it can no longer start"
FIRST_WORD_S = 5.0
"""So long a new daemon waits for the agent's first word before it carries out what an earlier one was about to do."""


class Core:
    """One run's state. Also the dispatcher's hands. All on one thread but for what ``writer`` does on its own."""

    def __init__(
        self,
        *,
        run: RunDir,
        info: RunInfo,
        config: Config,
        preset: Preset,
        clock: Clock,
        writer: Writer,
        reader: Reader,
        send: Callable[[Command], bool],
        notify: Callable[[str, str, str], None],
        on_gone: Callable[[], None],
        post: Callable[[Callable[[], None]], None] = lambda task: task(),
        end: Callable[[EndAndRestart, Finding], None] = lambda action, finding: None,
    ) -> None:
        """``send`` hands a command to the agent, False where it is not there; ``notify`` is told (event, text, key) for whoever wants to
        hear of it; ``on_gone`` is called when the training process is gone; ``post`` brings a task from another thread to this one;
        ``end`` ends a training that is to be started again."""
        self.run, self.info, self.config, self.clock, self.writer = run, info, config, clock, writer
        self._notify, self._end = notify, end
        self._log_id = 0
        rules, chosen = build(config, str(run.sitter_toml), rule_places(run, info))
        self.rules: dict[str, Rule] = {r.name: r for r in rules}
        self.view = RunView(clock=clock)
        self.engine = Engine(rules, self.view)
        self.present = Present()
        self.gaps = Gaps(reader.get(GAPS), self.log_entry, self.keep)
        self.intake = Intake(reader.sequences(), self.gaps.found)
        self.orders = Orders(clock, send, self.keep)
        self.incidents = Incidents(clock, writer.incident, reader.incidents(), self.log_entry)
        self.dispatcher = Dispatcher(chosen, reader.get("preset") or preset, clock, self)
        self.life = Life(run, clock, self.present, supervised=info.supervised, on_gone=on_gone, reading=lambda: self.reading)
        unknown = UnknownEvents(reader.get(TOLD_PASSED), log_entry=self.log_entry, keep=self.keep)
        damaged = DamagedRecords(self.log_entry)
        self.flow = Flow(
            info=info, clock=clock, writer=writer, present=self.present, engine=self.engine, dispatcher=self.dispatcher,
            incidents=self.incidents, orders=self.orders, log_entry=self.log_entry, on_event=lambda: self._sight.refresh(),
            unknown=unknown, damaged=damaged,
        )  # fmt: skip
        self.backlog = Backlog(run, self.intake, writer, self.flow)
        self.warnings = SitterWarnings(writer, self.gaps, self.backlog, reading=lambda: self.reading, standing=lambda: self.standing)
        self.board = Board(
            run=run, clock=clock, present=self.present, engine=self.engine, dispatcher=self.dispatcher, incidents=self.incidents,
            life=self.life, last_log_id=lambda: self._log_id, of_sitter=self.warnings,
        )  # fmt: skip
        self._sight = Sight(self.view, self.present, self.board, self.life, clock)
        self.stillness = Stillness(run, clock, self.present, self.life, self.orders, self.view, post=post, log_entry=self.log_entry)
        self._tally = Tally(self.rules, self.dispatcher)
        self._spent = SpentBudgets(run.name, self.rules, self.dispatcher, self.present, self.life, self.orders, notify)
        self.rate_plans = RatePlans(
            present=self.present, engine=self.engine, dispatcher=self.dispatcher, orders=self.orders, life=self.life,
            acted=lambda finding, action: partial(self._acted, finding, action), log_entry=self.log_entry, keep=self.keep,
            when_safe=lambda task: writer.when_safe(lambda _: post(task)),
        )  # fmt: skip
        self.verdicts = Verdicts(self.log_entry, self.keep)
        self.flow.told = [self.rate_plans.record, self.verdicts.record]
        self._good = GoodCheckpoints(self.present, self.engine, writer, self.log_entry, config.checkpoints.healthy_steps)
        self._learned = Learned(self.rules, clock, self.keep)
        self.damaged = DamagedHistories(run, self.present, reader.get(TOLD_ASIDE), log_entry=self.log_entry, tell=self.tell, keep=self.keep)
        self.warnings.others = [self.life.warning, self.damaged.sentence, unknown.sentence, damaged.sentence]
        self._spoken: set[str] = set()
        self._began = clock.monotonic()
        self._recall(reader)

    # -- the past --------------------------------------------------------------------------------------------------------

    def _recall(self, reader: Reader) -> None:
        """What an earlier daemon left: the last values, the events of the last session, rules warmed up with acting off."""
        self.dispatcher.restore({key: reader.get(key) for key in KEPT})
        self.rate_plans.restore(reader.get(RATE_PLANS))
        self.verdicts.restore(reader.get(VERDICT))
        self.life.stopped_session, self.life.stopped_process = reader.get("stopped_session"), reader.get("stopped_process")
        self.life.ended_by_rule = reader.get("ended_by_rule")
        checkpoints = {c.path: c for c in reader.checkpoints()}
        self.present.checkpoints = dict(checkpoints)
        self.present.parents = {b.branch: (b.parent_branch, b.parent_step) for b in reader.branches()}
        sessions = reader.sessions()
        self.board.run_started = sessions[0].wall_ns / 1e9 if sessions else None
        if not sessions:
            return
        last = sessions[-1]
        session = self.flow.session(last.session, None, last.pid or 0)
        session.clock = (last.wall_ns / 1e9, last.mono_ns / 1e9)
        Recall(self.present, self.engine, self.incidents, self._sight.refresh).tell(reader, last.session)
        self.present.checkpoints = checkpoints  # what was told of them is older than what the history has: which are good, which are gone
        self._take_up(reader)
        self._learned.recall(reader.get("learned"))
        self._good.recall(reader)

    def _take_up(self, reader: Reader) -> None:
        """What an earlier daemon has sent and nobody has answered: its outcome is told as if this one had sent it."""
        taken = {order.command.id: order for order in self.orders.restore(reader.get(ORDERS), self._done)}
        done = [stored.happening for stored in reader.events(["outcome", "restored"])] if taken else []
        for h in done:
            if isinstance(h.event, Done) and h.event.outcome.id in taken:  # stored in the moment in which that daemon ended
                self.flow.outcome(h.event.outcome)
        for standing in self.orders.standing(Rollback):
            if not any(isinstance(h.event, Restored) and h.time / 1e9 >= standing.order.given for h in done):
                self.rollback_sent()

    def _done(self, order: Given) -> "Callable[[Outcome | None], None]":
        """What is done with the outcome of an order that an earlier daemon gave."""
        action, finding = order.command.action, order.finding
        if finding is not None and finding.rule in self.rules:
            return partial(self._acted, finding, action)
        return lambda outcome: self.unanswered(action) if outcome is None else None

    def read_files(self, *, live: str | None = None) -> bool:
        """Take in what the recorder's files hold beyond the history, all of it; False where the history could not take it now: the rest
        comes when it can. ``live``: a session to leave to its agent's shipments. For who has no loop to keep free."""
        return self._have_read(self.backlog.read(live=live))

    def begin_reading(self, *, live: str | None = None, seconds: float = SLICE_S) -> bool:
        """As ``read_files``, but only for so many seconds; the rest by ``read_on``, until it says that all is read."""
        self.backlog.begin(live=live)
        return self._have_read(self.backlog.slice(seconds))

    def read_on(self) -> bool:
        """One more slice of what there is to read. Whether all is read."""
        return not self.backlog.unread or self._have_read(self.backlog.slice())

    def _have_read(self, all_of_it: bool) -> bool:
        if all_of_it:
            if self.backlog.living is not None and not self.backlog.unreadable:
                self.flow.sessions_over(self.backlog.living)
            self.life.look()  # how it ended can be told by now
        return all_of_it

    @property
    def reading(self) -> bool:
        """What came before the present is still being read: nothing is known of the present, and nothing is done."""
        return self.backlog.earlier and self.writer.trouble is None

    @property
    def unread(self) -> bool:
        """Something that was there before this daemon is still to be read, and can be."""
        return self.backlog.unread and self.writer.trouble is None

    @property
    def unsettled(self) -> bool:
        """Something is known that the history does not hold, and cannot take now."""
        return self.backlog.unread or self.writer.trouble is not None

    # -- the present -----------------------------------------------------------------------------------------------------

    def shipment(self, header: ShipmentHeader, raw: bytes) -> None:
        """Raises GarbageError where it does not fit. Refused while the history has no room: the agent keeps it, and sends it again."""
        if not self.writer.room:
            self.intake.holes.add(header.session)
            return
        if not self.speaks(header.session):
            return
        records = self.intake.take(header, raw)
        if records:
            self.flow.session(header.session, header.clock)
            self.flow.records(header.session, records)

    def speaks(self, session: str) -> bool:
        """Called before anything of a session is taken. When it speaks for the first time, what earlier ones left in files comes before its
        records. False for one that is over: what it says now is late, and its files have been read. Raises GarbageError for one that
        nobody holds: believed, it would push aside the one that lives."""
        present = self.present.session
        if session not in self._spoken:
            if session_of(self.run.agent_lock) not in (None, session):
                raise GarbageError("session", f"{session[:40]!r} is not the one that holds the run's lock")
            if present is not None and present.id == session:
                self.backlog.live = session
            elif self.backlog.live != session:
                self.begin_reading(live=session)
            if self.backlog.earlier:
                return False  # what it says stays in its recorder until what came before is in
            self._spoken.add(session)
            self.flow.session(session, None)
            return True
        return present is None or present.id == session

    def tick(self) -> None:
        """Once a second. A part that fails takes its turn from none of the others."""
        self.life.look()
        self.read_on()
        if self.reading:
            return
        self._sight.refresh()
        for part in (
            self.stillness.look, self._look, self._learned.keep, lambda: self.dispatcher.tick(present=self._has_caught_up()),
            self.orders.tick, self.rate_plans.tick, self._good.look,
        ):  # fmt: skip
            guarded(part)

    def _look(self) -> None:
        for finding in self.engine.tick(self.clock.monotonic()):
            self.flow.finding(finding)
        self.life.stalled = bool(self.standing)
        self.life.unanswered = self.view.agent_age if self.present.pong_at is None else None
        if self.engine.wants_stacks:
            self.stillness.take()

    @property
    def standing(self) -> str:
        """What the rule ``stalled`` has said of a training that still stands; empty: it goes on."""
        return next((rule.stands for rule in self.rules.values() if isinstance(rule, Stalled)), "")

    def _has_caught_up(self) -> bool:
        """Whether all is here that the agent had written when it last spoke; a new daemon gives it a moment to speak."""
        if self.backlog.unread:
            return False
        pong, session = self.present.pong, self.present.session
        if pong is None or session is None or pong.session != session.id:
            return self.clock.monotonic() - self._began > FIRST_WORD_S
        return self.intake.wanted(session.id) > pong.written

    def demands(self, reach: Reach) -> Demands:
        """What clients may ask and demand of this run."""
        return Demands(
            clock=self.clock, board=self.board, dispatcher=self.dispatcher, orders=self.orders, present=self.present, life=self.life,
            reach=reach,
        )  # fmt: skip

    def rule_states(self) -> list[RuleState]:
        """For ``sitter rules`` and the panel."""
        return self._tally.states()

    def stopped_now(self, started: float | None) -> None:
        """The operator ends the living process by signals: they are ours, and no crash, also to the next daemon. ``started``: as its parent
        wrote it; that tells it where it has no session yet."""
        if started is not None:
            self.life.stopped_process = started
            self.keep("stopped_process", started)
        if self.present.session is not None and self.life.speaks:
            self.life.stopped_session = self.present.session.id
            self.keep("stopped_session", self.present.session.id)

    def ended_by_rule(self) -> None:
        """A rule ends this session by signals so that it is started again: that is no stop of the operator's, also to the next daemon."""
        if self.present.session is not None:
            self.life.ended_by_rule = self.present.session.id
            self.keep("ended_by_rule", self.present.session.id)

    def lives_on(self) -> None:
        """It could not be ended after all: whatever it dies of later is not by us."""
        life = self.life
        life.stopped_session = life.stopped_process = life.ended_by_rule = None
        for key in ("stopped_session", "stopped_process", "ended_by_rule"):
            self.keep(key, None)

    def tell(self, event: str, text: str, key: str) -> None:
        """Whoever wants to hear of ``event``."""
        self._notify(event, text, key)

    # -- the dispatcher's hands --------------------------------------------------------------------------------------------

    def act(self, finding: Finding, by: str) -> None:
        """Carry out a finding's actions, in order."""
        self._learned.keep(at_once=True)
        self._spent.acts(finding.rule)
        for action in finding.actions:
            if isinstance(action, Notification):
                self._notify(action.event, action.text, finding.key)
                continue
            session = self.present.session
            if not self.life.alive or session is None:
                self.log("outcome", finding, "rejected", f"{spelled(action)}: the training does not run")
                continue
            if isinstance(action, EndAndRestart):
                self._end(action, finding)
                continue
            if isinstance(action, Rollback):
                self.rollback_sent()
            branch = finding.branch if isinstance(action, Rollback) else None
            self.orders.give(
                action, session=session.id, by=by, branch=branch, done=partial(self._acted, finding, action), finding=finding
            )
            self.log("command", finding, "sent", f"{spelled(action)}: {finding.text}")

    def _acted(self, finding: Finding, action: AnyAction, outcome: Outcome | None) -> None:
        """What became of it, also for those who are not here. A restore that was not made is told to all rules by ``restoring``."""
        if outcome is None:
            self.log("outcome", finding, "unanswered", UNANSWERED)
        elif outcome.status != "applied":
            self.dispatcher.arbiter.came_to_nothing(action)
        self.rate_plans.acted(finding, action, outcome)
        if finding.severity != "info":
            became = f"unanswered: {UNANSWERED}" if outcome is None else f"{outcome.status}: {outcome.text}"
            event = "guard_acted" if self.rules[finding.rule].guard else "acted"
            self._notify(event, f"{finding.text} → {spelled(action)}, {became}", f"{finding.key} {became}")
        if isinstance(action, Rollback):
            if outcome is None:
                self.engine.restoring(False)
        elif outcome is None or outcome.status != "applied":
            self.refused(finding.rule)

    def rollback_sent(self) -> None:
        """From now until its branch event, records of the old branch trip nothing."""
        self.engine.restoring(True)

    def unanswered(self, action: AnyAction) -> None:
        """What the operator asked for can no longer start: the logbook says so, and the guard need not wait for a restore any more."""
        self.log_entry(
            "outcome", step=self.present.step, branch=self.present.branch, action=spelled(action), status="unanswered", detail=UNANSWERED
        )  # fmt: skip
        if isinstance(action, Rollback):
            self.engine.restoring(False)

    def refused(self, rule: str) -> None:
        """What it proposed came to nothing."""
        self.rules[rule].refused(self.view)

    def spends(self, finding: Finding) -> bool:
        """As the rule says."""
        return self.rules[finding.rule].spends(finding)

    def budget_spent(self, finding: Finding) -> None:
        """It only watches from now on."""
        self._spent.spent(finding)

    def log(self, kind: EntryKind, finding: Finding, status: str, detail: str) -> None:
        """A line about a finding."""
        if kind == "finding" and status in (finding.severity, "late"):  # the rest says what came of it
            self._tally.found(finding)
        action = "; ".join(spelled(a) for a in finding.actions) or None
        self.log_entry(
            kind, step=finding.step, branch=finding.branch, rule=finding.rule, action=action, status=status, detail=detail
        )

    def log_entry(self, kind: EntryKind, **fields: object) -> None:
        """A line for the logbook."""
        self._log_id = self.writer.log(entry(kind, self.clock, **fields))

    def keep(self, key: str, value: object) -> None:
        """Into the history, for the next daemon."""
        self.writer.set(key, value)
