"""What a script has set for all of torch (a default device, inference mode) must not reach what is ours."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sitter_agent import rng
from sitter_agent.frameworks import torch_parked
from sitter_agent.frameworks.torch import TorchAdapter
from sitter_agent.frameworks.torch_memory import Staging
from sitter_agent.frameworks.torch_parked import Parked
from sitter_agent.tensors import MAX_PENDING, Pending
from tests.unit.agent.conftest import Run


@pytest.fixture
def elsewhere():
    """``torch.set_default_device("cuda")``, as many a script begins; ``meta`` stands for it where there is no GPU."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def made():
    with torch.device("cpu"):
        model = nn.Linear(64, 64)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.randn(4, 64)).square().mean().backward()
            optimizer.step()
    return model, optimizer


def test_a_capture_goes_back_whatever_the_default_device_is(elsewhere, tmp_path):
    model, optimizer = made()
    adapter = TorchAdapter(model, optimizer)
    before = [p.detach().clone() for p in model.parameters()]
    captured = adapter.capture(adapter.capture(None))
    with (tmp_path / "x.pt").open("wb") as file:
        adapter.save(captured, file, {"step": 2, "rng": rng.to_plain(rng.capture())})
    with (tmp_path / "x.pt").open("rb") as file:
        loaded, meta = adapter.load(file)
    for state in (captured, loaded):
        with torch.no_grad():
            for p in model.parameters():
                p.zero_()
        assert adapter.restore(state) == []
        assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert rng.restore(rng.from_plain(meta["rng"])) == []
    adapter.close()


def test_what_comes_from_a_device_comes_into_host_memory(elsewhere):
    with torch.device("cpu"):
        source, target = torch.arange(100.0), torch.zeros(100)
    Staging(256).fetch([source], [target])
    assert torch.equal(source, target)


@pytest.mark.parametrize("ending", ["back", "strand"])
def test_what_is_parked_lies_in_host_memory(elsewhere, monkeypatch, ending):
    monkeypatch.setattr(torch_parked, "KIND", "cpu")
    model, _ = made()
    before = [p.detach().clone() for p in model.parameters()]
    parked = Parked(list(model.parameters()))
    parked.go()
    assert parked.freed > 0
    getattr(parked, ending)()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_no_room_is_no_room_in_an_older_torch_too(monkeypatch):
    """``torch.OutOfMemoryError`` came with 2.5; before it was only ``torch.cuda.OutOfMemoryError``."""
    import importlib

    with monkeypatch.context() as older:
        older.delattr(torch, "OutOfMemoryError")
        module = importlib.reload(torch_parked)
        older.setattr(module, "KIND", "cpu")
        parked = module.Parked([torch.zeros(1024)], grow=lambda *_: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("out of memory")))
        parked.go()
        with pytest.raises(MemoryError, match="no room"):
            parked.back()
    importlib.reload(torch_parked)


def test_a_snapshot_taken_in_inference_mode_can_be_taken_over_afterwards():
    model, optimizer = made()
    adapter = TorchAdapter(model, optimizer)
    with torch.inference_mode():
        first = adapter.capture(None)
    with torch.no_grad():
        model.weight.fill_(3.0)
    again = adapter.capture(first)
    with torch.no_grad():
        model.weight.fill_(0.0)
    assert adapter.restore(again) == []
    assert bool((model.weight == 3.0).all())
    adapter.close()


def test_values_logged_first_in_inference_mode_are_followed_by_others(monkeypatch):
    """An evaluation before the first step logs a value that lies on the GPU; here its copies are real, and arrive at once."""
    here = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **how: here(*size, **how))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "device", lambda _: torch.no_grad())
    monkeypatch.setattr(torch.cuda, "Event", lambda: SimpleNamespace(record=lambda: None, query=lambda: True))
    found = []
    pending = Pending(lambda step, branch, values: found.append((step, values)))
    with torch.inference_mode():
        pending.add(0, 0, "val_loss", torch.tensor(2.5))
    for step in range(1, 2 * MAX_PENDING):
        pending.add(step, 0, "loss", torch.tensor(float(step)))
        pending.poll()
    assert found == [(0, {"val_loss": 2.5}), *((step, {"loss": float(step)}) for step in range(1, 2 * MAX_PENDING))]


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler's own, wherever it stops and goes on
def test_a_compiled_function_may_log(begin):
    """The compiler traces whatever is called inside; it must not try to with us, and need not compile anew at every step."""
    model = nn.Linear(4, 1)
    agent = begin()

    @torch.compile(backend="eager")
    def train_step(x, value):
        y = model(x).relu()
        agent.log(loss=value, other=1.0)
        return y.sum()

    torch._dynamo.utils.counters.clear()
    for step in agent.steps(30):
        x = torch.full((2, 4), float(step))
        assert float(train_step(x, float(step)).detach()) == float(model(x).relu().sum().detach())
    assert Run(agent.run).values("loss") == [(step, float(step)) for step in range(30)]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 6
