"""A daemon that does nothing but store: the receiving half of PROTOCOL.md in sixty lines, made to be killed at any time.

``python storing_daemon.py SOCKETS STORE``: takes only what is contiguous, appends (sequence, step) pairs to STORE, acknowledges them,
pings. Started again it goes on from what STORE holds.
"""

import os
import secrets
import struct
import sys
import time
from pathlib import Path

import zmq

from sitter_wire import codec
from sitter_wire.messages import Ack, Hello, Ping, Pong
from sitter_wire.places import Endpoints
from sitter_wire.records import decode_stream

PAIR = struct.Struct("<qq")
ACK_EVERY = 0.2
PING_EVERY = 0.3


def main(sockets: str, store: str) -> None:
    endpoints, incarnation = Endpoints(Path(sockets)), secrets.token_hex(4)
    context = zmq.Context()
    pull, router = context.socket(zmq.PULL), context.socket(zmq.ROUTER)
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    router.setsockopt(zmq.ROUTER_HANDOVER, 1)
    pull.bind(Endpoints.url(endpoints.data))
    router.bind(Endpoints.url(endpoints.agent))
    fd = os.open(store, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    whole = os.fstat(fd).st_size // PAIR.size
    os.ftruncate(fd, whole * PAIR.size)
    wanted, hole, session = whole + 1, False, ""
    acked_at = pinged_at = 0.0
    dirty = True
    poller = zmq.Poller()
    poller.register(pull, zmq.POLLIN)
    poller.register(router, zmq.POLLIN)
    while True:
        ready = dict(poller.poll(20))
        if router in ready:
            said = codec.message(router.recv_multipart()[1:])
            if isinstance(said, (Hello, Pong)):
                session = said.session
                dirty = dirty or (isinstance(said, Pong) and said.written >= wanted)
        if pull in ready:
            header, raw = codec.shipment(pull.recv_multipart())
            records = decode_stream(raw, {k: tuple(v) for k, v in header.schemas.items()}, header.first, header.count)
            if header.first > wanted:
                hole = dirty = True
            elif header.first + header.count > wanted:
                new = records[wanted - header.first :]
                os.write(fd, b"".join(PAIR.pack(r.seq, r.step) for r in new))
                wanted, hole, dirty = header.first + header.count, False, True
        now = time.monotonic()
        try:
            if session and dirty and now - acked_at > ACK_EVERY:
                ack = Ack(incarnation=incarnation, session=session, wanted=wanted, committed=wanted - 1, hole=hole)
                acked_at, hole, dirty = now, False, False
                router.send_multipart([b"agent", *codec.frames(ack)], zmq.DONTWAIT)
            if now - pinged_at > PING_EVERY:
                pinged_at = now
                router.send_multipart([b"agent", *codec.frames(Ping(incarnation=incarnation, n=0))], zmq.DONTWAIT)
        except zmq.ZMQError as e:
            if e.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise


if __name__ == "__main__":
    main(*sys.argv[1:])
