"""What the callbacks have in common: they follow a trainer that runs its own loop and counts its own steps."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from torch import Tensor

import sitter_agent.agent as sitter
from sitter_agent.agent import Agent
from sitter_agent.handlers import raised_by_handler
from sitter_agent.say import Once, in_words

NO_SIGNALS = ("runtime", "per_second", "epoch", "compilation_time", "preparation_time")
"""Parts of the names of what trainers report beside their metrics."""


class Follower:
    """One training, seen through a trainer's callbacks. Nothing in here raises into the trainer."""

    def __init__(self, **settings: Any) -> None:
        """``settings`` go to ``sitter_agent.start``: goal, better, name, extra, kind, daemon."""
        self.agent: Agent | None = None
        self._settings = settings
        self._loss: Tensor | float | None = None
        self._grad_norm: Any = None
        self._say = Once()

    def begin(self, *, step: int, total: int | None, **state: Any) -> int:
        """Start the agent, and take the first snapshot before the first step. ``state``: model, optimizer, scheduler, scaler.

        Returns the step that the state has behind it now: more than ``step`` where a newer checkpoint was put back after a restart."""
        self._loss = self._grad_norm = None
        self.agent = sitter.start(**{"total": total, "step": step, **state, **self._settings})
        step = max(step, self.agent.step)
        self.agent.safe_point(step)
        return step

    def loss(self, value: Any) -> None:
        """The loss of one micro-batch, already divided by their number; kept where it lies, never waited for."""
        try:
            if isinstance(value, Tensor):
                value = value.detach().reshape(())
            if isinstance(value, (Tensor, float, int)):
                self._loss = value + 0.0 if self._loss is None else self._loss + value
        except Exception as e:  # nothing of ours escapes into training
            if raised_by_handler(e):
                raise
            self._say("loss", f"the loss cannot be read ({type(e).__name__}: {e}); training goes on without that signal")

    def grad_norm(self, value: Any) -> None:
        """The gradient norm before clipping."""
        if isinstance(value, (Tensor, float)):
            self._grad_norm = value

    def stepped(self, step: int) -> bool:
        """After a full optimizer step, numbered from 1: record it, be a safe point. Whether the trainer is to stop."""
        agent = self.agent
        if agent is None:
            return False
        values: dict[str, Any] = {}
        if self._loss is not None:
            values["loss"] = self._loss
        if self._grad_norm is not None:
            values["grad_norm"] = self._grad_norm
        self._loss = self._grad_norm = None
        agent.log(values, step=step)
        try:
            agent.safe_point(step)
        except KeyboardInterrupt:
            if not agent.stopping:
                raise  # somebody's Ctrl-C, not our stop
        return agent.stopping

    def evaluated(self, metrics: Mapping[str, Any], step: int) -> None:
        """What a validation said, all of it but run times."""
        if self.agent is None:
            return
        found = {
            name: value
            for name, value in metrics.items()
            if isinstance(value, (int, float, Tensor)) and not any(part in name for part in NO_SIGNALS)
        }
        if found:
            self.agent.log(found, step=step)

    def end(self) -> None:
        """The training is over, or was broken off."""
        agent, self.agent = self.agent, None
        if agent is not None:
            agent.close()


C = TypeVar("C", bound=Callable[..., None])

_say = Once()


def harmless(callback: C) -> C:
    """A trainer's callback out of which nothing of ours is raised into the trainer. Each kind of failure is said once."""

    @functools.wraps(callback)
    def called(*args: Any, **kwargs: Any) -> None:
        try:
            callback(*args, **kwargs)
        except Exception as e:  # nothing of ours escapes into training
            if raised_by_handler(e):
                raise
            _say(f"{callback.__name__}:{type(e).__name__}", f"{callback.__name__} failed ({in_words(e)}); training goes on")

    return cast(C, called)


def wrap(owner: Any, name: str, seen: Callable[[Any], None]) -> Callable[[], None]:
    """Let ``seen`` look at every result of ``owner.name``; returns what takes it off again."""
    original = getattr(owner, name)
    before = vars(owner).get(name)

    def passing_on(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        seen(result)
        return result

    setattr(owner, name, passing_on)

    def take_off() -> None:
        if vars(owner).get(name) is not passing_on:
            return
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)

    return take_off
