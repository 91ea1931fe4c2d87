"""The app in a process of its own on a real pseudo-terminal: what is left of the terminal afterwards, and what goes out to it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

LEAVES_ALTERNATE_SCREEN, SHOWS_CURSOR = b"\x1b[?1049l", b"\x1b[?25h"


class Terminal:
    """The other end of it."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process, self.fd, self.seen = process, fd, b""

    def read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return True
        try:
            got = os.read(self.fd, 65536)
        except OSError:
            return False
        self.seen += got
        return bool(got)

    def until(self, what: bytes, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while what not in self.seen:
            assert time.monotonic() < deadline, f"{what!r} never came; last: {self.seen[-600:]!r}"
            self.read(0.1)

    def end(self, seconds: float = 60.0) -> int:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            self.read(0.1)
        while self.read(0.2) and select.select([self.fd], [], [], 0)[0]:
            pass
        return self.process.returncode


@contextmanager
def terminal(*args: str, width: int = 80, height: int = 24, env: dict[str, str] | None = None) -> Iterator[Terminal]:
    parent, tty = pty.openpty()
    fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    before = termios.tcgetattr(tty)
    process = subprocess.Popen(
        [sys.executable, "-m", "sitter.tui", "--fake", *args], stdin=tty, stdout=tty, stderr=tty, start_new_session=True,
        env={**{k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLORFGBG")}, "TERM": "xterm-256color", **(env or {})},
    )  # fmt: skip
    try:
        yield Terminal(process, parent)
        after = termios.tcgetattr(tty)
        assert after[3] & (termios.ECHO | termios.ICANON) == before[3] & (termios.ECHO | termios.ICANON), "the terminal echoes again"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(parent)
        os.close(tty)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(number: signal.Signals) -> None:
    with terminal() as t:
        t.until(b"char-lm")
        t.process.send_signal(number)
        t.end()
        assert LEAVES_ALTERNATE_SCREEN in t.seen
        assert SHOWS_CURSOR in t.seen


def test_q_leaves() -> None:
    with terminal() as t:
        t.until(b"char-lm")
        os.write(t.fd, b"q")
        assert t.end() == 0
        assert LEAVES_ALTERNATE_SCREEN in t.seen


def test_without_a_utf8_locale_only_ascii_goes_out() -> None:
    with terminal(env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}) as t:
        t.until(b"char-lm")
        t.until(b"leave")
        os.write(t.fd, b"q")
        t.end()
        assert t.seen.isascii(), re.findall(rb"[^\x00-\x7f]+", t.seen)[:5]


def test_no_color_is_kept_to() -> None:
    with terminal(env={"NO_COLOR": "1"}) as t:
        t.until(b"leave")
        os.write(t.fd, b"q")
        t.end()
        colours = [m for m in re.findall(rb"\x1b\[([\d;]*)m", t.seen) if re.search(rb"(^|;)(3[0-8]|4[0-8]|9[0-7]|10[0-7])(;|$)", m)]
        assert not colours


def test_a_tiny_terminal_and_a_resize() -> None:
    with terminal(width=40, height=10) as t:
        t.until(b"HEALING")
        fcntl.ioctl(t.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
        t.process.send_signal(signal.SIGWINCH)
        t.until(b"disk free")
        os.write(t.fd, b"q")
        assert t.end() == 0
