"""Law 2, whole: every ``log`` call that had returned is in the history, once, with its value, whoever is killed, and whoever is away.

What happens beyond the recorder's cap is measured in test_table.py.
"""

import pytest

from tests.reliability.figures import away, kills


def test_no_record_is_lost_or_doubled_by_kills_of_trainer_and_daemon():
    figures = kills.measure(30, print, "the same each time")
    assert kills.broken(figures) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_record_is_lost_or_doubled_by_a_thousand_kills():
    figures = kills.measure(1000, print)
    assert kills.broken(figures) == []
    assert figures["logged"] > 1_000_000
    print(*kills.table(figures), sep="\n")


def test_an_hour_without_a_daemon_arrives_and_nothing_of_it_is_acted_on():
    assert away.broken(away.measure(2, print)) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_hour_at_a_thousand_hertz_without_a_daemon_arrives_and_nothing_of_it_is_acted_on():
    figures = away.measure(len(away.CASES), print)
    assert away.broken(figures) == []
    print(*away.table(figures), sep="\n")


@pytest.mark.parametrize("changed", [{"lost": 1}, {"doubled": 1}, {"wrong": 1}, {"strangers": 1}, {"rotations": 0}, {"faults": ["x"]}])
def test_a_figure_that_is_not_allowed_breaks_the_promise(changed):
    """Or a measurement of nothing would pass."""
    good = {**dict.fromkeys(kills.SUMS, 1), **dict.fromkeys(("lost", "doubled", "wrong", "strangers"), 0), "faults": []}
    good["by_source"] = dict.fromkeys(kills.SOURCES, 1)
    assert kills.broken(good) == []
    assert kills.broken({**good, **changed}) != []
