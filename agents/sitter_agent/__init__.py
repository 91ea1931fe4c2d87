"""The part of sitter that lives in the training process. Importing it costs next to nothing; ``start`` brings in the rest."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sitter_agent.agent import Agent, current, start

__all__ = ["Agent", "current", "start"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from sitter_agent import agent

        return getattr(agent, name)
    raise AttributeError(f"module 'sitter_agent' has no attribute {name!r}")
