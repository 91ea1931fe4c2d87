"""A real agent in a directory of its own, and the daemon's side of its sockets in the hands of the test."""

import contextlib
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

import sitter_agent
from sitter_agent.agent import Agent
from sitter_wire import codec, rundir
from sitter_wire.commands import AnyAction, Command, Outcome
from sitter_wire.events import Hole
from sitter_wire.messages import Ack, Answer, Order, Ping
from sitter_wire.places import Endpoints, RunDir
from sitter_wire.records import Happening, Point, Record, read_segment_header, scan_segment


def until(what: Callable[[], Any], timeout: float = 60.0) -> Any:
    """The first true answer; for what other threads do there is no event to wait for."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        answer = what()
        if answer:
            return answer
        time.sleep(0.001)
    raise AssertionError(f"never so within {timeout} s")


class HandlerError(Exception):
    """What the script's own handler raises."""


@contextlib.contextmanager
def raises_at(number: int) -> Iterator[None]:
    """The script has a handler of its own for this signal, which raises ``HandlerError``; expected here, it has to come."""

    def handler(number: int, frame: object) -> None:
        raise HandlerError

    before = signal.signal(number, handler)
    try:
        with pytest.raises(HandlerError):
            yield
    finally:
        signal.signal(number, before)


_EARLIER: set[threading.Thread] = set()
"""Those that ran when the present test began: another's."""


@pytest.fixture(autouse=True)
def _others_threads():
    _EARLIER.clear()
    _EARLIER.update(threading.enumerate())


def agents_threads() -> set[str]:
    """Names of the threads of agents that this test has begun and that still run."""
    of = {t.name: getattr(t, "_target", None) for t in threading.enumerate() if t not in _EARLIER}
    return {name for name, target in of.items() if getattr(target, "__module__", "").startswith("sitter_agent")}


class Run:
    """What a run directory holds after, or while, an agent writes it."""

    def __init__(self, path: str | Path) -> None:
        self.dir = RunDir(path)

    def records(self) -> list[Record]:
        out: list[Record] = []
        for path in sorted(self.dir.recorder.glob("*/*.rec")):
            data = path.read_bytes()
            if any(data[:8]):
                out += [r for r in scan_segment(data, read_segment_header(data)) if r is not None]
        return sorted(out, key=lambda r: r.time)

    def points(self) -> list[Point]:
        return [r for r in self.records() if isinstance(r, Point)]

    def events(self, kind: type | None = None) -> list[Any]:
        found = [r.event for r in self.records() if isinstance(r, Happening) and not isinstance(r.event, Hole)]
        return [e for e in found if kind is None or isinstance(e, kind)]

    def values(self, name: str) -> list[tuple[int, float]]:
        return [(p.step, p.values[p.names.index(name)]) for p in self.points() if name in p.names]


class Daemon:
    """The daemon's side of the two sockets, for one agent: orders, acks and what comes back."""

    def __init__(self, agent: Agent) -> None:
        assert agent._core is not None
        assert agent.run is not None
        self.agent, self.core = agent, agent._core
        self.run = Run(agent.run)
        places = Endpoints(Path(rundir.read(self.run.dir).sockets))
        self.context = zmq.Context()
        self.pull = self.context.socket(zmq.PULL)
        self.pull.bind(Endpoints.url(places.data))
        self.router = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.router.bind(Endpoints.url(places.agent))
        self._ids = itertools.count(1)
        self._n = itertools.count(1)

    def reach(self) -> None:
        """Speak first, until it answers."""
        until(self._reach)

    def _reach(self) -> bool:
        try:
            self.router.send_multipart([b"agent", *codec.frames(Ping(incarnation="test", n=next(self._n)))])
        except zmq.ZMQError:
            return False
        return self.core.link.last_heard is not None

    def ping(self) -> None:
        before = self.core.link.last_heard
        self.router.send_multipart([b"agent", *codec.frames(Ping(incarnation="test", n=next(self._n)))])
        until(lambda: self.core.link.last_heard != before)

    def clear(self, step: int, branch: int | None = None) -> None:
        """Vouch for everything up to there."""
        place = (self.core.progress.branch if branch is None else branch, step)
        ack = Ack(incarnation="test", session=self.core.session, wanted=1, committed=0, clear=place)
        self.router.send_multipart([b"agent", *codec.frames(ack)])
        until(lambda: self.core.link.clear == place)

    def order(self, action: AnyAction, *, wait: float = 60.0, **other: Any) -> str:
        """Send it, and return when the agent holds it."""
        given: dict[str, Any] = {
            "id": f"c{next(self._ids)}",
            "session": self.core.session,
            "deadline": time.monotonic() + wait,
            **other,
        }
        command = Command(action=action, **given)
        self.send(command)
        commands = self.agent._host.commands
        until(lambda: any(c.id == command.id for c in list(commands._inbox)) or command.id in commands._answers)
        return command.id

    def send(self, command: Command) -> None:
        self.router.send_multipart([b"agent", *codec.frames(Order(command=command))])

    def outcome(self, id_: str, timeout: float = 60.0) -> Outcome:
        """The fast copy, as it arrives."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.router.poll(50):
                message = codec.message(self.router.recv_multipart()[1:])
                if isinstance(message, Answer) and message.outcome.id == id_:
                    return message.outcome
        raise AssertionError(f"no outcome of {id_} within {timeout} s")

    def close(self) -> None:
        self.context.destroy(linger=0)


class Draws:
    """A stateful loader, as torchdata's: says where it stands and goes on from there. Without end, from a generator of its own, whose
    numbers are wider than 64 bits."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(5)

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield self.rng.normal(size=32)

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state = state["rng"]


class Quadratic:
    """A training that is all arithmetic: batches from a seeded generator, momentum, a rate. Its end is a bit pattern."""

    def __init__(self, seed: int = 0, n: int = 32) -> None:
        rng = np.random.default_rng(seed)
        self.w = rng.normal(size=n)
        self.v = np.zeros(n)
        self.lr = 0.1
        self.steps = 0

    def step(self, batch: np.ndarray) -> float:
        g = self.w - batch
        self.v *= 0.9
        self.v += g
        self.w -= self.lr * self.v * 0.1
        self.steps += 1
        return float(g @ g)

    def save(self) -> dict[str, Any]:
        return {"w": self.w, "v": self.v, "lr": self.lr, "steps": self.steps}

    def load(self, state: dict[str, Any]) -> None:
        self.w[...] = state["w"]
        self.v[...] = state["v"]
        self.lr, self.steps = state["lr"], state["steps"]

    def known_to(self, agent: Agent) -> "Quadratic":
        agent.state(save=self.save, load=self.load)
        agent.knob("lr", get=lambda: self.lr, set=lambda v: setattr(self, "lr", v), low=1e-6, high=10.0, scale="log")
        return self


@pytest.fixture
def begin(tmp_path, monkeypatch) -> Iterator[Callable[..., Agent]]:
    """Starts agents in a directory of the test's own; ends them."""
    monkeypatch.chdir(tmp_path)
    begun: list[Agent] = []

    def start(**kwargs: Any) -> Agent:
        agent = sitter_agent.start(**{"daemon": False, **kwargs})
        begun.append(agent)
        return agent

    yield start
    for agent in begun:
        agent.close()


@pytest.fixture
def daemon() -> Iterator[Callable[[Agent], Daemon]]:
    """The other side of an agent's sockets; one at a time, as one run has one daemon."""
    joined: list[Daemon] = []

    def join(agent: Agent) -> Daemon:
        for earlier in joined:
            earlier.close()
        joined.append(Daemon(agent))
        joined[-1].reach()
        return joined[-1]

    yield join
    for d in joined:
        d.close()
