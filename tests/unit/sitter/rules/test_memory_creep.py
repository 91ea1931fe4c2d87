"""Memory creep: a new process is judged anew, a pause does not count, an end is told; and the parts it is made of."""

import random

import pytest

from sitter.model import HostNow
from sitter.rules.base import RECOVERED
from sitter.rules.creep import Creep, levels_off, theil_sen
from sitter.rules.memory_creep import GIB, MemoryCreep
from sitter.rules.view import RunView
from sitter_wire.events import SessionStart
from sitter_wire.records import Happening


def told(rule, used, minutes, begin=0, **view):
    """What it finds over some minutes, with so many GiB of 64 used at each."""
    seen = RunView(in_session=True, state="running", **view)
    found = []
    for second in range(begin * 60, (begin + minutes) * 60, 10):
        seen.host = HostNow(mem_used=int(used(second / 60) * GIB), mem_total=64 * GIB, train_rss=int(used(second / 60) * GIB))
        finding = rule.tick(seen, float(second))
        if finding is not None:
            found.append(finding)
    return found


def climbing(minute):
    return 20 + 0.8 * minute


def test_said_once_and_its_end_is_told():
    rule = MemoryCreep()
    (finding,) = told(rule, climbing, 50)
    assert finding.evidence["limit"] == 64 * GIB
    assert finding.evidence["bytes_per_s"] == pytest.approx(0.8 * GIB / 60, rel=0.02)
    assert 60 * 10 <= finding.evidence["seconds_left"] <= 30 * 60
    (over,) = told(rule, lambda minute: climbing(50), 120, begin=50)
    assert over.key == finding.key
    assert over.evidence[RECOVERED] == 1


def test_it_is_told_while_there_is_time():
    """At any rate from a night to a quarter of an hour: at least a fifth of the time that the climb takes is left."""
    for hours in (0.5, 1, 3, 8):
        rule = MemoryCreep()
        per_minute = 44 / (60 * hours)
        found = told(rule, lambda m, k=per_minute: 20 + k * m, round(60 * hours))
        assert found, hours
        assert found[0].evidence["seconds_left"] > 0.2 * 3600 * hours, hours


def test_a_new_process_begins_anew():
    rule = MemoryCreep()
    told(rule, climbing, 12)
    rule.happened(Happening(1, 0, 0, 0, SessionStart(pid=1, host="h", branch=0)), RunView())
    assert told(rule, climbing, 4, begin=12) == []


def test_paused_it_does_not_count():
    assert told(MemoryCreep(), climbing, 50, paused=True) == []


def test_a_line_is_found_among_outliers():
    chance = random.Random(1)
    points = [(float(x), 3.0 * x + chance.uniform(-1, 1) + (500 if x % 5 == 0 else 0)) for x in range(50)]
    slope, rising = theil_sen(points)
    assert slope == pytest.approx(3.0, abs=0.1)
    assert rising > 0.6
    assert theil_sen([]) == (0.0, 0.0)


def test_what_slows_down_has_an_end():
    assert levels_off(1.0, 0.5) == 1.0
    assert levels_off(1.0, 1.0) == levels_off(0.0, 1.0) == float("inf")


def test_noise_is_no_trend():
    """A hundred runs of pure noise, close to the limit, for six hours: none is found."""
    found = 0
    for seed in range(100):
        creep, chance = Creep(), random.Random(seed)
        for second in range(0, 6 * 3600, 60):
            if creep.add(float(second), 60.0 + chance.gauss(0, 0.5)) and (t := creep.trend(64.0)) is not None and t.grown > 0.64:
                found += 1
    assert found == 0
