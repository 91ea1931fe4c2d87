"""What the tests on a GPU share. They are left out unless asked for: ``pytest -m gpu``, on a machine with an NVIDIA GPU.

``SITTER_TEST_DEVICE=cpu pytest -m gpu tests/gpu`` runs the same bodies on the CPU, as far as they need no GPU: for whoever changes a
test and has none.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may sum in another order; read when CUDA starts

import torch
from torch import Tensor, nn

from sitter_agent.frameworks.torch import TorchAdapter
from tests.unit.agent.conftest import begin, daemon

__all__ = ["begin", "daemon"]

ASKED_FOR = os.environ.get("SITTER_TEST_DEVICE", "cuda")


@pytest.fixture
def device() -> str:
    """Where the test's tensors lie."""
    if ASKED_FOR == "cuda" and not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU that torch can use")
    return ASKED_FOR


@pytest.fixture
def cuda(device: str) -> str:
    """For what has no counterpart on a CPU."""
    if device != "cuda":
        pytest.skip("needs a GPU")
    return device


@pytest.fixture
def deterministic() -> Iterator[None]:
    """The same kernels in the same order: only then does the same state lead to the same bits."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@contextlib.contextmanager
def no_waiting(device: str, *, settled: bool = True) -> Iterator[None]:
    """In here every operation of torch that would wait for the GPU raises. ``settled``: the GPU has caught up before."""
    if device == "cpu":
        yield
        return

    def mode(name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this is a prototype
            torch.cuda.set_sync_debug_mode(name)

    if settled:
        torch.cuda.synchronize()
    mode("error")
    try:
        yield
    finally:
        mode("default")


def settle(device: str) -> None:
    """Until the GPU has done all it was told."""
    if device != "cpu":
        torch.cuda.synchronize()


AdamW = Callable[[Any, str], Any]
OPTIMIZERS: dict[str, AdamW] = {
    "foreach": lambda p, d: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "fused": lambda p, d: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "fused, rate on the device": lambda p, d: torch.optim.AdamW(p, lr=torch.tensor(1e-2, device=d), fused=True),
    "foreach, capturable": lambda p, d: torch.optim.AdamW(p, lr=1e-2, foreach=True, capturable=d != "cpu"),
    "fused, capturable": lambda p, d: torch.optim.AdamW(p, lr=1e-2, fused=True, capturable=d != "cpu"),
}


class Training:
    """A small training in which everything draws or remembers: dropout, batch norm, AdamW, a schedule and, if asked, a loss scale.

    Data and dropout come from the device's own generator.
    """

    def __init__(self, device: str, make: AdamW = OPTIMIZERS["fused"], *, seed: int = 0, amp: torch.dtype | None = None) -> None:
        torch.manual_seed(seed)
        self.device, self.amp = device, amp
        self.model = nn.Sequential(
            nn.Linear(16, 64), nn.BatchNorm1d(64), nn.GELU(), nn.Dropout(0.3), nn.LayerNorm(64), nn.Linear(64, 1)
        ).to(device)  # fmt: skip
        self.optimizer = make(self.model.parameters(), device)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=50)
        self.scaler = torch.amp.GradScaler(device, init_scale=2.0**10, growth_interval=3) if amp is torch.float16 else None
        self.adapter = TorchAdapter(self.model, self.optimizer, self.scheduler, self.scaler)

    def loss(self) -> Tensor:
        x = torch.randn(32, 16, device=self.device)
        with torch.autocast(self.device, dtype=self.amp, enabled=self.amp is not None):
            y = self.model(x)
        return (y.float() - x.sum(1, keepdim=True)).square().mean()

    def step(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.loss()
        if self.scaler is None:
            loss.backward()
            self.optimizer.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.scheduler.step()
        return loss.detach()

    def run(self, n: int) -> list[float]:
        return [float(loss) for loss in [self.step() for _ in range(n)]]

    def bits(self) -> list[Tensor]:
        """Everything that a later step depends on, as it is now."""
        found = [t.detach().cpu().clone() for t in self.model.state_dict().values()]
        for p in self.model.parameters():
            found += [t.detach().cpu().clone() for _, t in sorted(self.optimizer.state[p].items())]
        found.append(torch.tensor(float(self.optimizer.param_groups[0]["lr"]), dtype=torch.float64))
        found.append(torch.tensor(float(self.scheduler.last_epoch)))
        if self.scaler is not None:
            found.append(torch.tensor([self.scaler.get_scale(), float(self.scaler._get_growth_tracker())]))
        return found


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
