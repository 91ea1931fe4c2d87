"""How a drill and the training that it is held on come to an understanding: three small files in the run directory.

The agent, started with ``SITTER_DRILL`` in its environment, writes ``drill.ready`` once a fault would be met by something that could heal
it. Whoever holds the drill writes ``drill.go``. Whoever plants (the agent, or the built-in model) does so at its next turn, and writes
``drill.planted`` just before. All of it by temp file and rename; nobody waits for anybody.
"""

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "SITTER_DRILL"
TELL = "tell"
"""Value of the variable where the agent only says when it is ready; else the name of a fault that it plants itself."""
BY_AGENT = ("nan", "hang", "gil-hang")
READY, GO, PLANTED = "drill.ready", "drill.go", "drill.planted"


def tell(run: Path, name: str, **about: Any) -> None:
    """Write one of the three. Raises OSError."""
    temp = run / f"{name}.new{os.getpid()}"
    temp.write_text(json.dumps(about) + "\n", encoding="utf-8")
    temp.replace(run / name)


def told(run: Path, name: str) -> dict[str, Any] | None:
    """What one of them says; None where it is not there."""
    try:
        found = json.loads((run / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
