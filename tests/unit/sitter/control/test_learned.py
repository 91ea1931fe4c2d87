"""What rules knew, told to the next daemon's."""

import logging

from sitter.control.learned import Learned
from sitter.testing.manual_clock import ManualClock


class Knows:
    def __init__(self):
        self.told = None

    def know(self, told):
        if told == "nonsense":
            raise ValueError("of another version")
        self.told = told


def test_what_a_rule_that_is_gone_had_learned_is_passed_by_in_silence(caplog):
    one = Knows()
    learned = Learned({"one": one, "other": Knows()}, ManualClock(), lambda key, value: None)
    with caplog.at_level(logging.DEBUG):
        learned.recall({"gone": 1, "one": 2})
        assert not caplog.records
        learned.recall({"other": "nonsense"})
    assert one.told == 2
    assert "what rule other had learned is not understood: of another version" in caplog.text
