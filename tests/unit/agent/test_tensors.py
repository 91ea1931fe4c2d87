"""GPU values: recorded under their own step once they have arrived, never waited for, at most 64 on their way."""

import contextlib
import sys
import time
import types

import pytest

from sitter_agent.tensors import MAX_PENDING, Pending, on_gpu
from tests.unit.agent.conftest import Run


class SlowDevice(types.ModuleType):
    """As much of torch as a pending value needs; its copies arrive when the test says so."""

    float64 = "float64"

    def __init__(self):
        super().__init__("torch")
        device = self
        self.arrived = 0
        self.started = 0

        class Buffer:
            def copy_(self, value, non_blocking):
                assert non_blocking
                self.value = value.value

            def __float__(self):
                return self.value

        class Event:
            def record(self):
                device.started += 1
                self.n = device.started

            def query(self):
                return self.n <= device.arrived

        self.empty = lambda n, dtype, pin_memory, device: types.SimpleNamespace(unbind=lambda: [Buffer() for _ in range(n)])
        self.no_grad = self.inference_mode = contextlib.nullcontext
        self.capturing = False
        self.cuda = types.SimpleNamespace(
            Event=Event, device=lambda d: contextlib.nullcontext(), is_current_stream_capturing=lambda: self.capturing
        )


class OnDevice:
    is_cuda = True
    device = "cuda:0"

    def __init__(self, value):
        self.value = value

    def detach(self):
        return self

    def reshape(self, shape):
        return self

    def to(self, dtype):
        return self

    def numel(self):
        return 1

    def __float__(self):
        raise AssertionError("reading it would wait for the GPU")


@pytest.fixture
def device(monkeypatch):
    device = SlowDevice()
    monkeypatch.setitem(sys.modules, "torch", device)
    return device


def test_values_are_recorded_under_their_own_step_when_they_arrive(device):
    got = []
    pending = Pending(lambda step, branch, values: got.append((step, branch, values)))
    for step in range(3):
        pending.add(step, 0, "loss", OnDevice(float(step)))
        pending.add(step, 0, "acc", OnDevice(-1.0))
    pending.poll()
    assert got == []
    device.arrived = 3
    pending.poll()
    assert got == [(0, 0, {"loss": 0.0, "acc": -1.0}), (1, 0, {"loss": 1.0})]
    device.arrived = 6
    pending.poll()
    assert got[2:] == [(1, 0, {"acc": -1.0}), (2, 0, {"loss": 2.0, "acc": -1.0})]
    assert len(pending) == 0


def test_the_turns_of_one_step_are_all_recorded(device):
    """Gradient accumulation logs several losses under one step, and they may arrive together."""
    got = []
    pending = Pending(lambda step, branch, values: got.append((step, values)))
    for turn in range(3):
        pending.add(7, 0, "loss", OnDevice(float(turn)))
        pending.add(7, 0, "acc", OnDevice(-1.0))
    device.arrived = 6
    pending.poll()
    assert got == [(7, {"loss": float(turn), "acc": -1.0}) for turn in range(3)]


def test_beyond_64_on_their_way_they_are_dropped_and_counted(device):
    pending = Pending(lambda *a: None)
    for step in range(MAX_PENDING + 10):
        pending.add(step, 0, "loss", OnDevice(1.0))
    assert (len(pending), pending.dropped) == (MAX_PENDING, 10)


def test_what_is_dropped_is_told_in_the_status(begin, device):
    agent = begin()
    for step in range(MAX_PENDING + 3):
        agent.log(step=step, loss=OnDevice(1.0))
    assert agent._core.recorder.dropped == 3


def test_a_value_of_a_branch_that_was_left_stays_there(device):
    got = []
    pending = Pending(lambda step, branch, values: got.append((step, branch)))
    pending.add(50, 0, "loss", OnDevice(1.0))
    pending.add(50, 1, "loss", OnDevice(2.0))
    device.arrived = 2
    pending.poll()
    assert got == [(50, 0), (50, 1)]


def test_what_is_on_no_gpu_is_not_taken_for_it():
    import torch

    assert not any(map(on_gpu, (1.0, 1, "a", torch.zeros(()))))


def test_log_takes_the_rest_at_once(begin, device):
    agent = begin()
    turns = agent.steps(3)
    next(turns)
    agent.log(loss=OnDevice(1.5), cheap=2.0)
    assert Run(agent.run).values("cheap") == [(0, 2.0)]
    assert Run(agent.run).values("loss") == []
    device.arrived = 1
    next(turns)
    assert Run(agent.run).values("loss") == [(0, 1.5)]
    agent.log(loss=OnDevice(2.5))
    device.arrived = 2
    run = Run(agent.run)
    agent.close()
    assert run.values("loss") == [(0, 1.5), (1, 2.5)]


def test_a_value_on_the_gpu_counts_like_any_other(begin, device):
    """The framework's own gradient norm rests where the script logs one, and the goal is known once it has arrived."""
    agent = begin(goal="val_loss")
    agent.log({"val/loss": OnDevice(1.5)}, step=0, grad_norm=OnDevice(2.0))
    assert agent._core.logged == {"val_loss", "grad_norm"}
    assert agent._core.goal_value is None
    device.arrived = 2
    agent.safe_point(0)
    assert agent._core.goal_value == 1.5


def test_several_numbers_are_refused_by_name_and_the_others_kept(begin, device, capsys):
    class Several(OnDevice):
        def numel(self):
            return 3

        def item(self):
            raise RuntimeError("a Tensor with 3 elements cannot be converted to Scalar")

    agent = begin()
    device.arrived = 1
    agent.log(step=0, logits=Several(0.0), loss=OnDevice(1.0), cheap=2.0)
    agent.safe_point(0)
    run = Run(agent.run)
    assert (run.values("loss"), run.values("cheap"), run.values("logits")) == ([(0, 1.0)], [(0, 2.0)], [])
    assert agent._core.rail.failures == 0
    assert "logits" in capsys.readouterr().err


def test_while_a_graph_is_captured_nothing_is_asked_of_the_device(device):
    pending = Pending(lambda *a: None)
    device.capturing = True
    pending.add(0, 0, "loss", OnDevice(1.0))
    assert (len(pending), pending.dropped, device.started) == (0, 1, 0)


@pytest.mark.gpu
def test_on_a_real_gpu_log_does_not_wait_for_it(begin):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU that torch can use")
    agent = begin()
    a = torch.randn(8192, 8192, device="cuda")
    acc = torch.tensor(0.5, dtype=torch.bfloat16, device="cuda")  # made here, since making it waits for the GPU
    agent.log(step=0, warm=a.sum())
    torch.cuda.synchronize()
    turns, logged = 40, []
    for step in range(turns):
        b = a
        for _ in range(4):
            b = b @ a
        began = time.perf_counter()
        agent.log(step=step, loss=b.mean(), acc=acc)
        logged.append(time.perf_counter() - began)
        agent.safe_point()
    began = time.perf_counter()
    torch.cuda.synchronize()
    waited = time.perf_counter() - began
    logged.sort()
    print(f"log of 2 GPU values: p50 {1e6 * logged[turns // 2]:.0f} µs, the GPU was {waited:.2f} s behind")
    assert waited > 20 * logged[turns // 2], "the GPU was far behind, and log did not wait for it"
    dropped = agent._core.pending.dropped
    run = agent.run
    agent.close()
    losses = Run(run).values("loss")
    assert 2 * turns - len(losses) - len(Run(run).values("acc")) == dropped
    assert [s for s, _ in losses] == sorted(s for s, _ in losses)
    assert {v for _, v in Run(run).values("acc")} == {0.5}


class Far:
    """A vector on a device that copies when it likes: real numbers, a pretended place."""

    is_cuda, device = True, "cuda:0"

    def __init__(self, numbers):
        import torch

        self.numbers = torch.tensor(numbers)

    def numel(self):
        return self.numbers.numel()

    def to(self, dtype):
        return self.numbers.to(dtype)

    def tolist(self):
        raise AssertionError("reading it would wait for the GPU")


class TwoVectors:
    """A lot of two vectors, the second perhaps in host memory."""

    def __init__(self, *vectors):
        self.vectors = list(vectors)

    def values(self, numbers):
        return [{"a": numbers[0][0]}, {"b": sum(numbers[1])}]


@pytest.fixture
def far(monkeypatch):
    """torch itself, but for the calls that need a GPU."""
    import torch

    device = SlowDevice()
    monkeypatch.setattr(torch.cuda, "Event", device.cuda.Event)
    monkeypatch.setattr(torch.cuda, "device", device.cuda.device)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: device.capturing)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **how: empty(*size, **how))
    return device


def test_a_lot_is_recorded_under_its_own_step_in_records_of_its_own(far):
    import torch

    got = []
    pending = Pending(lambda step, branch, values: got.append((step, branch, values)))
    pending.add_lot(1, 0, TwoVectors(torch.tensor([1.0]), torch.tensor([2.0, 3.0])))
    assert got == [(1, 0, {"a": 1.0}), (1, 0, {"b": 5.0})], "what lies here is recorded at once"
    got.clear()
    pending.add_lot(7, 2, TwoVectors(Far([4.0]), torch.tensor([5.0, 6.0])))
    pending.add(8, 2, "loss", torch.tensor(0.5))
    pending.poll()
    assert (got, len(pending)) == ([], 2)
    far.arrived = 2
    pending.poll()
    assert got == [(8, 2, {"loss": 0.5}), (7, 2, {"a": 4.0}), (7, 2, {"b": 11.0})]


def test_of_two_lots_on_their_way_the_second_is_dropped(far):
    got = []
    pending = Pending(lambda step, branch, values: got.append((step, values)))
    for step in (1, 2):
        pending.add_lot(step, 0, TwoVectors(Far([float(step)]), Far([0.0])))
    far.capturing = True
    pending.add_lot(3, 0, TwoVectors(Far([3.0]), Far([0.0])))
    assert pending.dropped == 2
    far.arrived = 2
    pending.poll()
    assert got == [(1, {"a": 1.0}), (1, {"b": 0.0})]
