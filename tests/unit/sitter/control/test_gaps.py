"""What is gone is counted once, whoever counts it, and is not forgotten by the next daemon."""

from sitter.control.gaps import KEPT, Gaps


class Book:
    def __init__(self):
        self.said, self.kept = [], {}

    def log(self, kind, **fields):
        self.said.append((kind, fields["status"], fields["detail"]))

    def gaps(self):
        return Gaps(self.kept.get(KEPT), self.log, lambda key, value: self.kept.update({key: dict(value)}))


def test_gaps_add_up_over_sessions_and_each_is_said():
    book = Book()
    gaps = book.gaps()
    gaps.found("a", 1, 1500)
    gaps.found("a", 2000, 2009)
    gaps.found("b", 5, 5)
    assert gaps.total == 1511
    assert [(kind, status, detail.split(":")[0]) for kind, status, detail in book.said] == [
        ("note", "gap", "1,500 records are gone"), ("note", "gap", "10 records are gone"), ("note", "gap", "1 records are gone"),
    ]  # fmt: skip


def test_a_daemon_that_died_before_it_stored_what_follows_counts_the_same_gap_once():
    book = Book()
    book.gaps().found("a", 1, 1500)
    again = book.gaps()
    assert again.total == 1500
    again.found("a", 1, 1500)
    assert (again.total, len(book.said)) == (1500, 1)
    again.found("a", 1, 1700)  # meanwhile more was dropped
    assert (again.total, len(book.said)) == (1700, 2)


def test_what_an_earlier_daemon_kept_may_be_anything():
    assert Gaps(None, print, print).total == 0
    assert Gaps("x", print, print).total == 0
