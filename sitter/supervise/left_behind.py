"""A command that ends at once and leaves the training to itself, as `setsid` does, and `nohup … &` in a script."""

import psutil

from sitter.locks import holder
from sitter_wire.places import RunDir


def left_behind(run: RunDir) -> str:
    """A sentence about what still lives of a command that has ended well; empty where nothing does. To be asked only of one that ended at
    once, for a training that has trained may have helpers (of its loader, of `multiprocessing`) that end a moment after it."""
    home, watcher = str(run.path.resolve()), holder(run.daemon_lock)
    for process in psutil.process_iter():
        try:
            if process.environ().get("SITTER_RUN") != home or process.pid == watcher or process.status() == psutil.STATUS_ZOMBIE:
                continue
            what = " ".join(process.cmdline())[:80]
        except psutil.Error:  # another user's, or gone by now
            continue
        return (
            f"its command has ended and left process {process.pid} ({what}) behind: that is watched once its agent speaks, but nobody will"
            " see how it ends, nor start it again; let the command be the training itself, without setsid, nohup or &"
        )
    return ""
