"""In which part of a turn the training is, as the control thread can say it."""

import pytest

import sitter_agent
from sitter_wire.phases import AFTER, BEFORE, BETWEEN, LOADING, STEP


@pytest.fixture
def agent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = sitter_agent.start(name="r", daemon=False)
    yield made
    made.close()


def test_the_loader_the_step_and_what_comes_after_are_told_apart(agent):
    seen = []

    def loader():
        for i in range(2):
            seen.append(agent._progress.phase)
            yield i

    assert agent._progress.phase == BEFORE
    for _ in agent.loop(loader(), total=2):
        seen.append(agent._progress.phase)
    assert seen == [LOADING, STEP, LOADING, STEP]
    assert agent._progress.phase == AFTER


def test_between_two_passes_by_epochs(agent):
    seen = []
    for _ in agent.epochs(2):
        for _ in agent.batches([1, 2]):
            seen.append(agent._progress.phase)
        seen.append(agent._progress.phase)
    assert seen == [STEP, STEP, BETWEEN] * 2
    assert agent._progress.phase == AFTER


def test_steps_of_a_script_that_fetches_for_itself(agent):
    assert [agent._progress.phase for _ in agent.steps(2)] == [STEP, STEP]
    assert agent._progress.phase == AFTER


def test_the_file_for_the_stacks_is_there_while_the_session_lives(agent, tmp_path):
    def there():
        return list((tmp_path / "sitter-runs" / "r" / "reports").glob("stacks-*.txt"))

    assert len(there()) == 1
    agent.close()
    assert not there(), "nothing was written into it"
