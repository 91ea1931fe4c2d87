"""A torch training under the whole agent: unchanged to the bit by us, and by a rollback with replay; steps counted by the optimizer."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sitter_wire.commands import Rollback, SetKnob, Stop, TakeCheckpoint
from sitter_wire.events import Remark, Restored
from tests.unit.agent.conftest import Quadratic, Run


def parts(seed=0, n=40):
    """Model with dropout and batch norm, AdamW, cosine schedule, a shuffled loader: everything that draws or remembers."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=60)
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
    return model, optimizer, scheduler, loader


def turn(model, optimizer, scheduler, x, y, accumulate=1, micro=0):
    loss = ((model(x) - y) ** 2).mean()
    (loss / accumulate).backward()
    if (micro + 1) % accumulate == 0:
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return loss


def bits(model, optimizer):
    tensors = [*model.state_dict().values()]
    for state in optimizer.state.values():
        tensors += [t for t in state.values() if isinstance(t, torch.Tensor)]
    return [t.clone() for t in tensors] + [torch.rand(3)]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def plain(total=60):
    model, optimizer, scheduler, loader = parts()
    done = 0
    while done < total:
        for x, y in loader:
            turn(model, optimizer, scheduler, x, y)
            done += 1
            if done == total:
                break
    return bits(model, optimizer)


def looked_after(begin, d=None, total=60, fault_at=None, action=None, daemon=None):
    model, optimizer, scheduler, loader = parts()
    agent = begin(model=model, optimizer=optimizer, scheduler=scheduler)
    d = daemon(agent) if daemon is not None else None
    order = None
    for step, (x, y) in agent.loop(loader, total=total):
        if step == fault_at and order is None:
            with torch.no_grad():
                model[0].weight.fill_(math.nan)
            d.clear(agent._core.ring.held[-1].step)
            order = d.order(action)
        agent.log(loss=turn(model, optimizer, scheduler, x, y))
    return agent, bits(model, optimizer), d.outcome(order) if order else None


def test_a_clean_run_is_unchanged_to_the_bit(begin):
    agent, ours, _ = looked_after(begin)
    assert same(ours, plain())
    run = Run(agent.run)
    assert [s for s, _ in run.values("loss")] == list(range(60))
    assert [s for s, _ in run.values("lr")] == list(range(60))
    assert run.values("grad_norm")
    looked_at = [0, 1, 3, 7, 15, 31]
    for layer in ("0", "1", "4"):
        assert [s for s, _ in run.values(f"grad_norm.{layer}")] == [s for s, _ in run.values(f"update_ratio.{layer}")] == looked_at
    assert agent._core.rail.failures == 0


def test_rollback_with_replay_ends_as_if_nothing_had_been(begin, daemon):
    _, ours, outcome = looked_after(begin, fault_at=43, action=Rollback(replay=True), daemon=daemon)
    assert outcome.status == "applied", outcome.text
    assert outcome.detail["exact"] is True, outcome.text
    assert outcome.detail["step"] <= 43  # a snapshot was taken at that very step where the machine was busy before
    assert same(ours, plain())


def test_by_default_the_data_go_on_and_the_model_is_sound(begin, daemon):
    agent, ours, outcome = looked_after(begin, fault_at=43, action=Rollback(), daemon=daemon)
    assert outcome.status == "applied"
    assert all(torch.isfinite(t).all() for t in ours)
    restored = Run(agent.run).events(Restored)[0]
    assert (restored.replay, restored.missing) == (False, [])


class WithNoise(Dataset):
    """Draws in the worker that loads it."""

    def __len__(self):
        return 40

    def __getitem__(self, i):
        return torch.randn(8), torch.ones(1)


def test_replay_with_workers_says_that_it_may_not_be_exact(begin, daemon):
    model, optimizer, scheduler, _ = parts()
    agent = begin(model=model, optimizer=optimizer)
    d = daemon(agent)
    loader = DataLoader(WithNoise(), batch_size=8, num_workers=1)
    order = None
    for step, (x, y) in agent.loop(loader, total=8):
        if step == 3 and order is None:
            order = d.order(Rollback(to=0, replay=True))
        turn(model, optimizer, scheduler, x, y)
    outcome = d.outcome(order)
    assert outcome.detail["exact"] is False
    assert "1 worker processes have random numbers of their own" in outcome.text
    del loader


def test_steps_are_the_optimizers_under_accumulation(begin):
    model, optimizer, scheduler, loader = parts()
    agent = begin(model=model, optimizer=optimizer, scheduler=scheduler)
    seen = []
    for step, (x, y) in agent.loop(loader, total=6):
        seen.append(step)
        agent.log(loss=turn(model, optimizer, scheduler, x, y, accumulate=4, micro=agent.micro))
    assert seen == [i // 4 for i in range(24)]
    assert (agent.step, agent.micro) == (6, 24)
    assert [s for s, _ in Run(agent.run).values("step_time")] == list(range(6))


def test_a_scaled_rate_is_used_and_the_schedule_does_not_see_it(begin, daemon):
    model, optimizer, scheduler, loader = parts()
    agent = begin(model=model, optimizer=optimizer, scheduler=scheduler)
    d = daemon(agent)
    order = None
    for step, (x, y) in agent.loop(loader, total=20):
        if step == 9:
            order = d.order(SetKnob(knob="lr", op="scale", amount=0.5))
        turn(model, optimizer, scheduler, x, y)
    assert d.outcome(order).status == "applied"
    used = dict(Run(agent.run).values("lr"))
    scheduled = dict(Run(agent.run).values("lr_scheduled"))
    assert used[9] == scheduled[9]
    assert used[10] == pytest.approx(0.5 * scheduled[10])
    assert scheduled[19] == pytest.approx(1e-2 * (1 + math.cos(math.pi * 19 / 60)) / 2)


def test_what_the_knobs_stand_at_is_told_from_the_first_step_and_anew_when_it_may_have_changed(begin, daemon):
    model, optimizer, scheduler, loader = parts()
    agent = begin(model=model, optimizer=optimizer, scheduler=scheduler)
    d = daemon(agent)
    order = None
    for step, (x, y) in agent.loop(loader, total=8):
        turn(model, optimizer, scheduler, x, y)
        if step == 3:
            order = d.order(SetKnob(knob="weight_decay", op="scale", amount=2.0))
    assert d.outcome(order).status == "applied"
    run = Run(agent.run)
    assert run.values("weight_decay") == [(0, 0.01), (4, 0.02)]
    assert run.values("beta2") == [(0, 0.999), (4, 0.999)]
    assert [step for step, _ in run.values("lr")] == list(range(8)), "that is told at every step"


def test_a_checkpoint_opens_with_torch_alone_and_a_new_process_goes_on(begin, daemon, monkeypatch):
    model, optimizer, scheduler, loader = parts()
    agent = begin(model=model, optimizer=optimizer, scheduler=scheduler)
    d = daemon(agent)
    order = None
    for step, (x, y) in agent.loop(loader, total=20):
        if step == 9:
            order = d.order(TakeCheckpoint())
        if step == 10:
            then = {k: v.clone() for k, v in model.state_dict().items()}
        turn(model, optimizer, scheduler, x, y)
    outcome = d.outcome(order)
    assert outcome.status == "applied", outcome.text
    agent.close()
    saved = torch.load(outcome.detail["path"], weights_only=True)
    assert all(torch.equal(saved["model"][k], v) for k, v in then.items())

    agent_run = str(Path(outcome.detail["path"]).parents[1])
    monkeypatch.setenv("SITTER_RUN", agent_run)
    monkeypatch.setenv("SITTER_RESUME", outcome.detail["path"])
    model, optimizer, scheduler, loader = parts(seed=9)
    agent = begin(model=model, optimizer=optimizer, scheduler=scheduler)
    assert agent.run == agent_run
    assert agent.step == 10
    assert all(torch.equal(model.state_dict()[k], v) for k, v in then.items())
    assert next(agent.loop(loader, total=12))[0] == 10


def test_a_safe_point_before_the_first_step_takes_the_first_snapshot(begin, daemon):
    """As a trainer's callback does it, which counts its own steps from 1."""
    model, optimizer, scheduler, loader = parts()
    first = {k: v.clone() for k, v in model.state_dict().items()}
    agent = begin(model=model, optimizer=optimizer, scheduler=scheduler, total=9)
    d = daemon(agent)
    agent.safe_point(0)
    assert [(s.step, s.branch) for s in agent._core.ring.held] == [(0, 0)]
    order = None
    for step, (x, y) in enumerate(loader, 1):
        loss = turn(model, optimizer, scheduler, x, y)
        agent.log(step=step, loss=loss)
        if step == 3:
            order = d.order(Rollback(to=0))
        agent.safe_point(step)
        if step == 3:
            break
    outcome = d.outcome(order)
    assert outcome.status == "applied"
    assert "the script's own step counter" in outcome.text
    assert all(torch.equal(v, first[k]) for k, v in model.state_dict().items())
    d.order(Stop())
    turn(model, optimizer, scheduler, x, y)
    with pytest.raises(KeyboardInterrupt):
        agent.safe_point(4)
    assert agent.stopping


def test_a_model_that_is_no_models_is_said(begin, capsys):
    agent = begin(model="not a model")
    assert agent.recording
    assert "NOT covered" in capsys.readouterr().err
    assert any("NOT covered" in r.text for r in Run(agent.run).events(Remark))


def two_groups():
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    groups = [{"params": [model.weight], "name": "body"}, {"params": [model.bias], "name": "head"}]
    return model, torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def test_a_new_process_goes_on_with_every_knob_as_it_was_commanded(begin, daemon, monkeypatch, capsys):
    """By group and pinned too; what the script's new optimizer does not take is said, and costs nothing else."""
    model, optimizer = two_groups()
    agent = begin(model=model, optimizer=optimizer)
    d = daemon(agent)
    order = None
    for step in agent.steps(12):
        model(torch.ones(2, 4)).pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == 3:
            d.order(SetKnob(knob="lr", op="scale", amount=0.5, group="head"))
            d.order(SetKnob(knob="momentum", op="value", amount=0.8, hold=True))
        if step == 8:
            order = d.order(TakeCheckpoint())
    outcome = d.outcome(order)
    then = dict(model.state_dict())
    agent.close()
    monkeypatch.setenv("SITTER_RUN", str(Path(outcome.detail["path"]).parents[1]))
    monkeypatch.setenv("SITTER_RESUME", outcome.detail["path"])
    model, optimizer = two_groups()
    agent = begin(model=model, optimizer=optimizer)
    lr, momentum = agent._core.knobs()["lr"], agent._core.knobs()["momentum"]
    assert lr.settings() == {"scale": 1.0, "by_group": {"head": 0.5}, "held": {}}
    assert (momentum.effective(), momentum.held) == (pytest.approx(0.8), True)
    for _ in agent.steps(12):
        model(torch.ones(2, 4)).pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(v, then[k]) for k, v in model.state_dict().items())


def ended_with_checkpoint(agent, monkeypatch):
    """Its only one, once it is whole; whoever starts next goes on from there."""
    agent._core.vault.wait(60)
    (side,) = agent._core.vault.all()
    path = agent._core.run.checkpoints / side.file
    agent.close()
    monkeypatch.setenv("SITTER_RUN", str(path.parents[1]))
    monkeypatch.setenv("SITTER_RESUME", str(path))
    return side


def test_a_knob_that_cannot_be_taken_up_does_not_make_the_state_a_failure(begin, daemon, monkeypatch, capsys):
    model, optimizer = two_groups()
    agent = begin(model=model, optimizer=optimizer)
    order = daemon(agent).order(TakeCheckpoint())
    for _ in agent.steps(2):
        optimizer.step()
    assert order
    side = ended_with_checkpoint(agent, monkeypatch)

    def fails(self, settings):
        raise ValueError("not any more")

    monkeypatch.setattr("sitter_agent.frameworks.torch_knobs.TorchKnob.put", fails)
    capsys.readouterr()
    agent = begin(model=model, optimizer=optimizer)
    said = capsys.readouterr().err
    assert agent.step == side.step
    assert f"going on from step {side.step}" in said
    assert "not put back: the knob lr (not any more)" in said


def test_a_checkpoint_of_another_kind_of_training_is_not_gone_on_from_and_steps_begin_at_0(begin, daemon, monkeypatch, capsys):
    agent = begin()
    Quadratic().known_to(agent)
    order = daemon(agent).order(TakeCheckpoint())
    for _ in agent.steps(2):
        pass
    assert order
    ended_with_checkpoint(agent, monkeypatch)
    capsys.readouterr()
    model, optimizer = two_groups()
    agent = begin(model=model, optimizer=optimizer)
    said = capsys.readouterr().err
    assert "holds a generic state, this training is torch" in said
    assert "the training begins with the script's own state" in said
    assert agent.step == 0
    assert agent._core.progress.line == [(1, 0)]
    seen = []
    for step in agent.steps(3):
        optimizer.step()
        seen.append(step)
    assert seen == [0, 1, 2]


def test_a_capture_is_as_sound_as_the_model_was_and_a_mask_of_infinities_is_no_fault(begin):
    import torch

    class Masked(torch.nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            self.register_buffer("mask", torch.full((4, 4), -math.inf).triu(1))

    model = Masked()
    optimizer = torch.optim.AdamW(model.parameters())
    agent = begin(model=model, optimizer=optimizer)
    adapter = agent._core.adapter
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert adapter.sound(adapter.capture(None))
    optimizer.state[model.bias]["exp_avg"][0] = math.nan
    assert not adapter.sound(adapter.capture(None))
    optimizer.state[model.bias]["exp_avg"][0] = 0.0
    with torch.no_grad():
        model.weight[0, 0] = math.inf
    assert not adapter.sound(adapter.capture(None))


def test_a_script_that_logs_its_own_layers_is_not_answered_back(begin):
    model, optimizer, scheduler, loader = parts()
    agent = begin(model=model, optimizer=optimizer, scheduler=scheduler)
    for _, (x, y) in agent.loop(loader, total=5):
        turn(model, optimizer, scheduler, x, y)
        agent.log({"grad_norm.0": 7.0})
    run = Run(agent.run)
    assert [value for _, value in run.values("grad_norm.0")] == [7.0] * 5
    assert run.values("update_ratio.0") == []


@pytest.mark.parametrize("what", ["layers", "hooks"])
def test_what_fails_in_the_midst_of_the_training_is_in_the_logbook_too(begin, monkeypatch, capsys, what):
    model, optimizer, scheduler, loader = parts()
    agent = begin(model=model, optimizer=optimizer, scheduler=scheduler)

    def broken(*args, **kwargs):
        raise RuntimeError("no kernel for this")

    for step, (x, y) in agent.loop(loader, total=6):
        if step == 1 and what == "layers":
            monkeypatch.setattr(torch, "_foreach_sub_", broken)
        elif step == 1:
            monkeypatch.setattr(agent._core.adapter._hooks[""], "_after_step", broken)
        turn(model, optimizer, scheduler, x, y)
    text = {
        "layers": "the layers cannot be measured (RuntimeError: no kernel for this); training goes on without their signals",
        "hooks": "the hooks on AdamW failed (RuntimeError: no kernel for this); its knobs are back at × 1",
    }[what]
    assert agent.step == 6
    assert [e.level for e in Run(agent.run).events(Remark) if e.text == text] == ["warning"]
    assert capsys.readouterr().err.count(text) == 1
