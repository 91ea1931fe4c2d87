"""What a dead training's own records say of its end, and what to go on from. Standard library only, since the small parent has this.

Finding that out reads the history and whole checkpoints: it is done by a process of its own, ``python -m sitter.cli.again``, which needs no
daemon, and leaves nothing in the one that asks.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ASK_S = 1800.0
"""Checkpoints may be large and lie on a slow disk."""


class WhatNext:
    """Asked about one run, by its parent; ``leave_off`` may be called from a signal handler meanwhile."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._asking: subprocess.Popen[str] | None = None

    def ask(self, started: float, mono: float, before: str, wanted: Callable[[], bool]) -> dict[str, Any] | None:
        """Its answer (cli/again.py has it); None where nothing could be learned, which stderr says, or it is not ``wanted`` any more.

        ``started``, ``mono``: when the training was started, unix and monotonic seconds; ``before``: the run's newest session by then.
        """
        words = [sys.executable, "-P", "-m", "sitter.cli.again", "--since", str(started), str(mono), "--not", before]
        environment = {k: v for k, v in os.environ.items() if k not in ("SITTER_RUN", "SITTER_RESUME")}
        try:
            asking = self._asking = subprocess.Popen(
                [*words, str(self._run)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env=environment, cwd="/", start_new_session=True,
            )  # fmt: skip
            with asking:
                if not wanted():  # whole checkpoints are not read for nothing
                    asking.kill()
                try:
                    out, said = asking.communicate(timeout=ASK_S)
                except subprocess.TimeoutExpired:
                    asking.kill()
                    raise
            told = json.loads(out)
        except (OSError, subprocess.SubprocessError) as e:
            sys.stderr.write(f"sitter: what to go on from could not be found out: {e}\n")
            return None
        except ValueError:
            if wanted():
                said = said.strip() or "no answer"
                sys.stderr.write(f"sitter: what to go on from could not be found out: {said.splitlines()[-1]}\n")
            return None
        finally:
            self._asking = None
        return told if isinstance(told, dict) else None

    def leave_off(self) -> None:
        """The answer is not wanted any more."""
        asking = self._asking
        if asking is not None:
            asking.kill()
