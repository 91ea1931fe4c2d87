"""The suite on all cores: when, and with how many workers.

``pytest`` and ``pytest DIRECTORY`` go to several workers, where pytest-xdist is there; a file, a test, ``-m slow``, ``-k``, ``--pdb`` or
``-s`` stay in one process, and so does ``-n 0``. Half of the tests wait for other processes more than they compute, so there is one
worker more than there are cores.
"""

import contextlib
import os
from pathlib import Path

import psutil
import pytest

MOST = 8
"""More would not be quicker: the longest test takes as long as an eighth of the suite."""
BYTES_EACH = 2 << 30
"""A worker with torch and the frameworks, and the training and the daemon that its test has started."""


def cores() -> int:
    """Those that this process may use, also in a container that was given less time than the machine has."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        n = min(n, max(1, round(int(quota) / int(period))))
    return n


def workers() -> int:
    """How many for this machine; 0 for none but this process."""
    n = min(cores() + 1, MOST, psutil.virtual_memory().available // BYTES_EACH)
    return n if n > 1 else 0


def wanted(config: pytest.Config) -> bool:
    """Whether whole directories of the default suite are asked for, and nobody has said otherwise."""
    option = config.option
    if hasattr(config, "workerinput") or getattr(option, "numprocesses", 0) is not None:
        return False  # in a worker, without pytest-xdist, or with -n
    if option.markexpr not in config.getini("addopts") or option.keyword or option.collectonly or option.usepdb or option.capture == "no":
        return False
    return all(Path(str(config.invocation_params.dir), a).is_dir() for a in config.args)
