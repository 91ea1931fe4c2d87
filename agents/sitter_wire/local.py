"""A local directory for what a run's own place cannot carry: recorder, history and locks of runs on network file systems.

The run directory stays where it is, with everything a person looks for in it; ``recorder``, ``history.db`` and the lock files are links
there. SQLite follows the link and keeps its WAL beside the real file; whoever opens a run needs to know nothing of all this.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from sitter_wire.places import PlaceError, RunDir, check_owned_dir

TRIAL_S = 15.0
"""A trial takes 0.05 s, on a busy disk 1 s; a lock server that does not answer takes for ever."""
KILLED_S = 1.0
"""Where there is no thread to wait for it: a killed process that has not ended by then hangs in the kernel."""
TRIAL = Path(__file__).with_name("trial.py")


def why_not(directory: Path) -> str:
    """Why mmap, locks or WAL do not work in ``directory``, as it was tried there in a process of its own; empty where they do, and where
    this Python cannot say (an embedded one has no executable)."""
    if not sys.executable:
        return ""
    try:
        trial = subprocess.Popen(
            [sys.executable, "-I", "-S", os.fspath(TRIAL), os.fspath(directory)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
    except OSError:
        return ""
    try:
        said, _ = trial.communicate(timeout=TRIAL_S)
    except subprocess.TimeoutExpired:
        trial.kill()  # and not waited for here: what hangs in the kernel dies when the kernel lets it
        try:
            threading.Thread(target=trial.communicate, name="sitter-trial", daemon=True).start()
        except RuntimeError:  # this host gives us no other thread
            with contextlib.suppress(subprocess.TimeoutExpired):
                trial.communicate(timeout=KILLED_S)
        return f"no answer within {TRIAL_S:.0f} s"
    if trial.returncode < 0:
        return f"mmap: the trial ended by signal {-trial.returncode}"
    return said.strip().splitlines()[-1] if said.strip() else ""


def bases() -> list[Path]:
    """Where local directories may lie, best first: asked for, in the home directory, or what outlives a reboot, or not."""
    asked = os.environ.get("SITTER_LOCAL_DIR")
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111 — without a home it stays as it is
    found = [Path(asked)] if asked else []
    if state.startswith("/"):
        found.append(Path(state) / "sitter" / "local")
    return [*found, Path(f"/var/tmp/sitter-local-{os.getuid()}"), Path(f"/tmp/sitter-local-{os.getuid()}")]


def base() -> Path:
    """The first of ``bases`` that is ours alone and carries it all, made where it is not there. Raises PlaceError."""
    why: list[str] = []
    for place in bases():
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_owned_dir(place)
        except OSError as e:
            why.append(f"{place}: {e.strerror or e}")
            continue
        reason = why_not(place)
        if not reason:
            return place
        why.append(f"{place}: {reason}")
    raise PlaceError(f"no local directory for recorder and history ({'; '.join(why)}): set SITTER_LOCAL_DIR to one on a local disk")


def settle(run: RunDir) -> str:
    """For a run directory just made: where its place carries not all of it, have recorder, history and locks in a local directory. The
    sentence that says so, empty where nothing had to be done. Raises PlaceError where there is no such directory, or no links are possible.
    """
    reason = why_not(run.path)
    if not reason:
        return ""
    digest = hashlib.sha256(os.fsencode(run.path.resolve())).hexdigest()[:12]
    folder = base() / f"{run.name}-{digest}"
    shutil.rmtree(folder, ignore_errors=True)  # of a run of this name and place that was deleted
    try:
        (folder / run.recorder.name).mkdir(mode=0o700, parents=True)
        for path in (run.recorder, run.history, run.agent_lock, run.daemon_lock, run.parent_lock, run.resume_lock):
            path.symlink_to(folder / path.name)
    except OSError as e:
        shutil.rmtree(folder, ignore_errors=True)
        raise PlaceError(
            f"{run.path} does not carry {reason}, and links to {folder} cannot be made ({e.strerror}): run from a local disk"
        ) from e
    return f"{run.path.parent} does not carry {reason}: recorder and history are kept in {folder}"
