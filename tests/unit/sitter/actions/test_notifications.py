import threading
import time
from typing import Any

import pytest

from sitter.actions.notify import post as post_module
from sitter.actions.notify import worker as worker_module
from sitter.actions.notify.base import DEFAULT_EVENTS
from sitter.actions.notify.notifier import Notifications
from sitter.config import NotifierConfig
from sitter.errors import ConfigError
from sitter.testing.manual_clock import ManualClock

Server = Any
Results = Any


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "AGAIN_AFTER_S", (0.01, 0.02))
    monkeypatch.setattr(post_module, "TIMEOUT_S", 100.0)


def hook(server: Server, path: str = "/ok", name: str = "hook", events: list[str] | None = None) -> NotifierConfig:
    return NotifierConfig(name=name, kind="webhook", url=server.url(path), events=events)


def texts(server: Server) -> list[str]:
    return [g["body"]["text"] for g in server.got]


def test_a_message_arrives_and_its_result_is_told(server: Server, results: Results) -> None:
    notifications = Notifications([hook(server)], "lm", on_result=results)
    notifications.send("crashed", "it crashed", "k")
    assert results.until(1) == [("hook", "crashed", True, "HTTP 200")]
    assert texts(server) == ["it crashed"]
    notifications.close(2)


def test_default_events_and_chosen_ones(server: Server, results: Results) -> None:
    configs = [hook(server, "/ok/default", "a"), hook(server, "/ok/some", "b", ["gpu_hot"]), hook(server, "/ok/all", "c", ["all"])]
    notifications = Notifications([*configs, hook(server, "/ok/none", "d", [])], "lm", on_result=results)
    for event in (*DEFAULT_EVENTS, "gpu_hot"):
        notifications.send(event, f"about {event}")
    got = results.until(14)
    assert [e for n, e, _, _ in got if n == "a"] == list(DEFAULT_EVENTS)
    assert [e for n, e, _, _ in got if n == "b"] == ["gpu_hot"]
    assert [e for n, e, _, _ in got if n == "c"] == [*DEFAULT_EVENTS, "gpu_hot"]
    notifications.close(2)
    assert len(server.got) == 14


def test_the_same_key_is_said_once_in_ten_minutes(server: Server, results: Results) -> None:
    clock = ManualClock()
    notifications = Notifications([hook(server)], "lm", on_result=results, clock=clock)
    notifications.send("stalled", "for 1 minute", "stalled")
    clock.advance(300)
    notifications.send("stalled", "for 6 minutes", "stalled")
    notifications.send("crashed", "another event", "stalled")
    clock.advance(301)
    notifications.send("stalled", "for 11 minutes", "stalled")
    notifications.close(60)
    assert texts(server) == ["for 1 minute", "another event", "for 11 minutes"]


def test_too_many_end_with_one_last_word_and_final_events_still_come_through(server: Server) -> None:
    clock = ManualClock()
    notifications = Notifications([hook(server)], "lm", clock=clock)
    for i in range(30):
        notifications.send("guard_acted", f"rollback {i}")
        clock.advance(60)
    notifications.send("crashed", "it crashed")
    clock.advance(31 * 60)
    notifications.send("guard_acted", "a day later")
    notifications.close(60)
    said = texts(server)
    assert said[:10] == [f"rollback {i}" for i in range(10)]
    assert said[10] == "more than 10 messages within an hour: the rest is suppressed for 50 m and stands in the logbook"
    assert said[11:] == ["it crashed", "a day later (20 more were suppressed before)"]


def test_a_notifier_that_hangs_touches_nothing_else(server: Server, results: Results) -> None:
    notifications = Notifications([hook(server, "/hang", "bad"), hook(server, "/ok", "good")], "lm", on_result=results)
    began = time.monotonic()
    for i in range(5):
        notifications.send("crashed", f"crash {i}")
    assert time.monotonic() - began < 30, "two minutes"
    assert [n for n, _, _, _ in results.until(5)] == ["good"] * 5
    began = time.monotonic()
    notifications.close(0.2)
    assert time.monotonic() - began < 30
    lost = [r for r in results.until(10) if r[0] == "bad"]
    assert [(ok, detail) for _, _, ok, detail in lost] == [(False, "not sent: the daemon ended before it could be")] * 5
    server.release.set()


def test_no_thread_before_the_first_message(server: Server) -> None:
    before = set(threading.enumerate())
    notifications = Notifications([hook(server)], "lm")
    assert set(threading.enumerate()) <= before
    notifications.close(1)


def test_a_queue_that_grows_too_long_loses_the_oldest_and_says_so(
    server: Server, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "WAITING", 2)
    notifications = Notifications([hook(server, "/hang")], "lm", on_result=results)
    notifications.send("crashed", "0")
    assert server.arrived.acquire(timeout=60)
    for i in range(1, 4):
        notifications.send("crashed", str(i))
    assert results.until(1) == [("hook", "crashed", False, "not sent: too many are waiting, or the daemon is ending")]
    server.release.set()
    notifications.close(60)
    assert texts(server) == ["0", "2", "3"]


def test_a_network_that_is_away_for_a_moment(server: Server, results: Results) -> None:
    server.codes = [503, 500]
    notifications = Notifications([hook(server)], "lm", on_result=results)
    notifications.send("crashed", "it crashed")
    assert results.until(1) == [("hook", "crashed", True, "HTTP 200")]
    assert texts(server) == ["it crashed"] * 3
    notifications.close(1)


def test_a_server_that_stays_broken_is_a_result_and_no_more(server: Server, results: Results) -> None:
    notifications = Notifications([hook(server, "/500/SECRETtoken4711")], "lm", on_result=results)
    notifications.send("crashed", "it crashed")
    ((_, _, ok, detail),) = results.until(1)
    assert not ok
    assert detail.startswith("127.0.0.1 answered HTTP 500")
    assert detail.endswith("(3 attempts)")
    assert "SECRET" not in detail
    server.codes = [200]
    notifications.send("finished", "but then it ended well")
    assert results.until(2)[1][2] is True
    notifications.close(1)


def test_a_callback_that_raises_does_not_end_the_thread(server: Server) -> None:
    called = threading.Semaphore(0)

    def bad(*_: Any) -> None:
        called.release()
        raise RuntimeError("ours")

    notifications = Notifications([hook(server)], "lm", on_result=bad)
    notifications.send("crashed", "one")
    notifications.send("finished", "two")
    assert called.acquire(timeout=60)
    assert called.acquire(timeout=60)
    notifications.close(1)
    assert texts(server) == ["one", "two"]


def test_test_goes_through_every_one_and_says_what_each_answered(server: Server, results: Results) -> None:
    configs = [
        hook(server, "/ok", "good"), hook(server, "/500", "broken"),
        NotifierConfig(name="cmd", kind="command", command="exit 4", events=["only_this"]),
    ]  # fmt: skip
    notifications = Notifications(configs, "lm", on_result=results)
    tested = notifications.test(timeout=60.0)
    assert [(r.notifier, r.ok) for r in tested] == [("good", True), ("broken", False), ("cmd", False)]
    assert tested[0].detail == "HTTP 200"
    assert tested[1].detail.startswith("127.0.0.1 answered HTTP 500")
    assert "the command ended with exit code 4" in tested[2].detail
    assert any("this is a test of the notifier good" in text for text in texts(server))
    assert results.all == []
    server.release.set()
    notifications.close(2)


def test_test_does_not_wait_for_one_that_hangs(server: Server) -> None:
    notifications = Notifications([hook(server, "/hang", "hangs")], "lm")
    began = time.monotonic()
    (tested,) = notifications.test(timeout=1.0)
    assert 0.9 < time.monotonic() - began < 30
    assert (tested.ok, tested.detail) == (False, "no answer after 1 s; it may still come")
    server.release.set()
    notifications.close(60)


def test_test_is_not_held_back_by_rate_or_repetition(server: Server) -> None:
    notifications = Notifications([hook(server)], "lm")
    for _ in range(12):
        assert [r.ok for r in notifications.test(60.0)] == [True]
    notifications.close(1)
    assert len(server.got) == 12


def test_no_notifier_is_fine() -> None:
    notifications = Notifications([], "lm")
    notifications.send("crashed", "nobody hears")
    assert notifications.test() == []
    notifications.close(1)


def test_what_waits_is_sent_before_the_end(server: Server, results: Results) -> None:
    notifications = Notifications([hook(server)], "lm", on_result=results)
    for i in range(8):
        notifications.send("guard_acted", str(i))
    notifications.close(60)
    assert texts(server) == [str(i) for i in range(8)]
    notifications.send("crashed", "too late")
    assert results.until(9)[-1][2] is False


def test_a_wrong_setting_is_refused_before_the_run(server: Server) -> None:
    with pytest.raises(ConfigError, match="has no kind 'webhok'; did you mean webhook"):
        Notifications([NotifierConfig(name="x", kind="webhok")], "lm")


def test_no_secret_reaches_the_log(
    server: Server, results: Results, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where our own code fails with the address in the error's text."""

    def explode(*_: Any, **__: Any) -> None:
        raise RuntimeError("at https://h/SECRETtoken4711")

    monkeypatch.setattr(post_module.json, "dumps", explode)
    notifications = Notifications([hook(server, "/ok/SECRETtoken4711")], "lm", on_result=results)
    notifications.send("crashed", "it crashed")
    assert results.until(1) == [("hook", "crashed", False, "an unexpected RuntimeError")]
    notifications.close(1)
    assert "SECRET" not in caplog.text
    assert "notifier hook failed: RuntimeError" in caplog.text
