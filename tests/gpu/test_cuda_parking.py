"""`pause --free` on a GPU: its memory is given back, and the training goes on to the bit."""

import threading

import pytest
import torch

from sitter_agent.frameworks import torch_parked
from sitter_agent.frameworks.torch_parked import Parked, graphs, with_gradients
from sitter_wire.commands import Pause, Unpause
from tests.gpu.conftest import OPTIMIZERS, Training, settle

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def kind(device, monkeypatch):
    monkeypatch.setattr(torch_parked, "KIND", device)


@pytest.mark.parametrize("kind_of", list(OPTIMIZERS))
def test_away_and_back_the_training_goes_on_to_the_bit(device, deterministic, kind_of):
    plain, moved = Training(device, OPTIMIZERS[kind_of]), None
    losses = [float(plain.step().detach()) for _ in range(8)]
    moved = Training(device, OPTIMIZERS[kind_of])
    found = [float(moved.step().detach()) for _ in range(4)]
    parked, why = moved.adapter.park()
    assert parked is not None, why
    before = [id(p) for p in moved.model.parameters()]
    parked.go()
    parked.back()
    assert [id(p) for p in moved.model.parameters()] == before
    found += [float(moved.step().detach()) for _ in range(4)]
    assert found == losses


def test_the_memory_is_free_for_another_process(cuda):
    model = torch.nn.Sequential(*[torch.nn.Linear(2048, 2048, device=cuda) for _ in range(16)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.randn(4, 2048, device=cuda)).sum().backward()
    optimizer.step()
    settle(cuda)
    state = [t for s in optimizer.state.values() for t in s.values() if isinstance(t, torch.Tensor)]
    tensors = with_gradients([*model.parameters(), *state])
    before, sums = torch.cuda.memory_reserved(), [t.double().sum().item() for t in tensors]
    parked = Parked(tensors)
    assert parked.nbytes > 16 * 4 * 2048 * 2048 * 4  # weights, gradients, two moments
    parked.go()
    assert parked.freed > 0.95 * parked.nbytes
    assert torch.cuda.memory_reserved() < before - 0.95 * parked.nbytes
    parked.back()
    assert [t.double().sum().item() for t in tensors] == sums


def test_a_gpu_without_room_is_waited_for(cuda):
    """The room that was freed is taken for real before the state comes back."""
    t = torch.randn(64 << 20, device=cuda)
    copy = t.cpu()
    parked = Parked([t])
    parked.go()
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(free - (100 << 20), dtype=torch.uint8, device=cuda)
    with pytest.raises(MemoryError, match="no room"):
        parked.back()
    assert t.untyped_storage().nbytes() == 0
    del taken
    torch.cuda.empty_cache()
    parked.back()
    assert torch.equal(t.cpu(), copy)


def test_cuda_graphs_are_seen_and_nothing_is_moved(cuda):
    model = torch.nn.Linear(512, 512, device=cuda)
    x = torch.randn(4, 512, device=cuda)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        model(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(x)
    from sitter_agent.frameworks.torch import TorchAdapter

    adapter = TorchAdapter(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert graphs() >= 1
    parked, why = adapter.park()
    assert parked is None
    assert "hold the addresses" in why
    adapter.close()


def test_a_real_training_is_paused_freed_and_goes_on(device, deterministic, begin, daemon):
    plain = Training(device)
    losses = [float(plain.step().detach()) for _ in range(6)]
    plain.adapter.close()
    t = Training(device)
    t.adapter.close()
    agent = begin(model=t.model, optimizer=t.optimizer, scheduler=t.scheduler)
    d = daemon(agent)
    turns = agent.loop(range(10), total=100)
    found = []
    for i in range(6):
        next(turns)
        found.append(float(t.step().detach()))
        if i == 2:
            order = d.order(Pause(free=True, hold=True))
            said = []
            driver = threading.Thread(target=lambda o=order, s=said: (s.append(d.outcome(o)), d.order(Unpause())))
            driver.start()
            next(turns)
            driver.join()
            assert said[0].status == "applied", said[0].text
            assert said[0].detail["moved"] > 0
            break
    found += [float(t.step().detach())]
    for _ in range(2):
        next(turns)
        found.append(float(t.step().detach()))
    assert found == losses
