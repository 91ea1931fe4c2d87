"""Values on a GPU: never waited for, recorded under their own step once they have arrived, at most 64 on their way."""

import time
from typing import Any

import pytest
import torch

from sitter_agent.frameworks.torch_grad import total_norm
from sitter_agent.tensors import MAX_PENDING, Pending
from sitter_wire.commands import Rollback
from tests.gpu.conftest import OPTIMIZERS, Training, no_waiting, same, settle
from tests.unit.agent.conftest import Run

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:This instance was constructed with capturable=True")]

SECOND = 1_500_000_000
"""Clock cycles that keep a GPU busy for about a second (they clock between 1 and 2.6 GHz)."""


def test_what_waits_is_noticed(cuda: str) -> None:
    """The other tests lean on this."""
    x = torch.ones((), device=cuda)
    with no_waiting(cuda), pytest.raises(RuntimeError, match="synchroniz"):
        x.item()
    assert x.item() == 1.0


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_log_and_safe_point_wait_for_nothing(device: str, begin: Any, kind: str) -> None:
    t = Training(device, OPTIMIZERS[kind])
    agent = begin(model=t.model, optimizer=t.optimizer)
    agent.safe_point(0)
    for step in range(1, 4):  # the first turns load kernels, and the first snapshot is taken
        agent.log(step=step, loss=t.step())
        agent.safe_point(step)
    agent._core.ring.drop_all()  # a snapshot may wait: it is a copy of all
    settle(device)
    losses = {}
    with no_waiting(device):
        for step in range(5, 17):
            t.optimizer.zero_grad()
            loss = t.loss()
            loss.backward()
            t.optimizer.step()
            losses[step] = loss.detach()
            agent.log(step=step, loss=loss, half=loss.detach().bfloat16(), cheap=1.0)
            agent.safe_point(step)
    core = agent._core
    assert (core.rail.failures, core.pending.dropped) == (0, 0)
    run = Run(agent.run)
    agent.close()  # waits for the last ones
    got = dict(run.values("loss"))
    assert {step: got[step] for step in losses} == {step: float(loss) for step, loss in losses.items()}
    assert [v for s, v in run.values("half") if s == 9] == [float(losses[9].bfloat16())]
    assert set(losses) <= {s for s, _ in run.values("lr")}
    assert run.values("grad_norm")


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_what_the_framework_offers_is_offered_without_waiting(device: str, kind: str) -> None:
    t = Training(device, OPTIMIZERS[kind])
    knob = next(k for k in t.adapter.knobs() if k.spec.name == "lr")
    knob.change("scale", 0.5, group=None, hold=False)
    t.step()
    t.adapter.sample(0)
    for step in range(1, 4):
        t.optimizer.zero_grad()
        t.loss().backward()
        settle(device)
        with no_waiting(device):
            t.optimizer.step()
            sampled = t.adapter.sample(step)
            grads = [p.grad for p in t.model.parameters()]
            norm = total_norm(grads)
        scheduled = float(t.optimizer.param_groups[0]["lr"])
        assert float(sampled["lr_scheduled"]) == pytest.approx(scheduled)
        assert float(sampled["lr"]) == pytest.approx(0.5 * scheduled)
        if "grad_norm" in sampled:
            assert float(sampled["grad_norm"]) == float(norm)
            assert float(norm) == pytest.approx(float(torch.cat([g.reshape(-1) for g in grads]).norm()), rel=1e-5)
    assert t.adapter._hooks[""].broken is None


def test_a_value_is_recorded_under_its_own_step_once_it_is_there(cuda: str, begin: Any) -> None:
    agent = begin()
    agent.log(step=0, loss=torch.full((1,), 0.5, device=cuda))  # kernels are loaded and memory pinned, which may wait
    torch.cuda.synchronize()
    agent.safe_point(0)
    run = Run(agent.run)
    assert run.values("loss") == [(0, 0.5)]
    torch.cuda._sleep(SECOND)
    began = time.perf_counter()
    for step in (1, 2, 3):
        agent.log(step=step, loss=torch.full((1,), float(step), device=cuda), cheap=1.0)
        agent.safe_point(step)
    took = time.perf_counter() - began
    assert len(agent._core.pending) == 3, "the GPU was to be busy still"
    assert run.values("loss") == [(0, 0.5)]
    assert [s for s, _ in run.values("cheap")] == [1, 2, 3]
    assert took < 0.2
    torch.cuda.synchronize()
    agent.safe_point(4)
    assert run.values("loss") == [(0, 0.5), (1, 1.0), (2, 2.0), (3, 3.0)]
    torch.cuda._sleep(SECOND // 4)
    agent.log(step=5, loss=torch.full((1,), 5.0, device=cuda))
    assert len(agent._core.pending) == 1
    agent.close()  # waits for it, a second at most
    assert run.values("loss")[-1] == (5, 5.0)


def test_at_most_64_are_on_their_way(cuda: str) -> None:
    got = []
    pending = Pending(lambda step, branch, values: got.append((step, values["x"])))
    value = torch.tensor(2.0, device=cuda)
    pending.add(-1, 0, "x", value * 1)
    torch.cuda.synchronize()
    pending.poll()
    torch.cuda._sleep(SECOND)
    with no_waiting(cuda, settled=False):
        for step in range(MAX_PENDING + 10):
            pending.add(step, 0, "x", value * step)
    assert (len(pending), pending.dropped) == (MAX_PENDING, 10)
    assert got == [(-1, 2.0)]
    torch.cuda.synchronize()
    pending.poll()
    assert got[1:] == [(step, 2.0 * step) for step in range(MAX_PENDING)]
    pinned = torch.cuda.host_memory_stats()["allocated_bytes.current"]
    for step in range(MAX_PENDING):
        pending.add(step, 0, "x", value)
    torch.cuda.synchronize()
    pending.poll()
    assert len(got) == 1 + 2 * MAX_PENDING
    assert torch.cuda.host_memory_stats()["allocated_bytes.current"] == pinned


def test_every_type_arrives_as_the_number_it_is(device: str, begin: Any) -> None:
    values = {
        "f16": torch.tensor(1 / 3, dtype=torch.float16), "bf16": torch.tensor(1 / 3, dtype=torch.bfloat16), "f32": torch.tensor(1 / 3),
        "f64": torch.tensor(1 / 3, dtype=torch.float64), "int": torch.tensor(-7), "bool": torch.tensor(True), "one": torch.tensor([[2.5]]),
        "nan": torch.tensor(float("nan")), "inf": torch.tensor(float("-inf")), "leaf": torch.tensor(1.5, requires_grad=True),
    }  # fmt: skip
    agent = begin()
    agent.log({name: v.detach().to(device).requires_grad_(v.requires_grad) for name, v in values.items()}, step=3)
    settle(device)
    agent.safe_point(3)
    run = Run(agent.run)
    for name, v in values.items():
        ((step, got),) = run.values(name)
        assert (step, repr(got)) == (3, repr(float(v.detach().double()))), name
    assert agent._core.rail.failures == 0


def test_many_numbers_are_refused_by_name_and_the_others_kept(device: str, begin: Any, capsys: Any) -> None:
    agent = begin()
    for step in range(3):
        agent.log(step=step, logits=torch.ones(5, device=device), loss=torch.tensor(1.0, device=device), cheap=2.0)
        settle(device)
        agent.safe_point(step)
    run = Run(agent.run)
    assert (run.values("loss"), run.values("logits")) == ([(s, 1.0) for s in range(3)], [])
    assert len(run.values("cheap")) == 3
    assert agent._core.rail.failures == 0
    assert "logits" in capsys.readouterr().err


def test_a_log_inside_of_a_captured_graph_does_not_break_it(cuda: str, begin: Any) -> None:
    agent = begin()
    x = torch.ones(4, device=cuda)
    (x * 2).sum()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = x * 2
        agent.log(step=0, loss=y.sum(), cheap=1.0)
    x.fill_(3.0)
    graph.replay()
    assert y.tolist() == [6.0] * 4
    assert (agent._core.pending.dropped, agent._core.rail.failures) == (1, 0)
    assert Run(agent.run).values("cheap") == [(0, 1.0)]


def test_the_scripts_own_gradient_norm_and_goal_count_from_the_gpu_too(device: str, begin: Any) -> None:
    t = Training(device)
    agent = begin(model=t.model, optimizer=t.optimizer, goal="val_loss")
    agent.safe_point(0)
    for step in range(1, 4):
        t.step()
        norm = torch.nn.utils.get_total_norm([p.grad for p in t.model.parameters()])
        agent.log({"val/loss": torch.tensor(float(step), device=device)}, step=step, grad_norm=norm)
        settle(device)
        agent.safe_point(step)
    assert agent._core.goal_value == 3.0
    assert [s for s, _ in Run(agent.run).values("grad_norm")] == [1, 2, 3]


def test_a_value_of_a_branch_that_was_left_stays_there(device: str, begin: Any, daemon: Any) -> None:
    t = Training(device)
    agent = begin(model=t.model, optimizer=t.optimizer, scheduler=t.scheduler)
    d = daemon(agent)
    order = None
    for step in agent.steps(8):
        if step == 4 and order is None:
            order = d.order(Rollback(to=0))
        agent.log(loss=t.step())
    assert d.outcome(order).status == "applied"
    run = agent.run
    agent.close()
    losses = [(p.branch, p.step) for p in Run(run).points() if "loss" in p.names]
    assert sorted(losses) == [(0, s) for s in range(5)] + [(1, s) for s in range(8)]


@pytest.mark.parametrize("kind", ["fused", "foreach"])
def test_a_step_that_the_loss_scale_skips_changes_nothing(device: str, kind: str) -> None:
    """A fused optimizer runs its hooks although it skips: only the device knows. It counts as a step then, as elsewhere, and the
    infinite gradients are not looked at. One that is not fused is not called at all."""
    t = Training(device, OPTIMIZERS[kind], amp=torch.float16)
    t.run(2)
    hooks, scale = t.adapter._hooks[""], t.scaler.get_scale()
    t.adapter.sample(0)
    before, counted = [p.detach().clone() for p in t.model.parameters()], hooks.steps
    t.optimizer.zero_grad()
    t.scaler.scale(t.loss()).backward()
    t.model[5].weight.grad[0, 0] = float("inf")
    t.scaler.step(t.optimizer)
    assert "grad_norm" not in t.adapter.sample(1)
    t.scaler.update()
    assert same(before, list(t.model.parameters()))
    assert t.scaler.get_scale() == 0.5 * scale
    assert hooks.steps == counted + (kind == "fused" and device != "cpu")
    counted = hooks.steps
    t.step()
    assert hooks.steps == counted + 1
    assert not any(torch.equal(a, b) for a, b in zip(before, t.model.parameters(), strict=True))
    assert hooks.broken is None
