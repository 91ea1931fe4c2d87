"""A step that was captured in a CUDA graph runs no hooks when it is replayed: that is said, and no knob claims an effect."""

from typing import Any

import pytest
import torch
from torch import nn

from sitter_agent.frameworks import torch_scale
from sitter_agent.frameworks.torch import TorchAdapter
from sitter_agent.frameworks.torch_grad import capturing
from sitter_agent.frameworks.torch_optimizer import _Putter


def training(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, TorchAdapter, list[bool]]:
    """``capturing_now`` holds whether a graph is being captured: only a GPU has one, so the answer is the test's."""
    capturing_now = [False]
    monkeypatch.setattr(torch_scale, "CUDA", True)
    monkeypatch.setattr(torch_scale, "capturing", lambda t: capturing_now[0])
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = torch.optim.SGD([p], lr=0.1)
    return optimizer, TorchAdapter(None, optimizer), capturing_now


def test_every_turn_counts_as_a_step_and_the_knob_says_that_it_cannot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    optimizer, adapter, capturing_now = training(monkeypatch)
    optimizer.step()
    assert adapter.steps_done() == 1
    capturing_now[0] = True
    optimizer.step()
    optimizer.step()
    assert adapter.steps_done() is None
    assert capsys.readouterr().err.count("captured in a CUDA graph") == 1
    (knob,) = adapter.knobs()
    with pytest.raises(ValueError, match="replayed from a CUDA graph"):
        knob.change("scale", 0.5, group=None, hold=False)
    assert (knob.scale, knob.effective()) == (1.0, 0.1)


def test_a_step_outside_of_the_graph_is_a_step_again(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer, adapter, capturing_now = training(monkeypatch)
    capturing_now[0] = True
    optimizer.step()
    capturing_now[0] = False
    optimizer.step()
    assert adapter.steps_done() == 2
    (knob,) = adapter.knobs()
    assert knob.change("scale", 0.5, group=None, hold=False) == (0.1, 0.05)


def test_nadam_gets_its_product_back_where_torch_keeps_it() -> None:
    """``meta`` stands for a device that is not the CPU: what is made anew for it must not all land there."""
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = torch.optim.NAdam([p])
    optimizer.step()
    adapter = TorchAdapter(None, optimizer)
    captured = adapter.capture(None)
    image, cpu, away = captured.optimizers[""], torch.device("cpu"), torch.device("meta")
    made = _Putter(captured.host).fresh(image.state[0, 0], away, cpu)
    assert {k: t.device.type for k, t in made.items()} == {
        "step": "cpu", "mu_product": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta",
    }  # fmt: skip


def test_only_a_gpu_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        is_cuda = True

    asked: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: asked.append(True) or True)
    assert not capturing(torch.ones(1))
    assert asked == []
    assert capturing(OnGpu())  # type: ignore[arg-type]
