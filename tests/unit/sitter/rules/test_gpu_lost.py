"""One trouble of a GPU comes as several signs: it is said once, with what it means."""

import pytest

from sitter.model import GpuNow, Xid
from sitter.rules.base import recovered
from sitter.rules.gpu_lost import SAME_S, GpuLost
from sitter.rules.view import RunView
from sitter.rules.xids import SEVERITIES, XIDS, describe, in_words, meaning
from sitter_wire.events import SessionStart
from sitter_wire.records import Happening


class Story:
    """A rule that looks at one GPU every second."""

    def __init__(self) -> None:
        self.rule, self.now, self.xids = GpuLost(), 0.0, []
        self.view = RunView(in_session=True, state="running", step=100)
        self.look()

    def look(self, *xids, seconds=3, note="", ecc=0):
        """What is found within so many seconds, after these Xids."""
        self.xids += [Xid(code=code, time=self.now) for code in xids]
        found = []
        for _ in range(seconds):
            temp = None if note else 60.0
            gpu = GpuNow(index=0, uuid="GPU-0", name="H100", temp=temp, note=note, ecc_errors=ecc, used_by_run=True, xids=list(self.xids))
            self.view.gpus = [gpu]
            self.now += 1.0
            if (one := self.rule.tick(self.view, self.now)) is not None:
                found.append(one)
        return found


LOST = "lost: GPU is lost"


def test_a_gpu_that_falls_off_the_bus_is_said_once_whichever_sign_comes_first():
    first = Story()
    (said,) = first.look(79)
    assert not first.look(note=LOST)
    (over,) = first.look()
    assert recovered(over)
    assert over.key == said.key
    other = Story()
    (said,) = other.look(note=LOST)
    assert "is gone under the run" in said.text
    assert not other.look(79, note=LOST)


def test_a_memory_error_is_said_by_its_xid_and_not_again_by_its_count():
    story = Story()
    (said,) = story.look(48)
    assert (said.evidence["xid"], said.severity) == (48, "critical")
    assert not story.look(seconds=20, ecc=1)
    (counted,) = story.look(seconds=int(SAME_S), ecc=1) + story.look(seconds=3, ecc=2)
    assert "counted an uncorrectable memory error" in counted.text


def test_what_comes_together_is_said_one_after_the_other_and_the_same_only_once_in_a_process():
    story = Story()
    said = story.look(63, 94, 45, 94, 13)
    assert [f.evidence["xid"] for f in said] == [63, 94, 45]
    assert [f.evidence["xid"] for f in story.look()] == [13]
    assert not story.look(94, 63)
    assert [bool(f.actions) for f in said] == [False, True, False]


def test_another_process_ends_it_and_may_run_into_it_again():
    story = Story()
    (said,) = story.look(94)
    story.rule.happened(Happening(1, 0, 1, 0, SessionStart(pid=2, host="h", branch=1)), story.view)
    (over,) = story.look()
    assert recovered(over)
    assert over.key == said.key
    (again,) = story.look(94)
    assert again.key != said.key


@pytest.mark.parametrize("code", [*XIDS, 4711])
def test_every_xid_has_words_for_people(code):
    what, harm, then = meaning(code)
    assert harm in SEVERITIES
    assert what[0].islower()
    assert then[0].islower()
    assert not then.endswith(".")
    assert str(code) in describe(code)
    assert str(code) in in_words(code)


def test_what_answers_again_is_not_over_once_more_with_the_next_process():
    story = Story()
    story.look(note=LOST)
    (over,) = story.look()
    assert recovered(over)
    story.rule.happened(Happening(1, 0, 1, 0, SessionStart(pid=2, host="h", branch=1)), story.view)
    assert not story.look()
