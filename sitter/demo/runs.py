"""``sitter demo``: one model trained three times from one seed, to show what looking after a run is worth.

Clean (no troubles), unattended (troubles, nobody there) and babysat (the same troubles under sitter: the real agent, the real
daemon, the guard as everybody gets it). The first two train in one process beside the third, so that two cores suffice.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from sitter.client import Client
from sitter.demo.curves import Trained
from sitter.errors import SitterError
from sitter.locks import holder
from sitter.model import ExitNow, Incident, LogEntry, Status
from sitter.store.reader import Reader
from sitter.supervise.daemon_process import start_daemon
from sitter.supervise.exit import read_exit
from sitter.supervise.launch import launch
from sitter_wire import rundir
from sitter_wire.places import RunDir
from sitter_wire.queries import GetLogbook, GetStatus, StopNow

HEADLESS_STEPS = 2_000
"""13 s a run on one core of a present machine, so that the three of them end well within 90 s on half as fast ones."""
WATCHED_STEPS = 15_000
"""Two to three minutes: long enough to look around."""
LOOK_S = 0.25
REPORT_S = 2.0
LEAVING_S = 15.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is trained. The rate goes wrong after a third of the steps, the data after two thirds."""

    steps: int
    seed: int

    @property
    def plant(self) -> str:
        """In the words of ``sitter_demo.plants``."""
        return f"lr@{self.steps * 35 // 100},nan@{self.steps * 65 // 100}:3"


@dataclass(frozen=True)
class Outcome:
    """The three trainings, what sitter noted, and where it lies."""

    plan: Plan
    run: RunDir
    trained: dict[str, Trained]
    incidents: list[Incident]

    def told(self) -> dict[str, Any]:
        """For ``--json``; non-finite numbers as they are."""
        clean, unattended, babysat = (self.trained[name] for name in ("clean", "unattended", "babysat"))
        return {
            "clean": {"final_val_loss": clean.final_val_loss, "seconds": clean.seconds, "steps_per_s": clean.steps_per_s},
            "unattended": {"final_val_loss": unattended.final_val_loss, "died_at_step": unattended.died_at_step},
            "babysat": {
                "final_val_loss": babysat.final_val_loss, "died_at_step": babysat.died_at_step, "seconds": babysat.seconds,
                "steps_per_s": babysat.steps_per_s, "steps_lost": sum(left - to + 1 for left, to in babysat.line()[2]),
            },
            "incidents": self.incidents,
            "log_us_p50": babysat.log_us_p50,
            "steps": self.plan.steps, "seed": self.plan.seed, "planted": self.plan.plant.split(","), "run": str(self.run.path),
        }  # fmt: skip


class Demo:
    """One demonstration: ``start``, then ``follow`` or the screen, then ``finish``; ``close`` whatever happened."""

    def __init__(self, plan: Plan, say: Say) -> None:
        self.plan, self._say = plan, say
        self.command = [
            sys.executable, "-m", "sitter_demo", "--steps", str(plan.steps), "--seed", str(plan.seed), "--plant", plan.plant,
        ]  # fmt: skip
        self.run: RunDir | None = None
        self._told = 0
        self._said = ""
        self._beside: subprocess.Popen[bytes] | None = None

    def start(self, run: RunDir) -> None:
        """In a run directory made for ``command``: the daemon, the training, and what it is compared with. Raises SitterError."""
        folder = run.reports.resolve()
        command = [*self.command, "--out", str(folder / "babysat.json")]  # the folder has a name only now
        rundir.write(run, msgspec.structs.replace(rundir.read(run), command=command))
        start_daemon(run)
        self.run = run
        launch(run, command)
        with (folder / "beside.log").open("wb") as log:
            self._beside = subprocess.Popen(
                [
                    sys.executable, "-m", "sitter_demo.beside", str(folder), "--steps", str(self.plan.steps), "--seed",
                    str(self.plan.seed), "--plant", self.plan.plant,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip

    def follow(self) -> None:
        """Until all three have ended; says how far they are, and each line of the logbook as it is written."""
        run, beside = self._started()
        client = Client(run)
        began = reported = time.monotonic()
        told_all = False
        try:
            while True:
                ended, beside_ended = read_exit(run), beside.poll() is not None
                if ended is None:
                    self._tell_logbook(client)
                now = time.monotonic()
                if now - reported >= REPORT_S or (ended is not None and beside_ended):
                    reported = now
                    self._say(f"{now - began:4.0f} s  with sitter: {_looked_after(client, ended)} · {self._beside_says()}")
                if ended is not None and not told_all:
                    self._tell_logbook(client)
                    client.close()  # the daemon leaves when nobody asks any more
                    told_all = True
                if ended is not None and beside_ended:
                    return
                with contextlib.suppress(subprocess.TimeoutExpired):
                    beside.wait(LOOK_S) if not beside_ended else time.sleep(LOOK_S)  # exit.json offers no event to wait for
        finally:
            if not told_all:
                client.close()

    def finish(self) -> Outcome:
        """Read what there is to be compared. Raises SitterError where a training did not come to its end."""
        run, _ = self._started()
        deadline = time.monotonic() + LEAVING_S
        while holder(run.daemon_lock) is not None and time.monotonic() < deadline:
            time.sleep(LOOK_S)  # it leaves by itself once all is committed
        trained = {name: Trained.read(run.reports / f"{name}.json") for name in ("clean", "unattended", "babysat")}
        reader = Reader(run.history)
        try:
            incidents = reader.incidents()
        finally:
            reader.close()
        return Outcome(plan=self.plan, run=run, trained=trained, incidents=incidents)

    def close(self, *, stop_training: bool = False) -> None:
        """Ends the process beside; with ``stop_training`` the looked-after one too."""
        if self._beside is not None and self._beside.poll() is None:
            self._beside.terminate()
            self._beside.wait()
        if stop_training and self.run is not None and read_exit(self.run) is None:
            client = Client(self.run)
            try:
                client.ask(StopNow(), 45.0)
            except SitterError as e:
                self._say(str(e))
            finally:
                client.close()

    def _started(self) -> "tuple[RunDir, subprocess.Popen[bytes]]":
        if self.run is None or self._beside is None:
            raise SitterError("the demo was not started: call start() first")
        return self.run, self._beside

    def _tell_logbook(self, client: Client) -> None:
        """What is new in it; a finding and the incident it opens say the same, which is said once."""
        entries: list[LogEntry] = []
        with contextlib.suppress(SitterError):  # the daemon may have left already: its logbook is read at the end
            entries = client.ask(GetLogbook(after=self._told), 2.0)
        for entry in entries:
            self._told = max(self._told, entry.id)
            if entry.kind in ("finding", "incident", "outcome") and entry.detail not in ("", self._said):
                self._said = entry.detail
                self._say(f"        step {entry.step:,}: {entry.detail}" if entry.step is not None else f"        {entry.detail}")

    def _beside_says(self) -> str:
        assert self.run is not None
        try:
            lines = (self.run.reports / "beside.log").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "–"
        which = next((line.rstrip(":") for line in reversed(lines) if line.endswith(":")), "")
        return f"{which}, {' '.join(lines[-1].split())}" if lines and which != lines[-1].rstrip(":") else f"{which}, starting"


def _looked_after(client: Client, ended: ExitNow | None) -> str:
    if ended is not None:
        return "ended" if ended.code == 0 else f"ended with {'code' if ended.signal is None else 'signal'} {ended.code or ended.signal}"
    try:
        status: Status = client.ask(GetStatus(), 2.0)
    except SitterError:
        return "the daemon does not answer"
    loss = status.signals.get("loss")
    return f"step {status.step or 0:,}" + (f" loss {loss.last:.3f}" if loss is not None else "")


def verdict(outcome: Outcome) -> list[str]:
    """What the three runs say, in sentences."""
    clean, alone, babysat = (outcome.trained[name] for name in ("clean", "unattended", "babysat"))
    died = f"died at step {alone.died_at_step:,}" if alone.died_at_step is not None else f"ended at {alone.final_val_loss:.3f}"
    lost = sum(left - to + 1 for left, to in babysat.line()[2])
    lines = [
        f"no troubles             val_loss {clean.final_val_loss:.3f}",
        f"troubles, nobody there  {died}",
        f"troubles, with sitter   val_loss {babysat.final_val_loss:.3f}, {lost:,} of {len(babysat.step):,} steps lost",
    ]
    lines += [f"  {i.text} → {i.verdict or 'still open'}" for i in outcome.incidents]
    if babysat.log_us_p50 is not None:
        step_us = 1e6 * babysat.seconds / max(1, len(babysat.step))
        lines.append(f"agent.log took {babysat.log_us_p50:.1f} µs (median), {100 * babysat.log_us_p50 / step_us:.2f} % of a step")
    return lines
