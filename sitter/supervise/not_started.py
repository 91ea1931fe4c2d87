"""Why a command could not be executed, in a sentence. Standard library only, since the small parent has this."""

import errno
import os
import shutil
from pathlib import Path

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Codes in exit.json where nothing could be started, as a shell has them."""


def why_not_started(command: list[str], e: OSError) -> tuple[int, str]:
    """Code and sentence for a command that could not be executed."""
    name = command[0]
    found = shutil.which(name) if os.sep not in name else name
    if isinstance(e, FileNotFoundError):
        if found and Path(found).exists():
            return NOT_FOUND, f"{name} cannot be started: the interpreter its first line names is not there; mend that line"
        where = "there is no such file" if os.sep in name else "it is in no directory of PATH"
        return NOT_FOUND, f"the training command {name} was not found: {where}; check its spelling"
    if isinstance(e, PermissionError):
        if Path(name).is_dir():
            return NOT_EXECUTABLE, f"the training command {name} is a directory; name a program"
        return NOT_EXECUTABLE, f"the training command {name} is not executable; chmod +x it, or name its interpreter"
    if e.errno == errno.ENOEXEC:
        return NOT_EXECUTABLE, f"{name} is not a program: begin it with a #! line, or start it by its interpreter"
    return NOT_EXECUTABLE, f"the training command {name} cannot be started: {e.strerror}"
