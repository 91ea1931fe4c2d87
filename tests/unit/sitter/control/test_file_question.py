"""A file system that hangs holds up the daemon's loop once, and shortly."""

import threading

import pytest

from sitter.control import file_question, life
from sitter.control.file_question import FileQuestion
from tests.unit.sitter.control.conftest import living, opened


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(file_question, "PATIENCE_S", 0.05)


def test_every_answer_is_of_now_while_there_are_answers():
    asked = FileQuestion[int]()
    assert [asked.ask(lambda n=n: n) for n in range(20)] == list(range(20))


def test_while_one_call_does_not_come_back_the_last_answer_serves_and_no_other_is_begun(impatient):
    asked, go, begun = FileQuestion[str](), threading.Event(), []

    def hangs():
        begun.append(1)
        go.wait()
        return "of long ago"

    assert asked.ask(hangs) is None
    assert asked.ask(hangs) is None
    go.set()
    assert asked._at_work.done.wait(60)
    file_question.PATIENCE_S = 60.0
    assert asked.ask(lambda: "of now") == "of now", "not what the call said that hung"
    assert len(begun) == 1


def test_what_it_raises_is_raised_where_it_was_asked():
    with pytest.raises(ZeroDivisionError):
        FileQuestion[float]().ask(lambda: 1 / 0)


def test_the_daemon_looks_on_with_what_it_knew_where_the_runs_files_hang(run, impatient, monkeypatch):
    go, asked, begun = threading.Event(), threading.Event(), []
    holder = life.holder

    def hangs(path):
        begun.append(path)
        asked.set()
        go.wait()
        return holder(path)

    with opened(run) as core, living(run, "s") as process:
        file_question.PATIENCE_S = 60.0
        core.life.look()
        assert core.life.pid == process.pid
        file_question.PATIENCE_S = 0.05
        monkeypatch.setattr(life, "holder", hangs)
        for _ in range(100):
            core.life.look()
        assert asked.wait(60)
        assert len(begun) == 1, "while it hangs nobody is sent after it, nor waited for"
        assert core.life.pid == process.pid
        go.set()
        file_question.PATIENCE_S = 60.0
        core.life._files._at_work.done.wait(60)
        process.kill()
        process.wait()
        core.life.look()
        assert core.life.pid is None
