"""How much memory is left, as a real control group says it; and snapshots that give way before its limit is met."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.cgroups import limited

MIB = 1 << 20
LIMIT = 192 * MIB

SCRIPT = """
    import sys
    import numpy as np
    from sitter_agent import memory, snapshots
    from sitter_agent.generic_state import GenericAdapter
    from sitter_agent.progress import Progress

    snapshots.PRESSURE_EVERY_S = 0.0
    adapter, state, progress = GenericAdapter(), {"w": np.ones(1 << 19)}, Progress(branch=0, line=[(0, 0)])  # 4 MiB
    adapter.register(lambda: state, state.update)
    ring = snapshots.Ring()
    print(memory.memory_left())
    ring.prepare(adapter.nbytes())
    begun, ballast, held = ring.slots, [], []
    for step in range(1, 400):
        progress.done = progress.current = step
        left = memory.memory_left()
        if step > 40 and left > 3 << 20:
            ballast.append(np.ones(min(1 << 17, left // 16)))  # a script that takes more and more, up to 3 MiB from the limit
        ring.clear_up_to((0, step - 3), progress)
        ring.take(adapter, lambda s: None, progress, step)
        held.append(len(ring.held))
    print(begun, ring.slots, len(ring.held), max(held), sum(b.nbytes for b in ballast) // (1 << 20))
"""


@pytest.fixture
def group():
    with limited(LIMIT) as place:
        yield place


def inside(group: Path, code: str) -> list[str]:
    """What a process in the group prints; it must end well, and by itself."""
    def enter() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], preexec_fn=enter, capture_output=True, text=True, check=False, env=env, timeout=200
    )
    assert done.returncode == 0, f"{done.returncode} {done.stderr}"
    return done.stdout.splitlines()


def test_what_is_left_is_what_the_group_allows_and_page_cache_counts_as_free(group, tmp_path):
    big = tmp_path / "big"
    big.write_bytes(bytes(64 * MIB))
    before, mapped, read = inside(group, f"""
        from pathlib import Path
        from sitter_agent.memory import memory_left
        print(memory_left())
        held = bytearray(64 << 20)
        print(memory_left())
        Path({str(big)!r}).read_bytes()
        print(memory_left())
    """)
    assert 0 < int(before) < LIMIT
    assert 55 * MIB < int(before) - int(mapped) < 75 * MIB
    assert int(mapped) - int(read) < 16 * MIB


def test_snapshots_give_way_before_the_group_kills_the_training(group):
    left, told = inside(group, SCRIPT)
    begun, slots, held, most, ballast = map(int, told.split())
    assert int(left) < LIMIT
    assert begun == most == 8
    assert slots == held == 2
    assert ballast > 0.6 * int(left) / MIB, "the script got the memory that snapshots had"
