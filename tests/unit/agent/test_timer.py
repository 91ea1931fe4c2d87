"""A handler may come at any instruction, also in the midst of ``threading``'s own."""

import subprocess
import sys
import threading
import time

from sitter_agent.timer import Timer

IN_THE_MIDST = """
import signal, threading, time
from sitter_agent.notices import Notices

notices = Notices(lambda: True)
notices.install()
with threading._active_limbo_lock:  # as Thread.start holds it, for a moment
    signal.raise_signal(signal.SIGUSR1)
print("gone on, pending", notices.pending == signal.SIGUSR1)
"""


def test_a_notice_in_the_midst_of_the_start_of_a_thread_stops_nothing():
    done = subprocess.run([sys.executable, "-c", IN_THE_MIDST], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "gone on, pending True\n", done.stderr


def test_it_comes_when_its_time_is_over_and_not_once_it_was_cancelled():
    in_time = False
    while not in_time:  # or this process had to wait for its core
        came, never, began = threading.Event(), threading.Event(), time.monotonic()
        cancelled = Timer(0.2, never.set)
        cancelled.cancel()
        cancelled.cancel()
        in_time = time.monotonic() - began < 0.2
    Timer(0.3, came.set)
    assert came.wait(60)
    assert not never.is_set()
