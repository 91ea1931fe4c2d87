"""The command line as a user types it, and a training of a few lines, each in processes of their own."""

import contextlib
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sitter.cli.common import asking, plain
from sitter.errors import SitterError
from sitter.paths import find
from sitter.supervise.launch import launch
from sitter_wire.places import PlaceError, RunDir
from sitter_wire.queries import GetStatus
from tests.integration.zygote import Zygote


class Shell:
    """Runs ``sitter …`` in a directory of its own."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd

    def __call__(self, *words: str, timeout: float = 100.0, **env: str) -> subprocess.CompletedProcess[str]:
        given = {**os.environ, **env}
        if Zygote.can(given):
            return forked(words, self.cwd, given, timeout)
        return subprocess.run(
            [sys.executable, "-m", "sitter.cli.main", *words], cwd=self.cwd, env=given, capture_output=True, text=True, timeout=timeout,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def refused(self, *words: str, code: int = 1, **env: str) -> str:
        """The one sentence with which this command is refused; nothing else may be said, and the exit code is ``code``."""
        done = self(*words, **env)
        assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        assert not done.stdout, done.stdout
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("sitter: "), done.stderr
        return lines[0]

    def json(self, *words: str) -> object:
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def lines(self, *words: str) -> list[dict]:
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def status(self) -> dict:
        return self.json("status")

    def until(self, what: Callable[[dict], bool], *words: str, timeout: float = 100.0) -> dict:
        """The first status of which ``what`` is true; across processes there is no event to wait for. ``words``: see ``present``."""
        end = time.monotonic() + timeout
        status: dict = {}
        while time.monotonic() < end:
            with contextlib.suppress(SitterError, PlaceError, OSError), contextlib.chdir(self.cwd):
                status = present(*words)
                if what(status):
                    return status
            time.sleep(0.03)
        raise AssertionError(f"never so within {timeout} s; last: {json.dumps(status)[:3000]}")


_zygotes: list[Zygote] = []


def forked(words: tuple[str, ...], cwd: Path, env: dict[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """By this worker's zygote; after one that was interrupted the next call makes another."""
    zygote = _zygotes.pop() if _zygotes else Zygote()
    try:
        done = zygote.run(words, cwd, env, timeout)
    except BaseException:
        zygote.close()
        raise
    _zygotes.append(zygote)
    return done


def present(option: str = "-r", run: str | None = None) -> dict:
    """What ``sitter status --json`` says here, by the same calls, without the start of an interpreter for each look."""
    assert option == "-r"
    with asking(find(run, acts=False)) as asked:
        found: dict = json.loads(json.dumps(plain(asked.ask(GetStatus()))))
    return found


@pytest.fixture
def sitter(tmp_path):
    return Shell(tmp_path)


@pytest.fixture
def script(tmp_path):
    """Writes train.py from its body; returns its path."""

    def write(body: str, name: str = "train.py") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(body), encoding="utf-8")
        return path

    return write


@pytest.fixture
def start(tmp_path):
    """Starts a process in the test's directory and ends it afterwards."""
    started: list[subprocess.Popen] = []

    def begin(*words: str, **env: str) -> subprocess.Popen:
        process = subprocess.Popen(
            list(words), cwd=tmp_path, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


PATIENT = """
import sys
if sys.orig_argv[1:3] == ["-m", "sitter.cli.main"]:
    from sitter.supervise.launch import launch
    launch.__kwdefaults__["grace_s"] = 60.0
"""


def past_its_launch(run: RunDir) -> None:
    """Returns when the training has lived for longer than its launcher waits (``grace_s``): what ends before is not started again."""
    started = json.loads((run.path / "train.pid").read_text())["started"]
    grace_s = launch.__kwdefaults__["grace_s"]
    while time.time() - started < grace_s + 0.1:
        time.sleep(0.01)


@pytest.fixture
def patient(tmp_path_factory, monkeypatch):
    """``sitter run`` takes an end within a minute for one at once: a busy machine may need half a second to start an interpreter."""
    place = tmp_path_factory.mktemp("patient")
    (place / "sitecustomize.py").write_text(PATIENT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in (str(place), os.environ.get("PYTHONPATH", "")) if p))


def rolled_back_and_stopped(sitter: Shell, training: "subprocess.Popen[str]") -> None:
    """From another terminal, a training whose framework runs the loop: its counter is not put back, and that is said; it ends by itself."""
    done = sitter("rollback")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "the script's own step counter" in done.stdout + done.stderr
    sitter.until(lambda s: s["branch"] == 1)
    done = sitter("stop")
    assert done.returncode == 0, done.stderr + done.stdout
    out, _ = training.communicate(timeout=100)
    assert training.returncode == 0, out
    assert "ended by itself at" in out
