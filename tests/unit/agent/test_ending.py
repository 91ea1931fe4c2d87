"""A session that ends before its training does: the loop goes on to the step where it would have ended, and nothing is left behind."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

import sitter_agent
from sitter_wire.commands import SetKnob
from sitter_wire.events import GoodBye
from tests.unit.agent.conftest import Run, agents_threads, until

TOO_MANY = 200


def parts():
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def turn(model, optimizer, micro, accumulate=1):
    model(torch.ones(2, 4)).pow(2).sum().backward()
    if (micro + 1) % accumulate == 0:
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("what", ["close", "start again", "start again with the same"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_loop_whose_session_was_ended_stops_at_its_total(begin, what, accumulate):
    """Once, its optimizer's steps were not seen any more, and it never ended."""
    model, optimizer = parts()
    agent = begin(model=model, optimizer=optimizer)
    seen = []
    for micro, (step, _) in enumerate(agent.loop([0, 1], total=10)):
        seen.append(step)
        assert micro < TOO_MANY
        turn(model, optimizer, micro, accumulate)
        if micro == 4:
            if what == "close":
                agent.close()
            else:
                begin(**({} if what == "start again" else {"model": model, "optimizer": optimizer}))
    assert seen == [n // accumulate for n in range(10 * accumulate)]
    hooks = len(optimizer._optimizer_step_post_hooks)
    assert hooks == (1 if what == "start again with the same" else 0)


def test_a_loop_begun_after_the_end_of_the_session_stops_at_its_total(begin):
    model, optimizer = parts()
    agent = begin(model=model, optimizer=optimizer)
    agent.close()
    seen = []
    for micro, step in enumerate(agent.steps(7)):
        assert micro < TOO_MANY
        turn(model, optimizer, micro)
        seen.append(step)
    assert seen == list(range(7))


def test_a_session_that_ended_inside_its_loop_scales_nothing_any_more(begin, daemon):
    """Nobody could see or take back the scale; a session that follows would call it × 1."""
    model, optimizer = parts()
    agent = begin(model=model, optimizer=optimizer)
    d = daemon(agent)
    for micro in agent.steps(6):
        if micro == 1:
            d.order(SetKnob(knob="lr", op="scale", amount=0.5))
        if micro == 3:
            agent.close()
        before = model.bias.detach().clone()
        model(torch.ones(2, 4)).sum().backward()  # the gradient of the bias is 2
        optimizer.step()
        optimizer.zero_grad()
        moved = float((before - model.bias.detach())[0])
        assert moved == pytest.approx(0.1 if micro == 2 else 0.2), f"turn {micro}"
    assert micro == 5


def test_starting_again_and_again_leaves_no_descriptors_threads_or_hooks_behind(begin):
    model, optimizer = parts()

    def once():
        agent = begin(model=model, optimizer=optimizer)
        for micro, _ in enumerate(agent.steps(3)):
            turn(model, optimizer, micro)
            agent.log(loss=1.0)
        agent.close()
        until(lambda: not agents_threads())  # the last to go has a descriptor
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), len(optimizer._optimizer_step_pre_hooks)

    for _ in range(3):
        settled = once()
    for _ in range(6):
        last = once()
    assert all(now <= then for now, then in zip(last, settled, strict=True)), "those of earlier tests may end meanwhile"


def test_a_child_that_is_handed_the_loop_says_nothing_and_ends_at_total(begin, capfd):
    model, optimizer = parts()
    agent = begin(model=model, optimizer=optimizer)
    turns = agent.loop([0, 1], total=6)
    next(turns)
    capfd.readouterr()
    pid = os.fork()
    if pid == 0:
        n = 1
        turn(model, optimizer, 0)
        for n, _ in enumerate(turns, 2):
            turn(model, optimizer, n)
        os._exit(n)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6
    assert capfd.readouterr().err == ""
    assert Run(agent.run).events(GoodBye) == []


@pytest.mark.parametrize("step", ["twelve", float("nan"), float("inf"), [1], 1 << 70])
def test_a_step_that_is_no_number_costs_nothing_but_itself(begin, capsys, step):
    agent = begin()
    agent.safe_point(step)
    agent.log(step=step, loss=1.0)
    assert "failed" in capsys.readouterr().err
    agent.log(step=3, loss=2.0)
    agent.safe_point(3)
    assert Run(agent.run).values("loss") == [(3, 2.0)]
    assert agent._core.progress.done == 3


def test_native_windows_is_refused_in_one_sentence():
    code = "import sys; sys.platform = 'win32'\nimport sitter_agent\ntry: sitter_agent.start()\nexcept ImportError as e: print(e)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert said == "sitter does not run on native Windows: run the training under WSL2\n"


def test_closing_is_quick_where_nobody_listens(begin):
    took = []
    for _ in range(3):  # a busy machine may hold up one of them
        agent = begin()
        agent.log(loss=1.0)
        began = time.monotonic()
        agent.close()
        took.append(time.monotonic() - began)
    assert min(took) < 2.0
    assert sitter_agent.current() is agent


@pytest.mark.parametrize("when", ["after its loop", "inside its loop"])
def test_a_session_that_is_over_keeps_nothing_of_the_scripts_alive(begin, when):
    """In a notebook the next attempt needs the memory."""
    model, optimizer = parts()
    model.average = nn.Linear(4, 2)
    agent = begin(model=model, optimizer=optimizer, extra={"ema": model.average})
    agent.on_restore(lambda step, kept=model: None)
    turns = agent.loop(range(100), total=5)
    for micro, _ in turns:
        turn(model, optimizer, micro)
        agent.log(loss=1.0)
        if when == "inside its loop" and micro == 2:
            agent.close()
    agent.close()
    refs = [weakref.ref(thing) for thing in (model, optimizer, model.average)]
    del model, optimizer, turns
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3
    assert agent.step == 5
