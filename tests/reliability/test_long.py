"""A long life: memory and file handles of agent and daemon stay flat, and the first look is as quick in the end as at the start."""

import pytest

from tests.reliability.figures import long


@pytest.mark.timeout(300)
def test_memory_and_handles_stay_flat_while_clients_come_and_go():
    figures = long.measure(30_000, print)
    assert not long.broken(figures), "\n".join(long.table(figures))
    assert (figures["clients"], figures["replaced"]) == (long.SHORT_CLIENTS, long.SHORT_REPLACED)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_and_handles_stay_flat_over_ten_million_steps():
    figures = long.measure(10_000_000, print)
    print("\n".join(long.table(figures)))
    assert not long.broken(figures)
