"""Law 2, second half: in the history once and in order, however often the daemon dies while both threads ship."""

import random
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from threading import current_thread

import pytest

from sitter_agent.link import Link, Status
from sitter_agent.recorder import Recorder
from sitter_agent.session import claim
from sitter_wire.places import Endpoints, RunDir

DAEMON = Path(__file__).with_name("storing_daemon.py")


class CountingLink(Link):
    """Counts who ships."""

    def _send_stretch(self, *args):
        sent = super()._send_stretch(*args)
        if sent:
            self.shipped[current_thread().name] += 1
        return sent


def kill_often(tmp_path: Path, kills: int) -> tuple[int, int]:
    """(records, shipments) after so many kills; every record was stored once, in order."""
    run, sockets, store = RunDir(tmp_path / "run"), tmp_path / "s", tmp_path / "store"
    run.path.mkdir()
    sockets.mkdir(mode=0o700)
    session, why = claim(run)
    assert session is not None, why
    recorder = Recorder(run.recorder, session.id, segment_bytes=64 * 1024)
    CountingLink.shipped = Counter()
    link = CountingLink(Endpoints(sockets), recorder, session, on_command=print, status=Status)

    def daemon() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, DAEMON, sockets, store])

    def train_for(seconds: float) -> None:
        """Bursts of fast steps, and silences in which only the control thread can ship: an evaluation, a slow step."""
        nonlocal step
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(random.randrange(1, 400)):
                recorder.log(step, 0, {"loss": float(step), "lr": 0.1})
                step += 1
                link.ship()
                if random.random() < 0.2:
                    time.sleep(0.001)
            if random.random() < 0.2:
                recorder.log(step, 0, {"val_loss": float(step)})
                step += 1
                time.sleep(random.uniform(0.1, 0.3))

    step = 0
    living = daemon()
    try:
        for _ in range(kills):
            heard, deadline = link.incarnation, time.monotonic() + 60
            while link.incarnation == heard:
                assert time.monotonic() < deadline, "the new daemon did not reach the agent"
                train_for(0.02)
            train_for(random.uniform(0.05, 0.6))
            living.kill()
            living.wait()
            train_for(random.choice([0.0, 0.0, 0.2]))
            living = daemon()
        deadline = time.monotonic() + 60
        while not store.exists() or store.stat().st_size < 16 * recorder.written:
            assert time.monotonic() < deadline, f"{store.stat().st_size // 16} of {recorder.written} arrived"
            time.sleep(0.02)
    finally:
        living.kill()
        living.wait()
        link.close()
        recorder.close()
        session.release()
    stored = [s for s, _ in struct.iter_unpack("<qq", store.read_bytes())]
    assert stored == list(range(1, recorder.written + 1)), "each once, in order"
    steps = [s for _, s in struct.iter_unpack("<qq", store.read_bytes())]
    assert sorted(set(steps)) == list(range(step))
    assert recorder.dropped == 0
    assert set(link.shipped) == {"MainThread", "sitter-control"}, "both threads shipped"
    return recorder.written, sum(link.shipped.values())


def test_each_record_arrives_once_and_in_order_though_the_daemon_is_killed(tmp_path):
    kill_often(tmp_path, 8)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_record_arrives_once_and_in_order_though_the_daemon_is_killed_a_hundred_times(tmp_path):
    print("records, shipments:", kill_often(tmp_path, 100))
