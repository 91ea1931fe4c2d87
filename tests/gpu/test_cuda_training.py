"""Whole trainings on a GPU under the whole agent: unchanged by us to the bit, and rescued by the real daemon in mixed precision."""

import contextlib
import os
import signal
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sitter.host.gpus import bare
from sitter.locks import holder
from sitter.store.reader import Reader
from sitter_wire.commands import Rollback, SetKnob
from sitter_wire.events import SessionStart
from tests.gpu.conftest import OPTIMIZERS, Training, same, settle
from tests.unit.agent.conftest import Run, until

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:This instance was constructed with capturable=True")]

AMP = [None, torch.bfloat16, torch.float16]


# -- to the bit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amp", AMP, ids=str)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_clean_run_is_unchanged_to_the_bit(device: str, deterministic: None, begin: Any, kind: str, amp: Any) -> None:
    alone = Training(device, OPTIMIZERS[kind], amp=amp)
    for _ in range(60):
        alone.step()
    want = alone.bits()

    t = Training(device, OPTIMIZERS[kind], amp=amp)
    agent = begin(model=t.model, optimizer=t.optimizer, scheduler=t.scheduler, scaler=t.scaler)
    for _ in agent.loop(range(61)):  # by turns: whether a step that the loss scale skips counts differs
        if agent.micro == 60:
            break
        agent.log(loss=t.step())
    assert same(t.bits(), want)
    core = agent._core
    assert core.rail.failures == 0
    assert core.ring.held, "snapshots were taken all the while"
    run = Run(agent.run)
    agent.close()
    assert 60 - core.pending.dropped <= len(run.values("loss")) <= 60


@pytest.mark.parametrize("kind", ["fused", "foreach", "fused, rate on the device"])
def test_rollback_with_replay_ends_as_if_nothing_had_been(device: str, deterministic: None, begin: Any, daemon: Any, kind: str) -> None:
    def data() -> Any:
        x = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=8, shuffle=True)

    def turn(t: Training, x: Tensor) -> Tensor:
        t.optimizer.zero_grad()
        x = x.to(device) + 0.1 * torch.randn(8, 16, device=device)  # the device draws too
        loss = (t.model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        t.optimizer.step()
        t.scheduler.step()
        return loss.detach()

    alone = Training(device, OPTIMIZERS[kind])
    loader, done = data(), 0
    while done < 60:
        for (x,) in loader:
            turn(alone, x)
            done += 1
            if done == 60:
                break

    t = Training(device, OPTIMIZERS[kind])
    agent = begin(model=t.model, optimizer=t.optimizer, scheduler=t.scheduler)
    d, order = daemon(agent), None
    for step, (x,) in agent.loop(data(), total=60):
        if step == 43 and order is None:
            with torch.no_grad():
                t.model[0].weight.fill_(float("nan"))
            d.clear(agent._core.ring.held[-1].step)
            order = d.order(Rollback(replay=True))
        agent.log(loss=turn(t, x))
    outcome = d.outcome(order)
    assert outcome.status == "applied", outcome.text
    assert outcome.detail["exact"] is True, outcome.text
    assert outcome.detail["step"] < 43
    assert same(t.bits(), alone.bits())


def test_half_the_rate_is_seen_as_such(device: str, begin: Any, daemon: Any) -> None:
    """With the rate on the device nobody waits for it, and it is known all the same."""
    t = Training(device, OPTIMIZERS["fused, rate on the device"])
    agent = begin(model=t.model, optimizer=t.optimizer, scheduler=t.scheduler)
    d, order = daemon(agent), None
    for step in agent.steps(20):
        if step == 9:
            order = d.order(SetKnob(knob="lr", op="scale", amount=0.5))
        agent.log(loss=t.step())
        settle(device)
    assert d.outcome(order).status == "applied"
    run = Run(agent.run)
    agent.close()
    used, scheduled = dict(run.values("lr")), dict(run.values("lr_scheduled"))
    assert set(used) == set(scheduled) == set(range(20))
    assert used[9] == scheduled[9]
    assert used[10] == pytest.approx(0.5 * scheduled[10], rel=1e-6)


# -- the real daemon ---------------------------------------------------------------------------------------------------

TURNS, AT = 2400, 1500
BURST = 3
SEEDS = (0, 1, 2)


class Regression:
    """A network with batch norm learns another one's outputs, in mixed precision, its rate falling to nothing at the end.

    Batch norm matters: with a loss scale the weights survive a NaN batch (its step is skipped), the running means do not.
    """

    def __init__(self, device: str, amp: torch.dtype, seed: int) -> None:
        torch.manual_seed(seed)
        self.device, self.amp = device, amp
        self.model = nn.Sequential(
            nn.Linear(16, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Linear(96, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Linear(96, 1)
        ).to(device)  # fmt: skip
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-3, fused=True)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=TURNS)
        self.scaler = torch.amp.GradScaler(device, init_scale=2.0**10, enabled=amp is torch.float16)
        known = torch.Generator().manual_seed(1234)
        teacher = [torch.randn(16, 32, generator=known) / 4, torch.randn(32, 1, generator=known) / 4]
        x = torch.randn(6144, 16, generator=known)
        y = torch.tanh(x @ teacher[0]) @ teacher[1] + 0.1 * torch.randn(6144, 1, generator=known)
        self.x, self.y = x.to(device), y.to(device)
        self.order = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Tensor]:
        """Batches: indices of 64 examples each; the last third is kept for validation."""
        yield from torch.randperm(4096, generator=self.order).split(64)

    def turn(self, at: Tensor, fault: bool) -> Tensor:
        at = at.to(self.device)
        x = self.x[at] * float("nan") if fault else self.x[at]
        self.optimizer.zero_grad()
        with torch.autocast(self.device, dtype=self.amp):
            out = self.model(x)
        loss = (out.float() - self.y[at]).square().mean()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        return loss.detach()

    def held_out(self) -> float:
        self.model.eval()
        with torch.no_grad():
            loss = float((self.model(self.x[4096:]) - self.y[4096:]).square().mean())
        self.model.train()
        return loss

    def alone(self, fault: bool) -> float:
        turn = 0
        while turn < TURNS:
            for at in self:
                self.turn(at, fault and AT <= turn < AT + BURST)
                turn += 1
                if turn == TURNS:
                    break
        return self.held_out()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("amp", [torch.bfloat16, torch.float16], ids=str)
def test_a_burst_of_nan_in_mixed_precision_is_healed(device: str, begin: Any, amp: torch.dtype) -> None:
    """Decisions take as long as they take. The fault is a function of the turn, so a rollback does not plant it again."""
    clean = [Regression(device, amp, seed).alone(fault=False) for seed in SEEDS]
    ruined = Regression(device, amp, 0).alone(fault=True)
    assert ruined != ruined, "left alone it must be ruined, else there is nothing to heal"

    r = Regression(device, amp, 0)
    agent = begin(
        daemon=True, model=r.model, optimizer=r.optimizer, scheduler=r.scheduler, scaler=r.scaler if r.scaler.is_enabled() else None
    )
    turn = 0
    for _, at in agent.loop(r, total=TURNS):
        agent.log(loss=r.turn(at, AT <= turn < AT + BURST))
        turn += 1
        assert turn < 2 * TURNS
    healed = r.held_out()
    core, run = agent._core, Path(agent.run)
    uuids = Run(run).events(SessionStart)[0].gpus
    agent.close()
    book, signals = ended(run)

    noise = max(0.05, 2 * statistics.stdev(clean) / statistics.mean(clean))
    print(f"{amp}: clean {clean[0]:.5f}, noise {noise:.1%}, healed {healed:.5f}, {turn - TURNS} steps lost")
    back = [e for e in book if e.kind == "outcome" and e.action.startswith("rollback") and e.status == "applied"]
    assert back, [(e.kind, e.action, e.status, e.detail) for e in book]
    assert healed <= clean[0] * (1 + noise)
    assert core.rail.failures == 0
    if device == "cuda":
        assert len(uuids) == 1
        assert bare(uuids[0]) == bare(str(torch.cuda.get_device_properties(0).uuid))
        assert [name for name in signals if name.startswith("gpu") and name.endswith(".util")], sorted(signals)


def ended(run: Path) -> tuple[list[Any], set[str]]:
    """The logbook and the names of the signals, once this run's daemon has committed all and gone."""
    pid = holder(run / "daemon.lock")
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        until(lambda: holder(run / "daemon.lock") is None, 20.0)
    reader = Reader(run / "history.db")
    try:
        return reader.logbook(limit=100_000), set(reader.signals())
    finally:
        reader.close()
