"""The agent's two sockets. The training thread ships over a PUSH and never waits; a control thread of its own listens,
answers, and ships what is left when the training is silent. One read cursor, one lock; what was sent is not believed to
have arrived until it is acknowledged.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import zmq
from zmq.backend import Socket as RawSocket

from sitter_agent.fork import watch
from sitter_agent.handlers import raised_by_handler
from sitter_agent.quiet import be_quiet, quiet_context
from sitter_agent.recorder import Recorder
from sitter_agent.rotation import NEVER
from sitter_agent.say import Once, in_words
from sitter_agent.stacks import dump
from sitter_agent.waker import Waker
from sitter_wire import codec
from sitter_wire.commands import Command, DumpStacks, Outcome
from sitter_wire.messages import MAX_FRAME, PROTOCOL, Ack, Answer, AnyMessage, Hello, Order, Ping, Pong, Stacks
from sitter_wire.places import Endpoints

SHIP_NS = 50_000_000
"""Between two shipments of the training thread: one costs 60 to 150 µs where the caches are cold, which every step of a
1 ms loop would feel. Slower steps ship at each safe point."""
SILENT_NS = 100_000_000
"""The training thread has not tried to ship for so long: the control thread does."""
SHIP_BYTES = 64 * 1024
"""At most in one shipment of the training thread."""
BACKLOG_RECORDS = 4096
"""Further behind than that, the control thread catches up, in stretches of ``BACKLOG_BYTES``."""
BACKLOG_BYTES = 256 * 1024
HEARD_LATELY_S = 3.0
"""A daemon pings every second: heard within that time, it is worth waiting for at the end."""
TEND_MS = 2_000
"""So often the control thread wakes where nothing happens, for a daemon that died is not heard. Not the training thread's task: it may be
in an evaluation of an hour, or in a pause."""
RESEND_NS = 1_000_000_000
"""Shipped longer ago than that and still wanted: sent again."""
STACKS_S = 0.2
"""Stacks asked for again so soon are those from just before."""

MORE, LAST = int(zmq.DONTWAIT) | int(zmq.SNDMORE), int(zmq.DONTWAIT)
_send: Callable[["zmq.Socket[bytes]", Any, int], Any] = RawSocket.send
"""Without the layer that looks at every frame and flag once more: 2 µs a shipment instead of 6, and half the cold
caches."""


class Status(NamedTuple):
    """What a pong says of the training. ``safe_point_at``: monotonic seconds of the last safe point, None before the
    first. ``phase``: one of ``sitter_wire.phases``."""

    step: int = 0
    micro: int = 0
    branch: int = 0
    safe_point_at: float | None = None
    paused: bool = False
    phase: str = ""
    stacks_signal: int = 0


class SessionLike(Protocol):
    """What the link needs to know of a session."""

    id: str
    pid: int


class Link:
    """Agent's end of the two socket pairs of one run.

    ``on_command`` is called on the control thread with every command but DumpStacks and must only queue it; ``status``
    is called there for every pong, and ``tend`` at least every two seconds: it looks after the daemon. ``last_heard``:
    monotonic seconds of the daemon's last word (None: never); ``clear``: (branch, step) up to which snapshots
    may be trusted; ``garbage`` counts what arrived and was not ours.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        recorder: Recorder,
        session: SessionLike,
        *,
        on_command: Callable[[Command], None],
        status: Callable[[], Status],
        version: str = "",
        tend: Callable[[], object] = lambda: None,
    ) -> None:
        self.last_heard: float | None = None
        self.clear: tuple[int, int] | None = None
        self.incarnation = ""
        self.garbage = 0
        self._recorder, self._session, self._version = recorder, session, version
        self._on_command, self._status, self._tend = on_command, status, tend
        self._once = Once()
        self._answers: deque[AnyMessage] = deque(maxlen=1000)
        self._cursor = 1
        # Who has the cursor. Not a lock: an interrupt between a lock's acquire and the try behind it would keep it for ever. Test and
        # set stand side by side without a call, and CPython lets neither a thread nor a handler come between.
        self._busy = False
        self._acked_by = ""
        """The daemon whose acknowledgement came last: another one may have lost what was sent."""
        self._stacks = (-STACKS_S, "")
        """Monotonic seconds at which they were taken last, and what they were."""
        self._tried_at = self._sent_at = 0
        """Monotonic nanoseconds: of the training thread's last try to ship, and of the last shipment that was taken."""
        self._catching_up = self._refused = False
        """The control thread ships alone until little is left; nobody took the last shipment."""
        self._off = self._closing = False
        self._waker = Waker()
        self._context = quiet_context()
        self._push = self._socket(zmq.PUSH, Endpoints.url(endpoints.data), hwm=32)
        self._endpoints = endpoints
        watch(self)
        recorder.ship, recorder.half_full, recorder.ship_at = self.ship, self._waker.wake, 0
        self._thread = threading.Thread(target=self._control, name="sitter-control", daemon=True)
        self._thread.start()

    def _socket(self, kind: int, url: str, *, hwm: int) -> "zmq.Socket[bytes]":
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 200)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.SNDHWM, hwm)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME)
        if kind == zmq.DEALER:
            # With an automatic identity a new daemon could never speak first.
            socket.setsockopt(zmq.IDENTITY, b"agent")
        socket.connect(url)
        return socket

    # ------------------------------------------------------------------ any thread of the training

    def ship(self) -> None:
        """Send what is new, if something was not just sent. For every safe point, and for ``log``; returns at once
        whatever the daemon does."""
        now = time.monotonic_ns()
        if now < self._recorder.ship_at or self._off or self._busy:
            return
        self._busy = True
        try:
            self._tried_at = now
            self._recorder.ship_at = now + SHIP_NS
            if self._catching_up or self._recorder.depth:
                return
            if self._refused and not int(self._push.getsockopt(zmq.EVENTS)) & zmq.POLLOUT:
                self._recorder.mark()  # still nobody there, or not reading
            elif self._recorder.written - self._cursor >= BACKLOG_RECORDS:
                self._catching_up = True
                self._waker.wake()
            else:
                self._send_stretch(self._push, SHIP_BYTES, now)
        except Exception as e:  # nothing of ours may reach the training
            if raised_by_handler(e):
                raise
            self._once("ship", f"shipping failed ({in_words(e)}); the records stay in the run's recorder")
        finally:
            self._busy = False

    def _send_stretch(self, push: "zmq.Socket[bytes]", max_bytes: int, now: int) -> bool:
        """Having the cursor: send one stretch; False where there is nothing to send or nobody takes it."""
        stretch = self._recorder.stretch(self._cursor, max_bytes)
        if stretch is None:
            return False
        version, header, raw = codec.shipment_frames(stretch.header, stretch.raw)
        try:
            _send(push, version, MORE)
            _send(push, header, MORE)
            _send(push, raw, LAST)
        except zmq.Again:
            self._refused = True
            return False
        self._refused = False
        self._cursor, self._sent_at = stretch.after, now
        return True

    def answer(self, outcome: Outcome) -> None:
        """Send an outcome, the fast copy; the lasting one goes through the recorder. Any thread; returns at once."""
        if not self._off:
            self._answers.append(Answer(outcome=outcome))
            self._waker.wake()

    # ------------------------------------------------------------------ the control thread

    def _control(self) -> None:
        be_quiet()
        dealer = push = None
        try:
            dealer = self._socket(zmq.DEALER, Endpoints.url(self._endpoints.agent), hwm=100)
            push = self._socket(zmq.PUSH, Endpoints.url(self._endpoints.data), hwm=8)
            poller = zmq.Poller()
            poller.register(dealer, zmq.POLLIN)
            poller.register(self._waker.fd, zmq.POLLIN)
            while not self._closing:
                try:
                    self._turn(dealer, push, poller)
                except Exception as e:  # noqa: BLE001 — the thread that answers pings must outlive a fault
                    self._fault("control thread", e)
            while self._answers:
                self._say(dealer, self._answers.popleft())
        except Exception as e:  # noqa: BLE001 — no traceback of ours on the user's terminal
            self._fault("control thread", e)
        finally:
            for socket in (dealer, push):
                if socket is not None:
                    socket.close()

    def _fault(self, where: str, error: Exception) -> None:
        if not self._once(where, f"{where} failed ({in_words(error)}); further faults are only counted"):
            # A fault that comes back at once must not become a busy loop.
            time.sleep(min(0.01 * self._once.seen[where], 1.0))

    def _turn(self, dealer: "zmq.Socket[bytes]", push: "zmq.Socket[bytes]", poller: zmq.Poller) -> None:
        """Wait until something happens, and do all that is to do."""
        if self._catching_up or push in poller:
            poller.register(push, zmq.POLLOUT if self._catching_up else 0)
        poller.poll(TEND_MS)
        self._waker.clear()
        self._tend()
        self._receive(dealer)
        while self._answers:
            self._say(dealer, self._answers.popleft())
        if self._recorder.wants_spare:
            self._recorder.prepare()
        self._ship_rest(push)

    def _receive(self, dealer: "zmq.Socket[bytes]") -> None:
        for _ in range(100):  # then the rest of the turn gets its chance
            try:
                parts = dealer.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            try:
                message = codec.message(parts)
            except codec.VersionMismatchError as e:
                self._drop(e.kind, e)
                self._refuse(dealer, e.command, str(e))
            except codec.GarbageError as e:
                self._drop(e.kind, e)
                self._refuse_unknown(dealer, parts)
            else:
                self.last_heard = time.monotonic()
                self._take(dealer, message)

    def _take(self, dealer: "zmq.Socket[bytes]", message: AnyMessage) -> None:
        if isinstance(message, Ping):
            self._greet(dealer, message.incarnation)
            at = self._status()
            pong = Pong(
                session=self._session.id,
                n=message.n,
                pid=self._session.pid,
                step=at.step,
                micro=at.micro,
                branch=at.branch,
                safe_point_at=at.safe_point_at,
                written=self._recorder.written,
                dropped=self._recorder.dropped,
                paused=at.paused,
                version=self._version,
                phase=at.phase,
                stacks_signal=at.stacks_signal,
                control_tid=threading.get_native_id(),
            )
            self._say(dealer, pong)
        elif isinstance(message, Ack):
            self._greet(dealer, message.incarnation)
            if message.session == self._session.id:
                if max(message.wanted - 1, message.committed) > self._recorder.written:
                    # Believed, it would cost the segments that hold what no daemon has.
                    self._drop("ack", codec.GarbageError("ack", "it speaks of records that were never written"))
                else:
                    self._acknowledged(message)
        elif isinstance(message, Order):
            if isinstance(message.command.action, DumpStacks):
                now = time.monotonic()
                if now - self._stacks[0] > STACKS_S:  # each stops the training for a moment
                    self._stacks = (now, dump())
                self._say(dealer, Stacks(id=message.command.id, text=self._stacks[1]))
            else:
                self._on_command(message.command)
        else:
            self._drop("astray", codec.GarbageError("astray", f"a {type(message).__name__} is for the daemon"))

    def _greet(self, dealer: "zmq.Socket[bytes]", incarnation: str) -> None:
        if incarnation != self.incarnation:
            self.incarnation = incarnation
            at = self._status()
            me = self._session
            self._say(dealer, Hello(session=me.id, pid=me.pid, version=self._version, branch=at.branch, step=at.step))

    def _acknowledged(self, ack: Ack) -> None:
        self.clear = ack.clear
        new = ack.incarnation != self._acked_by
        self._acked_by = ack.incarnation
        with self._having_cursor():
            # What PUSH accepted may be lost without a hole behind it, if nothing was logged since: wanted for long, it
            # is sent again.
            overdue = ack.wanted < self._cursor and time.monotonic_ns() - self._sent_at > RESEND_NS
            if (new or ack.hole or overdue) and 1 <= ack.wanted <= self._recorder.written + 1:
                self._cursor = ack.wanted
        self._recorder.committed(min(ack.committed, ack.wanted - 1))

    def _ship_rest(self, push: "zmq.Socket[bytes]") -> None:
        """What the training thread left behind: when it has not tried for a while, or when there is more than it should
        handle."""
        while self._catching_up or time.monotonic_ns() - self._tried_at > SILENT_NS:
            with self._having_cursor():
                behind = self._recorder.written + 1 - self._cursor
                if self._catching_up and behind < BACKLOG_RECORDS // 4:
                    self._catching_up = False
                if not behind or not self._send_stretch(push, BACKLOG_BYTES, time.monotonic_ns()):
                    return
            time.sleep(100e-6)  # the training thread may want the interpreter's lock

    @contextmanager
    def _having_cursor(self) -> Iterator[None]:
        """For the control thread, which no handler interrupts: wait until the training thread is out of there, some 20
        µs."""
        while self._busy:
            time.sleep(50e-6)
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _say(self, dealer: "zmq.Socket[bytes]", message: AnyMessage) -> None:
        try:
            dealer.send_multipart(codec.frames(message), zmq.DONTWAIT)
        except zmq.Again:
            pass  # the daemon is gone or does not read; what must last is in the recorder

    def _drop(self, kind: str, error: Exception) -> None:
        self.garbage += 1
        self._once(f"garbage {kind}", f"a message that is not understood was dropped ({error}); more are only counted")

    def _refuse_unknown(self, dealer: "zmq.Socket[bytes]", parts: list[bytes]) -> None:
        """An order that another version can send and this one cannot read is answered, with both versions named."""
        id_ = codec.order_id(parts)
        theirs = parts[0][:4].decode("ascii", "replace")
        self._refuse(dealer, id_, f"not understood: it came by protocol {theirs}, this side speaks {PROTOCOL}")

    def _refuse(self, dealer: "zmq.Socket[bytes]", command: str, why: str) -> None:
        at = self._status()
        if command:
            self._say(
                dealer, Answer(outcome=Outcome(id=command, status="rejected", step=at.step, branch=at.branch, text=why))
            )

    # ------------------------------------------------------------------ ending

    def close(self, linger_s: float = 0.3) -> None:
        """Ship what is left and let go, within about twice ``linger_s`` whatever the daemon does. What was not taken
        stays in the recorder."""
        if self._off:
            return
        self._off = True
        recorder = self._recorder
        recorder.ship = recorder.half_full = None
        recorder.ship_at = NEVER
        self._closing = True
        self._waker.wake()
        give_up = time.monotonic() + linger_s
        self._thread.join(linger_s + 0.1)
        if self._thread.is_alive() or self._busy:
            _left_behind.append(self)  # a context that is collected with open sockets would wait for ever
            return
        try:
            self._ship_all(give_up)
        finally:
            self._push.close(linger=int(linger_s * 1000))
            self._context.term()
            self._waker.close()

    def _ship_all(self, give_up: float) -> None:
        """Everything, at the end; waits for a daemon only where one was heard lately."""
        try:
            while self._cursor <= self._recorder.written and time.monotonic() < give_up:
                if self._send_stretch(self._push, BACKLOG_BYTES, time.monotonic_ns()):
                    continue
                if self.last_heard is None or time.monotonic() - self.last_heard > HEARD_LATELY_S:
                    return
                self._push.poll(max(1, int((give_up - time.monotonic()) * 1000)), zmq.POLLOUT)
        except Exception as e:  # noqa: BLE001 — the training is over, and the records are in the recorder
            self._fault("shipping at the end", e)

    def forked(self) -> None:
        """In a forked child: the sockets and the pipe are the parent's."""
        self._off = self._closing = True
        _left_behind.append(self)


_left_behind: list[Link] = []
"""Links whose sockets could not be closed, or are not ours to close."""
