"""Time in which nobody ran is no silence of the training."""

from types import SimpleNamespace

from sitter.control.slept import Slept


class Written:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.present = SimpleNamespace(step=7, branch=0, pong_at=99.0, last_safe_point=98.0)

    def log_entry(self, kind: str, *, status: str, detail: str, step: int, branch: int) -> None:
        self.lines.append((status, detail))


def look(*at: tuple[float, float], wall: tuple[float, ...] = ()) -> Written:
    """``at``: monotonic and with sleep. ``wall``: by how much the wall clock is ahead of what it would be."""
    core = Written()
    left = iter([(mono, boot, 1e9 + boot + ahead) for (mono, boot), ahead in zip(at, wall or [0.0] * len(at), strict=True)])
    slept = Slept(core, lambda: next(left))
    for _ in at[1:]:
        slept.tick()
    return core


def test_a_suspended_host_slept_and_nothing_grew_old():
    core = look((100.0, 1000.0), (101.0, 1001.0), (102.0, 1002.0 + 3 * 3600 + 12 * 60), (103.0, 1003.0 + 3 * 3600 + 12 * 60))
    assert core.lines == [("host slept", "host slept 3 h 12 m; the training stood still with it, and goes on")]
    assert (core.present.pong_at, core.present.last_safe_point) == (99.0, 98.0), "the monotonic clock stood still, too"


def test_a_daemon_that_stood_makes_nobody_look_silent():
    core = look((100.0, 100.0), (400.0, 400.0))
    assert core.lines == [("daemon stood", "the daemon did not run for 5 m: it was stopped, or its machine was")]
    assert (core.present.pong_at, core.present.last_safe_point) == (399.0, 398.0)


def test_a_busy_machine_is_neither():
    assert look((100.0, 100.0), (120.0, 121.0), (121.0, 122.0)).lines == []


def test_a_wall_clock_that_was_set_is_said_and_one_that_is_kept_right_is_not():
    core = look(*[(float(n), float(n)) for n in range(5)], wall=(0.0, 0.5, -7200.5, -7200.0, 86400.0))
    assert core.lines == [
        ("clock set", "the wall clock was set back by 2 h: what is dated before this line has other times"),
        ("clock set", "the wall clock was set forward by 1 d 2 h: what is dated before this line has other times"),
    ]
    assert (core.present.pong_at, core.present.last_safe_point) == (99.0, 98.0)


def test_what_came_before_the_clock_was_looked_at_is_of_now_and_not_of_the_future():
    core, left = Written(), iter([(100.0, 100.0, 100.0), (400.0, 400.0, 400.0)])
    slept = Slept(core, lambda: next(left))
    core.present.pong_at, core.present.last_safe_point = 399.9, 399.8  # the pong that waited was read first
    slept.tick()
    assert (core.present.pong_at, core.present.last_safe_point) == (400.0, 400.0), "in the future it would hide a hang for five minutes"
