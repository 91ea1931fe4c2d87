"""Whether what a run's newest session said is said of the process that has just died."""

import json
import sys
from pathlib import Path

import pytest

from sitter.cli.again import Past, main
from sitter.supervise.group import last_agent

WALL, MONO = 10_000.0, 500.0


def past(session: str | None, began: tuple[float, float] | None) -> Past:
    made = Past.__new__(Past)
    made.session, made.began = session, began
    return made


@pytest.mark.parametrize(
    ("session", "began", "mine"),
    [
        ("new", (WALL + 3.0, MONO + 3.0), True),
        ("new", (WALL - 3600.0, MONO + 3.0), True),  # the clock was turned back as it imported
        ("old", (WALL - 3600.0, MONO - 3600.0), False),  # it died before it had a session
        ("old", (WALL - 3600.0, MONO + 90_000.0), False),  # the same after a reboot: that clock began anew
        (None, None, False),
    ],
)
def test_a_session_is_the_dead_processs_where_it_is_new_and_began_after_it(
    session: str | None, began: tuple[float, float] | None, mine: bool
) -> None:
    assert past(session, began).is_of((WALL, MONO), "old") is mine


def test_the_newest_session_is_what_the_agents_lock_names(tmp_path: Path) -> None:
    lock = tmp_path / "agent.lock"
    assert last_agent(tmp_path) == (0, "")
    for damaged in ("", "[1]", "{", '{"pid": 7}'):
        lock.write_text(damaged)
        assert last_agent(tmp_path) == (0, "")
    lock.write_text(json.dumps({"pid": 7, "session": "s"}))
    assert last_agent(tmp_path) == (7, "s")


def test_of_a_run_directory_that_is_gone_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved, or its disk is away: going on from the start would throw days away."""
    monkeypatch.setattr(sys, "argv", ["again", "--since", "1.0", "1.0", "--not", "", str(tmp_path / "gone")])
    with pytest.raises(SystemExit, match="No such file or directory"):
        main()
