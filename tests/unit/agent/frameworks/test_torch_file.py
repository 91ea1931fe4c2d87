"""A checkpoint can be read without sitter, goes back bit for bit, and says so when it is damaged."""

import hashlib
import io
import random
import zipfile
from collections import Counter, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sitter_agent.frameworks.torch import TorchAdapter


class Hashing(io.RawIOBase):
    """Only ``write``, as the checkpoint writer's."""

    def __init__(self, to: io.BytesIO) -> None:
        self.to, self.sha = to, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha.update(data)
        return self.to.write(data)


class Training:
    def __init__(self, seed: int = 0, optimizer: str = "AdamW") -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout(0.2), nn.Linear(7, 1))
        self.model.register_buffer("mask", torch.ones(3), persistent=False)
        self.optimizer = {
            "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
            "SGD": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
            "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=2),
            "Adagrad": lambda p: torch.optim.Adagrad(p, lr=torch.tensor(0.01)),
        }[optimizer](self.model.parameters())
        self.scheduler = torch.optim.lr_scheduler.SequentialLR(
            self.optimizer,
            [torch.optim.lr_scheduler.LinearLR(self.optimizer), torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [2, 3])],
            [2],
        )
        self.ema = torch.optim.swa_utils.AveragedModel(self.model)
        self.adapter = TorchAdapter(self.model, self.optimizer, self.scheduler, extra={"ema": self.ema})

    def run(self, n: int) -> list[float]:
        losses = []
        for _ in range(n):

            def closure() -> torch.Tensor:
                self.optimizer.zero_grad()
                loss = (self.model(torch.randn(6, 5)) - 1).square().mean()
                loss.backward()
                return loss

            losses.append(float(self.optimizer.step(closure).detach()))
            self.scheduler.step()
            self.ema.update_parameters(self.model)
        return losses


def saved(t: Training, meta: dict[str, object] | None = None) -> io.BytesIO:
    file = io.BytesIO()
    t.adapter.save(t.adapter.capture(None), Hashing(file), meta or {"step": 3})  # type: ignore[arg-type]
    file.seek(0)
    return file


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD", "LBFGS", "Adagrad"])
def test_another_process_goes_on_from_the_file_bit_for_bit(optimizer: str) -> None:
    one = Training(0, optimizer)
    one.run(4)
    file = saved(one)
    losses = one.run(4)

    two = Training(1, optimizer)
    captured, meta = two.adapter.load(file)
    assert meta == {"step": 3}
    assert two.adapter.restore(captured) == []
    assert two.run(4) == losses
    assert two.adapter.restore(captured) == []  # it has not been written into
    assert two.run(4) == losses
    for a, b in zip(one.ema.parameters(), two.ema.parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_is_read_without_sitter(tmp_path: Path) -> None:
    t = Training()
    t.run(3)
    path = tmp_path / "3-0.pt"
    path.write_bytes(saved(t).getvalue())
    whole = torch.load(path, weights_only=True)
    fresh = Training(5)
    fresh.model.load_state_dict(whole["model"])
    fresh.optimizer.load_state_dict(whole["optimizer"])
    fresh.scheduler.load_state_dict(whole["scheduler"])
    for a, b in zip(t.model.state_dict().values(), fresh.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert fresh.optimizer.param_groups[0]["lr"] == t.optimizer.param_groups[0]["lr"]
    assert list(whole) == ["model", "optimizer", "scheduler", "scaler", "rng", "extra", "buffers", "params", "layout", "sitter"]
    fresh.model.load_state_dict(whole["extra"]["ema"]["state"], strict=False)


def test_several_models_and_loose_parameters_keep_their_names(tmp_path: Path) -> None:
    def make(seed: int) -> tuple[Any, Any, TorchAdapter]:
        torch.manual_seed(seed)
        nets = {"G": nn.Linear(2, 2), "D": nn.Linear(2, 1)}
        loose = nn.Parameter(torch.randn(2))
        opts = {k: torch.optim.Adam([*m.parameters(), *([loose] if k == "G" else [])]) for k, m in nets.items()}
        for k, m in nets.items():
            (m(torch.ones(1, 2)).sum() + loose.sum()).backward()
            opts[k].step()
        return nets, loose, TorchAdapter(nets, opts)

    nets, loose, adapter = make(0)
    others, their_loose, theirs = make(1)
    file = io.BytesIO()
    adapter.save(adapter.capture(None), file, {})
    file.seek(0)
    assert set(torch.load(file, weights_only=True)["model"]) == {"G", "D"}
    file.seek(0)
    captured, _ = theirs.load(file)
    assert theirs.restore(captured) == []
    assert torch.equal(loose, their_loose)
    assert torch.equal(nets["D"].weight, others["D"].weight)
    alone = TorchAdapter({"G": others["G"], "E": nn.Linear(1, 1)})
    assert alone.restore(captured) == ["model E is not in this state"]


def test_meta_with_what_weights_only_refuses_is_converted_first() -> None:
    t = Training()
    rng = np.random.default_rng(3)
    counts: defaultdict[str, int] = defaultdict(int)
    counts["a"] += 1
    meta = {
        "numpy": np.random.get_state(), "python": random.getstate(), "pcg": rng.bit_generator.state, "path": Path("/x"), "counts": counts,
        "scalar": np.float64(2.5), "last": deque([1, 2], 3), "names": {"b"}, "huge": 2**200, "nested": [{"array": np.arange(3)}],
        "function": len, "milestones": Counter([1, 1]),
    }  # fmt: skip
    _, back = t.adapter.load(saved(t, meta))
    np.random.set_state(back["numpy"])
    random.setstate(back["python"])
    rng.bit_generator.state = back["pcg"]
    assert back["path"] == "/x"
    assert (back["counts"], back["scalar"], back["last"], back["names"]) == ({"a": 1}, 2.5, [1, 2], ["b"])
    assert (back["huge"], back["milestones"]) == (2**200, Counter([1, 1]))
    assert back["nested"][0]["array"].tolist() == [0, 1, 2]
    assert "function" not in back


def test_a_scheduler_gets_its_own_container_types_back() -> None:
    class Rich:
        """The user's own schedule."""

        def __init__(self) -> None:
            self.window, self.seen = deque([1.0], 3), defaultdict(list, {"x": [1]})
            self.table, self.fn = np.ones(2), lambda: 1

        def state_dict(self) -> dict[str, Any]:
            return dict(self.__dict__)

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.__dict__.update(state)

    rich = Rich()
    adapter = TorchAdapter(nn.Linear(1, 1), scheduler=rich)
    file = io.BytesIO()
    adapter.save(adapter.capture(None), file, {})
    file.seek(0)
    rich.window.append(2.0)
    rich.seen["y"].append(1)
    rich.table[0] = 5
    captured, _ = adapter.load(file)
    fn = rich.fn
    assert adapter.restore(captured) == []
    assert rich.window == deque([1.0])
    assert rich.window.maxlen == 3
    assert rich.seen == {"x": [1]}
    rich.seen["new"].append(1)
    assert rich.table.tolist() == [1.0, 1.0]
    assert rich.fn is fn


def largest_record(data: bytes) -> tuple[int, int]:
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        info = max((i for i in z.infolist() if "/data/" in i.filename), key=lambda i: i.file_size)
        return info.header_offset + 30 + len(info.filename) + 64, info.file_size


@pytest.mark.parametrize("kind", ["cut", "altered", "empty", "text", "a list", "a state dict", "another format", "without its parts"])
def test_a_damaged_or_foreign_file_is_refused_in_one_sentence(kind: str) -> None:
    t = Training()
    t.run(1)
    data = bytearray(saved(t).getvalue())
    if kind == "cut":
        data = data[: len(data) * 2 // 3]
    elif kind == "altered":
        at, size = largest_record(bytes(data))
        data[at + size // 2] ^= 0x10
    elif kind == "empty":
        data = bytearray()
    elif kind == "text":
        data = bytearray(b"hello " * 100)
    else:
        whole = torch.load(io.BytesIO(data), weights_only=True)
        if kind == "another format":
            whole["layout"]["format"] = 99
        elif kind == "without its parts":
            del whole["buffers"]
        buffer = io.BytesIO()
        torch.save({"a list": [1], "a state dict": whole["model"]}.get(kind, whole), buffer)
        data = bytearray(buffer.getvalue())
    with pytest.raises(ValueError, match="checkpoint") as refused:
        t.adapter.load(io.BytesIO(data))
    assert "\n" not in str(refused.value)


def test_saving_needs_nothing_that_trains_while_it_runs() -> None:
    t = Training()
    t.run(2)
    captured = t.adapter.capture(None)
    first, second = io.BytesIO(), io.BytesIO()
    t.adapter.save(captured, first, {})
    t.run(3)
    t.adapter.save(captured, second, {})
    assert hashlib.sha256(first.getvalue()).digest() == hashlib.sha256(second.getvalue()).digest()


def test_the_file_is_as_large_as_the_state() -> None:
    t = Training()
    t.model = nn.Linear(400, 400)
    adapter = TorchAdapter(t.model)
    file = io.BytesIO()
    adapter.save(adapter.capture(None), file, {})
    assert len(file.getvalue()) < adapter.nbytes() * 1.05 + 20_000
