"""Holds one drill: the run, the fault, what must follow, the verdict."""

import sys
import time
from typing import Literal

from sitter.clock import human
from sitter.drill.base import Ended, Fault, Noticed, Planted
from sitter.drill.scene import Failed, Scene
from sitter.model import Struct
from sitter_wire import drill

STEPS = 200_000
"""Of the built-in model's schedule; it is stopped when the verdict is in."""


class Report(Struct, frozen=True):
    """What came of it, as ``--json`` prints it. Seconds; unknown is None."""

    fault: str
    verdict: Literal["PASS", "FAIL"]
    planted: str | None
    planted_step: int | None
    noticed: str | None
    time_to_notice_s: float | None
    did: str | None
    ended: str
    steps_lost: int | None
    seconds: float
    run: str
    command: list[str]
    settings: list[str]

    def lines(self) -> list[str]:
        """For people."""
        at = f" at step {self.planted_step:,}" if self.planted_step is not None else ""
        after = f" after {seconds(self.time_to_notice_s)}" if self.time_to_notice_s is not None else ""
        rows = [
            ("planted", f"{self.planted}{at}" if self.planted else "nothing"),
            (f"noticed{after}", self.noticed or "nothing"),
            ("done", self.did or "nothing"),
            ("end", self.ended),
            ("steps lost", "unknown" if self.steps_lost is None else f"{self.steps_lost:,}"),
        ]
        width = max(len(name) for name, _ in rows)
        return [
            f"{self.verdict}  drill {self.fault}, {human(self.seconds)}", *(f"  {name:<{width}}  {text}" for name, text in rows),
            f"  {'logbook':<{width}}  sitter logbook -r {self.run}",
        ]  # fmt: skip


def builtin_command(fault: Fault) -> list[str]:
    """The demo's model, with its part of the fault."""
    plant = ["--plant", fault.builtin_plant] if fault.builtin_plant else []
    return [sys.executable, "-m", "sitter_demo", "--steps", str(STEPS), *plant]


def hold(fault: Fault, scene: Scene, settings: list[str]) -> Report:
    """One drill, from the start to the end of its processes. Raises SitterError where it could not be held."""
    began = time.monotonic()
    planted: Planted | None = None
    noticed: Noticed | None = None
    ended: Ended | None = None
    trouble = ""
    try:
        told = fault.name if scene.own and fault.name in drill.BY_AGENT else fault.told
        scene.start(restart=fault.restart, told=told)
        scene.say("the training has begun; the fault is planted once there is something to go back to")
        try:
            planted = fault.plant(scene)
            scene.say(f"planted: {planted.what}")
            noticed = fault.notice(scene, planted)
            scene.say("noticed; now it has to be put right")
            ended = fault.hold(scene, planted)
        except Failed as e:
            trouble = str(e)
    finally:
        scene.say("the training is ended")
        scene.close(fault.kill_after_s)
    return Report(
        fault=fault.name, verdict="PASS" if ended is not None else "FAIL", planted=planted.what if planted else None,
        planted_step=planted.step if planted else None, noticed=noticed.what if noticed else None,
        time_to_notice_s=round(max(0.0, noticed.at - planted.at), 3) if noticed and planted else None,
        did=ended.did if ended else None, ended=ended.how if ended else trouble, steps_lost=ended.steps_lost if ended else None,
        seconds=round(time.monotonic() - began, 1), run=scene.run.name, command=scene.command, settings=settings,
    )  # fmt: skip


def seconds(value: float) -> str:
    """``40 ms``, ``2.4 s``, ``1 m 5 s``."""
    return f"{1000 * value:.0f} ms" if value < 1.0 else f"{value:.1f} s" if value < 60.0 else human(value)


def run_name(fault: str) -> str:
    """``drill-nan-1121-0512``: month, day, hour and minute."""
    return f"drill-{fault}-{time.strftime('%m%d-%H%M')}"


