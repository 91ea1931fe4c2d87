"""A hundred thousand frames that nobody of ours sends, against every socket: what falls over, grows, or is no longer answered.

A real training and a real daemon, in processes of their own. First this process plays a daemon that has lost its mind, towards the agent;
then it goes, the real daemon comes, and gets the rest on its three sockets while the training goes on. In between, and all along, right
messages must be answered; at the end every value that was logged must be in the history, once.
"""

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import zmq

from sitter.client import Client
from sitter.errors import SitterError
from sitter.model import Status
from sitter.store.reader import Reader
from sitter_wire import codec, commands, messages, queries, rundir
from sitter_wire.messages import MAX_FRAME
from sitter_wire.places import Endpoints
from tests.reliability.figures.mutation import mixed

ROOT = Path(__file__).parents[3]
SHARES = {"agent": 0.2, "data": 0.3, "control": 0.25, "client": 0.25}
"""Of the frames: to the agent's DEALER, to the daemon's PULL, its ROUTER for the agent, its ROUTER for clients."""
BATCH = 500
"""Frames between two right questions."""
WARM = 0.2
"""Share of the frames after which memory and handles are first looked at: caches and buffers have then their size."""
GROWTH_MB, MORE_HANDLES = 12.0, 2
ANSWER_S = 60.0
TRAINING = """
import json, pathlib, sys, time
import sitter_agent
agent = sitter_agent.start(name="x", daemon=False)
agent.knob("lr", get=lambda: 1.0, set=lambda v: None, low=0.0, high=10.0)
enough = pathlib.Path("enough")
for step in agent.steps(1 << 40):
    agent.log(loss=float(step % 1000), count=float(step))
    time.sleep(0.005)
    if enough.exists():
        break
agent.close()
pathlib.Path("ended.json").write_text(json.dumps({"steps": step + 1}))
"""


def measure(count: int, say: Callable[[str], object], seed: str = "") -> dict[str, Any]:
    """Figures over so many frames; ``faults`` are sentences."""
    seed = seed or f"{random.SystemRandom().getrandbits(32):08x}"
    base = Path(tempfile.mkdtemp(prefix="st-"))
    stage = Stage(base, seed, say)
    try:
        stage.play(count)
    except Exception as e:  # the daemon's or the agent's words tell more than ours
        stage.faults.append(f"{type(e).__name__}: {e}")
    finally:
        stage.end()
    figures = stage.figures()
    if figures["faults"]:
        say(f"kept for a look: {base}")
    else:
        shutil.rmtree(base, ignore_errors=True)
    return figures


def broken(figures: dict[str, Any]) -> list[str]:
    """What of the promise does not hold, in sentences."""
    out = list(figures["faults"])
    for who in ("agent", "daemon"):
        grown = figures[f"{who}_mb"]
        if grown is not None and grown[1] - grown[0] > GROWTH_MB:
            out.append(f"the {who} has grown from {grown[0]:.1f} to {grown[1]:.1f} MB")
        handles = figures[f"{who}_handles"]
        if handles is not None and handles[1] > handles[0] + MORE_HANDLES:
            out.append(f"the {who} had {handles[0]} handles open, and has {handles[1]}")
    out += [f"nothing was sent to {socket}" for socket, n in figures["sent"].items() if not n]
    if figures["unanswered"]:
        out.append(f"{figures['unanswered']} right messages were not answered")
    if not figures["dropped"]:
        out.append("the daemon counted no garbage: nothing was measured")
    if figures["log_lines"] > 60:
        out.append(f"the daemon wrote {figures['log_lines']} lines about it")
    if figures["lost"] or figures["doubled"]:
        out.append(f"{figures['lost']} values lost, {figures['doubled']} doubled")
    return out


def table(figures: dict[str, Any]) -> list[str]:
    """For a person."""
    sent = ", ".join(f"{n:,} to {socket}" for socket, n in figures["sent"].items())
    flat = {who: (figures[f"{who}_mb"], figures[f"{who}_handles"]) for who in ("agent", "daemon") if figures[f"{who}_mb"]}
    grown = "; ".join(f"{who} {mb[0]:.1f} → {mb[1]:.1f} MB, {n[0]} → {n[1]} handles" for who, (mb, n) in flat.items())
    return [
        f"{sum(figures['sent'].values()):,} frames: {sent}",
        f"{figures['asked']:,} right messages in between, {figures['unanswered']} unanswered, slowest {figures['slowest_s']:.2f} s",
        grown,
        f"{figures['logged']:,} values logged meanwhile, {figures['lost']} lost, {figures['doubled']} doubled",
        f"{figures['dropped']:,} counted as dropped by the daemon, in {figures['log_lines']} lines of its log",
    ]


class Stage:
    """One run, one training, one daemon."""

    def __init__(self, base: Path, seed: str, say: Callable[[str], object]) -> None:
        self.base, self.seed, self.say = base, seed, say
        runtime = base / "r"
        runtime.mkdir(mode=0o700)
        self.env = {**os.environ, "SITTER_RUNTIME_DIR": str(runtime), "XDG_STATE_HOME": str(base / "state"), "OMP_NUM_THREADS": "1"}
        self.env["PYTHONPATH"] = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
        for name in ("SITTER", "SITTER_RUN", "SITTER_MODE", "SITTER_RESUME"):
            self.env.pop(name, None)
        self.run = rundir.create(base, "x", command=["garbage"], supervised=False, sockets="", version="")
        self.places = Endpoints(runtime / Endpoints.of_run(self.run.path).directory.name)  # where the agent and the daemon look
        self.places.create()
        self.env["SITTER_RUN"] = str(self.run.path)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.faults: list[str] = []
        self.sent = dict.fromkeys(SHARES, 0)
        self.seen: dict[str, list[tuple[float, int]]] = {"agent": [], "daemon": []}
        self.asked = self.unanswered = self.logged = self.lost = self.doubled = self.dropped = 0
        self.slowest = 0.0
        self.shipments: list[list[bytes]] = []
        self.words: list[list[bytes]] = []
        self.session = ""

    # -- the play --------------------------------------------------------------------------------------------------------

    def play(self, count: int) -> None:
        training = self.start([sys.executable, "-c", TRAINING], "training.txt")
        self.mad_daemon(training, int(count * SHARES["agent"]))
        if training.poll() is not None:
            raise RuntimeError("the training has ended")
        daemon = self.start([sys.executable, "-P", "-m", "sitter.daemon", str(self.run.path), "--foreground"], "daemon.txt")
        client = Client(self.run)
        try:
            self.until(client, lambda s: s.state == "running" and (s.step or 0) > 50)
            self.flood(client, daemon, count)
            self.until(client, lambda s: s.state == "running")
            status = client.ask(queries.GetStatus())
            self.dropped = sum(int(n.replace(",", "")) for t in status.warnings for n in re.findall(r"([\d,]+) messages that nobody", t))
            self.faults += [f"the status speaks of {t}" for t in status.warnings if "the daemon failed" in t]
        finally:
            client.close()
        (self.base / "enough").touch()
        if training.wait(60) != 0:
            self.faults.append(f"the training ended with {training.returncode}")
        code = daemon.wait(60)
        if code != 0:
            self.faults.append(f"the daemon ended with {code}")
        self.check_history()

    def mad_daemon(self, training: "subprocess.Popen[bytes]", count: int) -> None:
        """Listen to the agent, and send it nonsense."""
        data, agent = self.context.socket(zmq.PULL), self.context.socket(zmq.ROUTER)
        agent.setsockopt(zmq.ROUTER_MANDATORY, 1)
        data.bind(Endpoints.url(self.places.data))
        agent.bind(Endpoints.url(self.places.agent))
        try:
            self.listen(data, agent)
            real = self.daemons_words()
            for i, parts in enumerate(self.harmless(count, f"{self.seed} agent", real, self.would_obey)):
                self.give(agent, [b"agent", *parts])
                self.sent["agent"] += 1
                if i % 50 == 0:
                    self.drain(data, agent)
                if i % BATCH == BATCH - 1:
                    self.right(lambda: self.is_ponged(data, agent))
                    self.look("agent", training.pid, i / count)
            self.right(lambda: self.is_ponged(data, agent))
            self.look("agent", training.pid, 1.0)
        finally:
            data.close(0)
            agent.close(0)

    def listen(self, data: "zmq.Socket[bytes]", agent: "zmq.Socket[bytes]") -> None:
        """Until a few shipments and every word of the agent have come, as they go over the wire."""
        until, n = time.monotonic() + ANSWER_S, 0
        while time.monotonic() < until and (len(self.shipments) < 20 or len(self.words) < 20):
            n += 1
            with contextlib.suppress(zmq.ZMQError):
                agent.send_multipart([b"agent", *codec.frames(messages.Ping(incarnation=f"i{n // 10}", n=n))], zmq.DONTWAIT)
            if data.poll(20):
                self.shipments.append(data.recv_multipart())
            while agent.poll(0):
                self.words.append(agent.recv_multipart()[1:])
        if len(self.words) < 20:
            raise RuntimeError("the agent did not speak")
        self.session = codec.shipment(self.shipments[0])[0].session
        outcome = commands.Outcome(id="abc", status="applied", step=1, branch=0, text="done", detail={"old": 1.0})
        self.words += [codec.frames(messages.Answer(outcome=outcome)), codec.frames(messages.Stacks(id="abc", text="Thread 0x1"))]

    def daemons_words(self) -> list[list[bytes]]:
        """What a daemon says, right in every way."""
        def order(action: commands.AnyAction) -> list[bytes]:
            command = commands.Command(id="id1", session=self.session, action=action, deadline=time.monotonic() + 3600)
            return codec.frames(messages.Order(command=command))

        return [
            codec.frames(messages.Ping(incarnation="i", n=1)),
            codec.frames(messages.Ack(incarnation="i", session=self.session, wanted=1, committed=0, clear=(0, 1))),
            order(commands.SetKnob(knob="lr", op="scale", amount=0.5)),
            order(commands.Rollback(before=5, also_scale={"lr": 0.5})),
            order(commands.TakeCheckpoint(why="x")),
            order(commands.DropBatches(count=1)),
            order(commands.DumpStacks()),
        ]

    def would_obey(self, parts: list[bytes]) -> bool:
        """Whether it came out as something right that the agent should do: that is a daemon's order, and no garbage."""
        try:
            message = codec.message(parts)
        except codec.GarbageError:
            return False
        if isinstance(message, messages.Order):
            return message.command.session == self.session
        return isinstance(message, messages.Ack) and message.session == self.session and 0 < message.committed < 1 << 24 > message.wanted

    def flood(self, client: Client, daemon: "subprocess.Popen[bytes]", count: int) -> None:
        """The daemon's three sockets by turns, so that each must bear it beside the others."""
        real_queries = [
            [codec.encode(queries.Request(id=i + 1, query=query))]
            for i, query in enumerate((
                queries.GetStatus(), queries.GetCurves(signals=["loss"]), queries.GetLogbook(), queries.GetDays(),
                queries.GetSince(since=1.0), queries.GetRules(), queries.Settle(),
                queries.Snooze(rule="nan", seconds=5.0), queries.Approve(id="p1"),
                queries.Act(action=commands.SetKnob(knob="lr", op="scale", amount=0.5)), queries.AddNote(text="x"),
            ))
        ]  # fmt: skip
        share = {name: int(count * part) for name, part in SHARES.items()}
        total = sum(share[name] for name in ("data", "control", "client"))
        streams = {
            "data": mixed(share["data"], f"{self.seed} data", lambda r: r.choice(self.shipments)),
            "control": mixed(share["control"], f"{self.seed} control", lambda r: r.choice(self.words)),
            "client": self.harmless(share["client"], f"{self.seed} client", real_queries, would_act),
        }
        turn = 0
        while streams:
            for name in list(streams):
                some = list(itertools.islice(streams[name], BATCH))
                if len(some) < BATCH:
                    del streams[name]
                if some:
                    getattr(self, f"to_{name}")(some, turn)
                    self.sent[name] += len(some)
            turn += 1
            if turn % 10 == 1:
                self.oversized()
            self.right(lambda: self.is_status(client))
            done = sum(self.sent[name] for name in ("data", "control", "client"))
            self.look("daemon", daemon.pid, done / total)
            if turn % 10 == 0:
                self.say(f"{sum(self.sent.values()):,} frames, {self.asked} right messages, {self.unanswered} unanswered")
            if daemon.poll() is not None:
                raise RuntimeError(f"the daemon has ended with {daemon.returncode}")
        settled = min(handles for _, handles in self.seen["daemon"]) + MORE_HANDLES
        until = time.monotonic() + ANSWER_S
        time.sleep(0.5)
        while psutil.Process(daemon.pid).num_fds() > settled and time.monotonic() < until:  # it has not yet seen all of us leave
            time.sleep(0.05)
        self.look("daemon", daemon.pid, 1.0)

    def to_data(self, some: list[list[bytes]], turn: int) -> None:
        self.pour(zmq.PUSH, self.places.data, some, None)

    def to_control(self, some: list[list[bytes]], turn: int) -> None:
        # By turns with the agent's own identity, which takes its place at the daemon until we go, and as a stranger.
        self.pour(zmq.DEALER, self.places.agent, some, b"agent" if turn % 2 else None)

    def to_client(self, some: list[list[bytes]], turn: int) -> None:
        self.pour(zmq.DEALER, self.places.client, some, None)

    def pour(self, kind: int, path: Path, some: list[list[bytes]], identity: bytes | None) -> None:
        """All of them over a connection of its own, which waits where the daemon cannot follow."""
        socket = self.context.socket(kind)
        try:
            socket.setsockopt(zmq.SNDTIMEO, int(ANSWER_S * 1000))
            socket.setsockopt(zmq.LINGER, int(ANSWER_S * 1000))
            if identity is not None:
                socket.setsockopt(zmq.IDENTITY, identity)
            socket.connect(Endpoints.url(path))
            for parts in some:
                socket.send_multipart(parts)
                while kind == zmq.DEALER and socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                    socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            self.faults.append(f"{path.name} took nothing more for {ANSWER_S:.0f} s")
        finally:
            socket.close()

    def oversized(self) -> None:
        """A frame that is larger than any may be: the connection is cut, and that is all."""
        for kind, path in ((zmq.PUSH, self.places.data), (zmq.DEALER, self.places.agent), (zmq.DEALER, self.places.client)):
            socket = self.context.socket(kind)
            socket.setsockopt(zmq.SNDTIMEO, 2000)
            socket.connect(Endpoints.url(path))
            with contextlib.suppress(zmq.Again):
                socket.send_multipart([b"1", bytes(MAX_FRAME + 1)])
            socket.poll(100, zmq.POLLIN)
            socket.close(0)

    # -- right messages ----------------------------------------------------------------------------------------------------

    def right(self, ask: Callable[[], bool]) -> None:
        """One right message; how long its answer took."""
        began = time.monotonic()
        self.asked += 1
        if not ask():
            self.unanswered += 1
        self.slowest = max(self.slowest, time.monotonic() - began)

    def is_ponged(self, data: "zmq.Socket[bytes]", agent: "zmq.Socket[bytes]") -> bool:
        n = random.getrandbits(40)
        until = time.monotonic() + ANSWER_S
        if not self.give(agent, [b"agent", *codec.frames(messages.Ping(incarnation="i", n=n))]):
            return False
        while time.monotonic() < until:
            self.drain(data)
            if not agent.poll(20):
                continue
            parts = agent.recv_multipart()[1:]
            message = codec.message(parts)
            if isinstance(message, messages.Pong) and message.n == n:
                return True
        return False

    def is_status(self, client: Client) -> bool:
        try:
            status: Status = client.ask(queries.GetStatus(), ANSWER_S)
        except SitterError:
            return False
        return status.run == self.run.name

    def give(self, router: "zmq.Socket[bytes]", parts: list[bytes]) -> bool:
        """To the agent, waiting where it cannot follow, or where an oversized frame has cut its connection."""
        until = time.monotonic() + ANSWER_S
        while time.monotonic() < until:
            try:
                router.send_multipart(parts, zmq.DONTWAIT)
            except zmq.ZMQError:
                self.drain(router)
                time.sleep(0.002)
            else:
                return True
        self.faults.append(f"the agent took nothing for {ANSWER_S:.0f} s")
        return False

    def drain(self, *sockets: "zmq.Socket[bytes]") -> None:
        for socket in sockets:
            while socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                socket.recv_multipart(zmq.DONTWAIT)

    def harmless(self, count: int, of: str, real: list[list[bytes]], right: Callable[[list[bytes]], bool]) -> Iterator[list[bytes]]:
        """Without those that came out right, in whose place others come."""
        stream = mixed(count + count // 5 + 100, of, lambda r: r.choice(real))
        return itertools.islice((parts for parts in stream if not right(parts)), count)

    def until(self, client: Client, what: Callable[[Status], bool]) -> None:
        end, status = time.monotonic() + ANSWER_S, None
        while time.monotonic() < end:
            with contextlib.suppress(SitterError):
                status = client.ask(queries.GetStatus(), 2.0)
                if what(status):
                    return
            time.sleep(0.05)
        raise RuntimeError(f"it is not watched as it should be: {status}")

    # -- what became of it -------------------------------------------------------------------------------------------------

    def look(self, who: str, pid: int, share: float) -> None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if share >= WARM:
                self.seen[who].append((process.memory_info().rss / 1e6, process.num_fds()))

    def check_history(self) -> None:
        ended = json.loads((self.base / "ended.json").read_text())
        self.logged = ended["steps"]
        reader = Reader(self.run.history)
        found: dict[float, int] = {}
        wrong = 0
        for group in reader.groups():
            if group.host or "count" not in group.names:
                continue
            for rows in reader.rows(group):
                for value, loss in zip(rows.columns[group.names.index("count")], rows.columns[group.names.index("loss")], strict=True):
                    found[value] = found.get(value, 0) + 1
                    wrong += loss != value % 1000
        reader.close()
        self.lost = sum(float(n) not in found for n in range(self.logged))
        self.doubled = sum(n - 1 for n in found.values())
        if wrong:
            self.faults.append(f"{wrong} values are not those that were logged")

    def figures(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "seed": self.seed, "sent": self.sent, "asked": self.asked, "unanswered": self.unanswered, "slowest_s": self.slowest,
            "logged": self.logged, "lost": self.lost, "doubled": self.doubled, "dropped": self.dropped, "log_lines": 0,
        }  # fmt: skip
        for who, seen in self.seen.items():
            out[f"{who}_mb"] = [seen[0][0], seen[-1][0]] if seen else None
            out[f"{who}_handles"] = [min(s[1] for s in seen[: max(1, len(seen) // 2)]), seen[-1][1]] if seen else None
        for name in ("training.txt", "daemon.txt"):
            lines = (self.base / name).read_text(errors="replace").splitlines() if (self.base / name).exists() else []
            if name == "daemon.txt":
                out["log_lines"] = len(lines)
            elif len(lines) > 20:
                self.faults.append(f"the agent said {len(lines)} lines on the user's terminal")
            self.faults += [f"{name}: {line[:300]}" for line in lines if "Traceback" in line or "failed" in line][:10]
        out["faults"] = self.faults
        return out

    def start(self, words: list[str], said: str) -> "subprocess.Popen[bytes]":
        with (self.base / said).open("ab") as into:
            process = subprocess.Popen(
                words, env=self.env, cwd=self.base, stdin=subprocess.DEVNULL, stdout=into, stderr=into, start_new_session=True
            )
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.context.destroy(0)


def would_act(parts: list[bytes]) -> bool:
    """Whether it came out as a demand: that would be carried out, and rightly."""
    if len(parts) != 1:
        return False
    try:
        query = codec.request(parts[0]).query
    except codec.GarbageError:
        return False
    return isinstance(query, queries.Act | queries.StopNow | queries.SetMode | queries.AddNote | queries.TestNotify | queries.Snooze)


def main() -> None:
    figures = measure(int(sys.argv[1]), print, *sys.argv[2:])
    print(json.dumps(figures, indent=1))
    print("\n".join(table(figures)))
    print("\n".join(f"! {b}" for b in broken(figures)))


if __name__ == "__main__":
    main()
