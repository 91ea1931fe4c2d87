"""The link: ships without waiting, answers without being asked twice, and is not troubled by what the daemon does."""

import gc
import os
import signal
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zmq

from sitter_agent.link import BACKLOG_RECORDS, Link, Status
from sitter_agent.recorder import Recorder
from sitter_agent.session import claim
from sitter_agent.stopwatch import waited
from sitter_wire import codec
from sitter_wire.commands import Command, DumpStacks, Outcome, SetKnob, Stop
from sitter_wire.events import Remark
from sitter_wire.messages import PROTOCOL, Ack, Answer, Hello, Order, Ping, Pong, Stacks
from sitter_wire.places import Endpoints, RunDir
from sitter_wire.records import Happening, Point, decode_stream


class Daemon:
    """The daemon's end of the sockets, driven by the test. Takes only what is contiguous, as the real one does."""

    def __init__(self, endpoints: Endpoints, incarnation: str = "d1") -> None:
        self.endpoints, self.incarnation = endpoints, incarnation
        self.context = zmq.Context()
        self.pull = self.context.socket(zmq.PULL)
        self.router = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.router.setsockopt(zmq.ROUTER_HANDOVER, 1)
        for socket, path in ((self.pull, endpoints.data), (self.router, endpoints.agent)):
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(Endpoints.url(path))
        self.records: list[Point | Happening] = []
        self.wanted = 1
        self.hole = False

    def close(self) -> None:
        self.context.destroy(linger=0)

    def send(self, *parts: bytes, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.router.send_multipart([b"agent", *parts])
            except zmq.ZMQError as e:
                if e.errno != zmq.EHOSTUNREACH or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)  # not connected yet

    def say(self, message: object) -> None:
        self.send(*codec.frames(message))

    def hear(self, timeout: float = 60.0) -> object:
        assert self.router.poll(timeout * 1000), "the agent said nothing"
        identity, *parts = self.router.recv_multipart()
        assert identity == b"agent"
        return codec.message(parts)

    def silent(self, seconds: float = 0.1) -> bool:
        return not self.router.poll(seconds * 1000)

    def ping(self, n: int = 1) -> Pong:
        self.say(Ping(incarnation=self.incarnation, n=n))
        while not isinstance(heard := self.hear(), Pong):
            pass
        return heard

    def take(self, wait: float = 0.0) -> bool:
        """Take one shipment in; whether there was one."""
        if not self.pull.poll(wait * 1000):
            return False
        header, raw = codec.shipment(self.pull.recv_multipart())
        schemas = {number: tuple(names) for number, names in header.schemas.items()}
        records = decode_stream(raw, schemas, header.first, header.count)
        if header.first > self.wanted and not (header.lost_from is not None and header.lost_from <= self.wanted):
            self.hole = True
        else:
            self.records += [r for r in records if r.seq >= self.wanted]
            self.wanted = max(self.wanted, header.first + header.count)
            self.hole = False
        return True

    def take_until(self, seq: int, session: str, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        while self.wanted <= seq:
            assert time.monotonic() < deadline, f"wanted {self.wanted}, expected all up to {seq}"
            if not self.take(0.1) or self.hole:
                self.ack(session)

    def take_all(self, seq: int) -> None:
        """The same, without a word to the agent: in whatever order they come, since its two threads have a socket each."""
        there = {r.seq: r for r in self.records}
        missing = set(range(self.wanted, seq + 1)) - there.keys()
        while missing:
            assert self.pull.poll(60_000), f"{len(missing)} never came: {sorted(missing)[:5]}…"
            header, raw = codec.shipment(self.pull.recv_multipart())
            schemas = {number: tuple(names) for number, names in header.schemas.items()}
            there.update((r.seq, r) for r in decode_stream(raw, schemas, header.first, header.count))
            missing -= set(range(header.first, header.first + header.count))
        self.records, self.wanted = [there[n] for n in sorted(there)], seq + 1

    def ack(self, session: str, committed: int = 0, clear: tuple[int, int] | None = None) -> None:
        self.say(
            Ack(incarnation=self.incarnation, session=session, wanted=self.wanted, committed=committed, hole=self.hole, clear=clear)
        )
        self.hole = False


class Agent:
    """Recorder, session and link of one run, as the facade puts them together."""

    def __init__(self, run: RunDir, endpoints: Endpoints, **recorder: int) -> None:
        session, why = claim(run)
        assert session is not None, why
        self.session, self.commands = session, []
        self.recorder = Recorder(run.recorder, session.id, **recorder)
        self.status = Status(step=7, micro=14, branch=2, safe_point_at=1.5)
        self.link = Link(
            endpoints, self.recorder, session, on_command=self.commands.append, status=lambda: self.status, version="0.1"
        )

    def close(self) -> None:
        self.link.close()
        self.recorder.close()
        self.session.release()


@pytest.fixture
def endpoints(tmp_path_factory):
    made = Endpoints(tmp_path_factory.mktemp("s"))
    made.directory.chmod(0o700)
    return made


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


@pytest.fixture
def agent(run, endpoints):
    made = Agent(run, endpoints)
    yield made
    made.close()


@pytest.fixture
def daemon(endpoints):
    made = Daemon(endpoints)
    yield made
    made.close()


def until(true: Callable[[], object], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def order(action: object, name: str = "c1", session: str = "s") -> Order:
    return Order(command=Command(id=name, session=session, action=action, deadline=1e18))


def test_a_ping_is_answered_with_where_the_training_stands(agent, daemon):
    agent.recorder.log(7, 2, {"loss": 1.0})
    agent.recorder.log(7, 2, {"text": "x"})
    pong = daemon.ping(5)
    assert pong == Pong(
        session=agent.session.id, n=5, pid=os.getpid(), step=7, micro=14, branch=2, safe_point_at=1.5, written=2, dropped=1,
        paused=False, version="0.1", control_tid=pong.control_tid,
    )  # fmt: skip
    assert Path(f"/proc/self/task/{pong.control_tid}").exists()
    assert pong.control_tid != os.getpid()
    assert 0 <= time.monotonic() - agent.link.last_heard < 60


def test_every_new_daemon_is_greeted_once(agent, daemon):
    hello = Hello(session=agent.session.id, pid=os.getpid(), version="0.1", branch=2, step=7)
    daemon.say(Ping(incarnation="d1", n=1))
    assert daemon.hear() == hello
    assert isinstance(daemon.hear(), Pong)
    daemon.say(Ping(incarnation="d1", n=2))
    assert isinstance(daemon.hear(), Pong)
    daemon.say(Ping(incarnation="d2", n=1))
    assert daemon.hear() == hello


def test_a_new_daemon_can_speak_first_after_a_restart(agent, endpoints):
    for i in range(3):
        daemon = Daemon(endpoints, f"d{i}")
        assert daemon.ping().session == agent.session.id
        daemon.close()


def test_what_is_logged_arrives_at_the_safe_point(agent, daemon):
    daemon.ping()
    for step in range(100):
        agent.recorder.log(step, 0, {"loss": float(step)})
    until(lambda: agent.link.ship() or daemon.take())
    daemon.take_until(agent.recorder.written, agent.session.id)
    assert [r.step for r in daemon.records if isinstance(r, Point)] == list(range(100))


def test_a_loop_without_safe_points_ships_from_log(agent, daemon):
    daemon.ping()
    step = 0
    deadline = time.monotonic() + 60
    while not daemon.pull.poll(0) and time.monotonic() < deadline:
        agent.recorder.log(step, 0, {"loss": float(step)})
        step += 1
    assert daemon.take()


def test_what_a_silent_training_left_behind_is_shipped_by_the_control_thread(agent, daemon):
    daemon.ping()
    agent.recorder.log(1, 0, {"loss": 1.0})
    agent.recorder.event(Remark(text="the last word for a long time"), 1, 0)
    time.sleep(0.11)
    daemon.ping()
    daemon.take_all(agent.recorder.written)


def test_an_hour_without_a_daemon_is_caught_up_with_in_order(run, endpoints):
    agent = Agent(run, endpoints, segment_bytes=64 * 1024)
    for step in range(5 * BACKLOG_RECORDS):
        agent.recorder.log(step, 0, {"loss": float(step), "lr": 0.1})
        agent.link.ship()
    daemon = Daemon(endpoints)
    more = 0
    deadline = time.monotonic() + 200
    while daemon.wanted <= agent.recorder.written and time.monotonic() < deadline:
        if more < 2000:
            agent.recorder.log(step + 1 + more, 0, {"loss": 0.0, "lr": 0.1})
            more += 1
        agent.link.ship()
        if not daemon.take(0.001) or daemon.hole:
            daemon.ack(agent.session.id)
    assert [r.step for r in daemon.records if isinstance(r, Point)] == list(range(step + 1 + more))
    daemon.close()
    agent.close()


def test_a_hole_is_filled_from_the_cursor_the_daemon_asks_for(agent, daemon):
    daemon.ping()
    daemon.ack(agent.session.id)
    for step in range(50):
        agent.recorder.log(step, 0, {"loss": 1.0})
    until(lambda: agent.link.ship() or daemon.take())
    daemon.take_until(agent.recorder.written, agent.session.id)
    daemon.records, daemon.wanted, daemon.hole = [], 11, True
    daemon.ack(agent.session.id)
    daemon.take_until(agent.recorder.written, agent.session.id)
    assert [r.seq for r in daemon.records] == list(range(11, agent.recorder.written + 1))


def test_the_same_daemon_asking_for_what_is_under_way_gets_nothing_twice(agent, daemon, monkeypatch):
    monkeypatch.setattr("sitter_agent.link.RESEND_NS", 10**12)  # under way for long, on a busy machine, it counts as lost
    daemon.ping()
    daemon.ack(agent.session.id)
    daemon.ping()  # answered after the ack was taken: from here on it is the same daemon
    agent.recorder.log(0, 0, {"loss": 1.0})
    until(lambda: agent.link.ship() or daemon.pull.poll(0))
    daemon.ack(agent.session.id)  # sent before the shipment was looked at
    daemon.ping()
    assert daemon.take()
    agent.recorder.log(1, 0, {"loss": 1.0})
    until(lambda: agent.link.ship() or daemon.pull.poll(0))
    header, _ = codec.shipment(daemon.pull.recv_multipart())
    assert header.first == daemon.wanted


def test_what_was_lost_on_the_way_with_nothing_behind_it_is_sent_again(agent, daemon):
    daemon.ping()
    daemon.ack(agent.session.id)
    agent.recorder.log(0, 0, {"loss": 1.0})
    until(lambda: agent.link.ship() or daemon.pull.poll(0))
    daemon.pull.recv_multipart()
    time.sleep(1.05)
    daemon.ack(agent.session.id)
    daemon.take_until(agent.recorder.written, agent.session.id)


def test_acks_free_segments_and_carry_what_is_clear(run, endpoints, daemon):
    agent = Agent(run, endpoints, segment_bytes=4096)
    daemon.ping()
    for step in range(500):
        agent.recorder.log(step, 0, {"loss": 1.0})
        agent.link.ship()
    daemon.take_until(agent.recorder.written, agent.session.id)
    files = list(run.recorder.glob("*/*.rec"))
    assert len(files) > 3
    daemon.ack(agent.session.id, committed=daemon.wanted - 1, clear=(0, 490))
    until(lambda: agent.link.clear == (0, 490))
    until(lambda: len(list(run.recorder.glob("*/*.rec"))) <= 2)
    daemon.say(Ack(incarnation="d1", session="another", wanted=1, committed=10**6, hole=True, clear=(5, 5)))
    daemon.ping()
    assert agent.link.clear == (0, 490), "another session's ack is not ours"
    daemon.say(Ack(incarnation="d1", session=agent.session.id, wanted=10**6, committed=10**6, hole=True))
    daemon.ping()
    agent.recorder.log(500, 0, {"loss": 1.0})
    before = agent.recorder.written
    until(lambda: agent.link.ship() or (daemon.take() and daemon.wanted > before))
    assert daemon.records[-1].step == 500, "an ack beyond what was written changes nothing"
    agent.close()


def test_a_command_reaches_the_core_and_its_outcome_the_daemon(agent, daemon):
    daemon.ping()
    sent = order(SetKnob(knob="lr", op="scale", amount=0.5))
    daemon.say(sent)
    until(lambda: agent.commands)
    assert agent.commands == [sent.command]
    outcome = Outcome(id="c1", status="applied", step=8, branch=2, text="lr halved", detail={"new": float("inf")})
    thread = threading.Thread(target=agent.link.answer, args=(outcome,))
    thread.start()
    assert daemon.hear() == Answer(outcome=outcome)
    thread.join()


def test_stacks_are_dumped_while_the_training_is_stuck(agent, daemon):
    daemon.ping()
    daemon.say(order(DumpStacks(), name="c9"))
    stacks = daemon.hear()
    assert isinstance(stacks, Stacks)
    assert stacks.id == "c9"
    assert "test_stacks_are_dumped_while_the_training_is_stuck" in stacks.text.split("\nThread ")[0], "the main thread first"
    assert "sitter-control" in stacks.text
    assert not agent.commands


def test_a_core_that_fails_costs_no_pong(run, endpoints, daemon, capsys):
    def broken(*_: object) -> None:
        raise RuntimeError("core")

    session, _ = claim(run)
    recorder = Recorder(run.recorder, session.id)
    link = Link(endpoints, recorder, session, on_command=broken, status=Status)
    for _ in range(3):
        daemon.say(order(Stop()))
    assert daemon.ping().session == session.id
    assert capsys.readouterr().err.count("core") == 1
    link.close()
    session.release()


def test_garbage_is_counted_dropped_and_said_once_per_kind(agent, daemon, capsys):
    daemon.ping()
    version = str(PROTOCOL).encode()
    for _ in range(2):
        daemon.send(b"x")
        daemon.send(version, b"\xc1\xc1")
        daemon.send(version, msgspec.msgpack.encode({"m": "nonsense"}))
        daemon.send(version, msgspec.msgpack.encode({"m": "ack", "wanted": "no"}))
        daemon.send(version, codec.frames(Hello(session="s", pid=1, version="", branch=0, step=0))[1])
        daemon.send(version, b"\x91" * 100_000)
        daemon.send(version, b"")
        daemon.send(b"", b"", b"")
    daemon.ping()
    assert agent.link.garbage == 16
    assert capsys.readouterr().err.count("dropped") == 3


def test_another_version_is_served_where_the_meaning_is_frozen_and_else_refused_by_name(agent, daemon):
    theirs = str(PROTOCOL + 1).encode()
    daemon.send(theirs, codec.frames(Ping(incarnation="d1", n=3))[1])
    assert isinstance(daemon.hear(), Hello)
    assert daemon.hear().n == 3
    stop = msgspec.to_builtins(order(Stop()))
    stop["command"]["action"]["brand_new"] = 1
    daemon.send(theirs, msgspec.msgpack.encode(stop))
    until(lambda: agent.commands)
    assert agent.commands[0].action == Stop()
    daemon.send(theirs, codec.frames(order(SetKnob(knob="lr", op="scale", amount=0.5), name="c2"))[1])
    unheard_of = msgspec.to_builtins(order(Stop(), name="c3"))
    unheard_of["command"]["action"] = {"do": "levitate"}
    daemon.send(theirs, msgspec.msgpack.encode(unheard_of))
    for name in ("c2", "c3"):
        outcome = daemon.hear().outcome
        assert (outcome.id, outcome.status) == (name, "rejected")
        assert f"protocol {PROTOCOL + 1}" in outcome.text
        assert f"this side speaks {PROTOCOL}" in outcome.text
    assert len(agent.commands) == 1


def test_without_a_daemon_nothing_waits(agent):
    def step() -> None:
        agent.recorder.log(1, 0, {"loss": 1.0})
        agent.link.ship()
        agent.link.answer(Outcome(id="x", status="applied", step=0, branch=0, text=""))

    t0 = time.monotonic()
    for _ in range(5_000):
        step()
    assert time.monotonic() - t0 < 20, "4 ms a step"
    t0 = time.monotonic()
    agent.close()
    assert time.monotonic() - t0 < 30


STOPPED_DAEMON = """
import sys, zmq
context = zmq.Context()
sockets = []
for kind, path in ((zmq.PULL, "data"), (zmq.ROUTER, "agent")):
    socket = context.socket(kind); socket.bind(f"ipc://{sys.argv[1]}/{path}"); sockets.append(socket)
header = sockets[0].recv_multipart()
print("heard", flush=True)
sockets[0].poll(600_000)
"""


def test_a_stopped_daemon_holds_up_nothing(agent, endpoints):
    daemon = subprocess.Popen([sys.executable, "-c", STOPPED_DAEMON, endpoints.directory], stdout=subprocess.PIPE)
    try:
        heard = threading.Thread(target=daemon.stdout.readline)
        heard.start()
        step = 0
        deadline = time.monotonic() + 60
        while heard.is_alive() and time.monotonic() < deadline:
            agent.recorder.log(step, 0, {"loss": 1.0})
            agent.link.ship()
            time.sleep(0.001)
        os.kill(daemon.pid, signal.SIGSTOP)
        took = []
        end = time.monotonic() + 3
        while time.monotonic() < end:
            t0, others = time.monotonic(), waited()
            for _ in range(50):
                agent.recorder.log(step, 0, dict.fromkeys("abcdefgh", 1.0))
                agent.link.ship()
            took.append(time.monotonic() - t0 - (waited() - others))
            time.sleep(0.001)
        assert statistics.median(took) < 0.1
        assert max(took) < 2.0, "nothing is waited for, but the core where others have it"
        t0 = time.monotonic()
        agent.close()
        assert time.monotonic() - t0 < 30
    finally:
        daemon.kill()
        daemon.wait()
        daemon.stdout.close()


def control_thread_status() -> list[str]:
    thread = next(t for t in threading.enumerate() if t.name == "sitter-control")
    return Path(f"/proc/self/task/{thread.native_id}/status").read_text().splitlines()


def test_the_control_thread_sleeps_when_nothing_happens(agent, daemon):
    daemon.ping()
    def wakes() -> int:
        return sum(int(line.split()[1]) for line in control_thread_status() if "ctxt_switches" in line)

    def quiet() -> bool:
        before = wakes()
        time.sleep(0.5)
        return wakes() - before <= 2

    assert any(quiet() for _ in range(10)), "no periodic wake-ups"  # those of others are not there each time


def test_a_pong_costs_the_training_next_to_nothing(agent, daemon):
    daemon.ping()
    t0 = time.process_time()
    for n in range(200):
        daemon.ping(n)
    both_sides = (time.process_time() - t0) / 200
    assert both_sides < 2e-3


def test_signals_end_the_sleep_of_the_training_and_not_ours(agent):
    def mask() -> int:
        return int(next(line.split()[1] for line in control_thread_status() if line.startswith("SigBlk")), 16)

    until(mask)  # a thread that is just beginning has not yet got there
    blocked = mask()
    for held in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
        assert blocked >> (held - 1) & 1
    assert not blocked >> (signal.SIGSEGV - 1) & 1


def test_an_interrupt_while_shipping_reaches_the_user_and_heals(agent, daemon):
    """Ctrl-C between two frames of a shipment leaves half a message on the socket."""
    daemon.ping()
    daemon.ack(agent.session.id)
    old = signal.getsignal(signal.SIGALRM)

    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, handler)
    hits = 0
    try:
        for i in range(300):
            try:
                agent.recorder.ship_at = 0
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + (i % 30) * 4e-6)
                while True:
                    agent.recorder.log(i, 0, {"loss": 1.0})
                    agent.recorder.ship_at = 0
                    agent.link.ship()
            except KeyboardInterrupt:
                hits += 1
            while daemon.pull.poll(0):
                try:
                    daemon.take()
                except codec.GarbageError:
                    daemon.hole = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert hits == 300
    deadline = time.monotonic() + 60
    while daemon.wanted <= agent.recorder.written and time.monotonic() < deadline:
        agent.link.ship()
        try:
            if not daemon.take(0.03) or daemon.hole:
                daemon.ack(agent.session.id)
        except codec.GarbageError:
            daemon.hole = True
    assert [r.seq for r in daemon.records] == list(range(1, agent.recorder.written + 1))


def test_closing_sends_what_is_left(agent, daemon, monkeypatch):
    monkeypatch.setattr("sitter_agent.link.HEARD_LATELY_S", 60.0)  # a busy machine may need some seconds for what follows
    daemon.ping()
    for step in range(10_000):
        agent.recorder.log(step, 0, {"loss": 1.0})
    agent.recorder.event(Remark(text="good-bye"), 0, 0)
    written = agent.recorder.written
    agent.link.close(60.0)
    daemon.take_all(written)
    agent.link.close()
    agent.link.ship()
    agent.recorder.log(1, 0, {"loss": 1.0})


def test_closed_links_leave_nothing_behind(run, endpoints):
    def open_fds() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    Agent(run, endpoints).close()
    gc.collect()
    before, threads = open_fds(), set(threading.enumerate())
    for _ in range(3):
        Agent(run, endpoints).close()
    gc.collect()
    assert open_fds() <= before
    assert not set(threading.enumerate()) - threads


FORK = """
import multiprocessing, os, sys
from sitter_agent.link import Link, Status
from sitter_agent.recorder import Recorder
from sitter_agent.session import claim
from sitter_wire.places import Endpoints, RunDir
from sitter_wire.commands import Outcome

run, endpoints = RunDir(sys.argv[1]), Endpoints.__new__(Endpoints)
Endpoints.__init__(endpoints, __import__("pathlib").Path(sys.argv[2]))

def use(n):
    for _ in range(100):
        recorder.log(-n, 9, {"child": 1.0})
        link.ship()
    link.answer(Outcome(id="child", status="applied", step=0, branch=0, text=""))
    return recorder.written

session, why = claim(run)
if __name__ == "__main__" and session:
    recorder = Recorder(run.recorder, session.id)
    link = Link(endpoints, recorder, session, on_command=print, status=Status)
    recorder.log(1, 0, {"loss": 1.0})
    for n in range(1, 4):
        pid = os.fork()
        if pid == 0:
            use(n)
            if n == 1: os._exit(0)
            if n == 2: link.close(); recorder.close(); session.release(); os._exit(0)
            sys.exit(0)  # the interpreter tears everything down
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(use, range(4, 8)) == [2] * 4
    recorder.log(2, 0, {"loss": 2.0})
    import time
    deadline = time.monotonic() + 60
    while link.last_heard is None and time.monotonic() < deadline: time.sleep(0.01)
    link.ship()
    link.close(60.0)
    recorder.close()
    print(recorder.written, recorder.dropped)
"""


def test_forked_children_and_workers_neither_write_nor_ship(run, endpoints, daemon):
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORK, run.path, endpoints.directory],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    pong = daemon.ping()
    assert pong.pid == child.pid
    out, err = child.communicate(timeout=200)
    assert child.returncode == 0, err
    written, dropped = out.split()
    assert (written, dropped) == ("3", "0")
    daemon.take_all(int(written))
    assert not daemon.take(0.3), "a child's"
    assert [r.step for r in daemon.records if isinstance(r, Point)] == [1, 2]
    assert "child" not in str(daemon.records)
    assert daemon.silent()
    assert "Traceback" not in err


EXIT = """
import sys, time
from pathlib import Path
from sitter_agent.link import Link, Status
from sitter_agent.recorder import Recorder
from sitter_agent.session import claim
from sitter_wire.places import Endpoints, RunDir
from sitter_wire.commands import Outcome
session, _ = claim(RunDir(sys.argv[1]))
recorder = Recorder(RunDir(sys.argv[1]).recorder, session.id)
link = Link(Endpoints(Path(sys.argv[2])), recorder, session, on_command=print, status=Status)
end = time.monotonic() + 1.5
while time.monotonic() < end:
    for _ in range(20): recorder.log(1, 0, dict.fromkeys("abcdefgh", 1.0))
    link.ship()
    link.answer(Outcome(id="x", status="applied", step=0, branch=0, text=""))
    time.sleep(0.001)
print(time.monotonic(), flush=True)
if "raise" in sys.argv: raise RuntimeError("the training's own")
"""


@pytest.mark.parametrize("how", ["return", "raise"])
@pytest.mark.parametrize("reader", ["stopped", "none"])
def test_the_interpreter_ends_at_once_with_unsent_messages(run, endpoints, reader, how):
    """Nobody closed the link, and what it sent is not read: the interpreter must not wait for it."""
    listener = Daemon(endpoints) if reader == "stopped" else None  # bound, and never read from
    child = subprocess.Popen(
        [sys.executable, "-c", EXIT, run.path, endpoints.directory, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    said = float(child.stdout.readline())
    _, err = child.communicate(timeout=60)
    took = time.monotonic() - said
    assert child.returncode == (1 if how == "raise" else 0)
    assert took < 30, "0.1 s; never, were it to wait for the messages"
    assert ("the training's own" in err) == (how == "raise")
    assert "sitter" not in err
    if listener is not None:
        listener.close()


def test_importing_the_link_costs_the_training_no_heavy_module():
    script = """
        import sys
        import sitter_agent.link, sitter_agent.session, sitter_agent.guard_rail
        heavy = {"asyncio", "sqlite3", "numpy", "torch", "textual", "sitter", "pynvml"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)
