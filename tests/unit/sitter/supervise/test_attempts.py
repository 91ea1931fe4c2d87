"""When a training is started again, how long after, and when not any more."""

import json
from pathlib import Path

import pytest

from sitter.supervise.attempts import ATTEMPTS, Attempts, oom_kills


def crash(attempts: Attempts, step: int | None, *, lived: float = 2.0, steps_known: bool = True) -> str:
    """One attempt to its end: why there is no other, or what is said of the next."""
    attempts.began(7, 100.0, 0, "")
    attempts.over(ended=50.0, lived=lived, code=1, signal=None)  # its clock was turned back
    attempts.reached(step, steps_known=steps_known)
    if stuck := attempts.stuck():
        return stuck
    attempts.planned("from step 10 (good)")
    return attempts._list[-1]["then"]


def test_the_pause_doubles_without_progress_and_starts_anew_with_it(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, 99, first_s=20.0, cap_s=60.0)
    assert crash(attempts, 100) == "restarting in 0:20 (1 of 99), from step 10 (good)"
    assert crash(attempts, 100) == "restarting in 0:40 (2 of 99), from step 10 (good)"
    assert crash(attempts, 90) == "restarting in 1:00 (3 of 99), from step 10 (good)"
    assert crash(attempts, 101) == "restarting in 0:20 (4 of 99), from step 10 (good)"


def test_three_attempts_without_progress_are_the_last(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, 99)
    assert "restarting" in crash(attempts, 5100)
    assert "restarting" in crash(attempts, 5100)
    assert "restarting" in crash(attempts, None)
    assert crash(attempts, 5099) == "given up: 3 attempts in a row did not get past step 5,100"


def test_what_never_reaches_a_step_is_given_up_after_three(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, 99)
    assert "restarting" in crash(attempts, None)
    assert "restarting" in crash(attempts, None)
    assert crash(attempts, None) == "given up: 3 attempts in a row did not get to a first step"


def test_a_run_that_went_on_before_counts_from_where_it_had_come_to(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, 99, furthest=500)
    for step in (490, 500):
        assert "restarting" in crash(attempts, step)
    assert "past step 500" in crash(attempts, 400)


def test_where_no_step_is_ever_told_a_minute_of_life_is_progress(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, 99)
    for lived in (61.0, 2.0, 2.0, 61.0, 2.0, 2.0):
        assert "restarting" in crash(attempts, None, lived=lived, steps_known=False)
    assert "given up" in crash(attempts, None, lived=2.0, steps_known=False)


def test_never_more_often_than_allowed(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, 2)
    assert "(1 of 2)" in crash(attempts, 10)
    assert "(2 of 2)" in crash(attempts, 20)
    assert crash(attempts, 30) == "given up: it was started again 2 times, which is as often as it may be"


def test_the_file_says_when_the_next_start_is_and_is_forgotten_when_it_has_come(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, 3, first_s=20.0, clock=lambda: 1000.0)
    crash(attempts, 10)
    told = json.loads((tmp_path / ATTEMPTS).read_text())
    assert told["next"] == {"number": 1, "at": 1020.0, "said": "from step 10 (good)"}
    attempts.began(8, 1020.0, 55, "/there")
    told = json.loads((tmp_path / ATTEMPTS).read_text())
    assert told["next"] is None
    assert [a["pid"] for a in told["attempts"]] == [7, 8]


def test_a_run_that_is_not_to_be_started_again_leaves_no_file(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, 0)
    attempts.began(7, 1.0, 0, "")
    attempts.over(ended=2.0)
    attempts.ended("")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(oom_kills() is None, reason="this machine does not say how often memory ran out")
def test_kills_for_memory_are_a_count() -> None:
    assert (oom_kills() or 0) >= 0
