"""The state of a training on a GPU goes to host memory and back bit for bit, through little pinned memory."""

import io
import random
from typing import Any

import psutil
import pytest
import torch
from torch import nn

from sitter_agent import rng
from sitter_agent.frameworks.torch import TorchAdapter
from sitter_agent.frameworks.torch_memory import STAGING_BYTES, Staging, copy_in, copy_out
from tests.gpu.conftest import OPTIMIZERS, Training, no_waiting, same, settle

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:This instance was constructed with capturable=True"),
    pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream does not match"),  # warm-up and capture have their own
]

AMP = [None, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("amp", AMP, ids=str)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_capture_goes_back_bit_for_bit_and_stays_intact(device: str, deterministic: None, kind: str, amp: Any) -> None:
    t = Training(device, OPTIMIZERS[kind], amp=amp)
    t.run(4)
    then = t.bits()
    captured = t.adapter.capture(None)
    losses, ahead = t.run(5), t.bits()
    for _ in range(2):  # twice: the steps in between must not have written into it
        with torch.no_grad():
            for p in t.model.parameters():
                p.fill_(float("nan"))
                for value in t.optimizer.state[p].values():
                    value.fill_(float("nan"))
        assert t.adapter.restore(captured) == []
        assert same(t.bits(), then)
        assert t.run(5) == losses
        assert same(t.bits(), ahead)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_what_is_captured_into_old_memory_is_the_new_state(device: str, deterministic: None, kind: str) -> None:
    t = Training(device, OPTIMIZERS[kind], amp=torch.float16)
    t.run(2)
    first = t.adapter.capture(None)
    at = {path: host.data_ptr() for path, host in first.host.items() if not path.startswith("rng")}
    t.run(3)
    then = t.bits()
    second = t.adapter.capture(first)
    assert {path: second.host[path].data_ptr() for path in at} == at
    assert not first.whole
    ahead = t.run(3)
    assert t.adapter.restore(second) == []
    assert same(t.bits(), then)
    assert t.run(3) == ahead


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_before_the_first_step_there_was_no_optimizer_state(device: str, deterministic: None, kind: str) -> None:
    t = Training(device, OPTIMIZERS[kind], amp=torch.float16)
    captured = t.adapter.capture(None)
    losses, ahead = t.run(4), t.bits()
    assert t.adapter.restore(captured) == []
    assert not t.optimizer.state
    assert t.run(4) == losses
    assert same(t.bits(), ahead)


@pytest.mark.parametrize(
    "make",
    [*OPTIMIZERS.values(), lambda p, d: torch.optim.NAdam(p, lr=1e-2), lambda p, d: torch.optim.SGD(p, lr=1e-2, momentum=0.9)],
    ids=[*OPTIMIZERS, "NAdam", "SGD"],
)
def test_from_a_file_into_a_new_process_everything_lies_where_torch_keeps_it(device: str, deterministic: None, make: Any) -> None:
    one = Training(device, make, amp=torch.float16)
    one.run(4)
    file = io.BytesIO()
    one.adapter.save(one.adapter.capture(None), file, {"step": 4})
    losses = one.run(4)

    two = Training(device, make, seed=9, amp=torch.float16)
    file.seek(0)
    captured, _ = two.adapter.load(file)
    assert two.adapter.restore(captured) == []
    assert two.run(4) == losses
    assert same(one.bits(), two.bits())
    places = [
        [{k: (v.device, v.dtype) for k, v in t.optimizer.state[p].items()} for p in t.model.parameters()] for t in (one, two)
    ]
    assert places[0] == places[1]


def test_random_numbers_of_the_device_are_drawn_again(device: str) -> None:
    dropout, ones = nn.Dropout(0.5), torch.ones(1000, device=device)
    adapter = TorchAdapter(nn.Linear(1, 1).to(device))
    torch.rand(7, device=device)
    captured, states = adapter.capture(None), rng.capture()
    drawn = [dropout(ones), torch.rand(5, device=device), torch.rand(5), random.random()]
    plain = rng.from_plain(rng.to_plain(states))
    for back in (lambda: adapter.restore(captured), lambda: rng.restore(states), lambda: rng.restore(plain)):
        assert back() == []
        again = [dropout(ones), torch.rand(5, device=device), torch.rand(5)]
        assert all(torch.equal(a, b) for a, b in zip(again, drawn, strict=False))
    random.setstate(states["python"])
    assert random.random() == drawn[3]


@pytest.mark.parametrize("size", [256, 4096, 1 << 20])
def test_the_staging_buffer_waits_for_what_the_gpu_still_computes(device: str, size: int) -> None:
    """Sizes that fit in no half evenly, several types, and the last results of a queue that is far from done."""
    n = 2048 if device == "cuda" else 128
    a = torch.randn(n, n, device=device) / n**0.5
    sources = [torch.randn(m, device=device) for m in (1, 3, 127, 1000, 33_333)]
    sources += [torch.randn(255, device=device, dtype=torch.bfloat16), torch.arange(77, device=device), torch.rand(5, device=device) > 0.5]
    settle(device)
    for _ in range(40):
        a = a @ a
        a = a / a.norm()
    sources += [a.reshape(-1)[: size + 5].clone(), sources[3] * a.sum(), a.mean()]
    targets = [torch.empty_like(s, device="cpu") for s in sources]
    Staging(size).fetch(sources, targets)
    got = [t.clone() for t in targets]  # before anything else could have waited
    assert all(torch.equal(t, s.cpu()) for t, s in zip(got, sources, strict=True))


def test_odd_layouts_go_over_as_well(device: str) -> None:
    live = {
        "channels last": torch.randn(2, 3, 8, 8, device=device).to(memory_format=torch.channels_last),
        "transposed": torch.randn(5, 7, device=device).t(),
        "every second": torch.randn(20, device=device)[::2],
        "expanded": torch.randn(1, 4, device=device).expand(3, 4),
        "empty": torch.empty(0, 3, device=device),
        "scalar": torch.tensor(3.0, device=device),
        "complex": torch.randn(9, dtype=torch.cfloat, device=device),
        "float8": torch.randn(9, device=device).to(torch.float8_e4m3fn),
    }
    host = copy_out(live, {}, Staging())
    there = {name: torch.zeros_like(t) for name, t in live.items()}
    assert copy_in([(there[name], host[name]) for name in live]) == []
    for name, t in live.items():
        assert torch.equal(comparable(host[name]), comparable(t)), name
        assert torch.equal(comparable(there[name]), comparable(t)), name


def comparable(t: torch.Tensor) -> torch.Tensor:
    """On the CPU, in a type that can be compared."""
    return t.cpu().float() if t.dtype is torch.float8_e4m3fn else t.cpu()


def test_each_device_is_waited_for_on_its_own_stream(cuda: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    live = {}
    for i in (1, 0, 1):
        a = torch.randn(2048, 2048, device=f"cuda:{i}") / 45
        for _ in range(40):
            a = a @ a
            a = a / a.norm()
        live[f"{i}/{len(live)}"] = a
    host = copy_out(live, {}, Staging(1 << 20))
    got = {name: t.clone() for name, t in host.items()}
    assert all(torch.equal(got[name], t.cpu()) for name, t in live.items())


def test_memory_is_bounded(cuda: str) -> None:
    """No second copy on the GPU, one on the host, and little of it pinned: torch rounds pinned memory up to powers of two."""
    model = nn.Sequential(*(nn.Linear(2048, 2048) for _ in range(12))).to(cuda)  # 50 M parameters, 600 MB with the moments
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    adapter = TorchAdapter(model, optimizer)
    model(torch.randn(8, 2048, device=cuda)).square().mean().backward()
    optimizer.step()
    nbytes = adapter.nbytes()
    process = psutil.Process()

    def pinned() -> int:
        return int(torch.cuda.host_memory_stats()["allocated_bytes.current"])

    def measured(what: Any) -> tuple[Any, int, int, int]:
        settle(cuda)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated(), pinned(), process.memory_info().rss
        result = what()
        peak = torch.cuda.max_memory_allocated() - before[0]
        assert torch.cuda.memory_allocated() <= before[0]
        return result, peak, pinned() - before[1], process.memory_info().rss - before[2]

    captured, peak, grown, rss = measured(lambda: adapter.capture(None))
    assert peak < 1 << 20
    assert grown <= STAGING_BYTES
    assert rss < 1.1 * nbytes + 2 * STAGING_BYTES + (64 << 20)
    assert adapter._staging._buffer.is_pinned()
    assert not any(t.is_pinned() for t in captured.host.values())
    captured, peak, grown, rss = measured(lambda: adapter.capture(captured))
    assert (peak < 1 << 20, grown, rss < nbytes // 4) == (True, 0, True)
    said, peak, grown, rss = measured(lambda: adapter.restore(captured))
    assert (said, peak < 1 << 20, grown, rss < nbytes // 4) == ([], True, 0, True)


def test_finite_sees_one_bad_value_on_the_gpu(device: str) -> None:
    t = Training(device, amp=torch.float16)
    t.run(2)
    assert t.adapter.finite()
    for where in (t.model[4].weight, t.optimizer.state[t.model[0].weight]["exp_avg_sq"], t.model[1].running_var):
        with torch.no_grad():
            kept = where.flatten()[-1].clone()
            where.view(-1)[-1] = float("inf")
            assert not t.adapter.finite()
            where.view(-1)[-1] = kept
            assert t.adapter.finite()


# -- CUDA graphs -------------------------------------------------------------------------------------------------------


def warm(t: Training, turn: Any) -> None:
    """As torch's notes ask: a few turns on a side stream before the capture."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            turn()
    torch.cuda.current_stream().wait_stream(side)


class Graphed(Training):
    """Nothing is drawn, so that the replays depend on the state alone."""

    def __init__(self, device: str, make: Any, *, scaled: bool) -> None:
        super().__init__(device, make, amp=torch.float16 if scaled else None)
        self.amp = None
        self.x = torch.randn(32, 16, device=device)
        self.model[3].p = 0.0

    def loss(self) -> torch.Tensor:
        return (self.model(self.x) - self.x.sum(1, keepdim=True)).square().mean()


def test_gradients_that_a_graph_writes_are_found_after_a_restore(cuda: str, deterministic: None) -> None:
    """Forward and backward in the graph, the step outside, as torch's notes have it for GradScaler."""
    t = Graphed(cuda, OPTIMIZERS["fused"], scaled=True)
    warm(t, t.step)
    graph = torch.cuda.CUDAGraph()
    t.optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        t.scaler.scale(t.loss()).backward()

    def turn() -> None:
        graph.replay()
        t.scaler.step(t.optimizer)
        t.scaler.update()
        t.scheduler.step()

    for _ in range(3):
        turn()
    captured, counted = t.adapter.capture(None), t.adapter.steps_done()
    for _ in range(4):
        turn()
    assert t.adapter.steps_done() == counted + 4
    ahead = t.bits()
    assert t.adapter.restore(captured) == []
    for _ in range(4):
        turn()
    assert same(t.bits(), ahead)


@pytest.mark.parametrize("kind", ["foreach, capturable", "fused, capturable"])
def test_a_step_in_a_graph_is_said_and_its_state_goes_back(cuda: str, deterministic: None, kind: str, capsys: Any) -> None:
    t = Graphed(cuda, OPTIMIZERS[kind], scaled=False)

    def turn() -> None:
        t.optimizer.zero_grad(set_to_none=True)
        t.loss().backward()
        t.optimizer.step()

    warm(t, turn)
    assert t.adapter.steps_done() == 3
    graph = torch.cuda.CUDAGraph()
    t.optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        t.loss().backward()
        t.optimizer.step()
    assert t.adapter.steps_done() is None
    assert "captured in a CUDA graph" in capsys.readouterr().err
    graph.replay()
    captured = t.adapter.capture(None)
    for _ in range(4):
        graph.replay()
    ahead = t.bits()
    with no_waiting(cuda):
        sampled = t.adapter.sample(8)
    assert "grad_norm" not in sampled
    with pytest.raises(ValueError, match="replayed from a CUDA graph"):
        next(k for k in t.adapter.knobs() if k.spec.name == "lr").change("scale", 0.5, group=None, hold=False)
    assert t.adapter.restore(captured) == []
    for _ in range(4):
        graph.replay()
    assert same(t.bits(), ahead)


# -- the scale ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_half_the_rate_is_half_the_rate_to_the_bit(device: str, deterministic: None, kind: str) -> None:
    def changed(t: Training) -> None:
        knob = next(k for k in t.adapter.knobs() if k.spec.name == "lr")
        knob.change("scale", 0.5, group=None, hold=False)

    scaled = Training(device, OPTIMIZERS[kind])
    changed(scaled)
    lrs = []
    for _ in range(6):
        scaled.step()
        lrs.append(float(scaled.optimizer.param_groups[0]["lr"]))
    by_hand = Training(device, OPTIMIZERS[kind])
    for group in by_hand.optimizer.param_groups:
        for key in ("lr", "initial_lr"):
            group[key] = group[key] * 0.5
    by_hand.scheduler.base_lrs = [0.5 * lr for lr in by_hand.scheduler.base_lrs]
    for _ in range(6):
        by_hand.step()
    rate = "rate on the device" in kind
    for a, b in zip(scaled.model.parameters(), by_hand.model.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-8) if rate else torch.equal(a, b)
    schedule = Training(device, OPTIMIZERS[kind])
    for seen in lrs:
        schedule.step()
        assert float(schedule.optimizer.param_groups[0]["lr"]) == seen


@pytest.mark.filterwarnings("ignore")  # inductor's own
@pytest.mark.timeout(300)
def test_a_compiled_step_uses_the_scaled_rate(cuda: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)  # here, and not by processes that would outlive the test
    torch._dynamo.reset()
    weights = []
    for scale in (1.0, 0.5):
        torch.manual_seed(0)
        model = nn.Linear(64, 64).to(cuda)
        optimizer = torch.optim.AdamW(model.parameters(), lr=torch.tensor(1e-2 * (0.5 / scale), device=cuda), foreach=True, capturable=True)
        adapter = TorchAdapter(model, optimizer)
        if scale != 1.0:
            next(k for k in adapter.knobs() if k.spec.name == "lr").change("scale", scale, group=None, hold=False)
        step = torch.compile(optimizer.step)
        x = torch.randn(8, 64, device=cuda)
        for _ in range(5):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            step()
        assert adapter.steps_done() == 5
        assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(1e-2 * 0.5 / scale)
        weights.append(model.weight.detach().clone())
        adapter.close()
    torch._dynamo.reset()
    assert torch.allclose(weights[0], weights[1], rtol=1e-5, atol=1e-7)
