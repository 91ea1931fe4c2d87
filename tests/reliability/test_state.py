"""A kill at any moment of a checkpoint's writing, or a full disk, leaves the earlier ones loadable and the broken one recognised."""

import pytest

from tests.reliability.figures import state


def test_a_writer_killed_at_any_moment_and_a_full_disk_leave_whole_checkpoints_only():
    figures = state.measure(20, print, "the same each time")
    assert state.broken(figures) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_hundred_kills():
    figures = state.measure(300, print)
    assert state.broken(figures) == []
    print(*state.table(figures), sep="\n")
