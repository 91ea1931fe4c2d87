"""The small parent of a training: it starts it, forwards signals to it, waits for it, and writes down how it ended.

``python parent.py [--grace S] [--restart N …] RUN_DIR -- CMD…`` (or ``python -m sitter.supervise.parent``). Standard library only, so
that it stays small for days and imports nothing that an upgrade could change under it.

It forks twice into a session of its own: closing the terminal, or killing whoever launched it, ends nothing. The process in
front stays just long enough to print one line of JSON: ``{"parent", "pid", "started"}``, and also ``code`` and ``signal``
where the training ended within ``--grace`` seconds, or ``{"error"}``. What the training prints goes into train.log, a file
and never a pipe: should this parent die, the training does not even notice.

With ``--restart N`` it starts the training again where that ended by itself and not well (attempts.py has the policy), and goes on from
what what_next.py says. Not started again: exit code 0; an end that the operator asked for (a stop, Ctrl-C, a signal to this parent); a
pre-emption, since the machine is about to go (``sitter resume --all`` at the next boot takes it up); a first start that fails while its
launcher still waits.

While the training lives, signals are passed on to it. From its end until the next one is made, SIGUSR2 (``CALL_OFF``: `sitter stop`) and
SIGINT call the restart off for the operator, SIGTERM and SIGUSR1 for a machine that is going down; one that comes while the next
training is being made takes that back. CALL_OFF to a living training means nothing: who sent it did not know yet that it lives.

Files in the run directory: ``parent.pid`` (locked while it lives), ``train.pid``, ``attempts.json`` with ``--restart``, and at the very end
``exit.json``: ``{"code", "signal", "time", "started", "lived", "mono", "boot", "pid", "error", "log", "oom_kills", "told", "attempts",
"given_up", "called_off"}``. How many seconds it ``lived`` is by the monotonic clock: the other may have been set meanwhile.
"""

import errno
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[2]))  # last: it adds names, and hides none of the standard library's

from sitter.supervise.attempts import ATTEMPTS, CAP_S, FIRST_S, Attempts, oom_kills
from sitter.supervise.exit_file import EXIT, ExitFile, last_words
from sitter.supervise.group import clear_group, last_agent, let_finish
from sitter.supervise.identity import boot_id, identity
from sitter.supervise.not_started import why_not_started
from sitter.supervise.what_next import WhatNext

PARENT_PID, TRAIN_PID, LOG = "parent.pid", "train.pid", "train.log"

AT_ONCE_S = 5.0
"""A training that ends with an error before it is this old is said to have died at once, with its last words."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
CALL_OFF = signal.SIGUSR2
OPERATORS = (signal.SIGINT, CALL_OFF)
ASK_AGAIN_S = (5.0, 30.0, 300.0)
LEAVING_S = 30.0
"""A parent that has written exit.json is about to be gone; the next one waits for that."""
CTRL_C = 130


class OverError(Exception):
    """There is no other start; the text says why, empty where it ended well."""


class Parent:
    """One training, from its first start to its last end. ``report`` is a descriptor of the process in front; it may be gone at any time.

    ``grace``: an end within so many seconds of the first start is told to whoever launched us, and not started again.
    """

    def __init__(self, run: Path, command: list[str], report: int, attempts: Attempts | None = None, grace: float = 0.0) -> None:
        self._run, self._command, self._report, self._grace = run, command, report, grace
        self._attempts = attempts or Attempts(run, 0)
        self._child: int | None = None
        self._early: list[int] = []
        self._between = False
        """Nothing lives: from an end until the next training is made."""
        self._told = ""
        """The signal by which we were told to end."""
        self._over = ""
        """Why there is no other start."""
        self._called_off = False
        self._mono, self._before = 0.0, ""  # of the last start: monotonic seconds, and the run's newest session by then
        self._what_next, self._files = WhatNext(run), self._attempts.files
        self._wake = os.pipe()

    def go(self) -> None:
        """Start, wait, write it down; again where that is wanted."""
        for number in (*FORWARDED, CALL_OFF):
            signal.signal(number, self._heard)  # before anybody can find us
        self._files.try_again()
        signal.signal(signal.SIGHUP, lambda *_: None)  # not SIG_IGN, which the training would inherit
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        lock = self._claim()
        if lock is None:
            why = f"another training runs in {self._run.name}; stop it first, or give the new one another name"
            self._say(error=why, taken=True)
            return
        log = os.open(self._run / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        nowhere = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for target, source in ((0, nowhere), (1, log), (2, log)):
            os.dup2(source, target)
        ended, resume = ExitFile(self._run), os.environ.get("SITTER_RESUME", "")
        (self._run / ATTEMPTS).unlink(missing_ok=True)
        how, starts, attempts, at_once = dict[str, Any](), 0, self._attempts, False
        try:
            while True:
                how = self._once(log, resume)
                starts += 1
                at_once = how["pid"] is None or how["lived"] < self._grace
                if not attempts.most or (starts == 1 and at_once):
                    break
                resume = self._again(how)
        except OverError as e:
            attempts.ended(str(e))
        called_off = self._called_off and how["code"] != 0
        more = {"attempts": starts, "given_up": attempts.given_up, "called_off": called_off} if attempts.most else {}
        ended.write({**how, "told": self._told, **more})
        if at_once:  # by our clock: the process in front may have been kept waiting, and takes a later end for a start that has failed
            self._say(code=how["code"], signal=how["signal"], **({"error": how["error"]} if how["error"] else {}))

    def _once(self, log: int, resume: str) -> dict[str, Any]:
        """One attempt; how it ended, as exit.json has it. Raises OverError where it was called off just as it was made."""
        since, started, kills = os.fstat(log).st_size, time.time(), oom_kills()
        self._mono, self._before = time.monotonic(), last_agent(self._run)[1]
        try:
            child = subprocess.Popen(self._command, env=self._environment(resume), process_group=0)
        except OSError as e:
            code, text = why_not_started(self._command, e)
            self._between = True
            self._attempts.failed(started, since, resume)
            return self._how(log, since, started, kills, pid=None, code=code, signal=None, error=text)
        self._child = child.pid
        again, self._between = self._between, False
        if again and self._over:  # the signal came when it could no longer be left unmade: it is some milliseconds old
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            self._child = None
            raise OverError(self._over)
        for number in self._early:
            self._heard(number, None)
        self._early.clear()
        self._files.put(TRAIN_PID, identity(child.pid, started, self._run))
        self._attempts.began(child.pid, started, since, resume)
        self._say(parent=os.getpid(), pid=child.pid, started=started)
        seen = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        self._between = True
        if self._told or (seen is not None and seen.si_code == os.CLD_KILLED and seen.si_status in FORWARDED):
            let_finish(child.pid, self._run)
        if self._attempts.most:
            clear_group(child.pid)  # what it left behind may hold the GPU's memory, or a port, that the next one needs
        status = child.wait()
        self._child = None
        if status == -signal.SIGUSR1:  # a notice that nothing in it took, and that came to it alone, is one all the same
            self._told = self._told or "SIGUSR1"
            self._over = self._over or "not started again: it was ended by SIGUSR1, a notice that its machine is going"
        lived, error = time.monotonic() - self._mono, ""
        if status > 0 and lived < AT_ONCE_S:
            said = last_words(self._run / LOG, since)
            error = f"the training ended at once (after {lived:.1f} s) with exit code {status}"
            error += f": {said}" if said else ""
        how = {"code": status, "signal": None} if status >= 0 else {"code": None, "signal": -status}
        return self._how(log, since, started, kills, pid=child.pid, error=error, **how)

    def _how(self, log: int, since: int, started: float, kills: int | None, **more: Any) -> dict[str, Any]:
        now = oom_kills()
        killed = None if kills is None or now is None else max(0, now - kills)
        times = {"time": time.time(), "started": started, "lived": (mono := time.monotonic()) - self._mono, "mono": mono, "boot": boot_id()}
        return {**more, **times, "log": [since, os.fstat(log).st_size], "oom_kills": killed}

    def _again(self, how: dict[str, Any]) -> str:
        """The checkpoint to go on from (empty: from the start), after the pause. Raises OverError where it is not started again."""
        attempts = self._attempts
        keep = {k: how[k] for k in ("code", "signal", "error", "log", "oom_kills", "lived")}
        attempts.over(ended=how["time"], **keep)
        if how["code"] == 0:
            raise OverError("")
        if self._over:
            raise OverError(self._over)
        if how["signal"] == signal.SIGINT or how["code"] == CTRL_C:
            raise OverError("not started again: it was ended by Ctrl-C")
        told = self._ask_until_told(how["started"])
        if told.get("end") in ("stopped", "preempted"):
            why = {"stopped": "the operator stopped it", "preempted": "the machine is being taken away"}[told["end"]]
            raise OverError(f"not started again: {why}")
        attempts.reached(told.get("step"), steps_known=bool(told.get("steps_known")))
        if stuck := attempts.stuck():
            raise OverError(stuck)
        if self._wait(attempts.planned(str(told.get("said", "")))):
            raise OverError(self._over)
        return str(told.get("path") or "")

    def _ask_until_told(self, started: float) -> dict[str, Any]:
        """Where nothing can be learned of the checkpoints, going on from the start would throw days away: so it is asked again, and in the
        end given up."""
        for pause in ASK_AGAIN_S:
            told = self._what_next.ask(started, self._mono, self._before, lambda: not self._over)
            if told is not None and not self._over:
                return told
            if self._wait(pause):
                raise OverError(self._over)
        raise OverError(f"given up: what to go on from could not be found out; {LOG} says why")

    def _wait(self, seconds: float) -> bool:
        """Until the pause is over; True where the parent was told to end meanwhile."""
        deadline = time.monotonic() + seconds
        while not self._over and (left := deadline - time.monotonic()) > 0:
            if select.select([self._wake[0]], [], [], left)[0]:
                os.read(self._wake[0], 64)
        return bool(self._over)

    def _claim(self) -> int | None:
        """Hold parent.pid for life; None where another parent does. Raises OSError where it cannot be locked at all."""
        fd = os.open(self._run / PARENT_PID, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + LEAVING_S
        while True:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as e:
                if e.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                if not (self._run / EXIT).exists() or time.monotonic() > deadline:
                    return None
                time.sleep(0.01)
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(identity(os.getpid(), time.time(), self._run)).encode() + b"\n", 0)
        return fd

    def _environment(self, resume: str) -> dict[str, str]:
        told = {**os.environ, "SITTER_RUN": str(self._run), "PYTHONUNBUFFERED": "1", "SITTER_RESUME": resume}
        return told if resume else {k: v for k, v in told.items() if k != "SITTER_RESUME"}

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        """A signal. While a training lives it is passed on; and between two it is the other start that is called off."""
        name = signal.Signals(number).name
        if self._between or self._has_just_ended():
            self._called_off = self._called_off or number in OPERATORS
            self._told, self._over = name, f"the restart was called off by {'the operator' if number == CALL_OFF else name}"
            os.write(self._wake[1], b"x")
            self._what_next.leave_off()
            return
        if number == CALL_OFF:
            return
        if number != signal.SIGUSR1:
            self._told, self._over = name, f"not started again: its parent was told to end by {name}"
        if self._child is None:
            self._early.append(number)
            return
        try:
            os.killpg(self._child, number)
        except ProcessLookupError:
            pass  # it has just ended, and is being waited for

    def _has_just_ended(self) -> bool:
        """Whether the child is dead already, though nobody has waited for it yet."""
        if self._child is None:
            return False
        try:
            return os.waitid(os.P_PID, self._child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:
            return True

    def _say(self, **what: Any) -> None:
        try:
            os.write(self._report, json.dumps(what).encode() + b"\n")
        except OSError:
            pass  # whoever launched us has left, as it should


def wait_in_front(reports: int, grace: float) -> dict[str, Any]:
    """What the process in front prints: the start, and the end as well where that comes within ``grace`` seconds."""
    told: dict[str, Any] = {}
    buffer, deadline = b"", None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([reports], [], [], left)[0]:
            return told
        chunk = os.read(reports, 65536)
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            told |= json.loads(line)
        if "code" in told or "error" in told:
            return told
        if not chunk:
            return told or {"error": f"the parent of the training died before it could start it; {LOG} may say why"}
        if "pid" in told and deadline is None:
            deadline = time.monotonic() + grace


def main(arguments: list[str]) -> NoReturn:
    """See the module's text. Exit code of the process in front: 0 the training was started, 1 not, 2 asked wrongly."""
    given = {"--grace": 0.5, "--restart": 0.0, "--pause": FIRST_S, "--pause-most": CAP_S, "--furthest": -1.0}
    while arguments and arguments[0] in given:
        given[arguments[0]], arguments = float(arguments[1]), arguments[2:]
    if len(arguments) < 3 or arguments[1] != "--":
        sys.stderr.write("usage: python -m sitter.supervise.parent [--grace S] [--restart N] RUN_DIR -- CMD…\n")
        sys.exit(2)
    run, command = Path(arguments[0]).resolve(), arguments[2:]
    reports, report = os.pipe()
    between = os.fork()
    if between == 0:
        os.close(reports)
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        furthest = int(given["--furthest"]) if given["--furthest"] >= 0 else None
        restart, first_s, cap_s = int(given["--restart"]), given["--pause"], given["--pause-most"]
        attempts = Attempts(run, restart, first_s=first_s, cap_s=cap_s, furthest=furthest)
        parent = Parent(run, command, report, attempts, grace=given["--grace"])
        try:
            parent.go()
        except OSError as e:
            os.write(report, json.dumps({"error": f"cannot use the run directory {run}: {e}"}).encode() + b"\n")
            os._exit(1)
        os._exit(0)
    os.close(report)
    os.waitpid(between, 0)
    told = wait_in_front(reports, given["--grace"])
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    sys.exit(0 if "pid" in told and not told.get("error") else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
