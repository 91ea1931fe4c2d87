"""The part of sitter that lives in the training process. Importing it costs next to nothing; ``start`` brings in the rest."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sitter_agent.agent import Agent, current, start

__all__ = ["Agent", "current", "start"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        if sys.platform == "win32":
            raise ImportError("sitter does not run on native Windows: run the training under WSL2")
        from sitter_agent import agent

        return getattr(agent, name)
    raise AttributeError(f"module 'sitter_agent' has no attribute {name!r}")
