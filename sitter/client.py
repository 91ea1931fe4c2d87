"""The client's end of the daemon's socket. Also the one table that says which type answers which query."""

import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import zmq

from sitter import model
from sitter.errors import DaemonError, UsageError
from sitter.locks import holder
from sitter_wire import codec, queries, rundir
from sitter_wire.messages import MAX_FRAME
from sitter_wire.places import Endpoints, PlaceError, RunDir

REPLY_TYPES: dict[type[queries.Query], Any] = {
    queries.GetStatus: model.Status,
    queries.GetCurves: model.Curves,
    queries.GetLogbook: list[model.LogEntry],
    queries.GetDays: list[model.DayRow],
    queries.GetSince: model.Since,
    queries.GetRules: list[model.RuleState],
}
"""Whatever is not listed answers with ``model.Answered``."""
ORDERS = (queries.Act, queries.StopNow)
"""What a daemon takes with it when it dies."""
LOOK_MS = 300
ON_ITS_WAY_MS = 1000
"""A daemon that answers and leaves is gone before its answer is here, on a busy machine; so long it is waited for."""


def endpoints(run: RunDir) -> Endpoints:
    """Where the run's sockets are: as recorded in run.toml, else where they would be made. Raises PlaceError."""
    try:
        recorded = rundir.read(run).sockets
    except PlaceError:
        recorded = ""
    if recorded:
        return Endpoints(Path(recorded))
    return Endpoints.of_run(run.path)


class Client:
    """Asks the daemon of one run. Safe to use from several threads, one question at a time."""

    def __init__(self, run: RunDir) -> None:
        """Connects at once, which always succeeds; whether anybody answers is seen at the first question."""
        self._run = run
        self._lock = threading.Lock()
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._n = 0

    def ask(self, query: queries.AnyQuery, timeout: float = 5.0) -> Any:
        """The answer, of the type in ``REPLY_TYPES``. ``timeout`` in seconds, on top of what an ``Act`` waits itself.

        Raises DaemonError where nobody answers in time, or the daemon died with an order of ours; UsageError where the question was wrong.
        """
        watcher = holder(self._run.daemon_lock)  # whether it lives is looked at while its answer is waited for
        if isinstance(query, queries.Act):
            timeout += query.wait
        with self._lock:
            self._n += 1
            socket = self._connected()
            try:
                socket.send(codec.encode(queries.Request(id=self._n, query=query)), zmq.DONTWAIT)
                reply = self._reply(socket, timeout, watcher)
            except zmq.Again:
                reply = None
            if reply is None:
                self._drop()
                if isinstance(query, ORDERS) and watcher is not None and holder(self._run.daemon_lock) != watcher:
                    raise DaemonError(
                        f"the daemon of {self._run.name} ended while this was on its way; "
                        f"what became of it, if anything, stands in `sitter logbook -r {self._run.name}`"
                    )
                raise DaemonError(self._nobody())
        if reply.error is not None:
            raise (UsageError if reply.usage else DaemonError)(reply.error)
        try:
            return msgspec.convert(reply.data, REPLY_TYPES.get(type(query), model.Answered))
        except msgspec.ValidationError as e:
            raise DaemonError(
                f"the daemon answers in a form this version does not know ({e}); restart it or upgrade sitter"
            ) from e

    def _nobody(self) -> str:
        """What to do where no answer came: a daemon that is there keeps every other one out."""
        name, pid = self._run.name, holder(self._run.daemon_lock)
        if pid is None:
            return f"no daemon answers for run {name}; `sitter attach -r {self._run.path}` starts one"
        places = endpoints(self._run)
        if not places.client.exists():
            why = "it may be in a container of its own, so ask in there; if a cleaner took the socket, there is another one within 10 s"
            return f"the daemon of {name} (process {pid}) has no socket at {places.client}: {why}"
        lost = "what it had not stored is in the recorder, and another one is started"
        return f"the daemon of {name} (process {pid}) does not answer: it is stopped, or very busy; ask again, or `kill -9 {pid}`: {lost}"

    def _reply(self, socket: "zmq.Socket[bytes]", timeout: float, watcher: int | None) -> queries.Reply | None:
        """None in the end, or as soon as ``watcher`` is not the run's daemon any more: the next one knows nothing of who asked."""
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            if not socket.poll(max(1, int(left * 1000) if watcher is None else min(LOOK_MS, int(left * 1000)))):
                if watcher is not None and holder(self._run.daemon_lock) != watcher and not socket.poll(ON_ITS_WAY_MS):
                    return None
                continue
            try:
                reply = codec.reply(socket.recv())
            except codec.GarbageError:
                continue
            if reply.id == self._n:  # an older one came too late for its asker
                return reply
        return None

    def _connected(self) -> "zmq.Socket[bytes]":
        if self._socket is None:
            self._socket = self._context.socket(zmq.DEALER)
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.MAXMSGSIZE, 8 * MAX_FRAME)
            self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
            try:
                places = endpoints(self._run)
                try:
                    places.check()  # whoever else could put a socket there could answer in the daemon's name
                except FileNotFoundError:
                    pass  # nobody is there; that is seen soon enough
                self._socket.connect(Endpoints.url(places.client))
            except (OSError, zmq.ZMQError) as e:
                self._drop()
                raise DaemonError(str(e)) from e
        return self._socket

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None

    def close(self) -> None:
        """Returns at once; nothing unsent is waited for."""
        with self._lock:
            self._drop()
            self._context.term()
