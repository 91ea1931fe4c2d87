"""The daemon's end of the link: PULL for shipments, ROUTER for the agent's control thread. Garbage is counted, dropped, said once."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zmq
from zmq.backend import Socket as RawSocket

from sitter.control.mishaps import note
from sitter.errors import DaemonError
from sitter_wire import codec
from sitter_wire.messages import MAX_FRAME, AnyMessage, ShipmentHeader
from sitter_wire.places import Endpoints

log = logging.getLogger(__name__)

AGENT = b"agent"
"""The fixed identity of the one live agent, so that a new daemon can speak first."""
AT_ONCE = 64
"""Messages taken from one socket before the others have their turn."""
TURN_S = 0.05
"""So long shipments are taken before the others have their turn: one may hold thousands of records, and while a daemon catches up there is
always another."""
NOW, MORE = int(zmq.DONTWAIT), int(zmq.DONTWAIT) | int(zmq.SNDMORE)
READABLE, EVENTS, FOLLOWED = int(zmq.POLLIN), int(zmq.EVENTS), int(zmq.RCVMORE)
SHIPMENTS = 16
"""That wait in memory: of an agent that catches up each is a quarter of a megabyte. What is more waits in its files."""

send: Callable[["zmq.Socket[bytes]", Any, int], Any] = RawSocket.send
receive: Callable[["zmq.Socket[bytes]", int], bytes] = RawSocket.recv
told: Callable[["zmq.Socket[bytes]", int], Any] = RawSocket.get
"""Without the layer that looks at every frame and flag once more."""


class AgentLink:
    """Both sockets, bound in the run's folder of the runtime directory."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        places: Endpoints,
        *,
        on_shipment: Callable[[ShipmentHeader, bytes], None],
        on_message: Callable[[AnyMessage], None],
    ) -> None:
        self._places, self._on_shipment, self._on_message = places, on_shipment, on_message
        self.garbage: Counter[str] = Counter()
        self.data = context.socket(zmq.PULL)
        self.agent = context.socket(zmq.ROUTER)
        for socket in (self.data, self.agent):
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME)
        self.agent.setsockopt(zmq.ROUTER_MANDATORY, 1)  # an unroutable order is an error here, not silence
        self.agent.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self.data.setsockopt(zmq.RCVHWM, SHIPMENTS)
        self._lost = ""
        self.bind()

    def bind(self) -> None:
        """Bind both. Raises DaemonError."""
        self._bound = {path: bind(socket, path) for socket, path in self._both()}

    def _both(self) -> tuple[tuple["zmq.Socket[bytes]", Path], ...]:
        return (self.data, self._places.data), (self.agent, self._places.agent)

    def rebind_lost(self) -> list[str]:
        """Bind again what a cleaner of temporary files has removed; the names of those."""
        try:
            self._places.renew()
        except OSError as e:
            if self._lost != str(e):  # tried every 10 s, for days maybe
                self._lost = str(e)
                log.warning("the sockets' place is gone and cannot be made again (tried on, and said once): %s", e)
            return []
        self._lost = ""
        return [path.name for socket, path in self._both() if rebind(socket, path, self._bound)]

    def take_shipments(self) -> None:
        """What waits on the PULL, up to ``AT_ONCE``, and for ``TURN_S``."""
        until = time.monotonic() + TURN_S
        for parts in waiting(self.data):
            try:
                header, raw = codec.shipment(parts)
                self._on_shipment(header, raw)
            except codec.GarbageError as e:
                self._garbage(e)
            except Exception as e:  # noqa: BLE001 — a bug of ours must not end the daemon
                note(e)
            if time.monotonic() > until:
                return

    def take_messages(self) -> None:
        """What waits on the ROUTER, up to ``AT_ONCE``."""
        for identity, *parts in waiting(self.agent):
            if identity != AGENT:
                self._garbage(codec.GarbageError("stranger", "a peer that is not the agent"))
                continue
            try:
                self._on_message(codec.message(parts))
            except codec.GarbageError as e:
                self._garbage(e)
            except Exception as e:  # noqa: BLE001 — a bug of ours must not end the daemon
                note(e)

    def send(self, message: AnyMessage) -> bool:
        """To the agent; False where it is not connected or takes nothing more."""
        try:
            version, payload = codec.frames(message)
            send(self.agent, AGENT, MORE)
            send(self.agent, version, MORE)
            send(self.agent, payload, NOW)
        except zmq.ZMQError:
            return False
        return True

    def close(self) -> None:
        """Both sockets, at once."""
        self.data.close(0)
        self.agent.close(0)

    def _garbage(self, error: codec.GarbageError) -> None:
        self.garbage[error.kind] += 1
        if self.garbage[error.kind] == 1:
            log.warning(
                "dropped what arrived from the agent's side: %s (further ones of this kind are only counted)", error
            )


def waiting(socket: "zmq.Socket[bytes]") -> Iterator[list[bytes]]:
    """The messages that wait on it, up to ``AT_ONCE``. Asks before each but the first, since an exception that says "no more" costs as much
    as taking a message does."""
    try:
        yield _frames(socket)
        for _ in range(AT_ONCE - 1):
            if not told(socket, EVENTS) & READABLE:
                return
            yield _frames(socket)
    except zmq.Again:
        return


def _frames(socket: "zmq.Socket[bytes]") -> list[bytes]:
    """One message, which is there as a whole. Raises zmq.Again."""
    frames = [receive(socket, NOW)]
    while told(socket, FOLLOWED):
        frames.append(receive(socket, NOW))
    return frames


Bound = tuple[int, int] | None
"""Device and inode of a socket's file; None where it is not there."""


def bind(socket: "zmq.Socket[bytes]", path: Path) -> Bound:
    """Raises DaemonError, in one sentence, where the socket cannot be bound."""
    try:
        socket.bind(Endpoints.url(path))
    except zmq.ZMQError as e:
        raise DaemonError(f"cannot bind the run's socket {path}: {e}; is its file system full, or not a local one?") from e
    return _file(path)


def _file(path: Path) -> Bound:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def rebind(socket: "zmq.Socket[bytes]", path: Path, bound: dict[Path, Bound]) -> bool:
    """Bind once more where the socket's file is gone, or is not the one in ``bound`` (a second bind on a path succeeds silently and steals
    it); connections that stand are kept. Whether that was done."""
    if path in bound and bound[path] is not None and _file(path) == bound[path]:
        return False
    url = Endpoints.url(path)
    try:
        socket.unbind(url)
    except zmq.ZMQError:
        pass  # it held no listener for it: binding is what matters
    try:
        socket.bind(url)
    except zmq.ZMQError as e:
        if path in bound:
            log.warning("cannot bind %s again (tried on, and said once): %s", url, e)
            del bound[path]
        return False
    bound[path] = _file(path)
    return True
