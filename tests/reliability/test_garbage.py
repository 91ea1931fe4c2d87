"""Garbage against every socket and in every file: no crash, no growth, service goes on; everything counted, and said once a kind."""

import pytest

from tests.reliability.figures import garbage, garbage_files


def test_garbage_on_every_socket():
    figures = garbage.measure(5000, print, "the same each time")
    assert garbage.broken(figures) == []
    assert all(len(line) <= 140 for line in garbage.table(figures))


def test_files_that_are_not_what_they_were():
    figures = garbage_files.measure(1500, print, "the same each time")
    assert garbage_files.broken(figures) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_frames():
    assert garbage.broken(garbage.measure(100_000, print)) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_files():
    assert garbage_files.broken(garbage_files.measure(100_000, print)) == []
