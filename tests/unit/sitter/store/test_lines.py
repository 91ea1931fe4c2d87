"""The present line is exactly the steps that were not gone back on."""

from hypothesis import given
from hypothesis import strategies as st

from sitter.store.lines import BEGINNING, Stretch, abandoned, line


def test_without_branches_there_is_no_line() -> None:
    assert line({}) == []


def test_one_branch_goes_on_without_end() -> None:
    assert line({0: (None, None)}) == [(0, BEGINNING, None)]


def test_a_rollback_cuts_its_parent() -> None:
    parents = {0: (None, None), 1: (0, 100)}
    assert line(parents) == [(0, BEGINNING, 100), (1, 100, None)]
    assert abandoned(parents, line(parents)) == [(0, 100, None)]


def test_a_second_rollback_behind_the_first_drops_the_branch_between() -> None:
    parents = {0: (None, None), 1: (0, 100), 2: (0, 50)}
    assert line(parents) == [(0, BEGINNING, 50), (2, 50, None)]
    assert abandoned(parents, line(parents)) == [(0, 50, None), (1, 100, None)]


def test_a_start_from_nothing_leaves_all_behind() -> None:
    parents = {0: (None, None), 1: (None, None)}
    assert line(parents) == [(1, BEGINNING, None)]
    assert abandoned(parents, line(parents)) == [(0, BEGINNING, None)]


def test_an_earlier_branch_has_a_line_of_its_own() -> None:
    assert line({0: (None, None), 1: (0, 100), 2: (0, 50)}, 1) == [(0, BEGINNING, 100), (1, 100, None)]


def test_branches_that_came_from_each_other_end() -> None:
    assert line({1: (2, 5), 2: (1, 9)}) != []


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=8))
def test_the_line_is_the_training_replayed(moves: list[tuple[int, int]]) -> None:
    """Run some steps, go back some, again and again, keeping the list of (branch, step) that the state descends from."""
    parents: dict[int, tuple[int | None, int | None]] = {0: (None, None)}
    branch, step, state, done = 0, BEGINNING, [], []
    for forward, back in [*moves, (5, 0)]:
        for _ in range(forward):
            step += 1
            state.append((branch, step))
            done.append((branch, step))
        if back and back < len(state):
            state = state[:-back]
            from_branch, step = state[-1]
            branch += 1
            parents[branch] = (from_branch, step)

    def covered(stretches: list[Stretch]) -> set[tuple[int, int]]:
        return {(b, s) for b, s in done for st_ in stretches if st_.branch == b and s > st_.after and (st_.to is None or s <= st_.to)}

    present = line(parents)
    assert covered(present) == set(state)
    assert covered(abandoned(parents, present)) == set(done) - set(state)
