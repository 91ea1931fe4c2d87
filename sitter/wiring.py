"""The composition root: which stage hears of what. ``sitter.daemon`` is the process around it."""

import logging
import os
import secrets

import zmq

from sitter.actions.notify.notifier import Notifications
from sitter.clock import Clock
from sitter.config import Config, load
from sitter.control.addresses import socket_places
from sitter.control.agent_link import AgentLink
from sitter.control.client_link import ClientLink
from sitter.control.core import Core
from sitter.control.demands import Reach
from sitter.control.early_queries import EarlyQueries
from sitter.control.ending import Ending
from sitter.control.heart import Heart
from sitter.control.history_queries import SETTLE_S, HistoryQueries
from sitter.control.inbox import Inbox
from sitter.control.loop import Loop
from sitter.control.machine import Machine
from sitter.control.mishaps import guarded
from sitter.control.reload import EVERY_S, reload
from sitter.control.ruleset.preset import preset_of
from sitter.control.slept import Slept
from sitter.control.stopping import Stopping
from sitter.control.succession import Succession
from sitter.control.timers import Timers
from sitter.host.sampler import HostSample, Sampler
from sitter.paths import look
from sitter.store.aside import set_aside
from sitter.store.reader import Reader
from sitter.store.writer import Writer
from sitter_wire.places import Endpoints, RunDir, check_own_run
from sitter_wire.rundir import RunInfo

log = logging.getLogger("sitter.daemon")

FIRST_READ_S = 0.5
"""So long what lies in the recorder's files is read before anybody is answered: mostly that is all of it, and what is answered is complete.
The rest, of a run that was long without a daemon, is read between questions."""
NO_ROOM_MS = 100
"""While the history takes nothing more, it is looked so often whether it does."""
DAMAGED_S = 10
"""So long a history that was found damaged is tried again; then this daemon leaves, and the agent starts another."""
GONE_S = 2
"""The same for one that was deleted: should this daemon be killed meanwhile, it is lost."""
PUT_BACK = "the history was deleted or replaced while it was in use; it was put back, with all that it held"
"""Stored in what is put back, and nowhere else."""


class Daemon:
    """Composition root. Nothing is decided here."""

    def __init__(self, run: RunDir, clock: Clock) -> None:
        """Raises SitterError, PlaceError: the settings, the history, the sockets' place. Then nothing of it is left."""
        self.run, self.clock = run, clock
        info = look(run).info
        check_own_run(run)
        config = load(run.sitter_toml)
        places = socket_places(run, info)
        self.inbox, self.timers = Inbox(), Timers(clock)
        self.loop = Loop(clock, self.inbox, self.timers)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.writer = Writer(run.history, on_commit=self._committed, clock=clock)
        self.writer.start()
        self.reader = Reader(run.history)
        try:
            self._compose(info, config, places)
        except BaseException:  # whatever it was, Ctrl-C as well, goes on from here; what was opened does not stay open
            self.writer.close()
            self.reader.close()
            self.context.destroy(linger=0)
            self.inbox.close()
            raise

    def _compose(self, info: RunInfo, config: Config, places: Endpoints) -> None:
        run, clock = self.run, self.clock
        self.notifications = Notifications(
            config.notify, run.name, on_result=lambda *result: self.inbox.post(lambda: self.ending.notified(*result))
        )
        self.core = Core(
            run=run,
            info=info,
            config=config,
            preset=preset_of(info, config),
            clock=clock,
            writer=self.writer,
            reader=self.reader,
            send=lambda command: self.heart.order(command),
            notify=self.notifications.send,
            on_gone=lambda: self.ending.gone(),
            post=self.inbox.post,
            end=lambda action, finding: self.ending.end_to_restart(action, finding, self.inbox),
        )
        self.link = AgentLink(
            self.context, places, on_shipment=self.loop.shipment, on_message=lambda message: self.heart.message(message)
        )
        self.heart = Heart(secrets.token_hex(8), self.core, self.link, clock)
        self.ending = Ending(run, info, self.core, self.notifications, self.reader, clock)
        self.stops = Stopping(run, self.core, clock, self.inbox, self.writer.flush)
        self.slept = Slept(self.core)
        self.reload = reload(self.core, self.reader)
        self.succession = Succession(self.core, self.reader, clock, os.getpid())
        self.history = HistoryQueries(lambda: Reader(run.history), self.inbox, lambda: self.writer.flush(SETTLE_S))
        self.machine = Machine(self.core.board, self.writer, self.ending.alarms)
        self.sampler = Sampler(run.path, clock, self._looked)
        reach = Reach(
            read=self.history.ask,
            when_safe=lambda told: self.writer.when_safe(lambda safe: self.inbox.post(lambda: told(safe))),
            log=self.core.log_entry,
            rules=self.core.rule_states,
            stop=self.stops.ask,
            stop_now=self.stops.now,
            rollback_sent=self.core.rollback_sent,
            unanswered=self.core.unanswered,
            test_notify=lambda answer: self.ending.test_notify(answer, self.inbox),
        )
        self.early = EarlyQueries(self.core.demands(reach), lambda: self.core.unread, clock)
        self.clients = ClientLink(self.context, places, clock, self.early)
        self.core.warnings.garbage = [self.link.garbage, self.clients.garbage]
        self.stopping = False
        self._unfit_for = 0

    def serve(self) -> None:
        """Until the training has ended, all is committed and no client is here, or SIGTERM."""
        self.core.begin_reading(seconds=FIRST_READ_S)
        self.core.life.look()
        self.succession.begin()
        self.sampler.start()
        self.loop.beat = self.timers.every(1.0, self._second)
        self.timers.every(10.0, self.loop.rebind)
        self.timers.every(60.0, self.history.check)
        self.timers.every(EVERY_S, self.reload.tick)
        self.loop.begin(self.link, self.clients, self.heart, self._read)
        while not self.stopping:
            if self.loop.turn():
                self.writer.leisure(False)  # somebody looks
        self.ending.tick()  # an end that came within the last second is told before it leaves
        self.succession.end()

    def close(self) -> bool:
        """Commits everything; bounded in time, whatever hangs. Whether the history is closed."""
        self.sampler.close()
        self.notifications.close(2.0)
        self.inbox.run()  # what could not be sent any more is written down
        self.history.close()
        self.clients.close()
        self.reader.close()  # before the writer: only who writes can leave one file behind, whole and synced, and only as the last
        gone = self.writer.gone
        closed = self.writer.close()  # where it is gone, this puts it back
        if self._damaged and not gone:
            place = set_aside(self.run.history, self.clock.wall())
            log.error("the damaged history is moved aside to %s; the next daemon begins a new one", place)
        self.heart.ack(force=True)
        self.link.close()
        self.context.destroy(linger=200)
        self.inbox.close()
        return closed

    def stop(self) -> None:
        """From a signal handler."""
        self.stopping = True
        self.inbox.post(lambda: None)

    def _read(self) -> int | None:
        """A slice of what lies in the recorder's files."""
        was = self.core.unread
        if not self.core.read_on():
            return 0 if self.writer.room else NO_ROOM_MS
        if was:
            self.heart.ping()  # who was not listened to so far is told at once what is wanted
        self.early.look()
        return None

    def _second(self) -> None:
        """One part that fails takes its second from none of the others."""
        for part in (
            self.early.look, self.heart.ping, self.slept.tick, self.core.tick, self._watch_process, self.stops.tick, self.ending.tick,
            self.succession.tick, self._leave,
        ):  # fmt: skip
            guarded(part)

    def _watch_process(self) -> None:
        session = self.core.present.session
        if session is not None:
            self.sampler.watch(session.pid, session.start.gpus if session.start else [])

    def _leave(self) -> None:
        looking = self.clients.present() > 0
        self.writer.leisure(not looking)
        self._unfit_for = self._unfit_for + 1 if self._damaged or self.writer.gone else 0
        if self.writer.gone and self._unfit_for > GONE_S:
            log.error("the history stays gone: leaving, so that it is put back and the next daemon goes on with it")
            self.core.log_entry("note", step=self.core.present.step, branch=self.core.present.branch, status="warning", detail=PUT_BACK)
            self.stopping = True
        elif self._unfit_for > DAMAGED_S:
            log.error("the history stays damaged: leaving, so that it is moved aside and the next daemon begins a new one")
            self.stopping = True
        if self.writer.ended:
            log.error("the history's thread has ended: leaving, so that the next daemon goes on from what is on disk")
            self.stopping = True
        if self.ending.may_leave() and not looking:
            log.info("the training has ended, all is committed, nobody is looking: leaving")
            self.stopping = True

    @property
    def _damaged(self) -> bool:
        return self.writer.damaged or self.history.damaged

    def _looked(self, sample: HostSample) -> None:
        pressing = sample.alarms or sample.xids
        (self.inbox.post if pressing else self.inbox.leave)(lambda: self.machine.seen(sample))

    def _committed(self, done: dict[str, int]) -> None:
        slow = self.writer.at_leisure
        (self.inbox.leave if slow else self.inbox.post)(lambda: self.heart.committed(done, at_leisure=slow))
