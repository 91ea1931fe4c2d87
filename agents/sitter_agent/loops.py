"""The loops: the script's own turns, with a safe point after every full optimizer step. Exceptions in here are the script's."""

import time
from collections.abc import Iterator
from typing import Any

from sitter_agent.counting import Counting
from sitter_agent.feed import Feed
from sitter_agent.say import say
from sitter_wire.phases import AFTER, BETWEEN, LOADING, STEP


def loop(host: Counting, feed: Feed, total: int | None) -> Iterator[tuple[int, Any]]:
    """(step, batch) until ``total`` steps are done, over the loader again and again; one pass where ``total`` is None."""
    p = host.progress
    host.loop_begins(total)
    host.turns_begin(feed)
    how = "left early"
    try:
        while (total is None or p.done < total) and not p.stopping:
            p.phase = LOADING
            asked = time.perf_counter()
            there, batch = feed.next_batch(one_pass=total is None)
            waited = time.perf_counter() - asked
            if not there:
                if total is not None:
                    say(f"the loader yielded nothing in a whole pass: the loop ends at step {p.done} of {total}")
                break
            p.phase = STEP
            handed = [batch]
            del batch  # it is the script's alone: what it lets go of in the midst of a step is gone
            yield p.current, handed.pop()
            host.turn_over(waited)
        how = _how(host, total)
    finally:
        p.phase = AFTER
        host.turns_end()
        host.loop_over(how)
        feed.new_pass()


def steps(host: Counting, total: int) -> Iterator[int]:
    """Steps until ``total`` are done."""
    p = host.progress
    host.loop_begins(total)
    host.turns_begin(None)
    p.phase = STEP
    how = "left early"
    try:
        while p.done < total and not p.stopping:
            yield p.current
            host.turn_over(0.0)
        how = _how(host, total)
    finally:
        p.phase = AFTER
        host.turns_end()
        host.loop_over(how)


def epochs(host: Counting, count: int) -> Iterator[int]:
    """Epoch numbers from 0. After a replay of an earlier epoch's batches it goes on with the one after that."""
    p = host.progress
    host.loop_begins(None, count)
    how = "left early"
    epoch = p.epoch if p.epoch is not None else 0
    try:
        while epoch < count and not p.stopping:
            p.epoch = epoch
            yield epoch
            epoch = (p.epoch if p.epoch is not None else epoch) + 1
            if not p.stopping:
                host.epoch_over(epoch, count)
        how = "stopped" if p.stopping else "total"
    finally:
        p.epoch, p.phase = None, AFTER
        host.loop_over(how)


def batches(host: Counting, feed: Feed) -> Iterator[Any]:
    """One pass over the loader, with a safe point after every full optimizer step."""
    p = host.progress
    feed.new_pass()
    host.turns_begin(feed)
    try:
        while not p.stopping:
            p.phase = LOADING
            asked = time.perf_counter()
            there, batch = feed.next_batch(one_pass=True)
            waited = time.perf_counter() - asked
            if not there:
                return
            p.phase = STEP
            handed = [batch]
            del batch  # as above
            yield handed.pop()
            host.turn_over(waited)
    finally:
        p.phase = BETWEEN
        host.turns_end()
        feed.new_pass()


def _how(host: Counting, total: int | None) -> str:
    p = host.progress
    if p.stopping:
        return "stopped"
    return "total" if total is None or p.done >= total else "left early"
