from sitter.rules.latch import Latch


def test_it_turns_once_after_it_has_lasted() -> None:
    latch = Latch(10.0, 5.0)
    assert [t for t in range(30) if latch.update(t, True)] == [10]
    assert [t for t in range(30, 60) if latch.update(t, False)] == [35]


def test_a_break_starts_it_anew() -> None:
    latch = Latch(10.0, 5.0)
    assert not any(latch.update(t, t % 9 != 0) for t in range(200))


def test_unknown_says_nothing_and_counts_for_nothing() -> None:
    latch = Latch(10.0, 5.0)
    assert not any(latch.update(t, True if t % 5 else None) for t in range(200))


def test_hours_asleep_do_not_count() -> None:
    latch = Latch(10.0, 5.0)
    latch.update(0.0, True)
    assert latch.update(3600.0, True) is None
    assert latch.update(3605.0, True) is None
