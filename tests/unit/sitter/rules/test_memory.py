"""What rules remember is copied whole: no copy changes with what it was made from."""

import copy
from collections import deque

import pytest

from sitter.rules.base import Rule, Tick
from sitter.rules.catalogue import RULES
from sitter.rules.memory import Memory
from sitter.rules.own.series import SERIES
from sitter.rules.view import RunView, Sample

STATELESS = (int, float, str, bytes, type(None))
REMEMBERING = [made for made in RULES if made().memory is not None]


class Inner(Memory):
    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values = [1.0]


class Outer(Memory):
    def __init__(self) -> None:
        self.inner, self.pair, self.count = Inner(), (Inner(), Inner()), 0
        self.recent: deque[float] = deque([1.0], maxlen=2)


def held(value: object) -> list[object]:
    """Everything in it that could change, itself among it."""
    if isinstance(value, STATELESS):
        return []
    if isinstance(value, dict):
        return [value, *(found for item in value.values() for found in held(item))]
    if isinstance(value, list | deque | set | tuple):
        own = [] if isinstance(value, tuple) else [value]
        return [*own, *(found for item in value for found in held(item))]
    names = [*getattr(value, "__dict__", ()), *(name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))]
    return [value, *(found for name in set(names) for found in held(getattr(value, name)))]


def shared(one: object, other: object) -> list[object]:
    known = {id(thing) for thing in held(one)}
    return [thing for thing in held(other) if id(thing) in known]


def told(rule: Rule, view: RunView) -> None:
    """Its longest story that fires."""
    for item in max((list(case.play()) for case in rule.FIRES), key=len)[:3000]:
        if isinstance(item, Sample):
            rule.observe(item, view)
        elif isinstance(item, Tick):
            rule.tick(view, item.now)
        else:
            rule.happened(item, view)


def test_a_copy_has_parts_of_its_own_however_deep() -> None:
    outer = Outer()
    found = copy.deepcopy(outer)
    assert shared(outer, found) == []
    assert (found.pair[1].values, found.recent.maxlen, found.count) == ([1.0], 2, 0)
    outer.pair[1].values.append(2.0)
    assert found.pair[1].values == [1.0]


@pytest.mark.parametrize("made", REMEMBERING, ids=lambda made: made.name)
def test_no_copy_of_what_a_rule_remembers_shares_with_it_what_can_change(made: type[Rule]) -> None:
    rule, view = made(), RunView(in_session=True, state="running")
    told(rule, view)
    kept = rule.state()
    assert shared(rule.memory, kept) == []
    rule.set_state(kept)
    assert shared(rule.memory, kept) == []


@pytest.mark.parametrize("made", SERIES.values(), ids=lambda made: made.name)
def test_nor_does_a_copy_of_what_an_expression_remembers(made) -> None:
    series = made(5)
    for i in range(20):
        series.push(float(i * 7 % 5), i)
    found = copy.deepcopy(series)
    assert found.value() == series.value()
    assert shared(series, found) == []
