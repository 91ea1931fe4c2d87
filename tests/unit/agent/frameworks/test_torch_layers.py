"""Layers have names that a person finds in the model, at most 16 of them, and what no optimizer holds is told."""

import pytest
import torch
from torch import nn

from sitter_agent.frameworks.torch import TorchAdapter
from sitter_agent.frameworks.torch_found import living
from sitter_agent.frameworks.torch_layers import MOST_LAYERS, layer_names, layers, unheld


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.attn = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.mlp = nn.Linear(4, 4)


class Transformer(nn.Module):
    """Tied weights; a position of its own."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(3, 4))
        self.embed = nn.Embedding(7, 4)
        self.blocks = nn.ModuleList([Block() for _ in range(blocks)])
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight


def test_few_modules_go_by_their_own_paths() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert {name: [id(p) for p in ps] for name, ps in layers({"": model}).items()} == {
        "0": [id(p) for p in model[0].parameters()], "2": [id(p) for p in model[2].parameters()]
    }  # fmt: skip


def test_blocks_go_by_their_number_and_tied_weights_count_once() -> None:
    found = layers({"": Transformer(12)})
    assert list(found) == ["position", "embed", *(f"blocks.{i}" for i in range(12)), "norm"]
    assert sum(len(ps) for ps in found.values()) == len(list(Transformer(12).parameters()))


def test_many_blocks_are_merged_with_their_neighbours() -> None:
    assert list(layers({"": Transformer(48)})) == [
        "position", "embed", *(f"blocks.{i}-{i + 3}" for i in range(0, 48, 4)), "norm"
    ]  # fmt: skip


def test_models_prefix_their_layers() -> None:
    models = {"G": Transformer(30), "D": nn.Sequential(nn.Linear(2, 2))}
    assert list(layers(models)) == [
        "G.position", "G.embed", *(f"G.blocks.{i}-{i + 2}" for i in range(0, 30, 3)), "G.norm", "D.0"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "paths",
    [
        [(str(i),) for i in range(40)],
        [(f"conv{i}",) for i in range(40)],
        [(f"layer{i}", str(j), part) for i in range(1, 5) for j in range(6) for part in ("conv1", "bn1", "conv2")],
        [("model", "layers", str(i), "self_attn", part) for i in range(80) for part in "qkvo"] + [("lm_head",)],
        [("a",) * n for n in range(1, 30)],
        [("experts", str(i), str(j)) for i in range(9) for j in range(64)],
        [("only",)],
        [],
    ],
)
def test_there_are_never_too_many_and_each_path_has_one(paths: list[tuple[str, ...]]) -> None:
    names = layer_names(paths)
    assert set(names) == set(paths)
    assert min(len(paths), 2) <= len(set(names.values())) <= MOST_LAYERS


def test_what_wrappers_add_to_a_path_is_left_out() -> None:
    model, compiled = nn.Sequential(nn.Linear(2, 2), nn.Module()), nn.Linear(2, 2)
    model[1].add_module("_orig_mod", compiled)  # as torch.compile does, which would take seconds
    assert list(layers({"": model})) == ["0", "1"]


def test_frozen_parameters_are_no_layers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    assert list(layers({"": model})) == ["1"]


def test_a_parameter_that_no_optimizer_holds_is_told() -> None:
    model = Transformer(1)
    held = [p for name, p in model.named_parameters() if not name.startswith("norm")]
    adapter = TorchAdapter(model, torch.optim.SGD(held, lr=0.1))
    said = [text for text in adapter.remarks() if "no optimizer holds" in text]
    assert said == ["norm.weight and 1 more are trainable but no optimizer holds them: no step will change them"]


def test_what_is_frozen_tied_or_another_optimizers_is_not() -> None:
    model = Transformer(1)
    model.norm.requires_grad_(False)
    a = torch.optim.SGD(model.blocks.parameters(), lr=0.1)
    b = torch.optim.SGD([model.position], lr=0.1)
    c = torch.optim.SGD(model.embed.parameters(), lr=0.1)  # was not given to start; the head is tied to it
    assert unheld({"": model}, [a, b], living()) == []
    assert unheld({"": model}, []) == []
    assert unheld({"": model}, [object()]) == []
    assert c.param_groups
    assert unheld({"": model}, [a, b], [a, b, model]) == ["embed.weight is trainable but no optimizer holds it: no step will change it"]
