"""Where systemd kills a user's processes at logout (``KillUserProcesses``), the training needs a scope of its own.

After logind.conf(5): with ``KillUserProcesses=yes`` the scope of a login session is ended at logout with everything in it,
whatever session or process group it made for itself. Processes in a scope of the user's own manager are left alone, but that
manager itself ends with the last login unless lingering is on (loginctl(1)); without lingering we say so.
"""

import getpass
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

IN_SESSION = re.compile(r"/session-[^/]+\.scope")
LINGER = Path("/var/lib/systemd/linger")
NO_SYSTEMD_RUN = "this machine ends your processes at logout (KillUserProcesses), and systemd-run is not there to prevent it"
NOT_LINGERING = (
    "this machine ends your processes at logout (KillUserProcesses): run `loginctl enable-linger` once, or the training "
    "ends with your last login"
)


class Scope(NamedTuple):
    """``prefix`` goes before the command; empty where none is needed. ``note`` is for the user, empty where all is well."""

    prefix: list[str]
    note: str


def needed(cgroup: str, kills: bool) -> bool:
    """Whether a process whose ``/proc/self/cgroup`` reads so would be ended at logout."""
    return kills and IN_SESSION.search(cgroup) is not None


def find_scope(unit: str) -> Scope:
    """What to put before the command so that it outlives the login. Never raises; without systemd there is nothing to do."""
    try:
        cgroup = Path("/proc/self/cgroup").read_text()
    except OSError:
        return Scope([], "")
    if IN_SESSION.search(cgroup) is None or not needed(cgroup, kills_user_processes()):
        return Scope([], "")
    return scope(unit, lingering=(LINGER / getpass.getuser()).exists())


def scope(unit: str, *, lingering: bool) -> Scope:
    """The prefix and the note where a scope is needed."""
    note = "" if lingering else NOT_LINGERING
    if shutil.which("systemd-run") is None:
        return Scope([], NO_SYSTEMD_RUN)
    return Scope(["systemd-run", "--user", "--scope", "--quiet", "--collect", f"--unit={unit}", "--"], note)


def kills_user_processes() -> bool:
    """What logind says; False where it cannot be asked."""
    bus = ["org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "KillUserProcesses"]
    try:
        said = subprocess.run(
            ["busctl", "get-property", *bus],
            capture_output=True, text=True, timeout=2, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return False
    return said.stdout.strip() == "b true"
