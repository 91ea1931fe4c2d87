"""The guard rail: nothing of ours escapes into training, and what is the user's own passes."""

import pytest

from sitter_agent.guard_rail import GuardRail, guarded


class Agent:
    def __init__(self, **rail: object) -> None:
        self.rail = GuardRail(**rail)

    @guarded(fallback=-1)
    def work(self, error: BaseException | None = None, *, answer: int = 1) -> int:
        """Say what was asked for."""
        if error is not None:
            raise error
        return answer


def test_what_works_passes_unchanged():
    agent = Agent()
    assert agent.work(answer=5) == 5
    assert agent.rail.failures == 0
    assert (Agent.work.__name__, Agent.work.__doc__) == ("work", "Say what was asked for.")


def test_a_failure_ends_here_is_said_once_per_kind_and_recorded(capsys):
    remarks = []
    agent = Agent(remark=remarks.append)
    for _ in range(3):
        assert agent.work(ValueError("wrong")) == -1
    assert agent.work(KeyError("other")) == -1
    assert agent.rail.failures == 4
    assert len(remarks) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2
    assert "work failed (ValueError: wrong, test_guard_rail.py:" in err[0]
    assert err[0].endswith("training goes on")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_is_meant_to_end_the_training_does(error):
    agent = Agent()
    with pytest.raises(type(error)):
        agent.work(error)
    with pytest.raises(type(error)), agent.rail.around("block"):
        raise error
    assert agent.rail.failures == 0


def test_after_too_many_failures_the_agent_switches_itself_off_once(capsys):
    off = []
    agent = Agent(off=lambda: off.append(1), limit=5)
    for _ in range(20):
        agent.work(ValueError("wrong"))
    assert off == [1]
    assert not agent.rail.on
    assert agent.work() == -1, "off is off"
    assert "switched off after 5 failures" in capsys.readouterr().err


def test_a_rail_whose_own_helpers_fail_still_holds(capsys):
    def broken(*_: object) -> None:
        raise OSError("disk")

    agent = Agent(remark=broken, off=broken, limit=2)
    for _ in range(5):
        assert agent.work(ValueError("wrong")) == -1
    assert "switching off failed as well" in capsys.readouterr().err


def test_an_error_that_cannot_be_printed_is_caught_as_well():
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    agent = Agent()
    assert agent.work(UnprintableError()) == -1
    assert agent.rail.failures == 1


def test_a_block_ends_at_its_failure_and_the_next_goes_on():
    rail = GuardRail()
    with rail.around("snapshot"):
        raise MemoryError
    done = []
    with rail.around("snapshot"):
        done.append(1)
    assert done == [1]
    assert rail.failures == 1
